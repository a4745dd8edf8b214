import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Store from "effect/persistence/CircuitBreaker"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as FleetCircuitBreaker from "../../src/resilience/FleetCircuitBreaker.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"

const failing = Effect.fail("unreachable")
const fine = Effect.succeed("fine")

const options = {
  name: "payments",
  trip: CircuitBreaker.consecutive(2),
  openTime: "10 seconds",
  storeTimeout: "1 second",
  retryStore: "5 seconds"
} as const

const times = (n: number, effect: Effect.Effect<unknown, unknown>) =>
  Effect.repeat(Effect.exit(effect), { times: n - 1 })

const tag = (breaker: CircuitBreaker.CircuitBreaker) => Effect.map(CircuitBreaker.state(breaker), (state) => state._tag)

/** A store in memory that a test can break: it fails, or it does not answer. */
class Switch extends Context.Service<Switch, { mode: "there" | "fails" | "hangs"; calls: number }>()("Switch") {}

const breakable = Layer.effect(
  Store.CircuitBreakerStore,
  Effect.gen(function*() {
    const store = yield* Store.CircuitBreakerStore
    const control = yield* Switch
    const error = new Store.CircuitBreakerError({
      reason: new Store.CircuitBreakerStoreError({ message: "secret address" })
    })
    const guard = <A, E, R>(self: Effect.Effect<A, E, R>) =>
      Effect.suspend((): Effect.Effect<A, E | Store.CircuitBreakerError, R> => {
        control.calls++
        return control.mode === "fails" ? Effect.fail(error) : control.mode === "hangs" ? Effect.never : self
      })
    return Store.CircuitBreakerStore.of({
      admit: (key) => guard(store.admit(key)),
      record: (outcome) => guard(store.record(outcome)),
      state: (key) => guard(store.state(key))
    })
  })
).pipe(
  Layer.provide(Store.layerStoreMemory()),
  Layer.provideMerge(Layer.sync(Switch, () => ({ mode: "there" as const, calls: 0 })))
)

/** Runs a call that may have to wait for the store, and lets it. */
const settled = <A, E>(self: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(self, { startImmediately: true })
    yield* TestClock.adjust("1 second")
    return yield* Fiber.await(fiber)
  })

