/**
 * What `Transaction` promises on every database, run against each of them.
 */
import { assert, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Transaction from "../../src/data/Transaction.ts"
import { Status } from "../../src/observability/Status.ts"
import * as StatusModule from "../../src/observability/Status.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import type { Database } from "../../src/resource/Database.ts"

let tables = 0
/** A table of its own for a test, with the ways in and out. */
const table = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const name = `transaction_suite_${tables++}`
  yield* sql`CREATE TABLE ${sql(name)} (name text)`
  return {
    sql,
    put: (value: string) => sql`INSERT INTO ${sql(name)} VALUES (${value})`,
    names: Effect.map(
      sql<{ readonly name: string }>`SELECT name FROM ${sql(name)} ORDER BY name`,
      (rows) => rows.map((row) => row.name)
    )
  }
})

const raise = (sql: SqlClient.SqlClient, code: string) =>
  sql.unsafe(`DO $$ BEGIN RAISE EXCEPTION 'made by a test' USING ERRCODE = '${code}'; END $$`)

/** Fails with a code in the first tries. */
const failUntil = (sql: SqlClient.SqlClient, reached: boolean, code: string): Effect.Effect<void, SqlError> =>
  reached ? Effect.void : Effect.asVoid(raise(sql, code))

const nothing = Clock.Clock.defaultValue().sleep(Duration.zero)

