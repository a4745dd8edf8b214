/**
 * The store that lets processes share what `CacheAside` holds, in Redis.
 *
 * **When to use**
 *
 * With `CacheAside.make({ storage: "two-level" })` or `"redis"`. It runs on any `Redis` service of `effect/persistence`;
 * `RedisCache.layer` provides one.
 *
 * **Details**
 *
 * A hit is one `GET`, or a script where the age of an entry matters; each other operation is one Lua script and one round
 * trip. Times to live and leases run by the server's clock. One channel a cache carries invalidations. A prefix is walked
 * with `SCAN` and removed with `UNLINK`. On the `Redis` of `RedisCache`, keys and channels begin with `cache.prefix`.
 *
 * **Gotchas**
 *
 * All keys of one cache share a hash slot: on a Cluster a cache lives on one node of it. An eviction policy that may drop
 * the key `{name}:m` costs a reload of what is in memory, and loads that run at that time are not kept.
 *
 * **Example** (A cache that all processes share)
 *
 * ```ts no-run
 * import { Effect, Layer, Schema } from "effect"
 * import { CacheAside, Status } from "seaworthy"
 * import { RedisCache, RedisCacheAside } from "seaworthy/redis"
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* CacheAside.make({
 *     name: "users",
 *     storage: "two-level",
 *     schema: Schema.Struct({ name: Schema.String }),
 *     load: (id) => Effect.succeed({ name: `user ${id}` }),
 *     ttl: "5 minutes"
 *   })
 *   return yield* users.get("1")
 * })
 *
 * const layer = RedisCacheAside.layer().pipe(
 *   Layer.provide(RedisCache.layerWith({ host: "127.0.0.1" })),
 *   Layer.provideMerge(Status.layer)
 * )
 * await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(layer)))
 * ```
 *
 * @since 0.1.0
 */
export { layer, type Options } from "./internal/redisCacheAside.ts"