const logged = Effect.sync(() => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    lines.push(`${logLevel} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
  })
  return { lines, layer: Logger.layer([logger]) }
})

describe("FleetCircuitBreaker", () => {
  describe("with the store there", () => {
    it.effect("opens for all processes at the failures of any", () =>
      Effect.gen(function*() {
        const here = yield* FleetCircuitBreaker.make(options)
        const there = yield* FleetCircuitBreaker.make(options)
        yield* times(1, CircuitBreaker.protect(failing, here))
        yield* times(1, CircuitBreaker.protect(failing, there))
        assert.deepStrictEqual(yield* CircuitBreaker.state(here), {
          _tag: "Open",
          retryAfter: Duration.seconds(10),
          openings: 1
        })
        const error = yield* Effect.flip(CircuitBreaker.protect(Effect.die("must not run"), here))
        assert.instanceOf(error, CircuitBreaker.CircuitBreakerOpenError)
        assert.strictEqual(error.state, "Open")
        assert.deepStrictEqual(error.retryAfter, Duration.seconds(10))
        assert.strictEqual((yield* CircuitBreaker.metrics(here)).store, "Fleet")
      }).pipe(Effect.provide(breakable)))

    it.effect("lets one process probe, rejects in the others, and closes for all", () =>
      Effect.gen(function*() {
        const here = yield* FleetCircuitBreaker.make(options)
        const there = yield* FleetCircuitBreaker.make(options)
        yield* times(2, CircuitBreaker.protect(failing, here))
        yield* TestClock.adjust("10 seconds")
        const end = yield* Deferred.make<string>()
        const probe = yield* Effect.forkChild(CircuitBreaker.protect(Deferred.await(end), here), {
          startImmediately: true
        })
        yield* TestClock.adjust(0)
        const error = yield* Effect.flip(CircuitBreaker.protect(fine, there))
        assert.strictEqual(error.state, "HalfOpen")
        assert.deepStrictEqual(yield* CircuitBreaker.state(there), { _tag: "HalfOpen", probes: 1, openings: 1 })
        yield* Deferred.succeed(end, "fine")
        assert.strictEqual(yield* Fiber.join(probe), "fine")
        assert.strictEqual(yield* tag(there), "Closed")
      }).pipe(Effect.provide(breakable)))

    it.effect("frees the probe's place when the caller is interrupted", () =>
      Effect.gen(function*() {
        const breaker = yield* FleetCircuitBreaker.make(options)
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("10 seconds")
        const probe = yield* Effect.forkChild(CircuitBreaker.protect(Effect.never, breaker), { startImmediately: true })
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 1, openings: 1 })
        yield* Fiber.interrupt(probe)
        assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), { _tag: "HalfOpen", probes: 0, openings: 1 })
      }).pipe(Effect.provide(breakable)))

    it.effect("grows the open time by a schedule, and honours retryAfter up to the maximum", () =>
      Effect.gen(function*() {
        const breaker = yield* FleetCircuitBreaker.make({
          ...options,
          trip: CircuitBreaker.consecutive(1),
          openTime: Schedule.exponential("1 second"),
          maxRetryAfter: "1 minute"
        })
        const opened: Array<number> = []
        const calls: ReadonlyArray<Effect.Effect<never, unknown>> = [
          failing,
          failing,
          Effect.fail({ retryAfter: Duration.hours(1) })
        ]
        for (const call of calls) {
          yield* times(1, CircuitBreaker.protect(call, breaker))
          const state = yield* CircuitBreaker.state(breaker)
          opened.push(state._tag === "Open" ? Duration.toMillis(state.retryAfter) : -1)
          yield* TestClock.adjust("1 minute")
        }
        assert.deepStrictEqual(opened, [1000, 2000, 60_000])
      }).pipe(Effect.provide(breakable)))

    it.effect("shares a failure rate over calls", () =>
      Effect.gen(function*() {
        const trip = CircuitBreaker.failureRate({ threshold: 0.5, window: { calls: 4 }, minimum: 4 })
        const here = yield* FleetCircuitBreaker.make({ ...options, trip })
        const there = yield* FleetCircuitBreaker.make({ ...options, trip })
        yield* times(2, CircuitBreaker.protect(fine, here))
        yield* times(2, CircuitBreaker.protect(failing, there))
        assert.strictEqual(yield* tag(here), "Open")
      }).pipe(Effect.provide(breakable)))

    it.effect("counts neither interruption nor ignored outcomes, and dies with what a classify throws", () =>
      Effect.gen(function*() {
        const breaker = yield* FleetCircuitBreaker.make({ ...options, trip: CircuitBreaker.consecutive(1) })
        yield* Effect.exit(CircuitBreaker.protect(Effect.interrupt, breaker))
        yield* Effect.exit(CircuitBreaker.protect(failing, breaker, { classify: () => Outcome.ignored }))
        const exit = yield* Effect.exit(CircuitBreaker.protect(fine, breaker, {
          classify: () => {
            throw "bug in classify"
          }
        }))
        assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) === "bug in classify")
        assert.strictEqual(yield* tag(breaker), "Closed")
      }).pipe(Effect.provide(breakable)))

    it.effect("keeps one circuit a key", () =>
      Effect.gen(function*() {
        const here = yield* FleetCircuitBreaker.keyed(options)
        const there = yield* FleetCircuitBreaker.keyed(options)
        yield* times(2, CircuitBreaker.protect(failing, CircuitBreaker.forKey(here, "a")))
        const error = yield* Effect.flip(CircuitBreaker.protect(fine, CircuitBreaker.forKey(there, "a")))
        assert.strictEqual(error.key, "a")
        assert.strictEqual(yield* CircuitBreaker.protect(fine, CircuitBreaker.forKey(there, "b")), "fine")
      }).pipe(Effect.provide(breakable)))

    it.effect("tells the transitions that this process made", () =>
      Effect.gen(function*() {
        const breaker = yield* FleetCircuitBreaker.make(options)
        const seen = yield* CircuitBreaker.transitions(breaker).pipe(
          Stream.take(3),
          Stream.map(({ from, to }) => `${from} -> ${to}`),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.yieldNow
        yield* times(2, CircuitBreaker.protect(failing, breaker))
        yield* TestClock.adjust("10 seconds")
        yield* CircuitBreaker.protect(fine, breaker)
        assert.deepStrictEqual(Array.from(yield* Fiber.join(seen)), [
          "Closed -> Open",
          "Open -> HalfOpen",
          "HalfOpen -> Closed"
        ])
      }).pipe(Effect.provide(breakable)))

    it.effect("keeps an operator's state to this process", () =>
      Effect.gen(function*() {
        const here = yield* FleetCircuitBreaker.make(options)
        const there = yield* FleetCircuitBreaker.make(options)
        yield* CircuitBreaker.forceOpen(here)
        assert.strictEqual((yield* Effect.flip(CircuitBreaker.protect(fine, here))).state, "ForcedOpen")
        assert.strictEqual(yield* CircuitBreaker.protect(fine, there), "fine")
        yield* CircuitBreaker.resume(here)
        assert.strictEqual(yield* CircuitBreaker.protect(fine, here), "fine")
      }).pipe(Effect.provide(breakable)))
  })

  describe("with the store away", () => {
    for (const mode of ["fails", "hangs"] as const) {
      it.effect(`works locally when it ${mode}, says so once, and comes back`, () =>
        Effect.gen(function*() {
          const { layer, lines } = yield* logged
          const control = yield* Switch
          yield* Effect.gen(function*() {
            const breaker = yield* FleetCircuitBreaker.make(options)
            yield* CircuitBreaker.protect(fine, breaker)
            control.mode = mode
            assert.deepStrictEqual(yield* settled(CircuitBreaker.protect(fine, breaker)), Exit.succeed("fine"))
            assert.strictEqual((yield* CircuitBreaker.metrics(breaker)).store, "Local")

            const asked = control.calls
            yield* times(2, CircuitBreaker.protect(failing, breaker))
            assert.strictEqual(
              (yield* Effect.flip(CircuitBreaker.protect(fine, breaker)))._tag,
              "CircuitBreakerOpenError"
            )
            assert.strictEqual(yield* tag(breaker), "Open")
            assert.strictEqual(control.calls, asked)

            control.mode = "there"
            yield* TestClock.adjust("5 seconds")
            assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
            assert.strictEqual((yield* CircuitBreaker.metrics(breaker)).store, "Fleet")
            assert.strictEqual(yield* tag(breaker), "Closed")
          }).pipe(Effect.provide(layer))
          assert.deepStrictEqual(lines, [
            `Warn circuit breaker "payments" works locally: the store of the fleet ${
              mode === "fails" ? "fails" : "does not answer"
            }`,
            `Info circuit breaker "payments" works with the fleet again`
          ])
        }).pipe(Effect.provide(breakable)))
    }

    it.effect("goes on from the open circuit that the store told of last", () =>
      Effect.gen(function*() {
        const control = yield* Switch
        const here = yield* FleetCircuitBreaker.make(options)
        const there = yield* FleetCircuitBreaker.make(options)
        yield* times(2, CircuitBreaker.protect(failing, there))
        yield* TestClock.adjust("3 seconds")
        yield* Effect.flip(CircuitBreaker.protect(fine, here))
        control.mode = "fails"
        const error = yield* Effect.flip(CircuitBreaker.protect(fine, here))
        assert.deepStrictEqual(error.retryAfter, Duration.seconds(7))
        yield* TestClock.adjust("7 seconds")
        assert.strictEqual(yield* CircuitBreaker.protect(fine, here), "fine")
      }).pipe(Effect.provide(breakable)))

    it.effect("gives the caller its result when the store goes away during the call", () =>
      Effect.gen(function*() {
        const control = yield* Switch
        const breaker = yield* FleetCircuitBreaker.make(options)
        for (const mode of ["fails", "hangs"] as const) {
          control.mode = "there"
          const call = Effect.andThen(
            Effect.sync(() => {
              control.mode = mode
            }),
            fine
          )
          assert.deepStrictEqual(yield* settled(CircuitBreaker.protect(call, breaker)), Exit.succeed("fine"))
          yield* TestClock.adjust("5 seconds")
        }
      }).pipe(Effect.provide(breakable)))

    it.effect("lets an interrupted caller go at once while the store hangs", () =>
      Effect.gen(function*() {
        const control = yield* Switch
        const breaker = yield* FleetCircuitBreaker.make(options)
        control.mode = "hangs"
        const fiber = yield* Effect.forkChild(CircuitBreaker.protect(fine, breaker), { startImmediately: true })
        yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
        assert.strictEqual((yield* CircuitBreaker.metrics(breaker)).store, "Fleet")
      }).pipe(Effect.provide(breakable)))
  })

  it.effect("refuses trip rules that the store does not know, and names the option", () =>
    Effect.gen(function*() {
      for (
        const trip of [
          CircuitBreaker.slowCallRate({ duration: "1 second" }),
          CircuitBreaker.failureRate({ window: { time: "1 minute" } })
        ]
      ) {
        const exit = yield* Effect.exit(FleetCircuitBreaker.make({ name: "payments", trip }))
        const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(error, RangeError)
        assert.include((error as RangeError).message, "trip")
      }
    }).pipe(Effect.provide(breakable)))
})
