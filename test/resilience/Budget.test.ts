import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Budget from "../../src/resilience/Budget.ts"
import * as Hedge from "../../src/resilience/Hedge.ts"
import * as Window from "../../src/resilience/internal/budgetWindow.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import { interruptedAtEveryStep, inVirtualTime } from "./support.ts"

const succeeding = (budget: Budget.Budget, times: number) =>
  Effect.replicateEffect(Retry.retry(Effect.void, { budget }), times, { discard: true })

describe("Budget", () => {
  it.effect("allows a share of the calls in the window", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0.2, minPerSecond: 0 })
      yield* succeeding(budget, 49)
      let attempts = 0
      const failing = Effect.suspend(() => (attempts++, Effect.fail("down")))
      const exit = yield* inVirtualTime(Retry.retry(failing, { schedule: Retry.fixed(1), times: 100, budget }))
      assert.strictEqual(attempts, 1 + 10)
      const error = Exit.isFailure(exit) && exit.cause.reasons[0]?._tag === "Fail"
        ? exit.cause.reasons[0].error
        : undefined
      assert.instanceOf(error, Budget.RetryBudgetExhaustedError)
    }))

  it.effect("allows a floor without any traffic", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0.5, window: "10 seconds" })
      assert.strictEqual((yield* Budget.snapshot(budget)).available, 5)
    }))

  it.effect("forgets calls and retries when the window has passed", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0.5, minPerSecond: 0, window: "10 seconds" })
      yield* succeeding(budget, 9)
      yield* Effect.exit(Retry.retry(Effect.fail("down"), { schedule: Retry.fixed(0), times: 2, budget }))
      assert.deepStrictEqual(yield* Budget.snapshot(budget), { calls: 10, spent: 2, waiting: 0, available: 3 })
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual((yield* Budget.snapshot(budget)).calls, 10)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Budget.snapshot(budget), { calls: 0, spent: 0, waiting: 0, available: 0 })
    }))

  it.effect("exhaustion returns the original error, marked, and makes no further attempt", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ name: "payments", ratio: 0, minPerSecond: 0 })
      const original = { _tag: "Down" as const }
      let attempts = 0
      const failing = Effect.suspend(() => (attempts++, Effect.fail(original)))
      const error = yield* Effect.flip(Retry.retry(failing, { times: 3, budget }))
      assert.instanceOf(error, Budget.RetryBudgetExhaustedError)
      assert.strictEqual(error.error, original)
      assert.deepStrictEqual([error.strategy, error.attempts, attempts], ["payments", 1, 1])
      assert.strictEqual(error.message, "budget \"payments\" allows no retry now: gave up after 1 attempt")
      assert.isFalse(Rejection.isRejection(error), "the dependency was called and failed: a breaker has to count it")
    }))

  it.effect("an outer retry sees the mark and does not repeat what an inner budget refused", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0 })
      let attempts = 0
      const failing = Effect.suspend(() => (attempts++, Effect.fail("down")))
      const nested = failing.pipe(Retry.retry({ budget, times: 3 }), Retry.retry({ times: 5 }))
      const error = yield* Effect.flip(nested)
      assert.strictEqual(error._tag, "RetryBudgetExhaustedError")
      assert.strictEqual(attempts, 1)
    }))

  it.effect("an unwanted result that the budget does not allow to retry is returned as it is", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0 })
      const value = yield* Retry.retry(Effect.succeed("pending"), { budget, whileResult: () => true })
      assert.strictEqual(value, "pending")
    }))

  it.effect("sleepers in a backoff count as spent, however long they sleep", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0.1, window: "10 seconds" })
      const failing = Retry.retry(Effect.fail("down"), { schedule: Retry.fixed("1 hour"), times: 1, budget })
      const sleeper = yield* Effect.forkChild(failing)
      yield* TestClock.adjust("30 minutes")
      assert.deepStrictEqual(yield* Budget.snapshot(budget), { calls: 0, spent: 0, waiting: 1, available: 0 })
      assert.strictEqual((yield* Effect.flip(failing))._tag, "RetryBudgetExhaustedError")
      yield* TestClock.adjust("30 minutes")
      assert.isDefined(sleeper.pollUnsafe())
      assert.deepStrictEqual(yield* Budget.snapshot(budget), { calls: 0, spent: 1, waiting: 0, available: 0 })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Budget.snapshot(budget)).available, 1)
    }))

  it.effect("an interrupted sleeper gives back what it held", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0.1, window: "10 seconds" })
      const fiber = yield* Effect.forkChild(
        Retry.retry(Effect.fail("down"), { schedule: Retry.fixed("1 hour"), times: 1, budget })
      )
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Budget.snapshot(budget)).waiting, 1)
      yield* Fiber.interrupt(fiber)
      const { available, spent, waiting } = yield* Budget.snapshot(budget)
      assert.deepStrictEqual({ available, spent, waiting }, { available: 1, spent: 0, waiting: 0 })
    }))

  it.effect("nothing stays set aside, wherever a retry is interrupted", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 1000 })
      const failing = Retry.retry(Effect.fail("down"), { schedule: Retry.fixed("1 hour"), budget })
      yield* interruptedAtEveryStep(failing, () =>
        Effect.map(Budget.snapshot(budget), ({ spent, waiting }) =>
          assert.deepStrictEqual([spent, waiting], [0, 0])))
    }))

  it.effect("is shared by retries and hedges", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0.2, window: "10 seconds" })
      let launched = 0
      const slow = Effect.suspend(() => (launched++, Effect.as(Effect.sleep("1 second"), "ok")))
      const hedged = Hedge.hedge(slow, { delay: 100, repeatable: true, budget })
      yield* inVirtualTime(hedged, "1 second")
      assert.deepStrictEqual([launched, (yield* Budget.snapshot(budget)).spent], [2, 1])
      yield* Effect.exit(Retry.retry(Effect.fail("down"), { schedule: Retry.fixed(0), times: 1, budget }))
      assert.strictEqual((yield* Budget.snapshot(budget)).spent, 2)
      launched = 0
      assert.deepStrictEqual(yield* inVirtualTime(hedged, "1 second"), Exit.succeed("ok"))
      assert.strictEqual(launched, 1, "a hedge that the budget refuses is not launched")
    }))

  it.effect("counts a call once, however many strategies around it share the budget", () =>
    Effect.gen(function*() {
      const budget = yield* Budget.make({ ratio: 0, minPerSecond: 10 })
      const retry = { schedule: Retry.fixed(0), times: 2, budget }
      const hedge = { delay: "1 second", repeatable: true, budget } as const
      const failing = Effect.fail("down")
      for (
        const call of [
          Effect.exit(failing.pipe(Hedge.hedge(hedge), Retry.retry(retry))),
          Effect.exit(failing.pipe(Retry.retry(retry), Hedge.hedge(hedge))),
          Effect.exit(failing.pipe(Retry.retry(retry), Retry.retry(retry)))
        ]
      ) {
        const { calls } = yield* Budget.snapshot(budget)
        yield* call
        assert.strictEqual((yield* Budget.snapshot(budget)).calls, calls + 1)
      }
    }))

  it.effect("counts the calls of another budget, and those after a counted one, as well", () =>
    Effect.gen(function*() {
      const one = yield* Budget.make({ name: "one" })
      const two = yield* Budget.make({ name: "two" })
      const call = Effect.void.pipe(Retry.retry({ budget: two }), Retry.retry({ budget: one }))
      yield* Effect.andThen(call, call)
      assert.deepStrictEqual([(yield* Budget.snapshot(one)).calls, (yield* Budget.snapshot(two)).calls], [2, 2])
    }))

  it("keeps the books of a reference model that remembers every event", () => {
    const event = fc.oneof(
      { weight: 3, arbitrary: fc.constant("call" as const) },
      { weight: 3, arbitrary: fc.constant("reserve" as const) },
      { weight: 2, arbitrary: fc.constant("launch" as const) },
      { weight: 1, arbitrary: fc.constant("refund" as const) },
      { weight: 3, arbitrary: fc.integer({ min: 0, max: 2500 }) }
    )
    fc.assert(
      fc.property(
        fc.array(event, { maxLength: 200 }),
        fc.constantFrom(0, 0.1, 0.2, 1, 2.5),
        fc.constantFrom(0, 0.5, 3),
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        (events, ratio, floor, start) => {
          const slotMillis = 100
          const window = Window.make(slotMillis * 10, ratio, floor)
          const slotOf = (at: number) => Math.floor(at / slotMillis)
          let now = start
          let waiting = 0
          const calls: Array<number> = []
          const spent: Array<number> = []
          const recent = (times: ReadonlyArray<number>) => times.filter((at) => slotOf(at) > slotOf(now) - 10).length
          const allowed = () => floor + ratio * recent(calls) - recent(spent) - waiting
          for (const event of events) {
            if (typeof event === "number") now += event
            else if (event === "call") {
              Window.call(window, now)
              calls.push(now)
            } else if (event === "reserve") {
              const granted = allowed() >= 1 - 1e-9
              assert.strictEqual(Window.reserve(window, now), granted)
              if (granted) waiting++
            } else if (waiting > 0) {
              waiting--
              if (event === "refund") Window.refund(window)
              else {
                Window.launch(window, now)
                spent.push(now)
              }
            }
            assert.closeTo(Window.available(window, now), allowed(), 1e-9)
            assert.deepStrictEqual(
              [window.totalCalls, window.totalSpent, window.waiting],
              [recent(calls), recent(spent), waiting]
            )
          }
        }
      ),
      { numRuns: 300 }
    )
  })

  it("is not cheated by rounding: 29 % of 100 calls are 29 retries", () => {
    const window = Window.make(1000, 0.29, 0)
    for (let call = 0; call < 100; call++) Window.call(window, 0)
    let granted = 0
    while (Window.reserve(window, 0)) granted++
    assert.strictEqual(granted, 29)
  })

  it.effect.each(
    [
      [{ ratio: -1 }, "ratio"],
      [{ ratio: NaN }, "ratio"],
      [{ minPerSecond: -1 }, "minPerSecond"],
      [{ minPerSecond: Infinity }, "minPerSecond"],
      [{ window: 0 }, "window"],
      [{ window: "Infinity" as const }, "window"]
    ] as const
  )("refuses %j by naming the option", ([options, name]) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Budget.make(options))
      const defect = Exit.isFailure(exit) && exit.cause.reasons[0]?._tag === "Die"
        ? exit.cause.reasons[0].defect
        : undefined
      assert.instanceOf(defect, RangeError)
      assert.match((defect as RangeError).message, new RegExp(`^${name} must be`))
    }))
})
