/**
 * What every database backend promises, run against each of them.
 */
import { assert, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { Status } from "../../src/observability/Status.ts"
import * as StatusModule from "../../src/observability/Status.ts"
import { Database, PoolExhaustedError } from "../../src/resource/Database.ts"
import { ResourceError } from "../../src/resource/ResourceError.ts"
import { Supervisor } from "../../src/resource/Supervisor.ts"
import { eventually } from "../support/Live.ts"

/** Restarts a resource on command. */
export class Restart
  extends Context.Service<Restart, (id: string) => Effect.Effect<void, ResourceError>>()("test/Restart")
{}

/** A supervisor that does nothing by itself. */
export const manualRestart: Layer.Layer<Restart | Supervisor> = Layer.effectContext(Effect.sync(() => {
  const restarts = new Map<string, Effect.Effect<void, ResourceError>>()
  return Context.make(Restart, (id) => restarts.get(id) ?? Effect.die(new Error(`${id} cannot be restarted`))).pipe(
    Context.add(Supervisor, {
      register: ({ id, restart }) => Effect.sync(() => restart !== undefined && restarts.set(id, restart)),
      down: () => Effect.void
    })
  )
}))

/** The settings that the backend under test must have. */
export const suiteOptions = {
  statement_timeout: Duration.seconds(20),
  pool: { max_connections: 3, max_waiting: 2, acquire_timeout: Duration.millis(400) }
}

const causeOf = (error: SqlError): unknown => error.reason.cause

export const suite = <E>(
  name: string,
  backend: Layer.Layer<Database | SqlClient.SqlClient, E, Status>,
  driver: string
): void => {
  const live = backend.pipe(Layer.provideMerge(manualRestart), Layer.provideMerge(StatusModule.layer))
  layer(live, { excludeTestServices: true, timeout: "5 minutes" })(name, (it) => {
    it.effect("is ready under the id database, with all its phases", () =>
      Effect.gen(function*() {
        const node = yield* (yield* Status).get("database")
        assert.strictEqual(node?.state, "ready")
        assert.deepStrictEqual(
          node?.phases.map(({ outcome, phase }) => [phase, outcome]),
          [["validate", "ok"], ["connect", "ok"], ["initialize", "ok"], ["verify", "ok"]]
        )
      }))

    it.effect("gives one client, as SqlClient and in Database, and says its driver", () =>
      Effect.gen(function*() {
        const database = yield* Database
        assert.strictEqual(database.sql, yield* SqlClient.SqlClient)
        assert.strictEqual(database.driver, driver)
        assert.strictEqual(database.sql.driver, driver)
        assert.deepStrictEqual(yield* database.migrated, [])
        assert.isAbove(Duration.toMillis(yield* database.ping), 0)
      }))

    it.effect("keeps values and types on the way there and back", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const at = new Date("2026-11-21T01:02:03.456Z")
        const [row] = yield* sql`SELECT ${42}::int AS n, ${"ahoy '\\ ☸"}::text AS t, ${true}::boolean AS b,
          ${at}::timestamptz AS at, ${null}::text AS nothing, ${[1, 2]}::int[] AS list`
        assert.deepStrictEqual(row, { n: 42, t: "ahoy '\\ ☸", b: true, at, nothing: null, list: [1, 2] })
        assert.deepStrictEqual(yield* sql`SELECT 1 AS a, 2 AS b`.values, [[1, 2]])
      }))

    it.effect("left nothing of its verification behind", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* sql`SELECT relname FROM pg_class WHERE relname LIKE 'seaworthy%'`, [])
      }))

    it.effect("commits a transaction that succeeds, and rolls back one that fails or is interrupted", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE suite_tx (name text)`
        const insert = (name: string) => sql`INSERT INTO suite_tx VALUES (${name})`
        yield* sql.withTransaction(insert("kept"))
        const error = yield* Effect.flip(sql.withTransaction(Effect.andThen(insert("failed"), Effect.fail("storm"))))
        assert.strictEqual(error, "storm")
        const inside = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(
          sql.withTransaction(
            Effect.andThen(insert("interrupted"), Effect.andThen(Deferred.succeed(inside, undefined), Effect.never))
          )
        )
        yield* Deferred.await(inside)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* sql`SELECT name FROM suite_tx`, [{ name: "kept" }])
      }))

    it.effect("undoes a nested transaction alone", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE suite_nested (name text)`
        const insert = (name: string) => sql`INSERT INTO suite_nested VALUES (${name})`
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* insert("outer")
          yield* Effect.ignore(sql.withTransaction(Effect.andThen(insert("inner"), Effect.fail("storm"))))
        }))
        assert.deepStrictEqual(yield* sql`SELECT name FROM suite_nested`, [{ name: "outer" }])
      }))

    it.effect("keeps parallel transactions and statements apart", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE suite_parallel (n int)`
        const transaction = (n: number) =>
          sql.withTransaction(Effect.gen(function*() {
            yield* sql`INSERT INTO suite_parallel VALUES (${n})`
            const rows = yield* sql<{ readonly n: number }>`SELECT n FROM suite_parallel WHERE n = ${n}`
            assert.deepStrictEqual(rows, [{ n }])
            if (n % 2 === 1) return yield* Effect.fail("odd")
          })).pipe(Effect.ignore)
        const select = (n: number) =>
          Effect.map(sql`SELECT ${n}::int AS n`, (rows) => assert.deepStrictEqual(rows, [{ n }]))
        // As many at once as there are connections and places in the queue.
        yield* Effect.all(
          Array.from({ length: 40 }, (_, n) => n % 4 < 2 ? transaction(n) : select(n)),
          { concurrency: 5, discard: true }
        )
        const [row] = yield* sql<{ readonly count: number }>`SELECT count(*)::int AS count FROM suite_parallel`
        assert.strictEqual(row?.count, 10)
      }))

    it.effect("streams rows, and gives the connection back when the reader stops early", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const numbers = sql<{ readonly n: number }>`SELECT n FROM generate_series(1, 2000) AS n`.stream
        const some = Stream.take(numbers, 3).pipe(Stream.map(({ n }) => n), Stream.runCollect)
        for (let i = 0; i < 5; i++) assert.deepStrictEqual(yield* some, [1, 2, 3])
        assert.strictEqual(yield* Stream.runCount(numbers), 2000)
      }))

    it.effect("tells a violated constraint and a wrong statement by their reason, and goes on", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE suite_unique (id int PRIMARY KEY)`
        yield* sql`INSERT INTO suite_unique VALUES (1)`
        const duplicate = yield* Effect.flip(sql`INSERT INTO suite_unique VALUES (1)`)
        assert.strictEqual(duplicate.reason._tag, "UniqueViolation")
        assert.strictEqual((yield* Effect.flip(sql`SELEC 1`)).reason._tag, "SqlSyntaxError")
        assert.deepStrictEqual(yield* sql`SELECT id FROM suite_unique`, [{ id: 1 }])
      }))

    it.effect("counts statements with their outcome and latency", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const read = Effect.flatMap(Status, (status) => status.get("database")).pipe(
          Effect.map((node) => node?.operations["query"] ?? { attempts: 0, successes: 0, failures: 0, mean: 0 })
        )
        const before = yield* read
        yield* sql`SELECT 1`
        yield* Effect.ignore(sql`SELECT * FROM no_such_table`)
        const after = yield* read
        assert.strictEqual(after.attempts - before.attempts, 2)
        assert.strictEqual(after.successes - before.successes, 1)
        assert.strictEqual(after.failures - before.failures, 1)
        assert.isAbove(after.mean, 0)
      }))

    it.effect("bounds the wait for a connection and the number of those who wait", () =>
      Effect.scoped(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* Effect.all([sql.reserve, sql.reserve, sql.reserve])
        const waiting = yield* Effect.forEach(
          [1, 2],
          () => Effect.forkChild(Effect.flip(sql`SELECT 1`), { startImmediately: true })
        )
        const refused = yield* Effect.flip(sql`SELECT 1`)
        const late = yield* Effect.forEach(waiting, Fiber.join)
        const exhausted = [refused, ...late].map((error) => {
          assert.strictEqual(error.reason._tag, "ConnectionError")
          assert.isTrue(error.isRetryable)
          return causeOf(error)
        })
        assert.isTrue(exhausted.every((cause) => cause instanceof PoolExhaustedError))
        assert.deepStrictEqual(
          exhausted.map((cause) => (cause as PoolExhaustedError).reason),
          ["TooManyWaiting", "AcquireTimeout", "AcquireTimeout"]
        )
        assert.match(refused.message, /all 3 database connections are in use and 2 callers wait already/)
      })))

    it.effect(
      "survives a restart: the client goes on, and the restart waits for a transaction under way",
      () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const restart = yield* Restart
          const status = yield* Status
          const inside = yield* Deferred.make<void>()
          const finish = yield* Deferred.make<void>()
          const transaction = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
            yield* sql`CREATE TABLE IF NOT EXISTS suite_restart (n int)`
            yield* Deferred.succeed(inside, undefined)
            yield* Deferred.await(finish)
            yield* sql`INSERT INTO suite_restart VALUES (1)`
          })))
          yield* Deferred.await(inside)
          const restarting = yield* Effect.forkChild(restart("database"))
          // A statement that comes during the restart waits for its end.
          const during = yield* Effect.forkChild(Effect.andThen(Effect.yieldNow, sql`SELECT 1 AS n`))
          yield* Deferred.succeed(finish, undefined)
          yield* Fiber.join(transaction)
          yield* Fiber.join(restarting)
          assert.deepStrictEqual(yield* Fiber.join(during), [{ n: 1 }])
          assert.deepStrictEqual(yield* sql`SELECT n FROM suite_restart`, [{ n: 1 }])
          yield* eventually(Effect.map(status.get("database"), (node) => node?.state === "ready"))
        }),
      60_000
    )
  })
}

/** The error with which a layer fails. */
export const startError = <A, E>(live: Layer.Layer<A, E, Status>): Effect.Effect<ResourceError> =>
  Effect.scoped(Effect.exit(Layer.build(Layer.provide(live, StatusModule.layer)))).pipe(
    Effect.map((exit) => {
      if (Exit.isSuccess(exit)) throw new Error("it started")
      const error = Cause.squash(exit.cause)
      if (error instanceof ResourceError) return error
      throw error
    })
  )
