import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Transaction from "../../../src/data/Transaction.ts"
import { History } from "../../../src/data/transaction/history.ts"
import { CurrentShared } from "../../../src/data/transaction/options.ts"
import * as Deadline from "../../../src/resilience/Deadline.ts"
import * as Retry from "../../../src/resilience/Retry.ts"
import { interruptAt, steps, turns } from "../../support/EveryStep.ts"
import * as Fake from "./fakeDatabase.ts"

/** Runs with a fake database and a log. */
const withFake = <A, E>(
  program: (fake: Fake.FakeDatabase) => Effect.Effect<A, E, SqlClient.SqlClient>
): Effect.Effect<A, E> =>
  Effect.flatMap(Fake.make, (fake) =>
    program(fake).pipe(
      Effect.provideService(SqlClient.SqlClient, fake.sql),
      Effect.provideService(CurrentShared, { ...CurrentShared.defaultValue(), history: new History(1_000) })
    ))

// ---------------------------------------------------------------------------------------------------------------------
// Trees of transactions
// ---------------------------------------------------------------------------------------------------------------------

/** Work at one level: puts a word, registers hooks, runs its parts, and then perhaps fails. */
interface Part {
  readonly nested: boolean
  readonly fails: boolean
  /** Whether the level above survives a failure of this one. */
  readonly caught: boolean
  readonly parts: ReadonlyArray<Part>
}

const part: fc.Arbitrary<Part> = fc.letrec<{ part: Part }>((tie) => ({
  part: fc.record({
    nested: fc.boolean(),
    fails: fc.boolean(),
    caught: fc.boolean(),
    parts: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.constant([]),
      fc.array(tie("part"), { maxLength: 3 })
    )
  })
})).part

interface Expected {
  readonly failed: boolean
  readonly words: ReadonlyArray<string>
  readonly hooks: ReadonlyArray<string>
}

/** What should become of a tree, told without transactions: words that stand, and hooks that run. */
const expect = (root: Part): Expected => {
  let counter = 0
  let spoiled = false
  const hooks: Array<{ readonly word: string; undone: boolean }> = []
  const visit = (node: Part, words: Array<string>): boolean => {
    const word = `w${counter++}`
    words.push(word)
    hooks.push({ word, undone: false })
    for (const child of node.parts) {
      const since = words.length
      const sinceHooks = hooks.length
      const failed = visit(child, words)
      if (failed && child.nested) {
        words.length = since
        for (const hook of hooks.slice(sinceHooks)) hook.undone = true
      }
      if (failed && !child.nested) spoiled = true
      if (failed && !child.caught) return true
    }
    return node.fails
  }
  const words: Array<string> = []
  const failed = visit(root, words) || spoiled
  return {
    failed,
    words: failed ? [] : words,
    hooks: hooks.map(({ undone, word }) => `${word} ${failed || undone ? "rollback" : "commit"}`)
  }
}

const perform = (root: Part, fake: Fake.FakeDatabase) => {
  let counter = 0
  const seen: Array<string> = []
  const visit = (node: Part): Effect.Effect<void, unknown, SqlClient.SqlClient> =>
    Effect.gen(function*() {
      const word = `w${counter++}`
      yield* Fake.put(fake.sql, word)
      yield* Transaction.afterCommit(Effect.sync(() => void seen.push(`${word} commit`)))
      yield* Transaction.afterRollback(Effect.sync(() => void seen.push(`${word} rollback`)))
      for (const child of node.parts) {
        const inner = Transaction.run(visit(child), { propagation: child.nested ? "nested" : "required" })
        yield* child.caught ? Effect.ignore(inner) : inner
      }
      if (node.fails) return yield* Effect.fail("storm")
    })
  return Effect.map(Effect.exit(Transaction.run(visit(root))), (exit) => ({ exit, seen }))
}

