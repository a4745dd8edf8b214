/**
 * What can be seen of a database's connections, and done about them.
 *
 * **When to use**
 *
 * Read `Database.pool` for a page or an alert: how many connections are in use, how many callers wait, how long waiting
 * takes, who holds one for how long. Use `purge` when all connections shall be new: after a failover, a change of
 * passwords, or of a setting of the server.
 *
 * **Details**
 *
 * - The limits are the settings `connection_pool`: `max_connections`, `min_connections`, `acquire_timeout`, `max_waiting`,
 *   `idle_timeout`, `max_lifetime` (each connection gets up to a tenth less, so that they do not all end together) and
 *   `validation_interval` (a connection that lay idle for longer is asked whether it lives before it is lent).
 * - A connection that is held for longer than {@link LeakAfter} is logged once as a warning, with the transaction, the
 *   named functions (`Effect.fn`) and the spans of who took it.
 * - Acquiring is counted in the status tree as the operation `acquire` of the database, with its quantiles.
 *
 * **Gotchas**
 *
 * - `idle` and `active` count this process and this client; the monitor's own connection is not among them.
 * - On the embedded database connections are only places in one session: lifetime and validation do nothing there.
 *
 * **Example** (What is in use)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Database, Status } from "seaworthy"
 * import { PgliteDatabase } from "seaworthy/pglite"
 *
 * const program = Effect.gen(function*() {
 *   const { pool, sql } = yield* Database.Database
 *   const within = yield* sql.withTransaction(pool.stats)
 *   const after = yield* pool.stats
 *   return [within.active, after.active, after.max]
 * })
 *
 * const DatabaseLayer = PgliteDatabase.layerWith({ data_dir: "memory://", pool: { max_connections: 4 } })
 * const live = DatabaseLayer.pipe(Layer.provide(Status.layer))
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(live)))) // => [ 1, 0, 4 ]
 * ```
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { OperationSnapshot } from "../observability/Status.ts"
import type { Connections, Gauges } from "./database/client.ts"
import * as Leases from "./database/leases.ts"
import type { Handle } from "./ManagedResource.ts"
import type { ResourceError } from "./ResourceError.ts"

/**
 * A connection that is held by a transaction, a stream or `sql.reserve`.
 *
 * @category models
 * @since 0.1.0
 */
export type Lease = Leases.Lease

/**
 * A pool at one instant.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats extends Gauges {
  /** Count and latency of acquiring, in milliseconds; failures are refusals and time-outs. */
  readonly acquire: OperationSnapshot
  /** How many connections were warned of as held too long. */
  readonly leaks: number
}

/**
 * The connections of a database: `Database.pool`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionPool {
  /** Fails while the database is stopped or being started. */
  readonly stats: Effect.Effect<Stats, ResourceError>
  /** Who holds a connection now, oldest first. Single statements are not among them. */
  readonly leases: Effect.Effect<ReadonlyArray<Lease>>
  /** Replaces all connections: the idle ones are closed now, those in use when they come back. Nothing is interrupted. */
  readonly purge: Effect.Effect<void, ResourceError | SqlError>
}

/**
 * How long a connection may be held before it is logged as a possible leak. Default 1 minute. Read when a connection is
 * taken, so work that rightly takes long can be given more.
 *
 * @category references
 * @since 0.1.0
 */
export const LeakAfter: Context.Reference<Duration.Duration> = Leases.LeakAfter

const none: OperationSnapshot = { attempts: 0, successes: 0, failures: 0, mean: 0, p50: 0, p95: 0, p99: 0, max: 0 }
const unknown: Gauges = { max: 0, active: 0, idle: 0, waiting: 0 }

/**
 * The pool of a database's resource.
 *
 * For authors of drivers; `Database.layerFrom` does it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromHandle = <C extends Connections>(handle: Handle<C>, leases: Leases.Leases): ConnectionPool => ({
  stats: Effect.flatMap(handle.connection, (connections) =>
    Effect.map(handle.node.snapshot, ({ operations }) => ({
      ...(connections.gauges?.() ?? unknown),
      acquire: operations["acquire"] ?? none,
      leaks: leases.warned
    }))),
  leases: Effect.clockWith((clock) => Effect.sync(() => leases.read(clock))),
  purge: Effect.flatMap(
    handle.connection,
    (connections): Effect.Effect<void, SqlError> => connections.purge ?? Effect.void
  )
})
