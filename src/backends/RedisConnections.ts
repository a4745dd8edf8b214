/**
 * Redis connections of one's own: a pool beside the one connection that all commands share.
 *
 * **When to use**
 *
 * `CacheStore` and Effect's `Redis` service send everything over one connection, which is right for most. Some commands
 * need a connection that nobody else uses: those that block (`BLPOP`, `XREAD BLOCK`), `WATCH` with `MULTI` and `EXEC`, and
 * scripts that run for long. To listen to channels, use `subscribe` of Effect's `Redis` service.
 *
 * **Details**
 *
 * - It is built on `RedisCache`, and connects as that does: to one server, by Sentinel, with TLS. The limits are the
 *   settings `connection_pool`, those of database connections; see `ConnectionPool` for what each means.
 * - A command may take `cache.command_timeout`; one that blocks, the time it names besides. With 0 it blocks for ever.
 * - A connection is replaced when it is lost, when an answer did not come in time, or when its borrower was interrupted
 *   while waiting for an answer: then it is cut at once, so that the server stops waiting, too.
 * - Nothing is left to the next borrower: what is watched or queued is undone with `UNWATCH` or `DISCARD`, and a connection
 *   with another database, user or subscription (`SELECT`, `AUTH`, `SUBSCRIBE`, `CLIENT SETNAME`, ...) is replaced.
 * - One that lay idle for `validation_interval` is asked with `PING` before it is lent.
 * - The status node `redis-connections` shows `max`, `active`, `idle`, `waiting`, `leaks`, and the operation `acquire`.
 *
 * **Gotchas**
 *
 * - Not on a Cluster: the layer fails with `ConfigurationInvalid`. A transaction is of one node there, and a connection of
 *   the pool has none. Use scripts with a `{hash tag}` over the `Redis` service instead.
 * - An element that `BLPOP` has taken is lost when its reply is lost: by a cut line, a crash, or an interruption that comes
 *   while it is on its way. Where none may be lost, use `BLMOVE` to a list of your own, and remove it from there when done.
 * - A borrower that blocks for ever on a line that has gone dead is not woken. Block for seconds, in a loop.
 * - A transaction is not rolled back when one of its commands fails: the others have been done.
 *
 * **Example** (A counter that others may change meanwhile)
 *
 * ```ts no-run
 * import { Effect, Layer, Option } from "effect"
 * import { Status } from "seaworthy"
 * import { RedisCache, RedisConnections } from "seaworthy/redis"
 *
 * const reserveSeat = Effect.gen(function*() {
 *   const connections = yield* RedisConnections.RedisConnections
 *   return yield* connections.use((redis) =>
 *     Effect.gen(function*() {
 *       yield* redis.send("WATCH", "seats")
 *       const left = Number(yield* redis.send("GET", "seats"))
 *       if (left === 0) return "none is left"
 *       const done = yield* redis.transaction([["SET", "seats", String(left - 1)]])
 *       return Option.isSome(done) ? "it is yours" : "somebody was quicker"
 *     })
 *   )
 * })
 *
 * const live = RedisConnections.layer.pipe(Layer.provideMerge(RedisCache.layer), Layer.provide(Status.layer))
 * console.log(await Effect.runPromise(reserveSeat.pipe(Effect.provide(live))))
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Status } from "../observability/Status.ts"
import type { ConnectionPool, PoolExhaustedError } from "../resource/ConnectionPool.ts"
import * as ManagedResource from "../resource/ManagedResource.ts"
import type { ResourceError } from "../resource/ResourceError.ts"
import type * as Settings from "../resource/Settings.ts"
import type * as Dedicated from "./internal/redisDedicated.ts"
import * as Pool from "./internal/redisPool.ts"
import { RedisResource } from "./internal/redisResource.ts"

/**
 * A connection that is lent to one borrower.
 *
 * @category models
 * @since 0.1.0
 */
export type RedisConnection = Dedicated.RedisConnection

/**
 * The dedicated connections. `stats`, `leases` and `purge` are those of every `ConnectionPool`; purge after a failover that
 * leaves the old server running.
 *
 * No connection could be had: `PoolExhaustedError` says that the limits were reached, `ResourceError` that none could be
 * opened, and why.
 *
 * @category services
 * @since 0.1.0
 */
export class RedisConnections extends Context.Service<
  RedisConnections,
  ConnectionPool & {
    /** Lends a connection to `f`, which must not keep it. */
    readonly use: <A, E, R>(
      f: (connection: RedisConnection) => Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E | PoolExhaustedError | ResourceError, R>
    /** A connection of one's own until the scope closes. */
    readonly reserve: Effect.Effect<RedisConnection, PoolExhaustedError | ResourceError, Scope.Scope>
    readonly purge: Effect.Effect<void, ResourceError>
  }
>()("seaworthy/RedisConnections") {}

/**
 * Limits in code, under the names of the section `connection_pool`.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = NonNullable<Settings.Values["connection_pool"]>

const layerOf = (options: Options | undefined): Layer.Layer<RedisConnections, ResourceError, RedisResource | Status> =>
  Layer.unwrap(Effect.map(RedisResource, (resource) => {
    const pool = new Pool.RedisPool(resource, options)
    return ManagedResource.layer(RedisConnections, { ...pool.definition, service: (handle) => pool.service(handle) })
  }))

/**
 * Dedicated connections with the limits of the settings that `RedisCache` has.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<RedisConnections, ResourceError, RedisResource | Status> = layerOf(undefined)

/**
 * Dedicated connections with limits given in code; what is left out has its default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<RedisConnections, ResourceError, RedisResource | Status> =>
  layerOf(options)
