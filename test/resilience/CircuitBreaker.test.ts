import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"

class Unreachable extends Data.TaggedError("Unreachable")<{ readonly retryAfter?: Duration.Duration | undefined }> {}

const failing = Effect.fail(new Unreachable({}))
const fine = Effect.succeed("fine")

const times = (n: number, effect: Effect.Effect<unknown, unknown>) =>
  Effect.repeat(Effect.exit(effect), { times: n - 1 })

const tag = (breaker: CircuitBreaker.CircuitBreaker) => Effect.map(CircuitBreaker.state(breaker), (state) => state._tag)

/** A breaker that opens at the first failure. */
const fragile = (options?: Partial<CircuitBreaker.Options>) =>
  CircuitBreaker.make({ name: "test", trip: CircuitBreaker.consecutive(1), openTime: "10 seconds", ...options })

const tripped = (options?: Partial<CircuitBreaker.Options>) =>
  Effect.tap(fragile(options), (breaker) => Effect.exit(CircuitBreaker.protect(failing, breaker)))

const halfOpen = (options?: Partial<CircuitBreaker.Options>) =>
  Effect.tap(tripped(options), () => TestClock.adjust("10 seconds"))

/** Starts a call that lasts until `end` is completed or its fiber is interrupted. */
const start = Effect.fnUntraced(function*(breaker: CircuitBreaker.CircuitBreaker) {
  const end = yield* Deferred.make<string, Unreachable>()
  const fiber = yield* Effect.forkChild(CircuitBreaker.protect(Deferred.await(end), breaker), {
    startImmediately: true
  })
  const finish = (exit: Exit.Exit<string, Unreachable>) =>
    Effect.andThen(Deferred.done(end, exit), Effect.exit(Fiber.join(fiber)))
  return {
    fiber,
    succeed: finish(Exit.succeed("fine")),
    fail: finish(Exit.fail(new Unreachable({}))),
    interrupt: Fiber.interrupt(fiber)
  }
})

/** Collects the transitions of a breaker from here on. */
const listen = Effect.fnUntraced(
  function*(breaker: CircuitBreaker.CircuitBreaker | CircuitBreaker.KeyedCircuitBreaker) {
    const seen: Array<string> = []
    yield* CircuitBreaker.transitions(breaker).pipe(
      Stream.runForEach(({ from, key, to }) =>
        Effect.sync(() => {
          seen.push(`${key === undefined ? "" : `${key}: `}${from} -> ${to}`)
        })
      ),
      Effect.forkChild({ startImmediately: true })
    )
    yield* Effect.yieldNow
    return Effect.andThen(Effect.yieldNow, Effect.sync(() => seen))
  }
)

