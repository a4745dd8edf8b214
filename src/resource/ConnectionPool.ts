/**
 * Connections that are lent: the pool of a database, and pools of connections of any other kind. Both show the same.
 *
 * **When to use**
 *
 * Read `Database.pool` (or `RedisConnections`, or a pool of your own) for a page or an alert: how many connections are in
 * use, how many callers wait, how long waiting takes, who holds one for how long. Use `purge` when all connections shall
 * be new: after a failover, a change of passwords, or of a setting of the server. Use {@link make} for connections that
 * are dear to open and serve one caller at a time: SMTP, LDAP, SFTP, a legacy protocol.
 *
 * **Details**
 *
 * - The limits are the settings `connection_pool`, and for {@link make} options of the same meaning: `max_connections`,
 *   `min_connections`, `acquire_timeout`, `max_waiting`, `idle_timeout`, `max_lifetime` (each connection gets up to a tenth
 *   less, so that they do not all end together), `validation_interval` (a connection that lay idle for longer is asked
 *   whether it lives before it is lent; if not, the borrower gets another) and `leak_after`.
 * - First come, first served: nobody overtakes who waits. Who finds `max_waiting` others waiting is refused at once, and
 *   who waited for `acquire_timeout` gets a {@link PoolExhaustedError}, opening and asking included.
 * - A caller that gives up leaves at once. A connection that was being opened for it is kept for the next one.
 * - A connection that is held for longer than `leak_after` (or {@link LeakAfter}) is logged once as a warning, with the
 *   transaction, the named functions (`Effect.fn`) and the spans of who took it.
 * - In the status tree, acquiring is the operation `acquire` with its quantiles, and the gauges and leaks are counters.
 * - `make` keeps times lazily: lifetime and validation are judged when a connection is lent or comes back. One fiber sleeps
 *   while an idle connection is above the minimum, and none otherwise. The minimum is opened in the background; what cannot
 *   be opened is tried again with the next connection that is closed, or when somebody asks.
 *
 * Not built on Effect's `Pool`: it has no acquire time-out, no bound on waiting, no question before lending and no jitter
 * in its lifetimes.
 *
 * **Gotchas**
 *
 * - `idle` and `active` count this process and this client; a monitor's own connection is not among them.
 * - On the embedded database connections are only places in one session: lifetime and validation do nothing there.
 * - Who borrows a second connection of the same pool while holding one can wait for itself, until `acquire_timeout`.
 * - Closing the scope of a pool closes connections that are lent, too: let work end first (`ManagedResource` does).
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
 * **Example** (A pool of one's own)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { ConnectionPool } from "seaworthy"
 *
 * let opened = 0
 * const program = Effect.gen(function*() {
 *   const mail = yield* ConnectionPool.make({
 *     name: "mail",
 *     acquire: Effect.acquireRelease(Effect.sync(() => ({ id: ++opened })), () => Effect.void),
 *     maxConnections: 2,
 *     maxWaiting: 0
 *   })
 *   const first = yield* mail.use(({ id }) => Effect.succeed(id))
 *   const again = yield* mail.use(({ id }) => Effect.succeed(id))
 *   const refused = yield* Effect.scoped(Effect.gen(function*() {
 *     yield* mail.reserve
 *     yield* mail.reserve
 *     return yield* Effect.flip(mail.reserve)
 *   }))
 *   return [first, again, refused.message]
 * })
 * console.log(await Effect.runPromise(Effect.scoped(program)))
 * // => [1, 1, 'all 2 connections of the pool "mail" are in use and 0 callers wait already (at most 0)']
 * ```
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { type Operation, type OperationSnapshot, Status } from "../observability/Status.ts"
import type { Connections, Gauges } from "./database/client.ts"
import * as Errors from "./database/errors.ts"
import * as Leases from "./database/leases.ts"
import type { Handle } from "./ManagedResource.ts"
import * as Open from "./pool/open.ts"
import type * as PoolOptions from "./pool/options.ts"
import type { ResourceError } from "./ResourceError.ts"

/**
 * A connection that is held: of a database by a transaction, a stream or `sql.reserve`, of other pools by anyone.
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
 * What can be seen of connections, and done about them: `Database.pool`, and every {@link Pool}.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionPool {
  /** That of a database fails while the database is stopped or being started. */
  readonly stats: Effect.Effect<Stats, ResourceError>
  /** Who holds a connection now, oldest first. Single statements of a database are not among them. */
  readonly leases: Effect.Effect<ReadonlyArray<Lease>>
  /** Replaces all connections: the idle ones are closed now, those in use when they come back. Nothing is interrupted. */
  readonly purge: Effect.Effect<void, ResourceError | SqlError>
}

