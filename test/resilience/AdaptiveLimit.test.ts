import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as AdaptiveLimit from "../../src/resilience/AdaptiveLimit.ts"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import {
  type Adaptation,
  admitted,
  initialState,
  type Sample,
  type State,
  step
} from "../../src/resilience/limiter/adaptive.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import { interruptAt, steps, turns } from "../support/EveryStep.ts"

/** Feeds calls of a given duration that use the whole limit, one after the other. */
const feed = (
  adaptation: Adaptation,
  state: State,
  n: number,
  call: Partial<Sample> & { readonly millis?: number }
) => {
  let next = state
  let now = Math.max(0, state.loweredAt)
  for (let i = 0; i < n; i++) {
    const startedAt = now
    now += call.millis ?? 10
    next = step(adaptation, next, {
      startedAt,
      endedAt: now,
      inFlight: call.inFlight ?? Math.floor(next.limit),
      failed: call.failed ?? false
    })
  }
  return next
}

const limitOf = (limit: AdaptiveLimit.AdaptiveLimit) => Effect.map(AdaptiveLimit.metrics(limit), (m) => m.limit)

describe("AdaptiveLimit arithmetic", () => {
  describe("AIMD", () => {
    const aimd = AdaptiveLimit.aimd({ initial: 10, min: 2, max: 15, latency: "100 millis" })

    it("rises by about one for each round of calls that went well", () => {
      assert.approximately(feed(aimd, initialState(aimd), 10, {}).limit, 11, 0.1)
    })

    it("falls to nine tenths after a failure, or a call that took too long", () => {
      assert.approximately(feed(aimd, initialState(aimd), 1, { failed: true }).limit, 9, 1e-9)
      assert.approximately(feed(aimd, initialState(aimd), 1, { millis: 101 }).limit, 9, 1e-9)
      assert.isAbove(feed(aimd, initialState(aimd), 1, { millis: 100 }).limit, 10)
    })

    it("falls once for all failures of calls that were running at the same time", () => {
      let state = initialState(aimd)
      for (let i = 0; i < 10; i++) {
        state = step(aimd, state, { startedAt: 5, endedAt: 10 + i, inFlight: 10, failed: true })
      }
      assert.approximately(state.limit, 9, 1e-9)
      state = step(aimd, state, { startedAt: 10, endedAt: 30, inFlight: 9, failed: true })
      assert.approximately(state.limit, 8.1, 1e-9)
    })

    it("does not rise while less than half of it is in use", () => {
      assert.strictEqual(feed(aimd, initialState(aimd), 100, { inFlight: 4 }).limit, 10)
      assert.isAbove(feed(aimd, initialState(aimd), 1, { inFlight: 5 }).limit, 10)
    })
  })

  describe("gradient", () => {
    const gradient = AdaptiveLimit.gradient({ initial: 20, min: 5, max: 100, interval: 0 })

    it("rises while durations are as without load", () => {
      assert.isAbove(feed(gradient, initialState(gradient), 500, { millis: 10 }).limit, 40)
    })

    it("falls when durations grow beyond the tolerance", () => {
      const usual = feed(gradient, initialState(gradient), 500, { millis: 10 })
      const within = feed(gradient, usual, 50, { millis: 14 })
      assert.isAtLeast(within.limit, usual.limit)
      const beyond = feed(gradient, usual, 200, { millis: 100 })
      assert.isBelow(beyond.limit, usual.limit / 2)
    })

    it("rises again when durations are as before", () => {
      const usual = feed(gradient, initialState(gradient), 500, { millis: 10 })
      const slow = feed(gradient, usual, 200, { millis: 100 })
      assert.isAbove(feed(gradient, slow, 200, { millis: 10 }).limit, slow.limit)
    })

    it("moves once for ten calls, and not more often than the interval", () => {
      assert.strictEqual(feed(gradient, initialState(gradient), 9, {}).limit, 20)
      assert.isAbove(feed(gradient, initialState(gradient), 12, {}).limit, 20)
      const slow = AdaptiveLimit.gradient({ initial: 20, interval: "1 second" })
      assert.strictEqual(feed(slow, initialState(slow), 100, { millis: 10 }).limit, 20)
      assert.isAbove(feed(slow, initialState(slow), 101, { millis: 10 }).limit, 20)
    })

    it("does not rise while less than half of it is in use, and may fall then", () => {
      const usual = feed(gradient, initialState(gradient), 500, { millis: 10 })
      // What was counted before the first idle call moves it once.
      const idle = feed(gradient, usual, 20, { millis: 10, inFlight: 1 })
      assert.strictEqual(feed(gradient, idle, 1_000, { millis: 10, inFlight: 1 }).limit, idle.limit)
      assert.isBelow(feed(gradient, usual, 200, { millis: 100, inFlight: 1 }).limit, usual.limit)
    })

    it("falls after a failure too", () => {
      assert.approximately(feed(gradient, initialState(gradient), 1, { failed: true }).limit, 18, 1e-9)
    })

    it("takes calls that take no time for calls without load", () => {
      const state = feed(gradient, initialState(gradient), 500, { millis: 0 })
      assert.isTrue(Number.isFinite(state.limit) && state.limit > 20)
    })

    /** Callers without end, on a dependency whose calls take longer the more of them there are beyond its capacity. */
    const overload = (given: {
      readonly algorithm: Adaptation
      readonly callers: number
      readonly seconds: number
      readonly capacity: (at: number) => number
      readonly base: (at: number) => number
    }) => {
      const limits: Array<number> = []
      let state = initialState(given.algorithm)
      let running: Array<Sample> = []
      for (let now = 0; now < given.seconds * 1_000; now += 5) {
        const done = running.filter(({ endedAt }) => endedAt <= now)
        running = running.filter(({ endedAt }) => endedAt > now)
        for (const sample of done) state = step(given.algorithm, state, { ...sample, endedAt: now })
        while (running.length < Math.min(given.callers, admitted(given.algorithm, state))) {
          const inFlight = running.length + 1
          const took = given.base(now) * Math.max(1, inFlight / given.capacity(now))
          running.push({ startedAt: now, endedAt: now + took, inFlight, failed: false })
        }
        if (now % 1_000 === 0) limits.push(Math.floor(state.limit))
      }
      return { limits, state }
    }

    it("does not drift up under an overload that lasts: it stays near what the dependency can do", () => {
      fc.assert(
        fc.property(fc.integer({ min: 5, max: 60 }), fc.integer({ min: 20, max: 400 }), (capacity, base) => {
          const { limits } = overload({
            algorithm: AdaptiveLimit.gradient({ max: 1_000 }),
            callers: 500,
            seconds: 300,
            capacity: () => capacity,
            base: () => base
          })
          const settled = limits.slice(100)
          const most = Math.max(...settled)
          const least = Math.min(...settled)
          assert.isTrue(least >= capacity - 1 && most <= 2 * capacity + 12, `${least} to ${most} of ${capacity}`)
        }),
        { numRuns: 10 }
      )
    })

    it("follows a capacity that is lost and comes back", () => {
      const { limits } = overload({
        algorithm: AdaptiveLimit.gradient(),
        callers: 500,
        seconds: 300,
        capacity: (at) => at >= 100_000 && at < 200_000 ? 10 : 40,
        base: () => 100
      })
      assert.isAbove(limits[99]!, 40)
      assert.isBelow(limits[120]!, 25)
      assert.isBelow(limits[199]!, 25)
      assert.isAbove(limits[230]!, 40)
    })

    it("finds by a probe that the dependency itself has become slower, and takes that for its duration without load", () => {
      const { limits, state } = overload({
        algorithm: AdaptiveLimit.gradient({ probeAfter: "10 seconds" }),
        callers: 500,
        seconds: 200,
        capacity: () => 40,
        base: (at) => at < 50_000 ? 100 : 400
      })
      assert.isBelow(Math.min(...limits.slice(50, 80)), 20)
      assert.approximately(state.unloaded, 400, 20)
      assert.isAbove(limits[199]!, 40)
    })

    /** Calls that come as soon as there is room for them, on a dependency that shares its capacity between all. */
    const saturated = (given: {
      readonly algorithm: Adaptation
      readonly capacity: number
      readonly seconds: number
      /** What the next call takes without load. */
      readonly base: () => number
    }) => {
      let state = initialState(given.algorithm)
      let running: Array<{ readonly startedAt: number; readonly inFlight: number; left: number }> = []
      for (let now = 0; now < given.seconds * 1_000; now++) {
        while (running.length < admitted(given.algorithm, state)) {
          running.push({ startedAt: now, inFlight: running.length + 1, left: given.base() })
        }
        const speed = Math.min(1, given.capacity / running.length)
        for (const call of running) call.left -= speed
        for (const { inFlight, left, startedAt } of running) {
          if (left > 0) continue
          state = step(given.algorithm, state, { startedAt, endedAt: now + 1, inFlight, failed: false })
        }
        running = running.filter(({ left }) => left > 0)
      }
      return state
    }

    it("does not drift up when calls come in waves, or when it is told to tolerate much", () => {
      for (const tolerance of [1.5, 3, 6]) {
        const algorithm = AdaptiveLimit.gradient({ max: 1_000, tolerance, probeAfter: "5 seconds" })
        const { limit, unloaded } = saturated({ algorithm, capacity: 20, seconds: 100, base: () => 100 })
        assert.approximately(unloaded, 100, 1, `tolerance ${tolerance}`)
        assert.isBelow(limit, 20 * tolerance + 10, `tolerance ${tolerance}`)
      }
    })

    it("takes more calls where durations vary, so that chance does not make it sink", () => {
      let drawn = 7
      const draw = () => (drawn = (drawn * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31
      const bases: Record<string, () => number> = {
        exponential: () => -Math.log(1 - draw()) * 100,
        "hits and misses of a cache": () => draw() < 0.9 ? 5 : 500
      }
      for (const [name, base] of Object.entries(bases)) {
        const { limit } = saturated({ algorithm: AdaptiveLimit.gradient(), capacity: 20, seconds: 200, base })
        assert.isAbove(limit, 15, name)
        assert.isBelow(limit, 50, name)
      }
    })

    it("probes with a quarter of the limit, and only after calls have been slow for long", () => {
      const probing = AdaptiveLimit.gradient({ initial: 40, interval: 0, probeAfter: "10 seconds" })
      let state = feed(probing, initialState(probing), 20, { millis: 100 })
      assert.strictEqual(admitted(probing, state), Math.floor(state.limit))
      let now = 2_000
      while (!state.probing) {
        assert.isBelow(now, 20_000)
        state = step(probing, state, { startedAt: now, endedAt: now + 1_000, inFlight: 20, failed: false })
        now += 100
      }
      assert.isAtLeast(now, 12_000)
      const before = state.limit
      assert.strictEqual(admitted(probing, state), Math.floor(before / 4))
      // Calls that began under load are no part of it, not even those that were the first of many.
      for (let i = 0; i < 50; i++) {
        state = step(probing, state, { startedAt: now, endedAt: now + 1_000, inFlight: 1 + i, failed: false })
      }
      assert.isTrue(state.probing)
      now += 1_000
      for (let i = 0; i < 10; i++) {
        state = step(probing, state, { startedAt: now, endedAt: now + 300, inFlight: 1, failed: false })
      }
      assert.deepStrictEqual([state.probing, state.unloaded, state.limit], [false, 300, before])
    })
  })

  it("stays within its bounds, and never rises while less than half of it is in use", () => {
    const adaptation = fc.record({
      kind: fc.constantFrom<(o: AdaptiveLimit.BoundOptions) => Adaptation>(AdaptiveLimit.aimd, AdaptiveLimit.gradient),
      min: fc.integer({ min: 1, max: 5 }),
      room: fc.integer({ min: 0, max: 20 }),
      start: fc.nat(20)
    }).map(({ kind, min, room, start }) => kind({ min, max: min + room, initial: Math.min(min + room, min + start) }))
    const sample = fc.record({
      started: fc.nat(50),
      took: fc.oneof(fc.nat(20), fc.nat(10_000)),
      inFlight: fc.integer({ min: 1, max: 30 }),
      failed: fc.boolean()
    })
    fc.assert(fc.property(adaptation, fc.array(sample, { maxLength: 200 }), (algorithm, samples) => {
      let state = initialState(algorithm)
      let now = 0
      // Most that ran at once since the limit last moved.
      let most = 0
      for (const { failed, inFlight, started, took } of samples) {
        now += started
        most = Math.max(most, inFlight)
        const next = step(algorithm, state, { startedAt: now, endedAt: now + took, inFlight, failed })
        assert.isTrue(next.limit >= algorithm.min && next.limit <= algorithm.max, `limit ${next.limit}`)
        const admits = admitted(algorithm, next)
        assert.isTrue(admits >= algorithm.min && admits <= next.limit, `admits ${admits}`)
        if (failed || (algorithm._tag === "aimd" ? inFlight : most) * 2 < state.limit) {
          assert.isAtMost(next.limit, state.limit)
        }
        if (next.limit !== state.limit && !failed) most = 0
        state = next
      }
    }))
  })
})

describe("AdaptiveLimit", () => {
  const failing = Effect.fail("overloaded")

  it.effect("runs calls up to the limit, and refuses the next at once", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({ name: "search", algorithm: AdaptiveLimit.aimd({ initial: 2 }) })
      const blocked = yield* Effect.forEach([1, 2], () =>
        Effect.forkChild(AdaptiveLimit.protect(Effect.never, limit), { startImmediately: true }))
      const error = yield* Effect.flip(AdaptiveLimit.protect(Effect.die("ran"), limit))
      assert.instanceOf(error, AdaptiveLimit.AdaptiveLimitFullError)
      assert.isTrue(Rejection.isRejection(error))
      assert.strictEqual(error.message, "adaptive limit \"search\" is reached: 2 running, queue of 0")
      assert.strictEqual((error as Error).stack?.split("\n").length, 1)
      yield* Fiber.interruptAll(blocked)
      assert.deepStrictEqual(yield* AdaptiveLimit.metrics(limit), {
        limit: 2,
        min: 1,
        max: 200,
        inUse: 0,
        maxQueue: 0,
        waiting: 0,
        started: 2,
        rejected: 1
      })
    }))

  it.effect("falls after failures and defects, which stay what they are", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({ algorithm: AdaptiveLimit.aimd({ initial: 100, backoff: 0.5 }) })
      assert.strictEqual(yield* Effect.flip(AdaptiveLimit.protect(failing, limit)), "overloaded")
      assert.strictEqual(yield* limitOf(limit), 50)
      const exit = yield* Effect.exit(AdaptiveLimit.protect(Effect.die("bug"), limit))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.strictEqual(yield* limitOf(limit), 25)
    }))

  it.effect("learns nothing from interrupted calls, from rejections, and from what classify ignores", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({
        algorithm: AdaptiveLimit.aimd({ initial: 10, backoff: 0.5 }),
        classify: Outcome.ignoreWhen((error) => error === "not found")
      })
      const fiber = yield* Effect.forkChild(AdaptiveLimit.protect(Effect.never, limit), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      const rejection = new Bulkhead.BulkheadFullError({
        strategy: "other",
        reason: "queue-full",
        maxConcurrent: 1,
        maxQueue: 0
      })
      yield* Effect.exit(AdaptiveLimit.protect(Effect.fail(rejection), limit))
      yield* Effect.exit(AdaptiveLimit.protect(Effect.fail("not found"), limit))
      assert.strictEqual(yield* limitOf(limit), 10)
      yield* Effect.exit(AdaptiveLimit.protect(failing, limit))
      assert.strictEqual(yield* limitOf(limit), 5)
    }))

  it.effect("gives the place back when classify throws, and dies with what was thrown", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({
        algorithm: AdaptiveLimit.aimd({ initial: 1 }),
        maxQueue: 1,
        classify: () => {
          throw new Error("my mistake")
        }
      })
      for (let i = 0; i < 3; i++) {
        const exit = yield* Effect.exit(AdaptiveLimit.protect(Effect.void, limit))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      }
      assert.strictEqual((yield* AdaptiveLimit.metrics(limit)).inUse, 0)
    }))

  it.effect("rises while it is in use, and lets waiters in when it does", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({ algorithm: AdaptiveLimit.aimd({ initial: 1, max: 3 }), maxQueue: 9 })
      const gates = yield* Effect.forEach([0, 1, 2, 3, 4], () => Deferred.make<void>())
      const began: Array<number> = []
      yield* Effect.forEach(gates, (gate, i) =>
        Effect.forkChild(
          AdaptiveLimit.protect(Effect.andThen(Effect.sync(() => began.push(i)), Deferred.await(gate)), limit),
          { startImmediately: true }
        ))
      assert.deepStrictEqual(began, [0])
      yield* Deferred.succeed(gates[0]!, undefined)
      yield* turns(3)
      // One call of one went well: the limit is two.
      assert.strictEqual(yield* limitOf(limit), 2)
      assert.deepStrictEqual(began, [0, 1, 2])
    }))

  it.effect("does not rise when it is idle, however many calls go well", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({ algorithm: AdaptiveLimit.gradient({ initial: 20 }) })
      for (let i = 0; i < 500; i++) yield* AdaptiveLimit.protect(Effect.void, limit)
      assert.strictEqual(yield* limitOf(limit), 20)
    }))

  it.effect("falls when calls take longer than usual", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({ algorithm: AdaptiveLimit.gradient({ initial: 20, queue: 0 }) })
      const call = (millis: number) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(AdaptiveLimit.protect(Effect.sleep(millis), limit), {
            startImmediately: true
          })
          yield* TestClock.adjust(millis)
          yield* Fiber.join(fiber)
        })
      for (let i = 0; i < 20; i++) yield* call(10)
      assert.strictEqual(yield* limitOf(limit), 20)
      for (let i = 0; i < 40; i++) yield* call(200)
      assert.isBelow(yield* limitOf(limit), 15)
    }))

  it.effect("queues by priority and for no longer than maxWait, as Bulkhead does", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({
        algorithm: AdaptiveLimit.aimd({ initial: 1, max: 1 }),
        maxQueue: 2,
        maxWait: "1 second"
      })
      const order: Array<string> = []
      const gate = yield* Deferred.make<void>()
      yield* Effect.forkChild(AdaptiveLimit.protect(Deferred.await(gate), limit), { startImmediately: true })
      const note = (name: string, priority: number) =>
        Effect.forkChild(AdaptiveLimit.protect(Effect.sync(() => order.push(name)), limit, { priority }), {
          startImmediately: true
        })
      yield* note("low", 0)
      yield* note("high", 1)
      yield* Deferred.succeed(gate, undefined)
      yield* turns(5)
      assert.deepStrictEqual(order, ["high", "low"])
      yield* Effect.forkChild(AdaptiveLimit.protect(Effect.never, limit), { startImmediately: true })
      const late = yield* note("late", 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(late))).reason, "waited-too-long")
    }))

  it.effect("leaks no place when a call is interrupted at any step", () =>
    Effect.gen(function*() {
      const limit = yield* AdaptiveLimit.make({ algorithm: AdaptiveLimit.aimd({ initial: 1, max: 1 }), maxQueue: 2 })
      for (const step of steps(9, 14)) {
        const first = yield* Effect.forkChild(interruptAt(AdaptiveLimit.protect(turns(5), limit), step), {
          startImmediately: true
        })
        const second = yield* Effect.forkChild(interruptAt(AdaptiveLimit.protect(turns(5), limit), step), {
          startImmediately: true
        })
        yield* Fiber.join(first)
        yield* Fiber.join(second)
        const { inUse, waiting } = yield* AdaptiveLimit.metrics(limit)
        assert.deepStrictEqual({ inUse, waiting }, { inUse: 0, waiting: 0 }, JSON.stringify(step))
      }
    }))

  it.effect("has one limit a key, and forgets what it learnt of a key that was idle for long", () =>
    Effect.gen(function*() {
      const hosts = yield* AdaptiveLimit.keyed({
        algorithm: AdaptiveLimit.aimd({ initial: 10, backoff: 0.5 }),
        idleTimeToLive: "1 minute"
      })
      const one = AdaptiveLimit.forKey(hosts, "one")
      yield* Effect.exit(AdaptiveLimit.protect(failing, one))
      assert.deepStrictEqual([yield* limitOf(one), yield* limitOf(AdaptiveLimit.forKey("two")(hosts))], [5, 10])
      assert.deepStrictEqual([...(yield* AdaptiveLimit.metricsByKey(hosts)).keys()], ["one"])
      yield* TestClock.adjust("1 minute")
      yield* AdaptiveLimit.protect(Effect.void, one)
      assert.strictEqual(yield* limitOf(one), 10)
    }))

  it("throws a RangeError that names an option out of range", () => {
    const throwing: ReadonlyArray<readonly [string, () => unknown]> = [
      ["min", () => AdaptiveLimit.aimd({ min: 0 })],
      ["max", () => AdaptiveLimit.aimd({ min: 5, max: 4 })],
      ["initial", () => AdaptiveLimit.aimd({ initial: 11, max: 10 })],
      ["backoff", () => AdaptiveLimit.aimd({ backoff: 1 })],
      ["latency", () => AdaptiveLimit.aimd({ latency: 0 })],
      ["tolerance", () => AdaptiveLimit.gradient({ tolerance: 0.9 })],
      ["smoothing", () => AdaptiveLimit.gradient({ smoothing: 0 })],
      ["interval", () => AdaptiveLimit.gradient({ interval: -1 })],
      ["probeAfter", () => AdaptiveLimit.gradient({ probeAfter: 0 })],
      ["queue", () => AdaptiveLimit.gradient({ queue: -1 })]
    ]
    for (const [name, f] of throwing) assert.throws(f, RangeError, name)
  })

  it.effect("can be a service", () => {
    class Search extends Context.Service<Search, AdaptiveLimit.AdaptiveLimit>()("test/Search") {}
    return Effect.gen(function*() {
      assert.strictEqual(yield* AdaptiveLimit.protect(Effect.succeed(1), yield* Search), 1)
    }).pipe(Effect.provide(AdaptiveLimit.layer(Search)))
  })

  it("adds exactly its own error to the type", () => {
    const limit = null as unknown as AdaptiveLimit.AdaptiveLimit
    const work = null as unknown as Effect.Effect<number, "mine", "needs">
    type Expected = Effect.Effect<number, "mine" | AdaptiveLimit.AdaptiveLimitFullError, "needs">
    const types = () => {
      expectTypeOf(AdaptiveLimit.protect(work, limit)).toEqualTypeOf<Expected>()
      expectTypeOf(work.pipe(AdaptiveLimit.protect(limit))).toEqualTypeOf<Expected>()
    }
    assert.isFunction(types)
  })
})
