import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { expectTypeOf } from "vitest"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import { countingSleeps, interruptedAtEveryStep, inVirtualTime } from "./support.ts"

const left = Effect.map(Deadline.remaining, Duration.toMillis)

const exceeded = (exit: Exit.Exit<unknown, unknown>): Deadline.DeadlineExceededError => {
  assert.isTrue(Exit.isFailure(exit))
  const error = Exit.isFailure(exit) ? exit.cause.reasons.map((r) => r._tag === "Fail" ? r.error : r)[0] : undefined
  assert.instanceOf(error, Deadline.DeadlineExceededError)
  return error as Deadline.DeadlineExceededError
}

describe("Deadline", () => {
  it.effect("travels in the fiber's context, to forked fibers too", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* left, Infinity)
      const program = Effect.gen(function*() {
        yield* Effect.sleep(300)
        const forked = yield* Fiber.join(yield* Effect.forkChild(left))
        return [yield* left, forked]
      })
      assert.deepStrictEqual(yield* inVirtualTime(Deadline.within(program, "1 second")), Exit.succeed([700, 700]))
      assert.strictEqual(yield* left, Infinity)
    }))

  it.effect("interrupts the work when it passes, awaits its end, and names itself", () =>
    Effect.gen(function*() {
      let ended = false
      const work = Effect.ensuring(Effect.never, Effect.sync(() => ended = true))
      const error = exceeded(yield* inVirtualTime(Deadline.within(work, { duration: "2 seconds", name: "request" })))
      assert.isTrue(ended)
      assert.strictEqual(error.strategy, "request")
      assert.isTrue(error.started)
      assert.strictEqual(error.message, "deadline \"request\" passed: not done within 2s")
    }))

  it.effect("is a rejection: the caller's time says nothing about the dependency", () =>
    Effect.gen(function*() {
      assert.isTrue(Rejection.isRejection(exceeded(yield* inVirtualTime(Deadline.within(Effect.never, 5)))))
    }))

  it.effect.each([
    { inner: 100, outer: 300, holds: "inner", at: 100 },
    { inner: 300, outer: 100, holds: "outer", at: 100 }
  ])("of $inner ms inside $outer ms the nearer holds", ({ at, holds, inner, outer }) =>
    Effect.gen(function*() {
      let seen = 0
      const work = Effect.andThen(Effect.tap(left, (ms) => Effect.sync(() => seen = ms)), Effect.never)
      const exit = yield* inVirtualTime(work.pipe(
        Deadline.within({ duration: inner, name: "inner" }),
        Deadline.within({ duration: outer, name: "outer" })
      ))
      assert.strictEqual(seen, at)
      assert.strictEqual(exceeded(exit).strategy, holds)
    }))

  it.effect("refuses work up front when nothing is left", () =>
    Effect.gen(function*() {
      let begun = false
      const late = Effect.andThen(
        Effect.uninterruptible(Effect.sleep(500)),
        Deadline.within(Effect.sync(() => begun = true), "1 minute")
      )
      const fiber = yield* Deadline.within(Effect.forkDetach(late), 200)
      yield* TestClock.adjust(1000)
      const error = exceeded(fiber.pollUnsafe()!)
      assert.isFalse(error.started)
      assert.isFalse(begun)
      assert.strictEqual(error.message, "deadline \"deadline\" of 200ms has passed: not begun")
    }))

  it.effect("clip shortens a wait to what is left, and fails when nothing is", () =>
    Effect.gen(function*() {
      const clip = (duration: Duration.Input) => Effect.map(Deadline.clip(duration), Duration.toMillis)
      assert.strictEqual(yield* clip("1 minute"), 60_000)
      assert.strictEqual(yield* clip("Infinity"), Infinity)
      const program = Effect.gen(function*() {
        const before = [yield* clip("1 minute"), yield* clip(50), yield* clip("Infinity")]
        yield* Effect.sleep(500)
        return [before, yield* Effect.exit(Deadline.clip(1))] as const
      })
      const fiber = yield* Deadline.within(Effect.forkDetach(program), 200)
      yield* TestClock.adjust(1000)
      const exit = fiber.pollUnsafe()!
      const [before, after] = Exit.isSuccess(exit) ? exit.value : assert.fail("failed")
      assert.deepStrictEqual(before, [200, 50, 200])
      exceeded(after)
    }))

  it.effect("requireTime refuses a wait that would not be over before the deadline", () =>
    Effect.gen(function*() {
      yield* Deadline.requireTime("100 days")
      const program = Effect.gen(function*() {
        yield* Deadline.requireTime(199)
        return yield* Effect.flip(Deadline.requireTime(200))
      })
      const error = yield* Deadline.within(program, 200)
      assert.strictEqual(Duration.toMillis(error.needed!), 200)
      assert.strictEqual(error.message, "deadline \"deadline\" of 200ms leaves no time for a wait of 200ms")
    }))

  it.effect("without lifts it, for work that outlives the request", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Deadline.within(Deadline.without(left), 200), Infinity)
    }))

  it.effect("gives the work's own outcome when it is done in time, defects and failures included", () =>
    Effect.gen(function*() {
      const exit = <A, E>(self: Effect.Effect<A, E>) => Effect.exit(Deadline.within(self, 100))
      assert.deepStrictEqual(yield* exit(Effect.succeed(1)), Exit.succeed(1))
      assert.deepStrictEqual(yield* exit(Effect.fail("no")), Exit.fail("no"))
      assert.deepStrictEqual(yield* exit(Effect.die("bug")), Exit.die("bug"))
    }))

  it.effect("leaves no work running and no sleep pending, wherever it is interrupted", () =>
    countingSleeps((pending) =>
      Effect.gen(function*() {
        let running = 0
        const work = Effect.acquireUseRelease(
          Effect.sync(() => running++),
          () => Effect.sleep("1 hour"),
          () => Effect.sync(() => running--)
        )
        yield* interruptedAtEveryStep(Deadline.within(work, "1 minute"), () =>
          Effect.sync(() => assert.deepStrictEqual([running, pending()], [0, 0])))
      })
    ))

  it("refuses a duration out of range, by name", () => {
    assert.throws(() => Deadline.within(0), RangeError, "duration must be a duration above zero")
    assert.throws(() => Deadline.within(Effect.void, { duration: -1 }), RangeError, "duration must be")
    assert.throws(() => Deadline.clip(-1), RangeError, "duration must be")
    assert.throws(() => Deadline.requireTime(NaN), RangeError, "duration must be")
  })

  it("has the exact error type", () => {
    const self = null as unknown as Effect.Effect<number, "E", "R">
    const check = () => {
      expectTypeOf(Deadline.within(self, 1)).toEqualTypeOf<
        Effect.Effect<number, "E" | Deadline.DeadlineExceededError, "R">
      >()
      expectTypeOf(self.pipe(Deadline.within({ duration: 1 }))).toEqualTypeOf<
        Effect.Effect<number, "E" | Deadline.DeadlineExceededError, "R">
      >()
      expectTypeOf(Deadline.without(self)).toEqualTypeOf<Effect.Effect<number, "E", "R">>()
    }
    assert.isFunction(check)
  })
})