/**
 * A pool of connections of one kind: see {@link make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pool<C, E = never> extends ConnectionPool {
  readonly [TypeId]: typeof TypeId
  /** In errors, warnings and the status tree. */
  readonly name: string
  /** Lends a connection to `f`, which must not keep it. */
  readonly use: <A, E2, R>(
    f: (connection: C) => Effect.Effect<A, E2, R>
  ) => Effect.Effect<A, E | E2 | PoolExhaustedError, R>
  /** A connection of one's own until the scope closes. */
  readonly reserve: Effect.Effect<C, E | PoolExhaustedError, Scope.Scope>
  /** Says that a connection is broken: it is closed, now or when it comes back, and not lent again. */
  readonly invalidate: (connection: C) => Effect.Effect<void>
  readonly stats: Effect.Effect<Stats>
  /** As for every pool; waits until the idle ones are closed, which goes on if the caller does not. */
  readonly purge: Effect.Effect<void>
}

/**
 * How a pool makes its connections, and how many it keeps.
 *
 * @category models
 * @since 0.1.0
 */
export type Options<C, E, R = never, R2 = never> = PoolOptions.Options<C, E, R, R2>

/**
 * No connection could be had: not within the time (`AcquireTimeout`), too many callers wait already (`TooManyWaiting`), or
 * the pool was closed (`Closed`). The same as `Database.PoolExhaustedError`, which says more.
 *
 * @category errors
 * @since 0.1.0
 */
export const PoolExhaustedError = Errors.PoolExhaustedError

/**
 * @category errors
 * @since 0.1.0
 */
export type PoolExhaustedError = Errors.PoolExhaustedError

const TypeId = "~seaworthy/ConnectionPool"

/**
 * How long a connection may be held before it is logged as a possible leak. Where it is provided it wins over
 * `connection_pool.leak_after` and `leakAfter`, which have 1 minute by default. Read when a connection is taken, so work
 * that rightly takes long can be given more.
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

/** The node of a pool that has a name, where there is a status tree. */
const register = (name: string | undefined, counters: () => Readonly<Record<string, number>>) =>
  Effect.gen(function*() {
    const status = yield* Effect.serviceOption(Status)
    if (Option.isNone(status) || name === undefined) return undefined
    const node = yield* Effect.orDie(status.value.register({ id: `pool:${name}`, kind: "pool", counters }))
    yield* node.set("ready")
    return node.operation("acquire")
  })

/**
 * Makes a pool of connections of any kind. It ends with the scope: those who wait are refused, and all connections are
 * closed.
 *
 * An option that is out of range dies with a `RangeError` that names it. With a `name` and a `Status`, the pool is the node
 * `pool:<name>` of the status tree; two of one name are a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <C, E, R, R2 = never>(
  options: Options<C, E, R, R2>
): Effect.Effect<Pool<C, E>, never, Exclude<R, Scope.Scope> | R2 | Scope.Scope> =>
  Effect.gen(function*() {
    const node: { acquire?: Operation | undefined } = {}
    const { lending, limits, stats } = yield* Open.open(
      options,
      (success, millis) => node.acquire?.record(success, millis)
    )
    node.acquire = yield* register(options.name, () => ({ ...lending.gauges(), leaks: lending.leaks }))
    const pool: Pool<C, E> = {
      [TypeId]: TypeId,
      name: limits.name,
      use: (f) => lending.use(f),
      reserve: lending.reserve,
      invalidate: (connection) => Effect.sync(() => lending.invalidate(connection)),
      stats: Effect.sync(stats),
      leases: lending.leases,
      purge: lending.purge
    }
    return pool
  })

/**
 * Makes a pool as a service, shared by all that ask for it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <Id, C, E, R, R2 = never>(
  service: Context.Key<Id, Pool<C, E>>,
  options: Options<C, E, R, R2>
): Layer.Layer<Id, never, Exclude<Exclude<R, Scope.Scope> | R2, Scope.Scope>> => Layer.effect(service, make(options))

/**
 * Lends a connection of the pool to `f`: the same as `pool.use`, for a pipe.
 *
 * @category combinators
 * @since 0.1.0
 */
export const use: {
  <C, A, E2, R>(
    f: (connection: C) => Effect.Effect<A, E2, R>
  ): <E>(pool: Pool<C, E>) => Effect.Effect<A, E | E2 | PoolExhaustedError, R>
  <C, E, A, E2, R>(
    pool: Pool<C, E>,
    f: (connection: C) => Effect.Effect<A, E2, R>
  ): Effect.Effect<A, E | E2 | PoolExhaustedError, R>
} = dual(
  2,
  <C, E, A, E2, R>(pool: Pool<C, E>, f: (connection: C) => Effect.Effect<A, E2, R>) => pool.use(f)
)
