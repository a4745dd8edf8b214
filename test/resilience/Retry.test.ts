import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { expectTypeOf } from "vitest"
import type { Budget, RetryBudgetExhaustedError } from "../../src/resilience/Budget.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Backoff from "../../src/resilience/internal/backoff.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import * as Timeout from "../../src/resilience/Timeout.ts"
import { countingSleeps, interruptedAtEveryStep, inVirtualTime } from "./support.ts"

class Busy extends Data.TaggedError("Busy")<{ readonly retryAfter?: Duration.Duration }> {}
class Invalid extends Data.TaggedError("Invalid") {}
class FullError extends Rejection.Class("FullError") {}

/** An effect that fails `failures` times, and the moments at which it was called. */
const flaky = <E>(failures: number, error: (call: number) => E) => {
  const calls: Array<number> = []
  const effect = Effect.clockWith((clock) => {
    calls.push(clock.currentTimeMillisUnsafe())
    return calls.length > failures ? Effect.succeed(calls.length) : Effect.fail(error(calls.length))
  })
  return { calls, effect }
}

const busy = (failures: number) => flaky(failures, () => new Busy({}))

const gaps = (calls: ReadonlyArray<number>) => calls.slice(1).map((call, i) => call - calls[i]!)

const exhausted = <A, E>(exit: Exit.Exit<A, E>): Retry.RetryExhaustedError<unknown> => {
  const error = Exit.isFailure(exit) ? exit.cause.reasons.filter(Cause.isFailReason)[0]?.error : undefined
  assert.instanceOf(error, Retry.RetryExhaustedError)
  return error as Retry.RetryExhaustedError<unknown>
}

