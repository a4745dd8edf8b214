import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Semaphore from "effect/Semaphore"
import { TestClock } from "effect/testing"
import { getEventListeners } from "node:events"
import { expectTypeOf } from "vitest"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import * as Timeout from "../../src/resilience/Timeout.ts"
import { countingSleeps, interruptedAtEveryStep, inVirtualTime } from "./support.ts"

const timedOut = (exit: Exit.Exit<unknown, unknown>): Timeout.TimeoutError => {
  assert.isTrue(Exit.isFailure(exit))
  const error = Exit.isFailure(exit) ? exit.cause.reasons.map((r) => r._tag === "Fail" ? r.error : r)[0] : undefined
  assert.instanceOf(error, Timeout.TimeoutError)
  return error as Timeout.TimeoutError
}

describe("Timeout", () => {
  describe("limits the work", () => {
    it.effect("gives the work's own outcome when it ends in time", () =>
      Effect.gen(function*() {
        const slow = Effect.as(Effect.sleep("900 millis"), 42)
        assert.deepStrictEqual(yield* inVirtualTime(Timeout.timeout(slow, "1 second")), Exit.succeed(42))
        assert.deepStrictEqual(yield* Effect.exit(Timeout.timeout(Effect.succeed(1), 5)), Exit.succeed(1))
        assert.deepStrictEqual(yield* Effect.exit(Timeout.timeout(Effect.fail("no"), 5)), Exit.fail("no"))
        assert.deepStrictEqual(yield* Effect.exit(Timeout.timeout(Effect.die("bug"), 5)), Exit.die("bug"))
      }))

    it.effect("fails at exactly the limit, with the name and the duration", () =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(Timeout.timeout(Effect.never, { duration: "2 seconds", name: "charge" }))
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const error = timedOut(fiber.pollUnsafe()!)
        assert.strictEqual(error.strategy, "charge")
        assert.deepStrictEqual(error.duration, Duration.seconds(2))
        assert.isFalse(error.deadline)
        assert.strictEqual(error.message, "time-out \"charge\": no answer within 2s")
      }))

    it.effect("is an error to catch by tag, without a captured stack, and a failure of the dependency", () =>
      Effect.gen(function*() {
        const caught = Timeout.timeout(Effect.never, 10).pipe(
          Effect.catchTag("TimeoutError", (error) => Effect.succeed(error))
        )
        const exit = yield* inVirtualTime(caught)
        const error = Exit.isSuccess(exit) ? exit.value : assert.fail("not caught")
        assert.instanceOf(error, Error)
        assert.notInclude(error.stack, " at ")
        assert.isFalse(Rejection.isRejection(error))
      }))

    it.effect("works data-first and data-last, and once made fits any effect", () =>
      Effect.gen(function*() {
        const second = Timeout.timeout("1 second")
        assert.strictEqual(yield* second(Effect.succeed(1)), 1)
        assert.strictEqual(yield* second(Effect.succeed("a")), "a")
        assert.strictEqual(yield* Timeout.timeout(Effect.succeed(2), { duration: { seconds: 1 } }), 2)
      }))

    it.effect("waits for ever with an infinite duration", () =>
      Effect.gen(function*() {
        const slow = Effect.as(Effect.sleep("30 days"), "done")
        assert.deepStrictEqual(yield* inVirtualTime(Timeout.timeout(slow, "Infinity"), "31 days"), Exit.succeed("done"))
      }))
  })

  describe("really interrupts the work and holds its permits until it has ended", () => {
    it.effect("returns only after the finalizers of the work", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const work = Effect.never.pipe(
          Effect.ensuring(Effect.andThen(Effect.sleep("3 seconds"), Effect.sync(() => log.push("cleaned"))))
        )
        const fiber = yield* Effect.forkChild(Timeout.timeout(work, "1 second"))
        yield* TestClock.adjust("3 seconds")
        assert.isUndefined(fiber.pollUnsafe())
        assert.deepStrictEqual(log, [])
        yield* TestClock.adjust("1 second")
        timedOut(fiber.pollUnsafe()!)
        assert.deepStrictEqual(log, ["cleaned"])
      }))

    it.effect("a permit taken by the work is held until the work has ended, not until the limit", () =>
      Effect.gen(function*() {
        const semaphore = yield* Semaphore.make(1)
        const work = semaphore.withPermit(Effect.uninterruptible(Effect.sleep("5 seconds")))
        yield* Effect.forkChild(Timeout.timeout(work, "1 second"))
        yield* TestClock.adjust("2 seconds")
        const other = yield* Effect.forkChild(semaphore.withPermit(Effect.clockWith((c) => c.currentTimeMillis)))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(other.pollUnsafe(), Exit.succeed(5000))
      }))

    it.effect("an uninterruptible success that comes too late is still a time-out", () =>
      Effect.gen(function*() {
        const work = Effect.uninterruptible(Effect.as(Effect.sleep("5 seconds"), "late"))
        timedOut(yield* inVirtualTime(Timeout.timeout(work, "1 second")))
      }))

    it.effect("a defect raised while cleaning up stays a defect", () =>
      Effect.gen(function*() {
        const work = Effect.ensuring(Effect.never, Effect.die("bug in cleanup"))
        assert.deepStrictEqual(yield* inVirtualTime(Timeout.timeout(work, "1 second")), Exit.die("bug in cleanup"))
      }))
  })

  describe("graceful", () => {
    it.effect("signals first, and what the work answers within the grace period is the outcome", () =>
      Effect.gen(function*() {
        const work = Effect.gen(function*() {
          yield* Timeout.expired
          yield* Effect.sleep("500 millis")
          return "partial"
        })
        const at = Effect.andThen(
          Timeout.timeout(work, { duration: "1 second", grace: "1 second" }),
          (value) => Effect.map(Clock.currentTimeMillis, (now) => [value, now])
        )
        assert.deepStrictEqual(yield* inVirtualTime(at), Exit.succeed(["partial", 1500]))
      }))

    it.effect("a failure within the grace period is the outcome too", () =>
      Effect.gen(function*() {
        const work = Effect.andThen(Timeout.expired, Effect.fail("gave up"))
        const exit = yield* inVirtualTime(Timeout.timeout(work, { duration: 10, grace: 10 }))
        assert.deepStrictEqual(exit, Exit.fail("gave up"))
      }))

    it.effect("interrupts after the grace period", () =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(
          Timeout.timeout(Effect.never, { duration: "1 second", grace: "2 seconds" })
        )
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        timedOut(fiber.pollUnsafe()!)
      }))

    it.effect("hands an AbortSignal to the work; elsewhere it is never aborted", () =>
      Effect.gen(function*() {
        let seen: AbortSignal | undefined
        const work = Effect.andThen(Timeout.signal, (signal) => {
          seen = signal
          return Effect.never
        })
        const fiber = yield* Effect.forkChild(Timeout.timeout(work, { duration: 10, grace: 10 }))
        yield* TestClock.adjust(9)
        assert.isFalse(seen!.aborted)
        yield* TestClock.adjust(1)
        assert.isTrue(seen!.aborted)
        assert.isUndefined(fiber.pollUnsafe())
        assert.isFalse((yield* Timeout.signal).aborted)
        yield* Fiber.interrupt(fiber)
      }))

    it.effect("the signal of an inner time-out is aborted when an outer one runs out", () =>
      Effect.gen(function*() {
        const work = Effect.as(Timeout.expired, "heard").pipe(
          Timeout.timeout({ duration: "1 minute", grace: "1 minute" }),
          Timeout.timeout({ duration: "1 second", grace: "1 second" })
        )
        assert.deepStrictEqual(yield* inVirtualTime(work, "1500 millis"), Exit.succeed("heard"))
      }))
  })

  describe("handler", () => {
    it.effect("replaces the outcome, after the work has ended, and sees the error", () =>
      Effect.gen(function*() {
        const log: Array<string> = []
        const work = Effect.ensuring(Effect.never, Effect.sync(() => log.push("ended")))
        const handled = Timeout.timeout(work, {
          duration: "1 second",
          onTimeout: (error) => Effect.sync(() => (log.push("handler"), Duration.toMillis(error.duration)))
        })
        assert.deepStrictEqual(yield* inVirtualTime(handled), Exit.succeed(1000))
        assert.deepStrictEqual(log, ["ended", "handler"])
      }))

    it.effect("is not run for work that ends in time, nor for an interrupted caller", () =>
      Effect.gen(function*() {
        let handled = 0
        const options = { duration: "1 second", onTimeout: () => Effect.sync(() => ++handled) } as const
        yield* Timeout.timeout(Effect.succeed(0), options)
        yield* Effect.ignore(Timeout.timeout(Effect.fail("no"), options))
        const fiber = yield* Effect.forkChild(Timeout.timeout(Effect.never, options))
        yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(handled, 0)
      }))

    it.effect("that throws makes the caller die with what it threw", () =>
      Effect.gen(function*() {
        const handled = Timeout.timeout(Effect.never, {
          duration: "1 second",
          onTimeout: (): Effect.Effect<never> => {
            throw "my mistake"
          }
        })
        assert.deepStrictEqual(yield* inVirtualTime(handled), Exit.die("my mistake"))
      }))
  })

  describe("chains", () => {
    it.effect.each([
      { inner: 100, outer: 300, wins: "inner" },
      { inner: 300, outer: 100, wins: "outer" },
      { inner: 100, outer: 100, wins: "inner" }
    ])(
      "of $inner ms inside $outer ms the $wins one wins and is named",
      ({ inner, outer, wins }) =>
        Effect.gen(function*() {
          const exit = yield* inVirtualTime(Effect.never.pipe(
            Timeout.timeout({ duration: inner, name: "inner" }),
            Timeout.timeout({ duration: outer, name: "outer" })
          ))
          const error = timedOut(exit)
          assert.strictEqual(error.strategy, wins)
          assert.strictEqual(Duration.toMillis(error.duration), Math.min(inner, outer))
        })
    )

    it.effect("clips to the deadline that a fiber carries, and says so", () =>
      Effect.gen(function*() {
        // Detached from where the deadline is enforced, so that only the time-out can end it.
        const detached = Deadline.within(Effect.forkDetach(Effect.exit(Timeout.timeout(Effect.never, "1 minute"))), 200)
        const fiber = yield* detached
        yield* TestClock.adjust(199)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const exit = fiber.pollUnsafe()!
        const error = timedOut(Exit.isSuccess(exit) ? exit.value : exit)
        assert.isTrue(error.deadline)
        assert.strictEqual(Duration.toMillis(error.duration), 200)
      }))

    it.effect("does not begin the work when the deadline has passed", () =>
      Effect.gen(function*() {
        let begun = false
        const late = Effect.andThen(Effect.sleep(500), Timeout.timeout(Effect.sync(() => begun = true), "1 minute"))
        const fiber = yield* Deadline.within(Effect.forkDetach(late), 200)
        yield* TestClock.adjust(1000)
        assert.isTrue(timedOut(fiber.pollUnsafe()!).deadline)
        assert.isFalse(begun)
      }))
  })

  describe("interruption and clean-up", () => {
    it.effect("an interrupted caller leaves when the work has ended, and it is neither time-out nor success", () =>
      Effect.gen(function*() {
        let ended = false
        const fiber = yield* Effect.forkChild(
          Timeout.timeout(Effect.ensuring(Effect.never, Effect.sync(() => ended = true)), "1 hour")
        )
        yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        assert.isTrue(ended)
        assert.isTrue(Exit.hasInterrupts(fiber.pollUnsafe()!))
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
          for (const options of [{ duration: "1 minute" }, { duration: "1 minute", grace: "1 minute" }] as const) {
            yield* interruptedAtEveryStep(Timeout.timeout(work, options), () =>
              Effect.sync(() => assert.deepStrictEqual([running, pending()], [0, 0])))
          }
        })
      ))

    it.effect("leaves no sleep pending after success, failure and time-out", () =>
      countingSleeps((pending) =>
        Effect.gen(function*() {
          const ends = [
            { work: Effect.sleep(10), after: 10 },
            { work: Effect.andThen(Effect.sleep(10), Effect.fail("no")), after: 10 },
            { work: Effect.never, after: 1000 },
            { work: Effect.andThen(Timeout.expired, Effect.sleep(10)), after: 1000 }
          ]
          for (const { after, work } of ends) {
            for (const options of [{ duration: 1000 }, { duration: 990, grace: 10 }, { duration: 990, grace: 1000 }]) {
              const fiber = yield* Effect.forkChild(Timeout.timeout(work, options))
              yield* TestClock.adjust(after)
              if (fiber.pollUnsafe() !== undefined) assert.strictEqual(pending(), 0)
              else yield* Fiber.interrupt(fiber)
              assert.strictEqual(pending(), 0)
            }
          }
        })
      ))

    it.effect("leaves no listener on the signal of a surrounding time-out", () =>
      Effect.gen(function*() {
        const inner = Timeout.timeout({ duration: "1 minute", grace: 10 })
        const work = Effect.gen(function*() {
          const signal = yield* Timeout.signal
          const during = yield* inner(Effect.sync(() => getEventListeners(signal, "abort").length))
          yield* inner(Effect.sleep(5))
          yield* Effect.exit(inner(Effect.fail("no")))
          const waiting = yield* Effect.forkChild(inner(Timeout.expired))
          yield* Effect.yieldNow
          yield* Fiber.interrupt(waiting)
          return [during, getEventListeners(signal, "abort").length]
        })
        const exit = yield* inVirtualTime(Timeout.timeout(work, { duration: "1 minute", grace: 10 }))
        assert.deepStrictEqual(exit, Exit.succeed([1, 0]))
      }))
  })

  it("refuses a duration or grace that is not above zero, by name", () => {
    assert.throws(() => Timeout.timeout(0), RangeError, "duration must be a duration above zero, got 0")
    assert.throws(() => Timeout.timeout(Effect.void, { duration: -1 }), RangeError, "duration must be")
    assert.throws(() => Timeout.timeout({ duration: NaN }), RangeError, "duration must be")
    assert.throws(() => Timeout.timeout({ duration: 1, grace: 0 }), RangeError, "grace must be")
  })

  it("has the exact error type", () => {
    class Refused {
      readonly _tag = "Refused"
    }
    const self = null as unknown as Effect.Effect<number, Refused, "R">
    const check = () => {
      expectTypeOf(Timeout.timeout(self, "1 second")).toEqualTypeOf<
        Effect.Effect<number, Refused | Timeout.TimeoutError, "R">
      >()
      expectTypeOf(self.pipe(Timeout.timeout({ duration: 1, grace: 1 }))).toEqualTypeOf<
        Effect.Effect<number, Refused | Timeout.TimeoutError, "R">
      >()
      expectTypeOf(self.pipe(Timeout.timeout({ duration: 1, onTimeout: () => Effect.succeed("late") }))).toEqualTypeOf<
        Effect.Effect<number | string, Refused, "R">
      >()
      expectTypeOf(Timeout.timeout(self, { duration: 1, onTimeout: (e) => Effect.fail(e.strategy) })).toEqualTypeOf<
        Effect.Effect<number, Refused | string, "R">
      >()
    }
    assert.isFunction(check)
  })
})
