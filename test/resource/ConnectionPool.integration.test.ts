import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import * as PostgresDatabase from "../../src/backends/PostgresDatabase.ts"
import * as Transaction from "../../src/data/Transaction.ts"
import * as StatusModule from "../../src/observability/Status.ts"
import * as ConnectionPool from "../../src/resource/ConnectionPool.ts"
import { Database } from "../../src/resource/Database.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import { account, ask } from "../support/PostgresAccount.ts"
import * as Servers from "../support/Servers.ts"

Servers.describeWith(["postgres"], "The connection pool", () => {
  const scope = Scope.makeUnsafe()
  let server: Servers.PostgresServer
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.provide(Servers.postgres(), scope))
  }, 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 60_000)

  const admin = (sql: string) => ask(server, sql)
  const withPool = <A, E>(
    pool: PostgresDatabase.Options["pool"],
    program: (database: Database["Service"]) => Effect.Effect<A, E, SqlClient | Scope.Scope | StatusModule.Status>
  ) =>
    Effect.scoped(Effect.flatMap(Database, program)).pipe(
      Effect.provide(
        Layer.unwrap(Effect.sync(() =>
          PostgresDatabase.layerWith({
            ...account(server),
            application_name: "pool",
            retry_attempts: 0,
            monitoring: { check_interval: Duration.hours(1) },
            pool: { max_connections: 3, max_waiting: 5, ...pool }
          })
        )).pipe(Layer.provideMerge(StatusModule.layer))
      )
    )
  const pidOf = ({ sql }: Database["Service"]) =>
    Effect.map(sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`, ([row]) => row!.pid)

  it.live("tells how many are active, idle and waited for, and how long acquiring takes", () =>
    withPool({ acquire_timeout: Duration.millis(200) }, ({ pool, sql }) =>
      Effect.gen(function*() {
        const status = yield* StatusModule.Status
        const before = yield* pool.stats
        assert.deepInclude(before, { max: 3, active: 0, idle: 1, waiting: 0, leaks: 0 })
        yield* Effect.scoped(Effect.gen(function*() {
          yield* Effect.all([sql.reserve, sql.reserve, sql.reserve])
          const waiter = yield* Effect.forkChild(Effect.exit(sql`SELECT 1`), { startImmediately: true })
          assert.deepInclude(yield* pool.stats, { active: 3, idle: 0, waiting: 1 })
          const node = (yield* status.snapshot).nodes.find(({ id }) => id === "database")
          assert.deepInclude(node?.counters, { max: 3, active: 3, idle: 0, waiting: 1, leaks: 0 })
          assert.isTrue(Exit.isFailure(yield* Fiber.join(waiter)))
        }))
        const after = yield* pool.stats
        assert.deepInclude(after, { active: 0, idle: 3, waiting: 0 })
        assert.strictEqual(after.acquire.successes - before.acquire.successes, 3)
        assert.strictEqual(after.acquire.failures - before.acquire.failures, 1)
        assert.isAtLeast(after.acquire.max, 199)
      })))

  it.live("names who holds a connection, and warns once of one that is held too long", () => {
    const warnings: Array<string> = []
    const logger = Logger.make(({ message }) => void warnings.push(String(message)))
    return withPool({}, ({ pool, sql }) =>
      Effect.gen(function*() {
        const inside = yield* Deferred.make<void>()
        const leave = yield* Deferred.make<void>()
        const borrow = Effect.fn("loadReport")(function*() {
          yield* Transaction.run(
            Effect.andThen(Deferred.succeed(inside, undefined), Deferred.await(leave)),
            { name: "report" }
          )
        })
        const fiber = yield* Effect.forkChild(Effect.withSpan(borrow(), "GET /report"))
        yield* Deferred.await(inside)
        const [lease] = yield* pool.leases
        assert.match(lease!.borrower, /^transaction "report" < loadReport < .*GET \/report$/)
        yield* eventually(Effect.map(pool.stats, ({ leaks }) => leaks === 1))
        yield* Deferred.succeed(leave, undefined)
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(yield* pool.leases, [])
        yield* Effect.scoped(sql.reserve)
        assert.deepInclude(yield* pool.stats, { leaks: 1 })
        assert.strictEqual(warnings.length, 1)
        assert.match(
          warnings[0]!,
          /^a database connection has been held for \d+ s, by: transaction "report" < loadReport/
        )
      }).pipe(
        Effect.provideService(ConnectionPool.LeakAfter, Duration.millis(50)),
        Effect.provide(Logger.layer([logger]))
      ))
  })

  it.live("warns after the time that the settings give", () => {
    const warnings: Array<string> = []
    return withPool({ leak_after: Duration.millis(40) }, ({ pool, sql }) =>
      Effect.scoped(Effect.gen(function*() {
        yield* Effect.withSpan(sql.reserve, "import")
        yield* eventually(Effect.map(pool.stats, ({ leaks }) => leaks === 1))
        assert.match(warnings[0]!, /^a database connection has been held for \d+ s, by: import/)
      }))).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))])))
  })

  it.live("purged, has new connections at once, and lets those in use finish first", () =>
    withPool({}, (database) =>
      Effect.gen(function*() {
        const { pool } = database
        const old = yield* pidOf(database)
        const held = yield* Transaction.run(Effect.gen(function*() {
          const pid = yield* pidOf(database)
          yield* pool.purge
          assert.strictEqual(yield* pidOf(database), pid)
          return pid
        }))
        const fresh = yield* pidOf(database)
        assert.notInclude([old, held], fresh)
        yield* eventually(Effect.map(
          admin(`SELECT 1 FROM pg_stat_activity WHERE pid IN (${old}, ${held})`),
          (rows) => rows.length === 0
        ))
      })))

  it.live("replaces a connection that has reached its lifetime", () =>
    withPool({ max_lifetime: Duration.millis(400) }, (database) =>
      Effect.gen(function*() {
        const pids = new Set<number>()
        yield* eventually(Effect.map(pidOf(database), (pid) => pids.add(pid).size >= 3))
        assert.deepInclude(yield* database.pool.stats, { active: 0 })
      })))

  it.live("asks a connection that lay idle for long whether it lives, and lends another if it does not", () =>
    withPool({ validation_interval: Duration.millis(1) }, (database) =>
      Effect.gen(function*() {
        const pid = yield* pidOf(database)
        yield* eventually(Effect.map(
          admin(`SELECT query FROM pg_stat_activity WHERE pid = ${pid}`),
          (rows) => rows.length === 1
        ))
        // The same one: it answered.
        assert.strictEqual(yield* pidOf(database), pid)
        // A process that neither answers nor hangs up, like the end of a line that a firewall has forgotten.
        yield* Effect.acquireRelease(
          Effect.sync(() => process.kill(pid, "SIGSTOP")),
          () => Effect.sync(() => process.kill(pid, "SIGCONT"))
        )
        // Idle for longer than the interval.
        yield* pause("10 millis")
        const { exit, millis } = yield* timed(pidOf(database))
        assert.notStrictEqual(yield* exit, pid)
        assert.isBelow(millis, 15_000)
      })))
})
