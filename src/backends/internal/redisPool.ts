// The resource of the dedicated connections: one pool a generation, opened as the cache's resource says.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Operation, Status } from "../../observability/Status.ts"
import type { ConnectionPool, PoolExhaustedError, Stats } from "../../resource/ConnectionPool.ts"
import { toResourceError } from "../../resource/internal/phase.ts"
import { resourceOptions } from "../../resource/internal/settingsOptions.ts"
import type { Definition, Handle } from "../../resource/ManagedResource.ts"
import { open as openPool, type Opened } from "../../resource/pool/open.ts"
import type { Explanation, ResourceError } from "../../resource/ResourceError.ts"
import * as Settings from "../../resource/Settings.ts"
import * as Dedicated from "./redisDedicated.ts"
import { RedisFailure, toFailure } from "./redisError.ts"
import type * as Plan from "./redisPlan.ts"
import type { Configured, RedisResource } from "./redisResource.ts"

const id = "redis-connections"

type Pool = Opened<Dedicated.Dedicated, ResourceError>

interface Validated {
  readonly plan: Plan.Plan
  readonly settings: Settings.Shape
  readonly limits: Settings.Sections["connection_pool"]
}

type Failure = RedisFailure | ResourceError | Settings.SettingsError | PoolExhaustedError

export interface Service extends ConnectionPool {
  readonly use: <A, E, R>(
    f: (connection: Dedicated.RedisConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | PoolExhaustedError | ResourceError, R>
  readonly reserve: Effect.Effect<Dedicated.RedisConnection, PoolExhaustedError | ResourceError, Scope.Scope>
  readonly purge: Effect.Effect<void, ResourceError>
}

const notOnCluster = new RedisFailure({
  explanation: {
    reason: "ConfigurationInvalid",
    detail: "dedicated connections are not to be had on a Cluster, where a connection belongs to one node",
    option: "cache.mode",
    remedy: "Leave RedisConnections out, and use scripts with a {hash tag} over the Redis service of RedisCache."
  },
  cause: undefined
})

export class RedisPool {
  readonly definition: Definition<Validated, Pool, Failure, Status>
  private readonly cache: Handle<Configured>
  /** Of the generation that lives. */
  private current: Pool | undefined
  private acquiring: Operation | undefined

  constructor(cache: RedisResource["Service"], limits: Settings.Values["connection_pool"]) {
    this.cache = cache
    const validate = Effect.gen(function*() {
      const { plan, settings } = yield* cache.connection
      if (plan.mode === "cluster") return yield* Effect.fail(notOnCluster)
      const own = limits === undefined ? settings : yield* Settings.make({ connection_pool: limits })
      return { plan, settings, limits: own.connection_pool }
    })
    this.definition = {
      id,
      kind: "pool",
      needs: [cache.id],
      validate,
      connect: (validated) => this.open(validated),
      verify: ({ lending }, { plan }) =>
        Effect.mapError(
          lending.use((connection) => connection.ping),
          (error) => error._tag === "RedisError" ? toFailure(error.cause, plan) : error
        ),
      // The resource of the cache asks the server already; a connection that is broken is found when it is lent.
      check: () => this.cacheIsUsable,
      counters: () => {
        const { lending } = this.current ?? {}
        return lending === undefined ? {} : { ...lending.gauges(), leaks: lending.leaks }
      },
      explain,
      options: ({ settings }) => resourceOptions(settings, settings.cache)
    }
  }

  service(handle: Handle<Pool>): Service {
    this.acquiring = handle.node.operation("acquire")
    return {
      use: (f) => handle.use(({ lending }) => lending.use(({ lent }) => f(lent))),
      reserve: Effect.flatMap(handle.lease, ({ lending }) => Effect.map(lending.reserve, ({ lent }) => lent)),
      stats: Effect.map(handle.connection, (pool): Stats => pool.stats()),
      leases: Effect.suspend(() => this.current === undefined ? Effect.succeed([]) : this.current.lending.leases),
      purge: Effect.flatMap(handle.connection, ({ lending }) => lending.purge)
    }
  }

  private open({ limits, plan }: Validated): Effect.Effect<Pool, never, Scope.Scope> {
    const context = { resource: id, phase: "connect" as const, attempts: 1, elapsed: 0 }
    let pool: Pool | undefined
    const lost = (connection: Dedicated.Dedicated) => pool?.lending.invalidate(connection)
    const connect = Dedicated.open(plan, lost).pipe(
      Effect.mapError((failure) => toResourceError(context, Cause.fail(failure), explain))
    )
    const options = {
      name: id,
      acquire: connect,
      validate: (connection: Dedicated.Dedicated) => connection.ping,
      reset: (connection: Dedicated.Dedicated) => connection.reset(),
      // It knows itself what it has been left with.
      isBroken: () => false,
      maxConnections: limits.max_connections,
      minConnections: limits.min_connections,
      maxWaiting: limits.max_waiting,
      acquireTimeout: limits.acquire_timeout,
      connectTimeout: plan.connectTimeout,
      idleTimeout: limits.idle_timeout,
      maxLifetime: limits.max_lifetime,
      validationInterval: limits.validation_interval,
      validationTimeout: plan.commandTimeout,
      leakAfter: limits.leak_after
    }
    return Effect.map(
      openPool(options, (success, millis) => this.acquiring?.record(success, millis)),
      (opened) => this.current = pool = opened
    )
  }

  private readonly cacheIsUsable: Effect.Effect<void, RedisFailure, Status> = Effect.gen({ self: this }, function*() {
    const node = yield* (yield* Status).get(this.cache.id)
    if (node?.health === "up" || node?.health === "degraded") return
    return yield* Effect.fail(
      new RedisFailure({
        explanation: { reason: "ConnectionFailed", detail: `${this.cache.id} is ${node?.state ?? "gone"}` },
        cause: undefined
      })
    )
  })
}

const explain = (error: Failure): Explanation => {
  switch (error._tag) {
    case "RedisFailure":
      return error.explanation
    case "SettingsError":
      return { reason: "ConfigurationInvalid", detail: error.message }
    case "PoolExhaustedError":
      return { reason: "TimedOut", detail: error.message, option: "connection_pool.acquire_timeout" }
    case "ResourceError":
      return { reason: error.reason, detail: error.detail, option: error.option, remedy: error.remedy }
  }
}
