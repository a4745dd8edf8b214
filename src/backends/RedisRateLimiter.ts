/**
 * The store that lets processes share the limits of a `RateLimiter`, in Redis.
 *
 * **When to use**
 *
 * With `RateLimiter.distributed` when several processes together must not exceed a limit. It runs on any `Redis` service
 * of `effect/persistence`; `RedisCache.layer` provides one.
 *
 * **Details**
 *
 * A decision is one Lua script and one round trip, by the server's clock: processes whose clocks differ grant exactly the
 * limit together. Each key is one Redis key, so it works on a Cluster, and expires by itself. Keys begin with `prefix`
 * (default `seaworthy:limit:`).
 *
 * **Gotchas**
 *
 * An outage is a `RateLimitStoreError`, not a refusal; `onStoreError` of `RateLimiter.distributed` says whether calls are
 * let through, refused or limited in this process meanwhile.
 *
 * **Example** (A limit that all processes share)
 *
 * ```ts no-run
 * import { Effect, Layer } from "effect"
 * import { RateLimiter, Status } from "seaworthy"
 * import { RedisCache, RedisRateLimiter } from "seaworthy/redis"
 *
 * const program = Effect.gen(function*() {
 *   const limiter = yield* RateLimiter.distributed({
 *     name: "login",
 *     algorithm: RateLimiter.slidingWindowCounter({ limit: 5, window: "1 minute" }),
 *     onStoreError: "local"
 *   })
 *   return yield* Effect.succeed("welcome").pipe(RateLimiter.protect(RateLimiter.forKey(limiter, "ada")))
 * })
 *
 * const layer = RedisRateLimiter.layer().pipe(
 *   Layer.provide(RedisCache.layerWith({ host: "127.0.0.1" })),
 *   Layer.provide(Status.layer)
 * )
 * await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(layer)))
 * ```
 *
 * @since 0.1.0
 */
export { layer, type Options } from "./internal/redisLimiter.ts"