export const suite = <E>(
  name: string,
  backend: Layer.Layer<Database | SqlClient.SqlClient, E, Status>,
  singleSession: boolean
): void => {
  const live = Layer.mergeAll(backend, Transaction.layerWith({ history: 5 })).pipe(
    Layer.provideMerge(StatusModule.layer)
  )
  layer(live, { excludeTestServices: true, timeout: "2 minutes" })(name, (it) => {
    it.effect("commits what succeeds, and undoes what fails, dies or is interrupted", () =>
      Effect.gen(function*() {
        const { names, put } = yield* table
        assert.strictEqual(yield* Transaction.run(Effect.as(put("kept"), "value")), "value")
        assert.strictEqual(
          yield* Effect.flip(put("failed").pipe(Effect.andThen(Effect.fail("storm" as const)), Transaction.run())),
          "storm"
        )
        const died = yield* Effect.exit(Transaction.run(Effect.andThen(put("died"), Effect.die("bug"))))
        assert.isTrue(Exit.isFailure(died) && Cause.hasDies(died.cause))
        const inside = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(Transaction.run(
          put("interrupted").pipe(Effect.andThen(Deferred.succeed(inside, undefined)), Effect.andThen(Effect.never))
        ))
        yield* Deferred.await(inside)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* names, ["kept"])
      }))

    it.effect("tells the server isolation, access and deferrability; repeatable read is the default", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const traits = Effect.map(
          sql`SELECT current_setting('transaction_isolation') AS i, current_setting('transaction_read_only') AS r,
            current_setting('transaction_deferrable') AS d`,
          ([row]) => [row?.["i"], row?.["r"], row?.["d"]]
        )
        assert.deepStrictEqual(yield* Transaction.run(traits), ["repeatable read", "off", "off"])
        assert.deepStrictEqual(yield* Transaction.run(traits, { isolation: "READ_COMMITTED", readOnly: true }), [
          "read committed",
          "on",
          "off"
        ])
        assert.deepStrictEqual(yield* Transaction.run(traits, { readOnly: true, deferrable: true }), [
          "serializable",
          "on",
          "on"
        ])
      }))

    it.effect("required joins: one transaction, one fate", () =>
      Effect.gen(function*() {
        const { names, put, sql } = yield* table
        const xid = Effect.map(sql`SELECT pg_current_xact_id()::text AS x`, ([row]) => row?.["x"])
        const [outer, inner] = yield* Transaction.run(Effect.all([xid, Transaction.run(xid)]))
        assert.strictEqual(outer, inner)
        const failure = yield* Effect.flip(Transaction.run(
          Effect.gen(function*() {
            yield* put("outer")
            yield* Effect.ignore(
              Transaction.run(Effect.andThen(put("inner"), Effect.fail("storm")), { name: "part" })
            )
          }),
          { name: "whole" }
        ))
        assert.strictEqual(failure._tag, "RolledBackByInnerError")
        assert.strictEqual(
          failure.message,
          "transaction \"whole\" was rolled back, because \"part\" had joined it and failed"
        )
        assert.deepStrictEqual(yield* names, [])
      }))

    it.effect("nested undoes its own part only, and begins a transaction where none is open", () =>
      Effect.gen(function*() {
        const { names, put } = yield* table
        yield* Transaction.run(Effect.gen(function*() {
          yield* put("outer")
          yield* Effect.ignore(
            Transaction.run(Effect.andThen(put("lost"), Effect.fail("storm")), { propagation: "nested" })
          )
          yield* Transaction.run(put("inner"), { propagation: "nested" })
        }))
        yield* Effect.ignore(Transaction.run(Effect.andThen(put("alone"), Effect.fail("x")), { propagation: "nested" }))
        assert.deepStrictEqual(yield* names, ["inner", "outer"])
      }))

    it.effect("mandatory, never and supports look at what is open", () =>
      Effect.gen(function*() {
        const open = Transaction.isOpen
        const as = (propagation: Transaction.Propagation) => Transaction.run(open, { propagation })
        const refused = (propagation: Transaction.Propagation) =>
          Effect.map(Effect.flip(as(propagation)), (error) =>
            error._tag === "TransactionRefusedError" ? error.reason : error._tag)
        assert.strictEqual(yield* refused("mandatory"), "NoTransaction")
        assert.isFalse(yield* as("never"))
        assert.isFalse(yield* as("supports"))
        assert.deepStrictEqual(
          yield* Transaction.run(Effect.all([as("mandatory"), as("supports")])),
          [true, true]
        )
        assert.strictEqual(
          yield* Transaction.run(Transaction.run(refused("never"), { propagation: "nested" })),
          "TransactionOpen"
        )
      }))

    it.effect("refuses an inner demand that the open transaction does not meet, and takes a stronger one", () =>
      Effect.gen(function*() {
        const inner = (options: Transaction.Options) =>
          Effect.match(Transaction.run(Effect.void, { ...options, name: "inner" }), {
            onSuccess: () => "runs",
            onFailure: (error) => error.message
          })
        const outcomes = yield* Transaction.run(Effect.all([
          inner({ isolation: "SERIALIZABLE" }),
          inner({ isolation: "READ_COMMITTED" }),
          inner({ readOnly: false }),
          inner({ readOnly: true, propagation: "nested" })
        ]))
        assert.deepStrictEqual(outcomes, [
          "transaction \"inner\" asks for isolation SERIALIZABLE, and the open one has REPEATABLE_READ",
          "runs",
          "runs",
          "transaction \"inner\" asks for readOnly read-only, and the open one has read-write"
        ])
      }))

    it.effect("joins a transaction begun by sql.withTransaction, whose traits it asks the server for", () =>
      Effect.gen(function*() {
        const { names, put, sql } = yield* table
        const seen: Array<string> = []
        const see = (word: string) => Effect.sync(() => void seen.push(word))
        const error = yield* sql.withTransaction(Effect.gen(function*() {
          yield* Transaction.run(Effect.andThen(put("joined"), Transaction.afterCommit(see("committed"))))
          yield* see("work done")
          return yield* Effect.flip(Transaction.run(Effect.void, { isolation: "SERIALIZABLE" }))
        }))
        assert.strictEqual(error._tag === "TransactionConflictError" && error.open, "READ_COMMITTED")
        assert.deepStrictEqual(seen, ["work done", "committed"])
        assert.deepStrictEqual(yield* names, ["joined"])
      }))

    it.effect("lets sql.withTransaction and sql.afterCommit join in", () =>
      Effect.gen(function*() {
        const { names, put, sql } = yield* table
        const seen: Array<string> = []
        yield* Transaction.run(Effect.gen(function*() {
          yield* Effect.ignore(sql.withTransaction(Effect.andThen(put("lost"), Effect.fail("storm"))))
          yield* sql.withTransaction(put("kept"))
          yield* sql.afterCommit(Effect.sync(() => void seen.push("theirs")))
          yield* Transaction.afterCommit(Effect.sync(() => void seen.push("ours")))
        }))
        assert.deepStrictEqual(yield* names, ["kept"])
        assert.deepStrictEqual(seen, ["theirs", "ours"])
      }))

    it.effect("requiresNew has a fate of its own, where there is more than one session", () =>
      Effect.gen(function*() {
        const { names, put } = yield* table
        const own = Transaction.run(put("own"), { propagation: "requiresNew" })
        const outer = Transaction.run(
          Effect.gen(function*() {
            yield* put("outer")
            yield* own
            return yield* Effect.fail("storm" as const)
          })
        )
        const error = yield* Effect.flip(outer)
        if (singleSession) {
          assert.strictEqual(
            typeof error === "object" && error._tag === "TransactionRefusedError" && error.reason,
            "SingleSession"
          )
          yield* own
        } else {
          assert.strictEqual(error, "storm")
        }
        assert.deepStrictEqual(yield* names, ["own"])
      }))

    it.effect("begins again after 40001 and 40P01, each time anew, and gives up with the last error", () =>
      Effect.gen(function*() {
        const { names, put, sql } = yield* table
        for (const code of ["40001", "40P01"]) {
          let tries = 0
          const work = Effect.suspend(() => Effect.andThen(put(`${code} ${++tries}`), failUntil(sql, tries >= 3, code)))
          yield* Transaction.run(work, { retry: { base: 1 } })
          assert.strictEqual(tries, 3)
          tries = -10
          const error = yield* Effect.flip(Transaction.run(work, { retry: { base: 1, times: 2 } }))
          assert.strictEqual(error._tag, "SqlError")
          assert.strictEqual(tries, -7)
        }
        assert.deepStrictEqual(yield* names, ["40001 3", "40P01 3"])
      }))

    it.effect("begins again however the work wraps, swallows or dies of the error", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const shapes: Record<string, (self: ReturnType<typeof raise>) => Effect.Effect<unknown, unknown>> = {
          wrapped: Effect.mapError((cause) => ({ _tag: "CargoError", cause })),
          replaced: Effect.mapError(() => "no reason given"),
          swallowed: Effect.ignore,
          died: Effect.orDie
        }
        for (const [shape, change] of Object.entries(shapes)) {
          let tries = 0
          const work = Effect.suspend(() => ++tries < 2 ? change(raise(sql, "40001")) : Effect.succeed("done"))
          assert.strictEqual(yield* Transaction.run(work, { retry: { base: 1 } }), "done", shape)
          assert.strictEqual(tries, 2, shape)
        }
      }))

    it.effect("does not begin again after other errors, in inner levels, or when told not to", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        let tries = 0
        const failing = (code: string) => Effect.suspend(() => (tries++, raise(sql, code)))
        const count = (effect: Effect.Effect<unknown, unknown, SqlClient.SqlClient>) =>
          Effect.suspend(() => {
            tries = 0
            return Effect.map(Effect.exit(effect), () => tries)
          })
        const retry = { base: 1, times: 2 }
        assert.strictEqual(yield* count(Transaction.run(failing("23505"), { retry })), 1)
        assert.strictEqual(yield* count(Transaction.run(failing("40001"), { retry: false })), 1)
        assert.strictEqual(yield* count(Transaction.run(failing("40P01"), { retry: { ...retry, deadlock: false } })), 1)
        const inner = Transaction.run(failing("40001"), { retry, propagation: "nested" })
        assert.strictEqual(yield* count(Transaction.run(inner, { retry: false })), 1)
        assert.strictEqual(yield* count(Transaction.run(inner, { retry })), 3)
        // A savepoint that was rolled back takes the failure with it.
        assert.strictEqual(yield* count(Transaction.run(Effect.ignore(inner), { retry })), 1)
      }))

    it.effect("ends at its time-out or the deadline, whichever is nearer, and has rolled back by then", () =>
      Effect.gen(function*() {
        const { names, put } = yield* table
        const slow = Transaction.run(Effect.andThen(put("late"), Effect.never), { name: "slow", timeout: "200 millis" })
        const error = yield* Effect.flip(slow)
        assert.strictEqual(error._tag, "TransactionTimeoutError")
        assert.strictEqual(error.message, "transaction \"slow\" was not done within 200ms: rolled back")
        assert.deepStrictEqual(yield* names, [])
        const clipped = yield* Effect.flip(Deadline.within(slow, "100 millis"))
        assert.include(["TransactionTimeoutError", "DeadlineExceededError"], clipped._tag)
        const part = Transaction.run(Effect.never, { propagation: "nested", timeout: "20 millis", name: "part" })
        yield* Transaction.run(Effect.andThen(put("outer"), Effect.flip(part)))
        assert.deepStrictEqual(yield* names, ["outer"])
      }))

    it.effect("counts tries and pauses into the time-out", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { exit, millis } = yield* Effect.gen(function*() {
          const start = performance.now()
          const exit = yield* Effect.exit(Transaction.run(raise(sql, "40001"), {
            timeout: "300 millis",
            retry: { base: "1 hour", max: "1 hour", times: 1_000 }
          }))
          return { exit, millis: performance.now() - start }
        })
        // No pause is begun that would end after the time-out: the last error comes at once.
        assert.isTrue(Exit.isFailure(exit))
        assert.isBelow(millis, 5_000)
      }))

    it.effect("runs hooks once, in order, after the end, according to the outcome of their level", () =>
      Effect.gen(function*() {
        const { names, put, sql } = yield* table
        const seen: Array<string> = []
        const see = (word: string) =>
          Effect.gen(function*() {
            assert.isFalse(yield* Transaction.isOpen)
            seen.push(word)
          }).pipe(Effect.provideService(SqlClient.SqlClient, sql))
        const hooks = (word: string) =>
          Effect.andThen(
            Transaction.afterCommit(see(`${word} stands`)),
            Transaction.afterRollback(see(`${word} undone`))
          )
        yield* Transaction.run(Effect.gen(function*() {
          yield* hooks("first")
          yield* Transaction.run(hooks("joined"))
          yield* Effect.ignore(
            Transaction.run(Effect.andThen(hooks("lost"), Effect.fail("x")), { propagation: "nested" })
          )
          yield* Transaction.run(hooks("nested"), { propagation: "nested" })
          yield* Transaction.afterCommit(Effect.die("a bug"))
          yield* hooks("last")
          seen.push("work done")
        }))
        assert.deepStrictEqual(seen, [
          "work done",
          "first stands",
          "joined stands",
          "lost undone",
          "nested stands",
          "last stands"
        ])
        seen.length = 0
        yield* Effect.ignore(Transaction.run(Effect.andThen(hooks("failed"), Effect.fail("x"))))
        assert.deepStrictEqual(seen, ["failed undone"])
        seen.length = 0
        let tries = 0
        const flaky = Effect.suspend(() => Effect.andThen(hooks(`try ${++tries}`), failUntil(sql, tries >= 3, "40001")))
        yield* Transaction.run(flaky, { retry: { base: 1 } })
        assert.deepStrictEqual(seen, ["try 3 stands"])
        seen.length = 0
        yield* hooks("outside")
        assert.deepStrictEqual(seen, ["outside stands"])
        // A hook can use the database: the connection was given back.
        yield* Transaction.run(Transaction.afterCommit(Effect.asVoid(Effect.orDie(Transaction.run(put("by a hook"))))))
        assert.deepStrictEqual(yield* names, ["by a hook"])
      }))

    it.effect("runs the hooks of an interrupted transaction before the interruption is over", () =>
      Effect.gen(function*() {
        const seen: Array<string> = []
        const inside = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(Transaction.run(Effect.gen(function*() {
          yield* Transaction.afterRollback(Effect.sync(() => void seen.push("undone")))
          yield* Deferred.succeed(inside, undefined)
          return yield* Effect.never
        })))
        yield* Deferred.await(inside)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(seen, ["undone"])
      }))

    it.effect("runs statements as a batch, in order, in one transaction or in several of a size", () =>
      Effect.gen(function*() {
        const { names, put } = yield* table
        const results = yield* Transaction.batch(["a", "b", "c"].map((name) => Effect.as(put(name), name)))
        assert.deepStrictEqual(results, ["a", "b", "c"])
        const broken = ["d", "e", "f"].map((name) => name === "f" ? Effect.fail("storm") : put(name))
        yield* Effect.ignore(Transaction.batch(broken))
        assert.deepStrictEqual(yield* names, ["a", "b", "c"])
        yield* Effect.ignore(Transaction.batch(broken, { size: 1 }))
        assert.deepStrictEqual(yield* names, ["a", "b", "c", "d", "e"])
        assert.deepStrictEqual(yield* Transaction.batch([]), [])
      }))

    it.effect("is begun and ended by hand, and rolls back when forgotten", () =>
      Effect.gen(function*() {
        const { names, put } = yield* table
        const used = yield* Effect.scoped(Effect.gen(function*() {
          const kept = yield* Transaction.begin({ name: "by hand" })
          yield* kept.run(put("kept"))
          assert.isTrue(yield* kept.run(Transaction.isOpen))
          yield* Effect.flip(kept.run(Effect.fail("the caller's business")))
          yield* kept.commit
          return kept
        }))
        assert.strictEqual((yield* Effect.flip(used.run(put("after")))).message, "transaction \"by hand\" has ended")
        assert.strictEqual((yield* Effect.flip(used.commit))._tag, "TransactionEndedError")
        yield* used.rollback
        yield* Effect.scoped(Effect.gen(function*() {
          const undone = yield* Transaction.begin()
          yield* undone.run(put("undone"))
          yield* undone.rollback
          assert.strictEqual((yield* Effect.flip(undone.commit))._tag, "TransactionEndedError")
        }))
        yield* Effect.scoped(Effect.flatMap(Transaction.begin(), ({ run }) => run(put("forgotten"))))
        const late = yield* Effect.scoped(Effect.gen(function*() {
          const handle = yield* Transaction.begin({ timeout: "50 millis" })
          yield* handle.run(put("late"))
          assert.strictEqual((yield* Effect.flip(handle.run(Effect.never)))._tag, "TransactionEndedError")
          return yield* Effect.flip(handle.commit)
        }))
        assert.strictEqual(late._tag, "TransactionTimeoutError")
        const inside = yield* Transaction.run(Effect.flip(Effect.scoped(Transaction.begin())))
        assert.strictEqual(inside._tag, "TransactionRefusedError")
        assert.deepStrictEqual(yield* names, ["kept"])
      }))

    it.effect("keeps a bounded log of operations, durations, outcomes and tries, without any value", () =>
      Effect.gen(function*() {
        const { put, sql } = yield* table
        yield* Transaction.clearHistory
        let tries = 0
        const secret = "hunter2-and-more"
        yield* Transaction.run(
          Effect.gen(function*() {
            yield* put(secret)
            yield* sql.unsafe(`SELECT '${secret}', 4711`)
            if (++tries < 2) yield* raise(sql, "40001")
          }),
          { name: "logged", isolation: "SERIALIZABLE", retry: { base: 1 } }
        )
        const [entry] = yield* Transaction.history
        assert.deepInclude(entry, {
          name: "logged",
          outcome: "committed",
          attempts: 2,
          isolation: "SERIALIZABLE",
          failure: undefined,
          retried: ["40001"],
          verified: false,
          omitted: 0
        })
        const texts = entry!.operations.map(({ text }) => text)
        assert.strictEqual(texts[0], "BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert.match(texts[1]!, /^INSERT INTO "transaction_suite_\d+" VALUES \(\$1\)$/)
        assert.deepStrictEqual(texts.slice(2), ["SELECT ?, ?", "COMMIT"])
        assert.isTrue(entry!.operations.every(({ duration }) => duration > 0 && duration <= entry!.duration))
        assert.notInclude(JSON.stringify(entry), secret)
        yield* Effect.ignore(Transaction.run(Effect.fail({ _tag: "StormError", secret })))
        for (let i = 0; i < 10; i++) yield* Transaction.run(Effect.void, { name: `n ${i}` })
        const all = yield* Transaction.history
        assert.deepStrictEqual(all.map((one) => one.name), ["n 5", "n 6", "n 7", "n 8", "n 9"])
        yield* Transaction.clearHistory
        assert.deepStrictEqual(yield* Transaction.history, [])
        yield* Effect.ignore(Transaction.run(Effect.fail({ _tag: "StormError", secret })))
        const [failed] = yield* Transaction.history
        assert.deepInclude(failed, { outcome: "rolledBack", failure: "StormError" })
        assert.notInclude(JSON.stringify(failed), secret)
      }))

    it.effect("counts outcomes in the status tree", () =>
      Effect.gen(function*() {
        const read = Effect.flatMap(Status, (status) => status.get("transactions"))
        const before = (yield* read)!
        yield* Transaction.run(nothing)
        yield* Effect.ignore(Transaction.run(Effect.fail("x")))
        const after = (yield* read)!
        const more = (name: string) => (after.counters[name] ?? 0) - (before.counters[name] ?? 0)
        assert.deepStrictEqual([more("committed"), more("rolledBack"), more("unknown")], [1, 1, 0])
      }))
  })
}