describe("Retry", () => {
  describe("schedules", () => {
    it.effect("any Effect schedule works", () =>
      Effect.gen(function*() {
        const cases: ReadonlyArray<[Schedule.Schedule<unknown, unknown>, ReadonlyArray<number>]> = [
          [Schedule.spaced("1 second"), [1000, 1000, 1000]],
          [Schedule.exponential("1 second"), [1000, 2000, 4000]],
          [Schedule.fibonacci("1 second"), [1000, 1000, 2000]],
          [Schedule.concat(Schedule.upTo(Schedule.spaced(10), { times: 1 }), Schedule.spaced(20)), [10, 20, 20]]
        ]
        for (const [schedule, expected] of cases) {
          const { calls, effect } = busy(3)
          assert.deepStrictEqual(yield* inVirtualTime(Retry.retry(effect, { schedule })), Exit.succeed(4))
          assert.deepStrictEqual(gaps(calls), expected)
        }
      }))

    it.effect("a schedule that ends ends the retries, and starts afresh for the next call", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(Infinity)
        const twice = Retry.retry(effect, { schedule: Schedule.recurs(2) })
        assert.strictEqual(exhausted(yield* inVirtualTime(twice)).reason, "schedule")
        assert.strictEqual(calls.length, 3)
        yield* inVirtualTime(twice)
        assert.strictEqual(calls.length, 6)
      }))

    it.effect("a schedule sees the error, may need services, and may fail with its own error", () =>
      Effect.gen(function*() {
        const seen: Array<string> = []
        const schedule = Schedule.recurs(5).pipe(
          Schedule.setInputType<Busy>(),
          Schedule.while(({ attempt, input }) => {
            seen.push(input._tag)
            return attempt < 3 ? Effect.succeed(true) : Effect.fail("schedule broke")
          })
        )
        const { calls, effect } = busy(Infinity)
        const retried = Retry.retry(effect, { schedule })
        expectTypeOf(retried).toEqualTypeOf<Effect.Effect<number, Retry.RetryExhaustedError<Busy> | string>>()
        assert.deepStrictEqual(yield* inVirtualTime(retried), Exit.fail("schedule broke"))
        assert.deepStrictEqual([calls.length, seen], [3, ["Busy", "Busy", "Busy"]])
      }))

    it.effect("a retried attempt can read Schedule.CurrentMetadata", () =>
      Effect.gen(function*() {
        const seen: Array<readonly [number, number]> = []
        const effect = Effect.flatMap(Schedule.CurrentMetadata, (metadata) => {
          seen.push([metadata.attempt, metadata.elapsed])
          return Effect.fail("no")
        })
        yield* inVirtualTime(Retry.retry(effect, { schedule: Retry.fixed("1 second"), times: 3 }))
        assert.deepStrictEqual(seen, [[0, 0], [1, 0], [2, 1000], [3, 2000]])
      }))

    it.effect("fixed, linear and exponential, with their cap", () =>
      Effect.gen(function*() {
        const cases: ReadonlyArray<[Schedule.Schedule<unknown>, ReadonlyArray<number>]> = [
          [Retry.fixed("1 second"), [1000, 1000, 1000, 1000, 1000]],
          [Retry.linear({ base: 100, max: 350 }), [100, 200, 300, 350, 350]],
          [Retry.linear({ base: 100, step: 50 }), [100, 150, 200, 250, 300]],
          [Retry.exponential({ base: 100, max: 1000 }), [100, 200, 400, 800, 1000]],
          [Retry.exponential({ base: 100, factor: 3, max: "1 minute" }), [100, 300, 900, 2700, 8100]],
          [Retry.exponential({ base: "20 seconds" }), [20_000, 30_000, 30_000, 30_000, 30_000]]
        ]
        for (const [schedule, expected] of cases) {
          const { calls, effect } = busy(5)
          yield* inVirtualTime(Retry.retry(effect, { schedule }))
          assert.deepStrictEqual(gaps(calls), expected)
        }
      }))

    it.effect("full and decorrelated jitter follow the Random service", () =>
      Effect.gen(function*() {
        const drawing = (draw: number): Random.Random => ({ nextIntUnsafe: () => 0, nextDoubleUnsafe: () => draw })
        const cases: ReadonlyArray<[Schedule.Schedule<unknown>, number, ReadonlyArray<number>]> = [
          [Retry.fullJitter({ base: 100, max: 1000 }), 0.5, [50, 100, 200, 400, 500]],
          [Retry.fullJitter({ base: 100, max: 1000 }), 0, [0, 0, 0, 0, 0]],
          [Retry.decorrelatedJitter({ base: 100, max: 1000 }), 0, [100, 100, 100, 100, 100]],
          [Retry.decorrelatedJitter({ base: 100, max: 1000 }), 1, [300, 900, 1000, 1000, 1000]]
        ]
        for (const [schedule, draw, expected] of cases) {
          const { calls, effect } = busy(5)
          yield* inVirtualTime(Effect.provideService(Retry.retry(effect, { schedule }), Random.Random, drawing(draw)))
          assert.deepStrictEqual(gaps(calls), expected)
        }
      }))

    it("delays are never negative, NaN or above the cap", () => {
      const millis = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1e9, noNaN: true }))
      fc.assert(
        fc.property(
          fc.record({
            base: millis,
            extra: millis,
            step: millis,
            factor: fc.double({ min: 1, max: 100, noNaN: true }),
            attempt: fc.integer({ min: 1, max: 100_000 }),
            draw: fc.double({ min: 0, max: 1, noNaN: true }),
            previous: millis
          }),
          ({ attempt, base, draw, extra, factor, previous, step }) => {
            const max = base + extra
            const delays = [
              Backoff.linear(base, step, max, attempt),
              Backoff.exponential(base, factor, max, attempt),
              Backoff.fullJitter(base, factor, max, attempt, draw),
              Backoff.decorrelated(base, max, previous, draw)
            ]
            for (const delay of delays) {
              assert.isAtLeast(delay, 0)
              assert.isAtMost(delay, max)
            }
            assert.isAtLeast(delays[0]!, Math.min(base, max))
            assert.isAtLeast(delays[1]!, Math.min(base, max))
            assert.isAtLeast(delays[3]!, Math.min(base, max))
          }
        )
      )
    })

    it("growing delays never shrink", () => {
      fc.assert(
        fc.property(
          fc.double({ min: 0, max: 1e6, noNaN: true }),
          fc.double({ min: 1, max: 10, noNaN: true }),
          fc.integer({ min: 1, max: 2000 }),
          (base, factor, attempt) => {
            const max = 1e7
            assert.isAtLeast(
              Backoff.exponential(base, factor, max, attempt + 1),
              Backoff.exponential(base, factor, max, attempt)
            )
            assert.isAtLeast(Backoff.linear(base, base, max, attempt + 1), Backoff.linear(base, base, max, attempt))
          }
        )
      )
    })

    it.effect("no retry is early, whatever the schedule asks for", () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.oneof(fc.double({ min: 0, max: 1e5, noNaN: true }), fc.constantFrom(-5, 0.25)), {
              minLength: 1,
              maxLength: 6
            }),
            fc.option(fc.integer({ min: 0, max: 50_000 }), { nil: undefined }),
            (delays, retryAfter) =>
              Effect.runPromise(
                Effect.gen(function*() {
                  const { calls, effect } = flaky(
                    delays.length,
                    () =>
                      retryAfter === undefined ? new Busy({}) : new Busy({ retryAfter: Duration.millis(retryAfter) })
                  )
                  const schedule = Schedule.modifyDelay(
                    Schedule.forever,
                    ({ attempt }) => Effect.succeed(Duration.millis(delays[attempt - 1]!))
                  )
                  yield* inVirtualTime(Retry.retry(effect, { schedule }), "1 day")
                  gaps(calls).forEach((gap, i) => assert.isAtLeast(gap + 1e-3, Math.max(delays[i]!, retryAfter ?? 0)))
                }).pipe(Effect.provide(TestClock.layer()), Effect.scoped)
              )
          ),
          { numRuns: 50 }
        )
      ))

    it.live("a backoff on the real clock is not early either", () =>
      Effect.gen(function*() {
        for (const delay of [0.4, 1.9, 3.5]) {
          const at: Array<bigint> = []
          const effect = Effect.clockWith((clock) => {
            at.push(clock.monotonicTimeNanosUnsafe())
            return Effect.fail("no")
          })
          yield* Effect.exit(Retry.retry(effect, { schedule: Retry.fixed(delay), times: 5 }))
          at.slice(1).forEach((nanos, i) => assert.isAtLeast(Number(nanos - at[i]!) / 1e6, delay))
        }
      }))
  })

  describe("how often", () => {
    it.effect("times: n means n retries, n + 1 calls", () =>
      Effect.gen(function*() {
        for (const times of [0, 1, 2, 5]) {
          const { calls, effect } = busy(Infinity)
          const error = exhausted(yield* inVirtualTime(Retry.retry(effect, { schedule: Retry.fixed(10), times })))
          assert.strictEqual(calls.length, times + 1)
          assert.strictEqual(error.attempts, times + 1)
          assert.strictEqual(error.reason, "times")
        }
      }))

    it.effect("succeeds with the first success", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(2)
        assert.deepStrictEqual(yield* inVirtualTime(Retry.retry(effect, { times: 5 })), Exit.succeed(3))
        assert.strictEqual(calls.length, 3)
      }))

    it.effect("without options it retries three times with jittered delays of at most 5 seconds", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(Infinity)
        yield* inVirtualTime(Retry.retry(effect, {}))
        assert.strictEqual(calls.length, 4)
        gaps(calls).forEach((gap, i) => assert.isAtMost(gap, 100 * 2 ** i))
      }))

    it.effect("a call may be retried many thousand times without growing", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(Infinity)
        const error = yield* Effect.flip(Retry.retry(effect, { schedule: Schedule.forever, times: 3000 }))
        assert.strictEqual(calls.length, 3001)
        assert.strictEqual(error.recent.length, 32)
        assert.deepStrictEqual(
          error.recent.map((attempt) => attempt.number),
          Array.from({ length: 32 }, (_, i) => 2970 + i)
        )
      }))
  })

  describe("RetryExhaustedError", () => {
    it.effect("carries the last error, all attempts and the elapsed time", () =>
      Effect.gen(function*() {
        const { effect } = flaky(Infinity, (call) => `error ${call}`)
        const slow = Effect.andThen(Effect.sleep(100), effect)
        const retried = Retry.retry(slow, {
          name: "charge",
          schedule: Retry.fixed("1 second"),
          times: 2,
          totalDuration: "1 hour"
        })
        const error = exhausted(yield* inVirtualTime(retried))
        assert.strictEqual(error.error, "error 3")
        assert.strictEqual(Duration.toMillis(error.elapsed), 2300)
        assert.deepStrictEqual(
          error.recent.map(({ elapsed, error, number }) => [number, error, Duration.toMillis(elapsed)]),
          [[1, "error 1", 100], [2, "error 2", 1200], [3, "error 3", 2300]]
        )
        assert.strictEqual(error.message, "retry \"charge\" gave up after 3 attempts in 2s 300ms: no retries left")
      }))

    it.effect("counts the time from the first failure when nothing needs the clock before", () =>
      Effect.gen(function*() {
        const slow = Effect.andThen(Effect.sleep(100), Effect.fail("no"))
        const error = exhausted(
          yield* inVirtualTime(Retry.retry(slow, { schedule: Retry.fixed("1 second"), times: 2 }))
        )
        assert.strictEqual(Duration.toMillis(error.elapsed), 2200)
      }))

    it.effect("is caught by its tag, and shows no detail of the error in message, stack or JSON", () =>
      Effect.gen(function*() {
        const retried = Retry.retry(Effect.fail("password=hunter2"), { times: 0 }).pipe(
          Effect.catchTag("RetryExhaustedError", Effect.succeed)
        )
        const error = yield* retried
        assert.instanceOf(error, Error)
        assert.notInclude(`${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error)}`, "hunter2")
        assert.notInclude(error.stack, " at ")
      }))
  })

  describe("what is not retried passes through unchanged", () => {
    it.effect("a non-retryable error, at the first attempt or later", () =>
      Effect.gen(function*() {
        const invalid = new Invalid()
        for (const failures of [1, 3]) {
          const { calls, effect } = flaky(Infinity, (call) => call < failures ? new Busy({}) : invalid)
          const retried = Retry.retry(effect, { times: 9, while: (error) => error._tag === "Busy" })
          const exit = yield* inVirtualTime(retried)
          assert.deepStrictEqual(exit, Exit.fail(invalid))
          assert.strictEqual(calls.length, failures)
        }
      }))

    it.effect("rejections by other strategies, unless asked", () =>
      Effect.gen(function*() {
        const full = new FullError({ strategy: "db", retryAfter: Duration.seconds(7) })
        const { calls, effect } = flaky(2, () => full)
        assert.deepStrictEqual(yield* inVirtualTime(Retry.retry(effect, { times: 5 })), Exit.fail(full))
        assert.strictEqual(calls.length, 1)
        const asked = flaky(2, () => full)
        const retried = Retry.retry(asked.effect, { times: 5, rejections: true, schedule: Retry.fixed(10) })
        assert.deepStrictEqual(yield* inVirtualTime(retried), Exit.succeed(3))
        assert.deepStrictEqual(gaps(asked.calls), [7000, 7000])
      }))

    it.effect("defects and interruption of the work, also when typed failures come with them", () =>
      Effect.gen(function*() {
        const causes: ReadonlyArray<Cause.Cause<string>> = [
          Cause.die("bug"),
          Cause.interrupt(),
          Cause.combine(Cause.fail("no"), Cause.die("bug")),
          Cause.combine(Cause.fail("no"), Cause.interrupt())
        ]
        for (const cause of causes) {
          let calls = 0
          const effect = Effect.suspend(() => (calls++, Effect.failCause(cause)))
          const exit = yield* Effect.exit(Retry.retry(effect, { times: 5 }))
          assert.deepStrictEqual<unknown>(Exit.isFailure(exit) ? exit.cause : exit, cause)
          assert.strictEqual(calls, 1)
        }
      }))

    it.effect("a predicate that throws is a defect", () =>
      Effect.gen(function*() {
        const bug = new Error("bug")
        const retried = Retry.retry(Effect.fail("no"), {
          while: (): boolean => {
            throw bug
          }
        })
        assert.deepStrictEqual(yield* Effect.exit(retried), Exit.die(bug))
      }))
  })

  describe("results", () => {
    it.effect("an unwanted result is retried", () =>
      Effect.gen(function*() {
        let calls = 0
        const poll = Effect.sync(() => ++calls < 3 ? "pending" : "done")
        const retried = Retry.retry(poll, { schedule: Retry.fixed(10), whileResult: (status) => status === "pending" })
        assert.deepStrictEqual(yield* inVirtualTime(retried), Exit.succeed("done"))
      }))

    it.effect("one that is unwanted to the end is returned as it is", () =>
      Effect.gen(function*() {
        let calls = 0
        const poll = Effect.sync(() => (calls++, "pending"))
        const options = { schedule: Retry.fixed(10), whileResult: (status: string) => status === "pending" }
        for (const limit of [{ times: 2 }, { totalDuration: 25 }]) {
          calls = 0
          const exit = yield* inVirtualTime(Retry.retry(poll, { ...options, ...limit }))
          assert.deepStrictEqual([exit, calls], [Exit.succeed("pending"), 3])
        }
      }))

    it.effect("errors and results share the count", () =>
      Effect.gen(function*() {
        let calls = 0
        const mixed = Effect.suspend(() => ++calls % 2 === 1 ? Effect.fail("no") : Effect.succeed(0))
        const exit = yield* inVirtualTime(Retry.retry(mixed, { times: 4, whileResult: (n) => n === 0 }))
        assert.strictEqual(exhausted(exit).attempts, 5)
        assert.strictEqual(calls, 5)
      }))
  })

  describe("classify", () => {
    it.effect("retries what it calls a failure, result or error, and nothing else", () =>
      Effect.gen(function*() {
        type Answer = { readonly status: number }
        const classify = (exit: Exit.Exit<Answer, Busy | Invalid>): Outcome.Outcome =>
          Exit.isSuccess(exit)
            ? (exit.value.status === 503 ? Outcome.failure({ retryAfter: "5 seconds" }) : Outcome.success)
            : Outcome.ignoreWhen((error: Busy | Invalid) => error._tag === "Invalid")(exit)
        const calls: Array<number> = []
        const answering = (answers: ReadonlyArray<Effect.Effect<Answer, Busy | Invalid>>) =>
          Effect.clockWith((clock) => answers[calls.push(clock.currentTimeMillisUnsafe()) - 1]!)
        const run = (...answers: ReadonlyArray<Effect.Effect<Answer, Busy | Invalid>>) => {
          calls.length = 0
          return inVirtualTime(Retry.retry(answering(answers), { schedule: Retry.fixed(10), times: 2, classify }))
        }
        const ok = Effect.succeed({ status: 200 })
        const away = Effect.succeed({ status: 503 })
        const busy = Effect.fail(new Busy({}))
        const invalid = new Invalid()
        assert.deepStrictEqual(yield* run(busy, away, ok), Exit.succeed({ status: 200 }))
        assert.deepStrictEqual(gaps(calls), [10, 5000])
        assert.deepStrictEqual(yield* run(busy, Effect.fail(invalid)), Exit.fail(invalid))
        assert.deepStrictEqual(yield* run(away, away, away), Exit.succeed({ status: 503 }))
        assert.strictEqual(exhausted(yield* run(away, away, busy)).attempts, 3)
        assert.deepStrictEqual(yield* run(Effect.die("bug")), Exit.die("bug"))
      }))

    it.effect("the default classification can be passed on its own", () =>
      Effect.gen(function*() {
        const { calls, effect } = flaky(1, () => new FullError({ strategy: "db" }))
        const retried = Retry.retry(effect, { times: 2, classify: Outcome.classify })
        assert.strictEqual((yield* Effect.flip(retried))._tag, "FullError")
        assert.strictEqual(calls.length, 1)
      }))
  })

  describe("retryAfter", () => {
    it.effect("of the error is never undercut, even above the schedule's cap, and a longer delay stands", () =>
      Effect.gen(function*() {
        const after = (seconds: number) => () => new Busy({ retryAfter: Duration.seconds(seconds) })
        const late = flaky(2, after(20))
        yield* inVirtualTime(Retry.retry(late.effect, { schedule: Retry.exponential({ base: 100, max: "1 second" }) }))
        assert.deepStrictEqual(gaps(late.calls), [20_000, 20_000])
        const early = flaky(2, after(1))
        yield* inVirtualTime(Retry.retry(early.effect, { schedule: Retry.fixed("3 seconds") }))
        assert.deepStrictEqual(gaps(early.calls), [3000, 3000])
      }))

    it.effect("can be read from anything", () =>
      Effect.gen(function*() {
        const { calls, effect } = flaky(1, () => ({ headers: { "retry-after": "9" } }))
        yield* inVirtualTime(Retry.retry(effect, {
          schedule: Retry.fixed(10),
          retryAfter: (error) => `${Number(error.headers["retry-after"])} seconds`
        }))
        assert.deepStrictEqual(gaps(calls), [9000])
      }))

    it.effect("longer than maxRetryAfter ends the call at once", () =>
      Effect.gen(function*() {
        for (const retryAfter of [Duration.seconds(61), Duration.infinity]) {
          const { calls, effect } = flaky(Infinity, () => new Busy({ retryAfter }))
          const error = exhausted(yield* inVirtualTime(Retry.retry(effect, { times: 5 })))
          assert.deepStrictEqual([error.reason, calls.length, Duration.toMillis(error.elapsed)], ["retryAfter", 1, 0])
        }
        const patient = flaky(1, () => new Busy({ retryAfter: Duration.seconds(61) }))
        yield* inVirtualTime(Retry.retry(patient.effect, { times: 5, maxRetryAfter: "2 minutes" }))
        assert.deepStrictEqual(gaps(patient.calls), [61_000])
      }))

    it.effect("that is nonsense is ignored", () =>
      Effect.gen(function*() {
        for (const asked of [-5, NaN, "-Infinity", "Wed, 21 Oct 2015 07:28:00 GMT" as `${number} hours`] as const) {
          const { calls, effect } = busy(1)
          yield* inVirtualTime(Retry.retry(effect, { schedule: Retry.fixed(10), retryAfter: () => asked }))
          assert.deepStrictEqual(gaps(calls), [10])
        }
      }))
  })

  describe("total duration and deadline", () => {
    it.effect("no attempt begins after the total duration, and the call ends at once instead of sleeping", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(Infinity)
        const retried = Retry.retry(effect, { schedule: Retry.fixed("1 second"), totalDuration: "2500 millis" })
        const at = Effect.andThen(
          Effect.exit(retried),
          (exit) => Effect.map(Clock.currentTimeMillis, (now) => [exit, now] as const)
        )
        const exit = yield* inVirtualTime(at)
        const [ended, now] = Exit.isSuccess(exit) ? exit.value : assert.fail("failed")
        assert.strictEqual(exhausted(ended).reason, "totalDuration")
        assert.deepStrictEqual([calls, now], [[0, 1000, 2000], 2000])
      }))

    it.effect("an attempt exactly at the end of the total duration is made", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(Infinity)
        yield* inVirtualTime(Retry.retry(effect, { schedule: Retry.fixed("1 second"), totalDuration: "2 seconds" }))
        assert.deepStrictEqual(calls, [0, 1000, 2000])
      }))

    it.effect("a retryAfter beyond the total duration ends the call at once", () =>
      Effect.gen(function*() {
        const { calls, effect } = flaky(Infinity, () => new Busy({ retryAfter: Duration.seconds(30) }))
        const retried = Retry.retry(effect, { schedule: Retry.fixed(10), totalDuration: "10 seconds" })
        assert.strictEqual(exhausted(yield* inVirtualTime(retried)).reason, "totalDuration")
        assert.deepStrictEqual(calls, [0])
      }))

    it.effect("a backoff that would not be over before the deadline ends the call at once", () =>
      Effect.gen(function*() {
        const { calls, effect } = busy(Infinity)
        const retried = Retry.retry(effect, { schedule: Retry.fixed("1 second"), times: 9 })
        const error = exhausted(yield* inVirtualTime(Deadline.within(retried, "2 seconds")))
        assert.strictEqual(error.reason, "deadline")
        assert.deepStrictEqual(calls, [0, 1000])
      }))
  })

  it.effect("around a time-out it retries what timed out, within the deadline of the whole", () =>
    Effect.gen(function*() {
      const call = (deadline: Duration.Input) =>
        Timeout.timeout(Effect.never, "1 second").pipe(
          Retry.retry({ schedule: Retry.fixed("1 second"), times: 9 }),
          Deadline.within(deadline),
          Effect.exit,
          Effect.flatMap((exit) => Effect.map(Clock.currentTimeMillis, (now) => [exit, now] as const)),
          inVirtualTime,
          Effect.map((outcome) => Exit.isSuccess(outcome) ? outcome.value : assert.fail("failed"))
        )
      // Attempts end at 1 and 3 seconds; the next would begin at 4.
      const [refused, at] = yield* call("3500 millis")
      const error = exhausted(refused)
      assert.instanceOf(error.error, Timeout.TimeoutError)
      assert.deepStrictEqual([error.reason, error.attempts, at], ["deadline", 2, 3000])
      // The third attempt is cut off by the deadline.
      const [cut, later] = yield* call("4500 millis")
      const reason = Exit.isFailure(cut) ? cut.cause.reasons[0] : undefined
      assert.instanceOf(reason?._tag === "Fail" ? reason.error : undefined, Deadline.DeadlineExceededError)
      assert.strictEqual(later, 3_600_000 + 4500)
    }))

  describe("interruption", () => {
    it.effect("during a backoff ends at once and makes no further call", () =>
      countingSleeps((pending) =>
        Effect.gen(function*() {
          const { calls, effect } = busy(Infinity)
          const fiber = yield* Effect.forkChild(Retry.retry(effect, { schedule: Retry.fixed("1 minute") }))
          yield* TestClock.adjust("90 seconds")
          assert.deepStrictEqual([calls.length, pending()], [2, 1])
          yield* Fiber.interrupt(fiber)
          assert.strictEqual(yield* Clock.currentTimeMillis, 90_000)
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual([calls.length, pending()], [2, 0])
        })
      ))

    it.effect("leaves no sleep pending, wherever it falls", () =>
      countingSleeps((pending) => {
        const retried = Retry.retry(busy(Infinity).effect, {
          schedule: Retry.fixed("1 minute"),
          totalDuration: "1 hour"
        })
        return interruptedAtEveryStep(retried, () => Effect.sync(() => assert.strictEqual(pending(), 0)))
      }))
  })

  it.effect("a call that succeeds at once does not read the clock", () =>
    Effect.gen(function*() {
      const broken = new Proxy({} as Clock.Clock, {
        get: () => {
          throw new Error("the clock was read")
        }
      })
      const call = Retry.retry(Effect.succeed(1), { schedule: Retry.fixed(1), times: 3 })
      assert.strictEqual(yield* Effect.provideService(call, Clock.Clock, broken), 1)
    }))

  it("refuses options that are out of range, by name", () => {
    const refused = (name: string, make: () => unknown) => assert.throws(make, RangeError, `${name} must be`)
    for (const times of [-1, 1.5, NaN]) refused("times", () => Retry.retry({ times }))
    refused("totalDuration", () => Retry.retry({ totalDuration: 0 }))
    refused("maxRetryAfter", () => Retry.retry({ maxRetryAfter: -1 }))
    refused("delay", () => Retry.fixed(-1))
    refused("delay", () => Retry.fixed("Infinity"))
    refused("base", () => Retry.exponential({ base: NaN }))
    refused("max", () => Retry.exponential({ base: 100, max: 99 }))
    refused("factor", () => Retry.exponential({ base: 100, factor: 0.5 }))
    refused("factor", () => Retry.fullJitter({ base: 100, factor: NaN }))
    refused("step", () => Retry.linear({ base: 100, step: -1 }))
    refused("max", () => Retry.decorrelatedJitter({ base: 100, max: "Infinity" }))
  })

  it("has the exact error type", () => {
    type Self = Effect.Effect<number, Busy | Invalid, "R">
    const self = null as unknown as Self
    const rejecting = null as unknown as Effect.Effect<number, Busy | FullError, "R">
    const budget = null as unknown as Budget
    const check = () => {
      expectTypeOf(Retry.retry(self, { times: 3 })).toEqualTypeOf<
        Effect.Effect<number, Retry.RetryExhaustedError<Busy | Invalid>, "R">
      >()
      expectTypeOf(self.pipe(Retry.retry({ schedule: Retry.fixed(1) }))).toEqualTypeOf<
        Effect.Effect<number, Retry.RetryExhaustedError<Busy | Invalid>, "R">
      >()
      // A guard (TypeScript infers one here) leaves the other errors out of RetryExhaustedError.
      expectTypeOf(self.pipe(Retry.retry({ while: (error) => error._tag === "Busy" }))).toEqualTypeOf<
        Effect.Effect<number, Invalid | Retry.RetryExhaustedError<Busy>, "R">
      >()
      expectTypeOf(self.pipe(Retry.retry({ while: (error): boolean => error._tag === "Busy" }))).toEqualTypeOf<
        Effect.Effect<number, Busy | Invalid | Retry.RetryExhaustedError<Busy | Invalid>, "R">
      >()
      expectTypeOf(self.pipe(Retry.retry({ whileResult: (n) => n > 3 }))).toEqualTypeOf<
        Effect.Effect<number, Retry.RetryExhaustedError<Busy | Invalid>, "R">
      >()
      expectTypeOf(Retry.retry(rejecting, { times: 1 })).toEqualTypeOf<
        Effect.Effect<number, FullError | Retry.RetryExhaustedError<Busy>, "R">
      >()
      expectTypeOf(Retry.retry(rejecting, { rejections: true })).toEqualTypeOf<
        Effect.Effect<number, Retry.RetryExhaustedError<Busy | FullError>, "R">
      >()
      expectTypeOf(Retry.retry(rejecting, { classify: Outcome.classify })).toEqualTypeOf<
        Effect.Effect<number, Busy | FullError | Retry.RetryExhaustedError<Busy | FullError>, "R">
      >()
      expectTypeOf(rejecting.pipe(Retry.retry({ classify: (exit) => Outcome.failWhen((n: number) => n > 3)(exit) })))
        .toEqualTypeOf<Effect.Effect<number, Busy | FullError | Retry.RetryExhaustedError<Busy | FullError>, "R">>()
      expectTypeOf(Retry.retry(self, { budget })).toEqualTypeOf<
        Effect.Effect<
          number,
          Retry.RetryExhaustedError<Busy | Invalid> | RetryBudgetExhaustedError<Busy | Invalid>,
          "R"
        >
      >()
      expectTypeOf(Retry.retry(Effect.succeed(1), { times: 3, budget })).toEqualTypeOf<Effect.Effect<number>>()
      const needy = null as unknown as Schedule.Schedule<number, unknown, "S", "Env">
      expectTypeOf(Retry.retry(self, { schedule: needy })).toEqualTypeOf<
        Effect.Effect<number, "S" | Retry.RetryExhaustedError<Busy | Invalid>, "R" | "Env">
      >()
    }
    assert.isFunction(check)
  })
})
