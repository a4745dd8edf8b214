/**
 * The application's SQL database: embedded or a server, started, migrated, verified, watched and restarted.
 *
 * **When to use**
 *
 * Provide `PgliteDatabase.layer` (`seaworthy/pglite`, embedded, no server needed) or `PostgresDatabase.layer`
 * (`seaworthy/postgres`). Both give `SqlClient` of `effect/sql` for queries, and this service for what is about the
 * database itself. To bind another driver, build its layer with {@link layerFrom}.
 *
 * **Details**
 *
 * The resource is named `database`. Its start connects for real, runs the migrations of `database.migrations` (each in a
 * transaction, one process at a time), and verifies with a write in a rolled-back transaction, so that a read-only
 * database is found at the start. Statements are counted in the status tree as `query`.
 *
 * The `SqlClient` owns no connection: every statement and transaction borrows one from the living pool. It never has to
 * be replaced, also when a `Supervisor` restarts the database. Borrowing waits at most `connection_pool.acquire_timeout`
 * behind at most `connection_pool.max_waiting` others; then it fails with a `SqlError` of the reason `ConnectionError`
 * whose cause is a {@link PoolExhaustedError}. While the database is stopped or being started, the cause is a
 * `ResourceError`.
 *
 * **Gotchas**
 *
 * A statement on `Database.sql` inside `sql.withTransaction` runs in that transaction; work forked from inside must end
 * before the transaction does.
 *
 * **Example** (Embedded, in memory)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Database, Status } from "seaworthy"
 * import { PgliteDatabase } from "seaworthy/pglite"
 *
 * const program = Effect.gen(function*() {
 *   const { driver, sql } = yield* Database.Database
 *   const [row] = yield* sql<{ readonly sum: number }>`SELECT ${1} + ${2} AS sum`
 *   return [driver, row?.sum]
 * })
 * const DatabaseLayer = PgliteDatabase.layerWith({ data_dir: "memory://" }).pipe(Layer.provide(Status.layer))
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(DatabaseLayer)))) // => [ "pglite", 3 ]
 * ```
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Status } from "../observability/Status.ts"
import { type ConnectionPool, fromHandle } from "./ConnectionPool.ts"
import * as Client from "./database/client.ts"
import * as Errors from "./database/errors.ts"
import { Leases } from "./database/leases.ts"
import * as Observe from "./database/observer.ts"
import * as ManagedResource from "./ManagedResource.ts"
import type { ResourceError } from "./ResourceError.ts"

/**
 * A migration that is applied.
 *
 * @category models
 * @since 0.1.0
 */
export interface Migration {
  /** The number its file name begins with. */
  readonly id: number
  /** The rest of the file name, without extension. */
  readonly name: string
  readonly file: string
  /** SHA-256 of the file, with line endings as `\n`. */
  readonly checksum: string
  readonly appliedAt: Date
  /** Milliseconds. */
  readonly duration: number
}

/**
 * No connection could be had: not within the time (`AcquireTimeout`), too many callers wait already
 * (`TooManyWaiting`), the caller holds one in an open transaction and could wait for itself (`WouldDeadlock`), or the database was released meanwhile (`Closed`). Retryable. It is the cause inside a `SqlError`.
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

/**
 * A statement that has ended, as an {@link Observer} hears of it.
 *
 * @category models
 * @since 0.1.0
 */
export type Statement = Observe.Statement

/**
 * Called in the caller's own step: it must be quick, must not throw, and must not keep or show `params`, which may hold
 * secrets. Streams are not told.
 *
 * @category models
 * @since 0.1.0
 */
export type Observer = Observe.Observer

/**
 * The database. `SqlClient` is in the context beside it, the same as `sql` here.
 *
 * @category services
 * @since 0.1.0
 */
export class Database extends Context.Service<Database, {
  /** `pg` or `pglite`; the same as `sql.driver`. */
  readonly driver: string
  readonly sql: SqlClient.SqlClient
  /** What is applied of the migrations, in order; empty when no folder is set. As of the last start. */
  readonly migrated: Effect.Effect<ReadonlyArray<Migration>, ResourceError>
  /** One round trip on a connection of the pool, and how long it took, waiting for the connection included. */
  readonly ping: Effect.Effect<Duration.Duration, SqlError>
  /** Its connections: how many, who holds them, and a way to replace them. */
  readonly pool: ConnectionPool
  /** Hears of every statement that has ended, until the scope closes. For tools; see {@link Observer}. */
  readonly observe: (observer: Observer) => Effect.Effect<void, never, Scope.Scope>
}>()("seaworthy/Database") {}

/**
 * One generation of connections, as a driver gives it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connections extends Client.Connections {
  /** Filled by the initialize phase. */
  migrations: ReadonlyArray<Migration>
}

/**
 * What `effect/sql` has to know of a driver.
 *
 * @category models
 * @since 0.1.0
 */
export type Dialect = Client.Dialect

/**
 * The layer of a driver: a managed resource whose connection is a way to SQL connections.
 *
 * For authors of drivers; see `src/backends/postgres.ts` for one.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFrom = <Settings, C extends Connections, E, R>(
  definition: ManagedResource.Definition<Settings, C, E, R>,
  dialect: Dialect
): Layer.Layer<
  Database | SqlClient.SqlClient,
  ResourceError,
  Exclude<Exclude<R, Scope.Scope>, Reactivity.Reactivity> | Exclude<Status, Reactivity.Reactivity>
> =>
  Layer.unwrap(
    Effect.gen(function*() {
      const reactivity = yield* Reactivity.Reactivity
      const leases = yield* Effect.acquireRelease(Effect.sync(() => new Leases()), (all) =>
        Effect.sync(() => all.close()))
      let current: C | undefined
      const connect: typeof definition.connect = (settings) =>
        Effect.map(definition.connect(settings), (connections) => {
          if (connections.leakAfter !== undefined) {
            leases.leakAfter = connections.leakAfter
          }
          return current = connections
        })
      const counters = () => ({ ...current?.gauges?.(), leaks: leases.warned })
      return ManagedResource.layerContext({ ...definition, connect, counters }, (handle) =>
        Effect.suspend(() => {
          const observers = new Observe.Observers()
          return Client.make(handle, dialect, leases, observers).pipe(
            Effect.provideService(Reactivity.Reactivity, reactivity),
            Effect.map((sql) =>
              Context.make(Database, {
                driver: dialect.driver,
                sql,
                migrated: Effect.map(handle.connection, ({ migrations }) =>
                  migrations),
                ping: ping(sql),
                pool: fromHandle(handle, leases),
                observe: observers.add
              }).pipe(Context.add(SqlClient.SqlClient, sql))
            )
          )
        }))
    })
  ).pipe(
    Layer.provide(Reactivity.layer)
  )

const ping = (sql: SqlClient.SqlClient): Effect.Effect<Duration.Duration, SqlError> =>
  Effect.clockWith((clock: Clock.Clock) => {
    const start = clock.monotonicTimeNanosUnsafe()
    return Effect.map(sql`SELECT 1`, () => Duration.nanos(clock.monotonicTimeNanosUnsafe() - start))
  })