describe("a tree of joined and nested transactions", () => {
  it("leaves what the failures leave, and runs the hooks of what stands and of what does not", () =>
    fc.assert(
      fc.asyncProperty(part, (root) =>
        Effect.runPromise(withFake((fake) =>
          Effect.gen(function*() {
            const expected = expect(root)
            const { exit, seen } = yield* perform(root, fake)
            assert.strictEqual(Exit.isFailure(exit), expected.failed)
            assert.deepStrictEqual(fake.stored, expected.words)
            assert.deepStrictEqual(seen, expected.hooks)
            assert.strictEqual(fake.lent, 0)
          })
        ))),
      { numRuns: 200 }
    ))
})

// ---------------------------------------------------------------------------------------------------------------------
// Interruption
// ---------------------------------------------------------------------------------------------------------------------

describe("interruption at every step", () => {
  const count = (fake: Fake.FakeDatabase, ...words: Array<string>) =>
    fake.statements.filter((statement) => words.some((word) => statement === word || statement.startsWith(`${word} I`)))
      .length

  const check = (fake: Fake.FakeDatabase, seen: ReadonlyArray<string>, at: string) =>
    Effect.gen(function*() {
      const begun = count(fake, "BEGIN")
      assert.strictEqual(count(fake, "COMMIT", "ROLLBACK"), begun, `${at}: every BEGIN has one end`)
      assert.strictEqual(fake.lent, 0, `${at}: the connection is back`)
      const committed = count(fake, "COMMIT") === 1
      const log = yield* Transaction.history
      assert.isAtMost(log.length, 1, at)
      if (begun > 0) assert.strictEqual(log[0]?.outcome, committed ? "committed" : "rolledBack", at)
      assert.deepStrictEqual(fake.stored, committed ? ["a", "b"] : [], at)
      if (committed) assert.deepStrictEqual(seen, ["commit"], at)
      else assert.notInclude(seen, "commit", at)
    })

  it.effect("ends what was begun, once, and tells the hooks what became of it", () =>
    Effect.gen(function*() {
      let committed = 0
      const all = steps(12, 45)
      for (const step of all) {
        const seen: Array<string> = []
        yield* withFake((fake) =>
          Effect.gen(function*() {
            const work = Effect.gen(function*() {
              yield* Transaction.afterCommit(Effect.sync(() => void seen.push("commit")))
              yield* Transaction.afterRollback(Effect.sync(() => void seen.push("rollback")))
              yield* Fake.put(fake.sql, "a")
              yield* Transaction.run(Fake.put(fake.sql, "b"), { propagation: "nested" })
            })
            yield* interruptAt(Transaction.run(work), step)
            yield* check(fake, seen, JSON.stringify(step))
            if (fake.stored.length > 0) committed++
          })
        )
      }
      // The steps reach beyond the end.
      assert.isAbove(committed, 0)
      assert.isBelow(committed, all.length)
    }))

  it.effect("of a transaction begun by hand rolls back, whoever holds it", () =>
    Effect.gen(function*() {
      for (const step of steps(10, 30)) {
        yield* withFake((fake) =>
          Effect.gen(function*() {
            const byHand = Effect.scoped(Effect.gen(function*() {
              const { commit, run } = yield* Transaction.begin()
              yield* run(Fake.put(fake.sql, "a"))
              yield* run(Fake.put(fake.sql, "b"))
              yield* commit
            }))
            yield* interruptAt(byHand, step)
            const at = JSON.stringify(step)
            assert.strictEqual(count(fake, "COMMIT", "ROLLBACK"), count(fake, "BEGIN"), at)
            assert.strictEqual(fake.lent, 0, at)
            assert.include([0, 2], fake.stored.length, at)
          })
        )
      }
    }))
})

// ---------------------------------------------------------------------------------------------------------------------
// Time
// ---------------------------------------------------------------------------------------------------------------------