describe("CircuitBreaker", () => {
  describe("closed", () => {
    it.effect("leaves results, failures and defects as they are", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "test" })
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
        assert.instanceOf(yield* Effect.flip(failing.pipe(CircuitBreaker.protect(breaker))), Unreachable)
        const defect = yield* Effect.exit(CircuitBreaker.protect(Effect.die("bug"), breaker))
        assert.deepStrictEqual(defect, Exit.die("bug"))
      }))

    it.effect("opens after failures in a row, and a success starts the count over", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "test", trip: CircuitBreaker.consecutive(3) })
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        yield* CircuitBreaker.protect(fine, breaker)
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("counts defects as failures", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        yield* Effect.exit(CircuitBreaker.protect(Effect.die("bug"), breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("counts neither interruption nor rejections by other strategies nor ignored outcomes", () =>
      Effect.gen(function*() {
        class Full extends Rejection.Class("Full") {}
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.failureRate({ window: { calls: 1 } }),
          classify: Outcome.ignoreWhen((error) => error === "not found")
        })
        yield* Effect.exit(CircuitBreaker.protect(Effect.interrupt, breaker))
        yield* Effect.exit(CircuitBreaker.protect(Effect.fail(new Full({ strategy: "pool" })), breaker))
        yield* Effect.exit(CircuitBreaker.protect(Effect.fail("not found"), breaker))
        const { total, window } = yield* CircuitBreaker.metrics(breaker)
        assert.deepStrictEqual(total, { successes: 0, failures: 0, slow: 0, rejections: 0, openings: 0 })
        assert.strictEqual(window.calls, 0)
      }))

    it.effect("judges results too, by the breaker's classify or by the call's", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const call = Effect.succeed({ status: 503 })
        yield* CircuitBreaker.protect(call, breaker)
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* CircuitBreaker.protect(call, breaker, { classify: Outcome.failWhen((r) => r.status >= 500) })
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("dies with what a classify throws, and counts nothing", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const exit = yield* CircuitBreaker.protect(fine, breaker, {
          classify: () => {
            throw "bug in classify"
          }
        }).pipe(Effect.exit)
        assert.deepStrictEqual(exit, Exit.die("bug in classify"))
        assert.strictEqual((yield* CircuitBreaker.metrics(breaker)).total.failures, 0)
      }))

    it.effect("opens at exactly the failure rate of a count window, not below it", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.failureRate({ threshold: 0.5, window: { calls: 4 }, minimum: 4 })
        })
        yield* times(3, CircuitBreaker.protect(fine, breaker))
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("judges no rate below the minimum throughput", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.failureRate({ threshold: 0.5, window: { calls: 10 }, minimum: 5 })
        })
        yield* times(4, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("is never opened by a good call, even one that completes the minimum", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.failureRate({ threshold: 0.5, window: { calls: 10 }, minimum: 5 })
        })
        yield* times(4, CircuitBreaker.protect(failing, breaker))
        yield* CircuitBreaker.protect(fine, breaker)
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))

    it.effect("forgets failures that have left a time window", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.failureRate({ window: { time: "10 seconds" }, minimum: 3 })
        })
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("10 seconds")
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("opens on slow calls, failed or not, from exactly the duration on", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.slowCallRate({ duration: "2 seconds", threshold: 1, window: { calls: 2 } })
        })
        const taking = Effect.fnUntraced(function*(duration: Duration.Input) {
          const call = yield* start(breaker)
          yield* TestClock.adjust(duration)
          yield* call.succeed
        })
        yield* taking("2 seconds")
        yield* taking("1999 millis")
        yield* taking("2 seconds")
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* taking("2 seconds")
        assert.strictEqual(yield* tag(breaker), "Open")
        const { total } = yield* CircuitBreaker.metrics(breaker)
        assert.deepStrictEqual(total, { successes: 4, failures: 0, slow: 3, rejections: 0, openings: 1 })
      }))

    it.effect("judges failures and slow calls over one window", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "test",
          trip: CircuitBreaker.failureRate({
            threshold: 1,
            slow: { threshold: 0.5, duration: "1 second" },
            window: { calls: 2 }
          })
        })
        yield* CircuitBreaker.protect(fine, breaker)
        const call = yield* start(breaker)
        yield* TestClock.adjust("1 second")
        yield* call.succeed
        assert.strictEqual(yield* tag(breaker), "Open")
      }))
  })

  describe("open", () => {
    it.effect("rejects without running the call, and says for how long", () =>
      Effect.gen(function*() {
        const breaker = yield* tripped()
        yield* TestClock.adjust("4 seconds")
        const error = yield* Effect.flip(CircuitBreaker.protect(Effect.die("must not run"), breaker))
        assert.instanceOf(error, CircuitBreaker.CircuitBreakerOpenError)
        assert.strictEqual(error.strategy, "test")
        assert.strictEqual(error.state, "Open")
        assert.isTrue(Rejection.isRejection(error))
        assert.deepStrictEqual(error.retryAfter, Duration.seconds(6))
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), {
          _tag: "Open",
          retryAfter: Duration.seconds(6),
          openings: 1
        })
      }))

    it.effect("captures no stack when it rejects", () =>
      Effect.gen(function*() {
        const breaker = yield* tripped()
        const error = yield* Effect.flip(CircuitBreaker.protect(fine, breaker))
        assert.strictEqual(error.stack, `CircuitBreakerOpenError: ${error.message}`)
      }))

    it.effect("admits a call at exactly the end of the open time, and not a millisecond earlier", () =>
      Effect.gen(function*() {
        const breaker = yield* tripped()
        yield* TestClock.adjust("9999 millis")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(CircuitBreaker.protect(fine, breaker))))
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
      }))

    it.effect("opens once however many calls were in flight, and is not prolonged by them", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const seen = yield* listen(breaker)
        const calls = yield* Effect.forEach([1, 2, 3], () => start(breaker))
        for (const call of calls) {
          yield* call.fail
          yield* TestClock.adjust("1 second")
        }
        assert.deepStrictEqual(yield* seen, ["Closed -> Open"])
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), {
          _tag: "Open",
          retryAfter: Duration.seconds(7),
          openings: 1
        })
      }))

    it.effect("stays open for as long as a failure asks, up to the maximum, and never shorter", () =>
      Effect.gen(function*() {
        const retryAfter = (millis: number) => Effect.fail(new Unreachable({ retryAfter: Duration.millis(millis) }))
        for (const [asked, expected] of [[20_000, 20_000], [90_000, 60_000], [1_000, 10_000]] as const) {
          const breaker = yield* fragile({ maxRetryAfter: "1 minute" })
          yield* Effect.exit(CircuitBreaker.protect(retryAfter(asked), breaker))
          const state = yield* CircuitBreaker.state(breaker)
          assert.deepStrictEqual(state, { _tag: "Open", retryAfter: Duration.millis(expected), openings: 1 })
        }
      }))
  })

  describe("growing open time", () => {
    const growing = fragile({ openTime: Schedule.exponential("1 second") })
    const openFor = (breaker: CircuitBreaker.CircuitBreaker) =>
      Effect.map(CircuitBreaker.state(breaker), (s) => s._tag === "Open" ? Duration.toMillis(s.retryAfter) : s._tag)

    it.effect("takes the n-th delay of the schedule for the n-th opening", () =>
      Effect.gen(function*() {
        const breaker = yield* growing
        const seen: Array<unknown> = []
        for (const wait of [1, 2, 4, 8]) {
          yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
          seen.push(yield* openFor(breaker))
          yield* TestClock.adjust(`${wait} seconds`)
        }
        assert.deepStrictEqual(seen, [1000, 2000, 4000, 8000])
      }))

    it.effect("goes on after a close that did not last as long as the last opening", () =>
      Effect.gen(function*() {
        const breaker = yield* growing
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("1 second")
        yield* CircuitBreaker.protect(fine, breaker)
        yield* TestClock.adjust("999 millis")
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* openFor(breaker), 2000)
      }))

    it.effect("starts over after a close that lasted exactly as long", () =>
      Effect.gen(function*() {
        const breaker = yield* growing
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("1 second")
        yield* CircuitBreaker.protect(fine, breaker)
        yield* TestClock.adjust("1 second")
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* openFor(breaker), 1000)
      }))

    it.effect("opens also when the schedule throws: for as long as the last time", () =>
      Effect.gen(function*() {
        let steps = 0
        const openTime = Schedule.fromStep(Effect.succeed(() => {
          if (++steps > 1) throw "my mistake"
          return Effect.succeed<[number, Duration.Duration]>([steps, Duration.seconds(2)])
        }))
        const breaker = yield* fragile({ openTime })
        const seen: Array<unknown> = []
        for (let n = 0; n < 2; n++) {
          yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
          seen.push(yield* openFor(breaker))
          yield* TestClock.adjust("2 seconds")
        }
        assert.deepStrictEqual(seen, [2000, 2000])
      }))

    it.effect("repeats the last delay of a schedule that has ended", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile({ openTime: Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 2 })) })
        const seen: Array<unknown> = []
        for (let n = 0; n < 4; n++) {
          yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
          seen.push(yield* openFor(breaker))
          yield* TestClock.adjust("1 minute")
        }
        assert.deepStrictEqual(seen, [1000, 2000, 2000, 2000])
      }))
  })

  describe("half-open", () => {
    it.effect("admits as many probes as permitted and rejects the others at once", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { permitted: 2 } })
        yield* start(breaker)
        yield* start(breaker)
        const error = yield* Effect.flip(CircuitBreaker.protect(fine, breaker))
        assert.strictEqual(error._tag, "CircuitBreakerOpenError")
        assert.strictEqual(error.state, "HalfOpen")
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 2, openings: 1 })
      }))

    it.effect("closes after as many successes as asked for", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { permitted: 1, successes: 2 } })
        yield* CircuitBreaker.protect(fine, breaker)
        assert.strictEqual(yield* tag(breaker), "HalfOpen")
        yield* CircuitBreaker.protect(fine, breaker)
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))

    it.effect("opens again after as many failures as asked for", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { failures: 2, successes: 5 } })
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "HalfOpen")
        yield* Effect.exit(CircuitBreaker.protect(Effect.die("bug"), breaker))
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), {
          _tag: "Open",
          retryAfter: Duration.seconds(10),
          openings: 2
        })
      }))

    it.effect("takes a slow probe for a failed one where slowness is judged", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({
          trip: CircuitBreaker.failureRate({ slow: { threshold: 1, duration: "1 second" }, window: { calls: 1 } })
        })
        const probe = yield* start(breaker)
        yield* TestClock.adjust("1 second")
        yield* probe.succeed
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("gets the place back from a probe that is interrupted, ignored, rejected or judged by a broken classify", () =>
      Effect.gen(function*() {
        class Full extends Rejection.Class("Full") {}
        const breaker = yield* halfOpen()
        const probe = yield* start(breaker)
        yield* probe.interrupt
        yield* CircuitBreaker.protect(fine, breaker, { classify: () => Outcome.ignored })
        yield* Effect.exit(CircuitBreaker.protect(Effect.fail(new Full({ strategy: "pool" })), breaker))
        yield* Effect.exit(CircuitBreaker.protect(fine, breaker, {
          classify: () => {
            throw "bug in classify"
          }
        }))
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 0, openings: 1 })
        yield* CircuitBreaker.protect(fine, breaker)
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))

    it.effect("gives the place of a probe that hangs to the next caller, at exactly the end of the lease", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { lease: "5 seconds" } })
        const hung = yield* start(breaker)
        yield* TestClock.adjust("4999 millis")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(CircuitBreaker.protect(fine, breaker))))
        yield* TestClock.adjust("1 millis")
        const next = yield* start(breaker)
        yield* hung.fail
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 1, openings: 1 })
        yield* next.succeed
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))

    it.effect("counts a late probe whose place nobody has taken", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { lease: "5 seconds" } })
        const late = yield* start(breaker)
        yield* TestClock.adjust("6 seconds")
        yield* late.succeed
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))
  })

  describe("late results", () => {
    it.effect("from before a trip change neither open, half-open nor closed", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const [a, b, c, d] = yield* Effect.all([start(breaker), start(breaker), start(breaker), start(breaker)])
        yield* a.fail
        yield* b.succeed
        assert.strictEqual(yield* tag(breaker), "Open")
        yield* TestClock.adjust("10 seconds")
        const probe = yield* start(breaker)
        yield* c.fail
        assert.strictEqual(yield* tag(breaker), "HalfOpen")
        yield* probe.succeed
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* d.fail
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))

    it.effect("from an earlier half-open change nothing in a later one", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { permitted: 2, successes: 1 } })
        const early = yield* start(breaker)
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
        yield* TestClock.adjust("10 seconds")
        yield* start(breaker)
        yield* early.succeed
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 1, openings: 2 })
      }))
  })

  describe("ramp-up", () => {
    const admittedAt = (breaker: CircuitBreaker.CircuitBreaker) =>
      Effect.gen(function*() {
        let admitted = 0
        for (let n = 0; n < 1000; n++) {
          const exit = yield* Effect.exit(CircuitBreaker.protect(fine, breaker))
          if (Exit.isSuccess(exit)) admitted++
          else {assert.strictEqual(
              (Cause.squash(exit.cause) as CircuitBreaker.CircuitBreakerOpenError).state,
              "RampingUp"
            )}
        }
        return admitted / 1000
      }).pipe(Random.withSeed("ramp"))

    it.effect("admits a rising share of the calls after closing, then all", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ rampUp: { duration: "10 seconds", from: 0.2 } })
        yield* CircuitBreaker.protect(fine, breaker)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "Closed", share: 0.2 })
        assert.approximately(yield* admittedAt(breaker), 0.2, 0.05)
        yield* TestClock.adjust("5 seconds")
        assert.approximately(yield* admittedAt(breaker), 0.6, 0.05)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(yield* admittedAt(breaker), 1)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "Closed", share: 1 })
      }))

    it.effect("opens again on a relapse", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ rampUp: { duration: "10 seconds", from: 1 } })
        yield* CircuitBreaker.protect(fine, breaker)
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Open")
      }))
  })

  describe("an operator's states", () => {
    it.effect("forced open rejects, disabled and metrics-only let everything through", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        yield* CircuitBreaker.forceOpen(breaker)
        const error = yield* Effect.flip(CircuitBreaker.protect(fine, breaker))
        assert.strictEqual(error.state, "ForcedOpen")
        assert.isUndefined(error.retryAfter)

        yield* CircuitBreaker.disable(breaker)
        yield* times(3, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "Disabled")
        assert.strictEqual((yield* CircuitBreaker.metrics(breaker)).total.failures, 0)

        yield* CircuitBreaker.metricsOnly(breaker)
        yield* times(3, CircuitBreaker.protect(failing, breaker))
        assert.strictEqual(yield* tag(breaker), "MetricsOnly")
        const { total, window } = yield* CircuitBreaker.metrics(breaker)
        assert.strictEqual(total.failures, 3)
        assert.strictEqual(window.failures, 3)
      }))

    it.effect("resume brings back what stood before, however many of them there were", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "test", trip: CircuitBreaker.consecutive(2) })
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        yield* CircuitBreaker.disable(breaker)
        yield* CircuitBreaker.forceOpen(breaker)
        yield* CircuitBreaker.resume(breaker)
        assert.strictEqual(yield* tag(breaker), "Closed")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        const open = yield* CircuitBreaker.state(breaker)
        assert.strictEqual(open._tag, "Open")
        yield* CircuitBreaker.metricsOnly(breaker)
        yield* CircuitBreaker.protect(fine, breaker)
        yield* CircuitBreaker.resume(breaker)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), open)
        yield* CircuitBreaker.resume(breaker)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), open)
      }))

    it.effect("a probe that ends meanwhile gives its place back and counts for nothing", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen()
        const probe = yield* start(breaker)
        yield* CircuitBreaker.forceOpen(breaker)
        yield* probe.fail
        yield* CircuitBreaker.resume(breaker)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 0, openings: 1 })
      }))

    it.effect("reset closes from any state and forgets everything", () =>
      Effect.gen(function*() {
        const breaker = yield* tripped({ openTime: Schedule.exponential("1 second") })
        yield* CircuitBreaker.forceOpen(breaker)
        yield* CircuitBreaker.reset(breaker)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "Closed", share: 1 })
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), {
          _tag: "Open",
          retryAfter: Duration.seconds(1),
          openings: 1
        })
      }))
  })

  describe("transitions", () => {
    it.effect("tell every change of state once, with the open time", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const seen = yield* listen(breaker)
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("10 seconds")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("10 seconds")
        yield* CircuitBreaker.protect(fine, breaker)
        yield* CircuitBreaker.forceOpen(breaker)
        yield* CircuitBreaker.resume(breaker)
        yield* CircuitBreaker.reset(breaker)
        assert.deepStrictEqual(yield* seen, [
          "Closed -> Open",
          "Open -> HalfOpen",
          "HalfOpen -> Open",
          "Open -> HalfOpen",
          "HalfOpen -> Closed",
          "Closed -> ForcedOpen",
          "ForcedOpen -> Closed"
        ])
      }))

    it.effect("neither wait for a slow listener nor fail with a broken one; the slow one misses the oldest", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const gate = yield* Deferred.make<void>()
        let seen = 0
        let last = ""
        const slow = yield* CircuitBreaker.transitions(breaker).pipe(
          Stream.take(129),
          Stream.runForEach(({ to }) =>
            Effect.andThen(
              Deferred.await(gate),
              Effect.sync(() => {
                seen++
                last = to
              })
            )
          ),
          Effect.forkChild({ startImmediately: true })
        )
        const broken = yield* CircuitBreaker.transitions(breaker).pipe(
          Stream.runForEach(() => Effect.die("listener")),
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.yieldNow
        for (let n = 0; n < 500; n++) {
          yield* CircuitBreaker.forceOpen(breaker)
          yield* CircuitBreaker.disable(breaker)
        }
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
        assert.isTrue(Exit.isFailure(yield* Fiber.await(broken)))
        yield* Deferred.succeed(gate, undefined)
        yield* Effect.exit(Fiber.join(slow).pipe(Effect.timeout("1 second"), TestClock.withLive))
        assert.isAtMost(seen, 130)
        assert.strictEqual(last, "Disabled")
      }))
  })

  describe("snapshot and restore", () => {
    const restoreInto = Effect.fnUntraced(
      function*(from: CircuitBreaker.CircuitBreaker, options?: Partial<CircuitBreaker.Options>) {
        const json = JSON.stringify(yield* CircuitBreaker.snapshot(from))
        const copy = yield* fragile(options)
        yield* CircuitBreaker.restore(copy, JSON.parse(json))
        return copy
      }
    )

    it.effect("carry a closed circuit with what it counted", () =>
      Effect.gen(function*() {
        for (
          const trip of [
            CircuitBreaker.consecutive(3),
            CircuitBreaker.failureRate({ window: { calls: 3 } }),
            CircuitBreaker.failureRate({ window: { time: "1 minute" }, minimum: 3 })
          ]
        ) {
          const breaker = yield* fragile({ trip })
          yield* times(2, CircuitBreaker.protect(failing, breaker))
          const copy = yield* restoreInto(breaker, { trip })
          assert.strictEqual((yield* CircuitBreaker.metrics(copy)).window.failures, 2)
          yield* times(1, CircuitBreaker.protect(failing, copy))
          assert.strictEqual(yield* tag(copy), "Open")
        }
      }))

    it.effect("carry an open circuit for the time it has left, and its backoff", () =>
      Effect.gen(function*() {
        const openTime = Schedule.exponential("1 second")
        const breaker = yield* tripped({ openTime })
        yield* TestClock.adjust("1 second")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        const snapshot = yield* CircuitBreaker.snapshot(breaker)
        yield* TestClock.adjust("500 millis")
        const copy = yield* fragile({ openTime })
        yield* CircuitBreaker.restore(copy, snapshot)
        assert.deepStrictEqual(yield* CircuitBreaker.state(copy), {
          _tag: "Open",
          retryAfter: Duration.millis(1500),
          openings: 2
        })
        yield* TestClock.adjust("1500 millis")
        yield* times(1, CircuitBreaker.protect(failing, copy))
        assert.deepStrictEqual(yield* CircuitBreaker.state(copy), {
          _tag: "Open",
          retryAfter: Duration.seconds(4),
          openings: 3
        })
      }))

    it.effect("carry a half-open circuit without the probes of the other process", () =>
      Effect.gen(function*() {
        const breaker = yield* halfOpen({ halfOpen: { successes: 2 } })
        yield* CircuitBreaker.protect(fine, breaker)
        yield* start(breaker)
        const copy = yield* restoreInto(breaker, { halfOpen: { successes: 2 } })
        assert.deepStrictEqual(yield* CircuitBreaker.state(copy), { _tag: "HalfOpen", probes: 0, openings: 1 })
        yield* CircuitBreaker.protect(fine, copy)
        assert.strictEqual(yield* tag(copy), "Closed")
      }))

    it.effect("carry an operator's state with what stood before it", () =>
      Effect.gen(function*() {
        for (const control of [CircuitBreaker.forceOpen, CircuitBreaker.disable, CircuitBreaker.metricsOnly]) {
          const breaker = yield* tripped()
          yield* control(breaker)
          const copy = yield* restoreInto(breaker)
          assert.strictEqual(yield* tag(copy), yield* tag(breaker))
          yield* CircuitBreaker.resume(copy)
          assert.strictEqual(yield* tag(copy), "Open")
        }
      }))

    it.effect("let a saved time window age by the time that has passed", () =>
      Effect.gen(function*() {
        const trip = CircuitBreaker.failureRate({ window: { time: "1 minute" } })
        const breaker = yield* fragile({ trip })
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("30 seconds")
        yield* times(1, CircuitBreaker.protect(failing, breaker))
        const snapshot = yield* CircuitBreaker.snapshot(breaker)
        yield* TestClock.adjust("30 seconds")
        const copy = yield* fragile({ trip })
        yield* CircuitBreaker.restore(copy, snapshot)
        assert.strictEqual((yield* CircuitBreaker.metrics(copy)).window.failures, 1)
      }))

    it.effect("leave out a window that was saved under a rule of another kind", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile({ trip: CircuitBreaker.consecutive(9) })
        yield* times(5, CircuitBreaker.protect(failing, breaker))
        const copy = yield* restoreInto(breaker, { trip: CircuitBreaker.failureRate() })
        assert.strictEqual((yield* CircuitBreaker.metrics(copy)).window.calls, 0)
      }))

    it.effect("refuse data that is no snapshot, and change nothing then", () =>
      Effect.gen(function*() {
        const options = { trip: CircuitBreaker.failureRate({ window: { time: "1 minute" } }), rampUp: { duration: 9 } }
        const breaker = yield* fragile(options)
        const saved = { version: 1, takenAt: 0 } as const
        const recovery = { openings: 1, openMillis: 10 }
        const memory = { _tag: "Time", buckets: [] }
        const foreign: ReadonlyArray<readonly [string, unknown]> = [
          ["version", {}],
          ["version", { ...saved, version: 2, circuit: { _tag: "Closed", memory } }],
          ["takenAt", { version: 1, circuit: { _tag: "Closed", memory } }],
          ["memory", { ...saved, circuit: { _tag: "Closed", memory: { _tag: "Time", buckets: [[0, 1, 1]] } } }],
          ["closedForMillis", { ...saved, circuit: { _tag: "Closed", memory, recovery } }],
          ["remainingMillis", { ...saved, circuit: { _tag: "Open", recovery } }],
          ["openMillis", { ...saved, circuit: { _tag: "Open", remainingMillis: 9, recovery: { openings: 1 } } }],
          ["successes", { ...saved, circuit: { _tag: "HalfOpen", failures: 0, recovery } }],
          ["failures", { ...saved, circuit: { _tag: "HalfOpen", successes: 0, failures: -9, recovery } }]
        ]
        for (const [name, data] of foreign) {
          const exit = yield* Effect.exit(CircuitBreaker.restore(breaker, data as CircuitBreaker.Snapshot))
          const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
          assert.instanceOf(error, RangeError, name)
          assert.include((error as RangeError).message, name)
        }
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "Closed", share: 1 })
      }))

    it.effect("fence calls that were in flight during the restore", () =>
      Effect.gen(function*() {
        const breaker = yield* fragile()
        const snapshot = yield* CircuitBreaker.snapshot(breaker)
        const call = yield* start(breaker)
        yield* CircuitBreaker.restore(breaker, snapshot)
        yield* call.fail
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))
  })

  describe("keyed", () => {
    const keyed = (options?: Partial<CircuitBreaker.KeyedOptions>) =>
      CircuitBreaker.keyed({ name: "tenants", trip: CircuitBreaker.consecutive(2), openTime: "10 seconds", ...options })

    const fail = (breakers: CircuitBreaker.KeyedCircuitBreaker, key: string, n = 1) =>
      times(n, CircuitBreaker.protect(failing, CircuitBreaker.forKey(breakers, key)))

    it.effect("keeps one circuit a key, and names the key in rejections and transitions but not in the message", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed()
        const seen = yield* listen(breakers)
        yield* fail(breakers, "a", 2)
        yield* fail(breakers, "b", 1)
        const error = yield* Effect.flip(fine.pipe(CircuitBreaker.protect(CircuitBreaker.forKey(breakers, "a"))))
        assert.strictEqual(error.key, "a")
        assert.notInclude(error.message, "a\"")
        assert.strictEqual(yield* fine.pipe(CircuitBreaker.protect(CircuitBreaker.forKey(breakers, "b"))), "fine")
        assert.deepStrictEqual(yield* seen, ["a: Closed -> Open"])
      }))

    it.effect("stores nothing for healthy keys under a consecutive rule", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed()
        for (let n = 0; n < 100; n++) yield* CircuitBreaker.protect(fine, CircuitBreaker.forKey(breakers, `key ${n}`))
        assert.strictEqual((yield* CircuitBreaker.statesByKey(breakers)).size, 0)
      }))

    it.effect("forgets idle keys after one to two idle times, without a timer", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed({ idleTimeToLive: "1 minute" })
        yield* fail(breakers, "idle")
        yield* TestClock.adjust("50 seconds")
        yield* fail(breakers, "other")
        yield* TestClock.adjust("50 seconds")
        assert.isTrue((yield* CircuitBreaker.statesByKey(breakers)).has("idle"))
        yield* TestClock.adjust("60 seconds")
        assert.strictEqual((yield* CircuitBreaker.statesByKey(breakers)).size, 0)
        yield* fail(breakers, "idle")
        assert.strictEqual(yield* tag(CircuitBreaker.forKey(breakers, "idle")), "Closed")
      }))

    it.effect("keeps a key that is in use", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed({ idleTimeToLive: "1 minute", trip: CircuitBreaker.consecutive(100) })
        for (let n = 0; n < 10; n++) {
          yield* fail(breakers, "used")
          yield* TestClock.adjust("59 seconds")
        }
        assert.strictEqual((yield* CircuitBreaker.metrics(CircuitBreaker.forKey(breakers, "used"))).window.failures, 10)
      }))

    it.effect("never holds more keys than allowed, and lets those go that were not used for longest", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed({ maxKeys: 10, trip: CircuitBreaker.consecutive(5000) })
        for (let n = 0; n < 1000; n++) {
          yield* fail(breakers, "hot")
          yield* fail(breakers, `key ${n}`)
          assert.isAtMost((yield* CircuitBreaker.statesByKey(breakers)).size, 10)
        }
        const states = yield* CircuitBreaker.statesByKey(breakers)
        assert.isTrue(states.has("hot"))
        assert.isTrue(states.has("key 999"))
        assert.strictEqual(
          (yield* CircuitBreaker.metrics(CircuitBreaker.forKey(breakers, "hot"))).window.failures,
          1000
        )
      }))

    it.effect("forgets no count because a key came back while there was no room", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed({ maxKeys: 4 })
        yield* TestClock.adjust("10 hours")
        for (const key of ["a", "b", "c", "d"]) yield* fail(breakers, key)
        yield* CircuitBreaker.protect(fine, CircuitBreaker.forKey(breakers, "a"))
        yield* fail(breakers, "c")
        assert.strictEqual(yield* tag(CircuitBreaker.forKey(breakers, "c")), "Open")
      }))

    it.effect("keeps open circuits and those an operator holds while others come and go", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed({ maxKeys: 20, idleTimeToLive: "1 second" })
        yield* CircuitBreaker.forceOpen(CircuitBreaker.forKey(breakers, "held"))
        yield* fail(breakers, "open", 2)
        for (let n = 0; n < 100; n++) yield* fail(breakers, `key ${n}`)
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(yield* tag(CircuitBreaker.forKey(breakers, "open")), "Open")
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* tag(CircuitBreaker.forKey(breakers, "open")), "Closed")
        assert.strictEqual(yield* tag(CircuitBreaker.forKey(breakers, "held")), "ForcedOpen")
      }))

    it.effect("fences late results of a key that had nothing stored when its call began", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed({ trip: CircuitBreaker.consecutive(1) })
        const breaker = CircuitBreaker.forKey(breakers, "a")
        const late = yield* start(breaker)
        yield* fail(breakers, "a")
        yield* TestClock.adjust("10 seconds")
        yield* CircuitBreaker.protect(fine, breaker)
        yield* late.fail
        assert.strictEqual(yield* tag(breaker), "Closed")
      }))

    it.effect("counts in a key that was stored while the call ran", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed()
        const breaker = CircuitBreaker.forKey(breakers, "a")
        const [a, b] = yield* Effect.all([start(breaker), start(breaker)])
        yield* a.fail
        yield* b.fail
        assert.strictEqual(yield* tag(breaker), "Open")
      }))

    it.effect("controls, saves and restores one key alone", () =>
      Effect.gen(function*() {
        const breakers = yield* keyed()
        yield* fail(breakers, "a", 2)
        const snapshot = yield* CircuitBreaker.snapshot(CircuitBreaker.forKey(breakers, "a"))
        yield* CircuitBreaker.reset(CircuitBreaker.forKey(breakers, "a"))
        yield* CircuitBreaker.restore(CircuitBreaker.forKey(breakers, "b"), snapshot)
        yield* CircuitBreaker.disable(CircuitBreaker.forKey(breakers, "c"))
        yield* CircuitBreaker.resume(CircuitBreaker.forKey(breakers, "c"))
        yield* fail(breakers, "c", 2)
        const tags = [...(yield* CircuitBreaker.statesByKey(breakers))].map(([key, state]) => `${key} ${state._tag}`)
        assert.deepStrictEqual(tags.sort(), ["a Closed", "b Open", "c Open"])
        assert.strictEqual(yield* tag(CircuitBreaker.forKey(breakers, "d")), "Closed")
      }))
  })

  describe("as a service", () => {
    class PaymentsBreaker
      extends Context.Service<PaymentsBreaker, CircuitBreaker.CircuitBreaker>()("PaymentsBreaker")
    {}
    class TenantBreakers
      extends Context.Service<TenantBreakers, CircuitBreaker.KeyedCircuitBreaker>()("TenantBreakers")
    {}

    it.effect("is provided by a layer", () =>
      Effect.gen(function*() {
        const breaker = yield* PaymentsBreaker
        assert.strictEqual(breaker.name, "payments")
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
      }).pipe(Effect.provide(CircuitBreaker.layer(PaymentsBreaker, { name: "payments" }))))

    it.effect("is provided by a layer, keyed", () =>
      Effect.gen(function*() {
        const breakers = yield* TenantBreakers
        assert.strictEqual(breakers.name, "tenants")
      }).pipe(Effect.provide(CircuitBreaker.layerKeyed(TenantBreakers, { name: "tenants" }))))
  })

  it.effect("refuses bad options and names them", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<[string, Partial<CircuitBreaker.KeyedOptions>]> = [
        ["openTime", { openTime: 0 }],
        ["openTime", { openTime: Duration.infinity }],
        ["halfOpen.permitted", { halfOpen: { permitted: 0 } }],
        ["halfOpen.successes", { halfOpen: { successes: 1.5 } }],
        ["halfOpen.failures", { halfOpen: { failures: 0 } }],
        ["halfOpen.lease", { halfOpen: { lease: 0 } }],
        ["rampUp.duration", { rampUp: { duration: 0 } }],
        ["rampUp.from", { rampUp: { duration: 1, from: 2 } }],
        ["maxRetryAfter", { maxRetryAfter: Duration.infinity }],
        ["maxKeys", { maxKeys: 1 }],
        ["idleTimeToLive", { idleTimeToLive: 0 }]
      ]
      for (const [name, options] of bad) {
        const exit = yield* Effect.exit(CircuitBreaker.keyed({ name: "test", ...options }))
        assert.isTrue(Exit.isFailure(exit))
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(error, RangeError)
        assert.include((error as RangeError).message, name)
      }
      assert.throws(() => CircuitBreaker.consecutive(0), RangeError, "failures")
      assert.throws(() => CircuitBreaker.failureRate({ threshold: 1.5 }), RangeError, "threshold")
      assert.throws(() => CircuitBreaker.failureRate({ window: { calls: 0 } }), RangeError, "window.calls")
      assert.throws(() => CircuitBreaker.failureRate({ window: { time: 0 } }), RangeError, "window.time")
      assert.throws(() => CircuitBreaker.failureRate({ window: { calls: 5 }, minimum: 6 }), RangeError, "minimum")
      assert.throws(() => CircuitBreaker.slowCallRate({ duration: 0 }), RangeError, "slow.duration")
    }))

  it("adds its rejection to the error channel, and catching it takes it out again", () => {
    const breaker = Effect.runSync(CircuitBreaker.make({ name: "types" }))
    class Database extends Context.Service<Database, { readonly id: string }>()("Database") {}
    const call = Effect.gen(function*() {
      yield* Database
      return yield* Effect.fail(new Unreachable({})).pipe(Effect.as(1))
    })
    const dataFirst = CircuitBreaker.protect(call, breaker)
    const dataLast = call.pipe(CircuitBreaker.protect(breaker))
    const classified = call.pipe(
      CircuitBreaker.protect(breaker, { classify: Outcome.ignoreWhen((e: Unreachable) => e._tag === "Unreachable") })
    )
    type Expected = Effect.Effect<number, Unreachable | CircuitBreaker.CircuitBreakerOpenError, Database>
    expectTypeOf(dataFirst).toEqualTypeOf<Expected>()
    expectTypeOf(dataLast).toEqualTypeOf<Expected>()
    expectTypeOf(classified).toEqualTypeOf<Expected>()
    const handled = dataLast.pipe(Effect.catchTag("CircuitBreakerOpenError", () => Effect.succeed("cached")))
    expectTypeOf(handled).toEqualTypeOf<Effect.Effect<number | string, Unreachable, Database>>()
    const never = Effect.succeed(1).pipe(CircuitBreaker.protect(breaker))
    expectTypeOf(never).toEqualTypeOf<Effect.Effect<number, CircuitBreaker.CircuitBreakerOpenError>>()
  })
})
