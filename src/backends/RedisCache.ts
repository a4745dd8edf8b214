/**
 * The cache in Redis: alone, behind Sentinel, or a Cluster; through `ioredis`.
 *
 * **When to use**
 *
 * When several processes share a cache, or it has to outlive one. The layer provides `CacheStore`, and Effect's own
 * `Redis` service (`effect/persistence`) on the same connection, for rate limiters, persisted queues and the rest. What
 * needs connections of its own (blocking commands, `WATCH`) is `RedisConnections`.
 *
 * **Details**
 *
 * Settings are those of the section `cache` (`CACHE_HOST`, `CACHE_PASSWORD`, `CACHE_URL`, `CACHE_MODE`, ...). A command
 * fails after `cache.command_timeout` (default 0.5 seconds) and at once while there is no connection: nothing waits in a
 * queue. A lost connection comes back by itself within half a second of the server. The monitor writes, reads and removes
 * a key on a connection of its own, so that a frozen server is seen although its sockets look alive. Keys get
 * `cache.prefix`; `clear` walks with `SCAN` and removes with `UNLINK`, on a Cluster on each primary.
 *
 * **Gotchas**
 *
 * With an empty `cache.prefix`, `clear()` removes every key of the database. Effect's `Redis` service adds no prefix. On
 * a Cluster, scripts that touch several keys need a `{hash tag}` in their prefix. A command that timed out may have been
 * carried out. The host's environment variable `DEBUG=ioredis:*` makes `ioredis` print its commands, AUTH included.
 *
 * **Example** (An address where nobody listens, explained)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { CacheStore, Status } from "seaworthy"
 * import { RedisCache } from "seaworthy/redis"
 *
 * const layer = RedisCache.layerWith({ host: "127.0.0.1", port: 1, retry_attempts: 0 })
 * const program = CacheStore.CacheStore.use((cache) => cache.get("answer"))
 * const error = await Effect.runPromise(Effect.flip(program.pipe(Effect.provide(layer), Effect.provide(Status.layer))))
 * console.log(error.message.split("\n").slice(0, 2))
 * // => ["cache did not connect: 127.0.0.1:1 refused the connection", "  option: cache.port"]
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis } from "effect/persistence/Redis"
import { Redis as RedisService } from "effect/persistence/Redis"
import type * as RedactedModule from "effect/Redacted"
import type { ConnectionOptions } from "node:tls"
import type { Status } from "../observability/Status.ts"
import { settings } from "../resource/cache/options.ts"
import { CacheStore, type Options as CacheOptions } from "../resource/CacheStore.ts"
import { resourceOptions } from "../resource/internal/settingsOptions.ts"
import * as ManagedResource from "../resource/ManagedResource.ts"
import type { ResourceError } from "../resource/ResourceError.ts"
import * as Settings from "../resource/Settings.ts"
import * as Redaction from "../security/Redaction.ts"
import * as Connection from "./internal/redisConnection.ts"
import type { RedisFailure } from "./internal/redisError.ts"
import * as Plan from "./internal/redisPlan.ts"
import { RedisResource } from "./internal/redisResource.ts"
import * as Service from "./internal/redisService.ts"
import * as Store from "./internal/redisStore.ts"

/**
 * Settings in code, under the names of the section `cache`.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = CacheOptions

/**
 * What a settings file cannot say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Extras {
  /** Name of the resource in reports and messages. Default `cache`. */
  readonly id?: string | undefined
  /** Connect on first use. Default `false`. */
  readonly lazy?: boolean | undefined
  /** Certificates and the like, in Node's own terms; turns TLS on. */
  readonly tls?: ConnectionOptions | undefined
  /** User name for the sentinels; they do not get the one of Redis. */
  readonly sentinelUsername?: string | undefined
  /** Password for the sentinels; they do not get the one of Redis. */
  readonly sentinelPassword?: RedactedModule.Redacted<string> | undefined
  /** Time-outs, retries and monitoring, where they differ from the settings. */
  readonly resource?: ManagedResource.Options | undefined
}

const makeLayer = <R>(
  validate: Effect.Effect<Settings.Shape, never, R>,
  extras: Extras
) => {
  const id = extras.id ?? "cache"
  const optionsOf = (all: Settings.Shape): ManagedResource.Options => {
    const base = resourceOptions(all, all.cache)
    return {
      ...base,
      ...extras.resource,
      phases: { ...base.phases, ...extras.resource?.phases },
      monitor: extras.resource?.monitor === false ? false : { ...base.monitor, ...extras.resource?.monitor }
    }
  }
  const planOf = (all: Settings.Shape) => {
    const { monitor } = optionsOf(all)
    const checkTimeout = monitor === false ? undefined : monitor?.timeout
    return Plan.plan(id, all.cache, Duration.fromInputUnsafe(checkTimeout ?? "2 seconds"), extras)
  }
  return ManagedResource.layerContext(
    {
      id,
      kind: "cache",
      lazy: extras.lazy ?? false,
      validate: Effect.tap(validate, () =>
        Effect.sync(() => {
          if (extras.sentinelPassword !== undefined) Redaction.register(extras.sentinelPassword)
        })),
      connect: (all) => Effect.map(Connection.open(planOf(all)), (connection) => ({ ...connection, settings: all })),
      initialize: Connection.inspect,
      verify: ({ client, plan }) => Connection.probe(plan, client),
      check: (connection) => connection.check,
      explain: (failure: RedisFailure) => failure.explanation,
      explainTimeout: () => ({
        option: "cache.timeout",
        remedy:
          "Check that CACHE_HOST, CACHE_PORT and CACHE_TLS are those of the server and that nothing drops packets on " +
          "the way; or raise CACHE_TIMEOUT."
      }),
      options: optionsOf
    },
    (handle) =>
      Effect.map(
        Service.make(handle),
        (redis) =>
          Context.make(CacheStore, Store.make(handle)).pipe(
            Context.add(RedisService, redis),
            Context.add(RedisResource, handle)
          )
      )
  )
}

/**
 * The cache in Redis with settings from environment and file.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<CacheStore | Redis | RedisResource, ResourceError | Settings.SettingsError, Status> =
  makeLayer(
    Settings.Settings,
    {}
  ).pipe(Layer.provide(Settings.layer))

/**
 * The cache in Redis with settings given in code; what is left out has its default. Reads no environment.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options,
  extras?: Extras
): Layer.Layer<CacheStore | Redis | RedisResource, ResourceError | Settings.SettingsError, Status> =>
  Layer.unwrap(Effect.map(settings(options), (all) => makeLayer(Effect.succeed(all), extras ?? {})))