describe("time", () => {
  /** Statements that hang until the gate is opened. */
  const hang = (fake: Fake.FakeDatabase, statement: string) =>
    Effect.map(Deferred.make<void>(), (gate) => {
      fake.script = (one) => one === statement ? Deferred.await(gate) : undefined
      return gate
    })
  const settled = turns(40)

  it.effect("a COMMIT without an answer is unknown at the time-out; its connection is kept until there is one", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        const gate = yield* hang(fake, "COMMIT")
        const fiber = yield* Effect.forkChild(
          Effect.flip(Transaction.run(Fake.put(fake.sql, "late"), { timeout: "5 seconds" }))
        )
        yield* settled
        yield* TestClock.adjust("4999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const error = yield* Fiber.join(fiber)
        assert.isTrue(error._tag === "CommitOutcomeUnknownError" && error.reason === "TimedOut")
        assert.strictEqual(fake.lent, 1)
        yield* Deferred.succeed(gate, undefined)
        yield* settled
        assert.strictEqual(fake.lent, 0)
        assert.deepStrictEqual(fake.stored, ["late"])
      })
    ))

  it.effect("a verify that finds nothing after a time-out proves nothing: COMMIT may still arrive", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        yield* hang(fake, "COMMIT")
        const fiber = yield* Effect.forkChild(Effect.flip(
          Transaction.run(Effect.void, { timeout: "5 seconds", verify: Effect.succeed(false) })
        ))
        yield* settled
        yield* TestClock.adjust("5 seconds")
        // Asked until `verifyTimeout`: it may arrive meanwhile.
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("5 seconds")
        const error = yield* Fiber.join(fiber)
        assert.isTrue(error._tag === "CommitOutcomeUnknownError" && error.reason === "TimedOut")
        assert.strictEqual(
          error._tag === "CommitOutcomeUnknownError" && error.verification,
          "nothing was found, but COMMIT may still arrive"
        )
      })
    ))

  /** Loses the first COMMIT, whose connection is served by a process that lives for so many milliseconds. */
  const losesCommit = (fake: Fake.FakeDatabase, lives: number) =>
    Effect.clockWith((clock) =>
      Effect.sync(() => {
        fake.backend = { pid: 7, startedAt: "1" }
        fake.isAlive = () => clock.currentTimeMillisUnsafe() < lives
        let lost = false
        fake.script = (statement) => {
          if (statement !== "COMMIT" || lost) return undefined
          lost = true
          return Effect.andThen(Effect.yieldNow, Effect.fail(Fake.lostConnection))
        }
      })
    )
  const advance = (fiber: Fiber.Fiber<unknown, unknown>, seconds: number) =>
    Effect.gen(function*() {
      for (let n = 0; n < seconds * 100 && fiber.pollUnsafe() === undefined; n++) {
        yield* turns(15)
        yield* TestClock.adjust(10)
      }
    })

  it.effect("the no of a verify counts only once the server has let go of the lost connection", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        yield* losesCommit(fake, 1_000)
        const clock = yield* Clock.Clock
        const answers: Array<number> = []
        const verify = Effect.sync(() => {
          answers.push(clock.currentTimeMillisUnsafe())
          return false
        })
        let tries = 0
        const begun: Array<number> = []
        const work = Effect.sync(() => {
          begun.push(clock.currentTimeMillisUnsafe())
          return ++tries
        })
        const fiber = yield* Effect.forkChild(Transaction.run(work, { verify, retry: { base: 20, max: 20 } }))
        yield* advance(fiber, 10)
        assert.strictEqual(yield* Fiber.join(fiber), 2)
        assert.isAbove(answers.length, 1)
        assert.isAtLeast(answers.at(-1)!, 1_000)
        assert.isBelow(answers.at(-2)!, 1_020)
        assert.isAtLeast(begun[1]!, 1_000)
        assert.strictEqual((yield* Transaction.history)[0]?.attempts, 2)
      })
    ))

  it.effect("the yes of a verify counts at once, and a COMMIT that arrives between two questions is found", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        for (const arrives of [0, 500]) {
          const clock = yield* Clock.Clock
          const start = clock.currentTimeMillisUnsafe()
          yield* losesCommit(fake, Infinity)
          const verify = Effect.sync(() => clock.currentTimeMillisUnsafe() - start >= arrives)
          const fiber = yield* Effect.forkChild(
            Transaction.run(Effect.succeed("stands"), { verify, retry: { base: 20, max: 20 } })
          )
          yield* advance(fiber, 10)
          assert.strictEqual(yield* Fiber.join(fiber), "stands")
          assert.isBelow(clock.currentTimeMillisUnsafe() - start, arrives + 100)
        }
        assert.strictEqual(fake.statements.filter((one) => one === "COMMIT").length, 2)
      })
    ))

  it.effect("a no stays unknown while the server holds on, when it cannot be asked, and when it cannot be told", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        const cannotAsk = () => {
          const lose = fake.script
          fake.script = (statement) =>
            statement.includes("pg_stat_get_activity") ? Effect.fail(Fake.serverError("42501")) : lose(statement)
        }
        const cannotTell = () => {
          fake.backend = undefined
        }
        for (const change of [() => {}, cannotAsk, cannotTell]) {
          yield* losesCommit(fake, change === cannotAsk ? 0 : Infinity)
          change()
          const fiber = yield* Effect.forkChild(
            Effect.flip(Transaction.run(Effect.void, { verify: Effect.succeed(false), verifyTimeout: "1 second" }))
          )
          yield* advance(fiber, 10)
          const error = yield* Fiber.join(fiber)
          assert.strictEqual(
            error._tag === "CommitOutcomeUnknownError" && error.verification,
            "nothing was found, but COMMIT may still arrive"
          )
        }
      })
    ))

  it.effect("a ROLLBACK without an answer is waited for one second", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        yield* hang(fake, "ROLLBACK")
        const fiber = yield* Effect.forkChild(Effect.flip(Transaction.run(Effect.never, { timeout: "5 seconds" })))
        yield* settled
        yield* TestClock.adjust("5999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "TransactionTimeoutError")
      })
    ))

  it.effect("a caller that is interrupted during COMMIT waits for the answer, at most one second", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        const gate = yield* hang(fake, "COMMIT")
        const begin = Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(Transaction.run(Effect.void))
          yield* settled
          return yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
        })
        const patient = yield* begin
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(patient.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(patient)
        assert.strictEqual((yield* Transaction.history)[0]?.outcome, "unknown")
        const answered = yield* begin
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(answered)
        assert.deepInclude((yield* Transaction.history)[1], { outcome: "committed", failure: "Interrupted" })
      })
    ))

  it.effect("pauses before new tries are random, double at most, and are capped", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        const begun: Array<number> = []
        const clock = yield* TestClock.testClockWith((clock) => Effect.succeed(clock))
        fake.script = (statement) => {
          if (statement.startsWith("BEGIN")) begun.push(clock.currentTimeMillisUnsafe())
          return statement.startsWith("PUT") ? Effect.fail(Fake.serverError("40001")) : undefined
        }
        const fiber = yield* Effect.forkChild(Effect.exit(Transaction.run(Fake.put(fake.sql, "x"), {
          timeout: Infinity,
          retry: { times: 12, base: 100, max: 800 }
        })))
        for (let i = 0; i < 1_000 && fiber.pollUnsafe() === undefined; i++) {
          yield* turns(10)
          yield* TestClock.adjust(10)
        }
        assert.strictEqual(begun.length, 13)
        const pauses = begun.slice(1).map((at, index) => at - begun[index]!)
        // The clock moves by tens.
        pauses.forEach((pause, index) => assert.isAtMost(pause, Math.min(800, 100 * 2 ** index) + 20))
        assert.isAbove(new Set(pauses).size, 4)
      })
    ))

  it.effect("pauses are those of a schedule where one is given, as long as it says and there is time", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        const tried = (options: Transaction.Options) =>
          Effect.gen(function*() {
            const start = clock.currentTimeMillisUnsafe()
            const begun: Array<number> = []
            fake.script = (statement) => {
              if (statement.startsWith("BEGIN")) begun.push(clock.currentTimeMillisUnsafe() - start)
              return statement.startsWith("PUT") ? Effect.fail(Fake.serverError("40001")) : undefined
            }
            const fiber = yield* Effect.forkChild(Effect.flip(Transaction.run(Fake.put(fake.sql, "x"), options)))
            yield* advance(fiber, 60)
            const error = yield* Fiber.join(fiber)
            assert.strictEqual(error._tag, "SqlError")
            return begun
          })
        const spaced = Schedule.spaced("100 millis")
        assert.deepStrictEqual(yield* tried({ retry: spaced.pipe(Schedule.upTo({ times: 2 })) }), [0, 100, 200])
        assert.deepStrictEqual(yield* tried({ retry: { schedule: spaced, times: 1 } }), [0, 100])
        assert.deepStrictEqual(
          yield* tried({ retry: { schedule: Retry.exponential({ base: "100 millis" }), times: 3 } }),
          [0, 100, 300, 700]
        )
        // No pause that the time-out has no room for.
        assert.deepStrictEqual(yield* tried({ retry: spaced, timeout: "350 millis" }), [0, 100, 200, 300])
        assert.deepStrictEqual(yield* tried({ retry: Schedule.spaced("1 minute") }), [0])
        const within = tried({ retry: spaced }).pipe(Deadline.within("250 millis"))
        assert.deepStrictEqual(yield* within, [0, 100, 200])
        // It sees what the try ended with.
        const codes: Array<string> = []
        const seeing = spaced.pipe(
          Schedule.setInputType<SqlError>(),
          Schedule.while(({ input }) => {
            codes.push(input.reason._tag)
            return codes.length < 2
          })
        )
        assert.deepStrictEqual(yield* tried({ retry: seeing }), [0, 100])
        assert.strictEqual(codes.length, 2)
      })
    ))

  it.effect("an interruption during the pause of a schedule ends at once", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        fake.script = (statement) => statement.startsWith("PUT") ? Effect.fail(Fake.serverError("40001")) : undefined
        const fiber = yield* Effect.forkChild(
          Transaction.run(Fake.put(fake.sql, "x"), { retry: Schedule.spaced("10 seconds") })
        )
        yield* settled
        yield* Fiber.interrupt(fiber)
        assert.deepInclude((yield* Transaction.history)[0], { outcome: "rolledBack", failure: "Interrupted" })
        assert.strictEqual(fake.lent, 0)
      })
    ))

  it.effect("a lost connection is retried before COMMIT, and unknown during it, whatever the driver calls it", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        const outcomes: Array<string> = []
        for (
          const error of [Fake.lostConnection, ...["08006", "57P01", "25P03", "25P04", "40003"].map(Fake.serverError)]
        ) {
          for (const where of ["BEGIN ISOLATION LEVEL REPEATABLE READ", "PUT x", "COMMIT"]) {
            let failed = false
            fake.script = (statement) => {
              if (statement !== where || failed) return undefined
              failed = true
              return Effect.andThen(Effect.yieldNow, Effect.fail(error))
            }
            outcomes.push(
              yield* Transaction.run(Fake.put(fake.sql, "x"), { retry: { base: 0 } }).pipe(
                Effect.match({ onSuccess: () => "again", onFailure: ({ _tag }) => _tag })
              )
            )
          }
        }
        assert.deepStrictEqual([...new Set(outcomes.filter((_, index) => index % 3 < 2))], ["again"])
        assert.deepStrictEqual([...new Set(outcomes.filter((_, index) => index % 3 === 2))], [
          "CommitOutcomeUnknownError"
        ])
      })
    ))

  it.effect("a COMMIT that fails in the very step in which it is handed to the driver was never sent", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        let failed = false
        fake.script = (statement) => {
          if (statement !== "COMMIT" || failed) return undefined
          failed = true
          return Effect.fail(Fake.lostConnection)
        }
        yield* Transaction.run(Fake.put(fake.sql, "x"), { retry: { base: 0 } })
        assert.deepStrictEqual(fake.stored, ["x"])
        assert.deepInclude((yield* Transaction.history)[0], { outcome: "committed", attempts: 2 })
      })
    ))

  it.effect("a connection that never comes ends at the time-out", () =>
    withFake((fake) =>
      Effect.gen(function*() {
        yield* hang(fake, "BEGIN ISOLATION LEVEL REPEATABLE READ")
        const fiber = yield* Effect.forkChild(Effect.flip(Transaction.run(Effect.void, { timeout: "2 seconds" })))
        yield* settled
        yield* TestClock.adjust(Duration.seconds(3))
        const error = yield* Fiber.join(fiber)
        assert.isTrue(error._tag === "TransactionTimeoutError" && error.attempts === 1)
      })
    ))
})
