import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import { interruptAt, steps, turns } from "../support/EveryStep.ts"

/** How many of `n` calls in a row are admitted. */
const admitted = <E>(limiter: RateLimiter.RateLimiter<E>, n: number, options?: RateLimiter.CallOptions) =>
  Effect.gen(function*() {
    let count = 0
    for (let i = 0; i < n; i++) {
      if (Exit.isSuccess(yield* Effect.exit(RateLimiter.consume(limiter, options)))) count++
    }
    return count
  })

const make = (algorithm: RateLimiter.Algorithm, options?: Partial<RateLimiter.Options>) =>
  RateLimiter.make({ algorithm, ...options })

/** Starts a call that waits, and notes its name when it runs. */
const makeCalls = (limiter: RateLimiter.RateLimiter) => {
  const order: Array<string> = []
  const start = (name: string, options?: RateLimiter.CallOptions) =>
    Effect.forkChild(RateLimiter.protect(Effect.sync(() => void order.push(name)), limiter, options), {
      startImmediately: true
    })
  return { order, start }
}

const reasonOf = (exit: Exit.Exit<unknown, unknown> | undefined) => {
  assert.isTrue(exit !== undefined && Exit.isFailure(exit), "it failed")
  const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
  assert.instanceOf(error, RateLimiter.RateLimitExceededError)
  return (error as RateLimiter.RateLimitExceededError).reason
}

describe("RateLimiter", () => {
  describe("algorithms", () => {
    it.effect("token bucket: a burst after a rest, then one token after the other, steadily", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 2, window: "1 second", burst: 4 }))
        assert.strictEqual(yield* admitted(limiter, 9), 4)
        yield* TestClock.adjust(499)
        assert.strictEqual(yield* admitted(limiter, 9), 0)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* admitted(limiter, 9), 1)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* admitted(limiter, 9), 4)
      }))

    it.effect("token bucket: holds as many as the limit when no burst is given", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 3, window: "1 second" }))
        assert.strictEqual(yield* admitted(limiter, 9), 3)
      }))

    it.effect("GCRA: calls are spaced evenly, and none is early when no burst is given", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.gcra({ limit: 4, window: "1 second" }))
        let count = 0
        for (let i = 0; i < 100; i++) {
          count += yield* admitted(limiter, 3)
          yield* TestClock.adjust(25)
        }
        assert.strictEqual(count, 10)
      }))

    it.effect("fixed window: starts at the first call, and admits at most the limit until it ends", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 10, window: "1 minute" }))
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* admitted(limiter, 5), 5)
        // Effect's own limiter admits ten here: fifteen in 31 seconds.
        yield* TestClock.adjust("31 seconds")
        assert.strictEqual(yield* admitted(limiter, 20), 5)
        yield* TestClock.adjust("28999 millis")
        assert.strictEqual(yield* admitted(limiter, 1), 0)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* admitted(limiter, 20), 10)
      }))

    it.effect("sliding window log: never more than the limit in any stretch of one window", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.slidingWindowLog({ limit: 3, window: "1 second" }))
        assert.strictEqual(yield* admitted(limiter, 1), 1)
        yield* TestClock.adjust(600)
        assert.strictEqual(yield* admitted(limiter, 9), 2)
        yield* TestClock.adjust(400)
        assert.strictEqual(yield* admitted(limiter, 9), 1)
        yield* TestClock.adjust(600)
        assert.strictEqual(yield* admitted(limiter, 9), 2)
      }))

    it.effect("sliding window counter: the last window counts by how much of it is in view", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.slidingWindowCounter({ limit: 10, window: "1 second" }))
        assert.strictEqual(yield* admitted(limiter, 20), 10)
        yield* TestClock.adjust(1000)
        assert.strictEqual(yield* admitted(limiter, 20), 0)
        yield* TestClock.adjust(300)
        assert.strictEqual(yield* admitted(limiter, 20), 3)
        yield* TestClock.adjust(1700)
        assert.strictEqual(yield* admitted(limiter, 20), 10)
      }))
  })

  describe("refusal", () => {
    it.effect("is an error with the limiter's name, the reason and how long to wait, and the call is not run", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 1, window: "4 seconds" }), { name: "mails" })
        yield* RateLimiter.consume(limiter)
        yield* TestClock.adjust("1 second")
        const error = yield* Effect.flip(RateLimiter.protect(Effect.die("ran"), limiter))
        assert.instanceOf(error, RateLimiter.RateLimitExceededError)
        assert.isTrue(Rejection.isRejection(error))
        assert.strictEqual(error.strategy, "mails")
        assert.strictEqual(error.reason, "limited")
        assert.strictEqual(error.remaining, 0)
        assert.deepStrictEqual(error.retryAfter, Duration.seconds(3))
        assert.deepStrictEqual(error.resetAfter, Duration.seconds(3))
        assert.strictEqual(error.message, "rate limit \"mails\" of 1 in 4s is reached: try again after 3s")
        assert.strictEqual(error.stack?.split("\n").length, 1)
      }))

    it.effect("changes nothing, not even the refill clock: after the time it named the call is admitted", () =>
      Effect.gen(function*() {
        for (
          const algorithm of [
            RateLimiter.tokenBucket({ limit: 3, window: "1 second" }),
            RateLimiter.gcra({ limit: 3, window: "1 second", burst: 3 }),
            RateLimiter.fixedWindow({ limit: 3, window: "1 second" }),
            RateLimiter.slidingWindowLog({ limit: 3, window: "1 second" }),
            RateLimiter.slidingWindowCounter({ limit: 3, window: "1 second" })
          ]
        ) {
          const limiter = yield* make(algorithm)
          yield* RateLimiter.consume(limiter, { cost: 3 })
          const { retryAfter } = yield* Effect.flip(RateLimiter.consume(limiter, { cost: 2 }))
          const total = Math.ceil(Duration.toMillis(retryAfter!))
          for (let passed = 0; passed < total - 1; passed++) {
            yield* TestClock.adjust(1)
            yield* Effect.flip(RateLimiter.consume(limiter, { cost: 2 }))
          }
          yield* TestClock.adjust(1)
          yield* RateLimiter.consume(limiter, { cost: 2 })
        }
      }))

    it.effect("of a cost above what is ever admitted at once says never, and does not touch the limit", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 3, window: "1 second" }))
        const error = yield* Effect.flip(RateLimiter.consume(limiter, { cost: 4, maxWait: "1 day" }))
        assert.strictEqual(error.reason, "never")
        assert.isUndefined(error.retryAfter)
        assert.strictEqual((yield* RateLimiter.peek(limiter)).remaining, 3)
      }))

    it.effect("checks a weighted cost as a whole: two are not taken of three for a cost of four", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 5, window: "1 second" }))
        yield* RateLimiter.consume(limiter, { cost: 3 })
        yield* Effect.flip(RateLimiter.consume(limiter, { cost: 3 }))
        assert.strictEqual((yield* RateLimiter.consume(limiter, { cost: 2 })).remaining, 0)
      }))

    it.effect("can be matched by tag", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 1, window: "1 second" }))
        yield* RateLimiter.consume(limiter)
        const result = Effect.succeed("ran").pipe(
          RateLimiter.protect(limiter),
          Effect.catchTag("RateLimitExceededError", (error) => Effect.succeed(error.reason))
        )
        assert.strictEqual(yield* result, "limited")
      }))
  })

  describe("peek", () => {
    it.effect("tells where a caller stands and changes nothing", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 2, window: "2 seconds" }))
        yield* RateLimiter.consume(limiter)
        for (let i = 0; i < 3; i++) {
          assert.deepInclude(yield* RateLimiter.peek(limiter, { cost: 2 }), {
            allowed: false,
            limit: 2,
            remaining: 1,
            retryAfter: Duration.seconds(1),
            resetAfter: Duration.seconds(1)
          })
        }
        assert.isTrue((yield* RateLimiter.peek(limiter)).allowed)
        const never = yield* RateLimiter.peek(limiter, { cost: 3 })
        assert.isFalse(Duration.isFinite(never.retryAfter))
      }))
  })

  describe("refund", () => {
    it.effect("gives a cost back, once", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 5, window: "1 second" }))
        const grant = yield* RateLimiter.consume(limiter, { cost: 2 })
        yield* RateLimiter.consume(limiter, { cost: 2 })
        yield* RateLimiter.refund(grant)
        yield* RateLimiter.refund(grant)
        assert.strictEqual((yield* RateLimiter.peek(limiter)).remaining, 3)
      }))

    it.effect("changes nothing when the window is over", () =>
      Effect.gen(function*() {
        for (const algorithm of [RateLimiter.fixedWindow, RateLimiter.slidingWindowLog]) {
          const limiter = yield* make(algorithm({ limit: 5, window: "1 second" }))
          const grant = yield* RateLimiter.consume(limiter, { cost: 2 })
          yield* TestClock.adjust("1 second")
          yield* RateLimiter.consume(limiter, { cost: 4 })
          yield* RateLimiter.refund(grant)
          assert.strictEqual((yield* RateLimiter.peek(limiter)).remaining, 1)
        }
      }))

    it.effect("lets a waiting caller go at once", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 2, window: "2 hours" }), { maxWait: "1 day" })
        const calls = makeCalls(limiter)
        const grant = yield* RateLimiter.consume(limiter, { cost: 2 })
        yield* calls.start("a")
        yield* turns(3)
        assert.deepStrictEqual(calls.order, [])
        yield* RateLimiter.refund(grant)
        yield* turns(3)
        assert.deepStrictEqual(calls.order, ["a"])
      }))
  })

  describe("waiting", () => {
    const oneASecond = RateLimiter.gcra({ limit: 1, window: "1 second" })

    it.effect("is first come, first served, each at its time", () =>
      Effect.gen(function*() {
        const limiter = yield* make(oneASecond, { maxWait: "1 minute" })
        const calls = makeCalls(limiter)
        for (const name of ["a", "b", "c", "d"]) yield* calls.start(name)
        assert.deepStrictEqual(calls.order, ["a"])
        assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, 3)
        yield* TestClock.adjust(999)
        assert.deepStrictEqual(calls.order, ["a"])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(calls.order, ["a", "b"])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(calls.order, ["a", "b", "c", "d"])
        assert.deepStrictEqual(yield* RateLimiter.metrics(limiter), {
          admitted: 4,
          rejected: 0,
          waiting: 0,
          keys: 1,
          storeErrors: 0
        })
      }))

    it.effect("is refused up front when it would be longer than maxWait, and that changes nothing", () =>
      Effect.gen(function*() {
        const limiter = yield* make(oneASecond)
        const calls = makeCalls(limiter)
        yield* calls.start("a")
        yield* calls.start("b", { maxWait: "1 second" })
        const refused = yield* calls.start("c", { maxWait: "1999 millis" })
        assert.strictEqual(reasonOf(refused.pollUnsafe()), "wait-too-long")
        yield* calls.start("d", { maxWait: "2 seconds" })
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(calls.order, ["a", "b", "d"])
      }))

    it.effect("is refused up front when it would not be over before the deadline", () =>
      Effect.gen(function*() {
        const limiter = yield* make(oneASecond, { maxWait: "1 minute" })
        yield* RateLimiter.consume(limiter)
        const call = RateLimiter.protect(Effect.succeed("ran"), limiter)
        const error = yield* Effect.flip(Deadline.within(call, "1 second"))
        assert.strictEqual(error._tag, "RateLimitExceededError")
        if (error._tag === "RateLimitExceededError") assert.strictEqual(error.reason, "deadline")
        const fiber = yield* Effect.forkChild(Deadline.within(call, "1001 millis"), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(fiber), "ran")
      }))

    it.effect("is not overtaken: not by a call that would not wait, nor by one that costs less", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.tokenBucket({ limit: 4, window: "4 seconds" }))
        const calls = makeCalls(limiter)
        yield* RateLimiter.consume(limiter, { cost: 3 })
        const heavy = yield* calls.start("heavy", { cost: 3, maxWait: "1 minute" })
        // One token is there, but it belongs to the one that waits for three.
        const error = yield* Effect.flip(RateLimiter.consume(limiter))
        assert.strictEqual(error.reason, "limited")
        assert.deepStrictEqual(error.retryAfter, Duration.seconds(3))
        assert.deepInclude(yield* RateLimiter.peek(limiter), { allowed: false, remaining: 0 })
        yield* calls.start("light", { maxWait: "1 minute" })
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(calls.order, ["heavy"])
        yield* Fiber.join(heavy)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(calls.order, ["heavy", "light"])
      }))

    it.effect("is bounded: as many as maxQueue wait, the next is refused", () =>
      Effect.gen(function*() {
        const limiter = yield* make(oneASecond, { maxWait: "1 minute", maxQueue: 2 })
        const calls = makeCalls(limiter)
        for (const name of ["a", "b", "c"]) yield* calls.start(name)
        const refused = yield* calls.start("d")
        assert.strictEqual(reasonOf(refused.pollUnsafe()), "queue-full")
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(calls.order, ["a", "b", "c"])
      }))

    it.effect("takes nothing before its time: an interrupted caller leaves at once, and the next has its time", () =>
      Effect.gen(function*() {
        const limiter = yield* make(oneASecond, { maxWait: "1 minute" })
        const calls = makeCalls(limiter)
        yield* calls.start("a")
        const b = yield* calls.start("b")
        const c = yield* calls.start("c")
        yield* calls.start("d")
        yield* Fiber.interrupt(c)
        yield* Fiber.interrupt(b)
        assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, 1)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(calls.order, ["a", "d"])
      }))

    it.effect("leaves nothing behind: once the line is empty, calls are admitted and refused as if nobody had waited", () =>
      Effect.gen(function*() {
        const limiter = yield* make(oneASecond)
        const calls = makeCalls(limiter)
        yield* calls.start("a")
        yield* calls.start("b", { maxWait: "1 minute" })
        yield* TestClock.adjust("2 seconds")
        yield* calls.start("c", { maxWait: 0 })
        assert.deepStrictEqual(calls.order, ["a", "b", "c"])
        const refused = yield* Effect.flip(RateLimiter.consume(limiter))
        assert.deepStrictEqual(refused.retryAfter, Duration.seconds(1))
        // The estimate for a second waiter counts the first one only.
        yield* calls.start("d", { maxWait: "1 second" })
        yield* calls.start("e", { maxWait: "2 seconds" })
        yield* TestClock.adjust("1 second")
        yield* calls.start("f", { maxWait: "2 seconds" })
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(calls.order, ["a", "b", "c", "d", "e", "f"])
      }))

    it.effect("for a window goes on when the next one starts", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 2, window: "1 second" }), { maxWait: "2 seconds" })
        const calls = makeCalls(limiter)
        for (const name of ["a", "b", "c", "d", "e"]) yield* calls.start(name)
        assert.deepStrictEqual(calls.order, ["a", "b"])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(calls.order, ["a", "b", "c", "d"])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(calls.order, ["a", "b", "c", "d", "e"])
      }))

    it.effect("leaves no timer, and has one only while somebody waits", () =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        let sleeping = 0
        const counting: Clock.Clock = {
          ...clock,
          sleep: (duration) =>
            Effect.suspend(() => {
              sleeping++
              return Effect.ensuring(clock.sleep(duration), Effect.sync(() => void sleeping--))
            })
        }
        yield* Effect.provideService(
          Effect.gen(function*() {
            const limiter = yield* make(oneASecond, { maxWait: "1 minute" })
            const calls = makeCalls(limiter)
            yield* calls.start("a")
            assert.strictEqual(sleeping, 0)
            const b = yield* calls.start("b")
            assert.strictEqual(sleeping, 1)
            yield* Fiber.interrupt(b)
            assert.strictEqual(sleeping, 0)
            yield* calls.start("c")
            yield* TestClock.adjust("1 second")
            assert.strictEqual(sleeping, 0)
          }),
          Clock.Clock,
          counting
        )
      }))
  })

  describe("interruption at any step", () => {
    it.effect("of a call that does not wait: what is used up is what was admitted", () =>
      Effect.gen(function*() {
        let ran = 0
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 1000, window: "1 hour" }))
        for (const step of steps(9, 6)) yield* interruptAt(RateLimiter.protect(Effect.sync(() => ran++), limiter), step)
        const { admitted } = yield* RateLimiter.metrics(limiter)
        assert.strictEqual((yield* RateLimiter.peek(limiter)).remaining, 1000 - admitted)
        assert.isAtMost(ran, admitted)
      }))

    it.effect("of a call that waits: nothing is used up, nobody is left in line, and the next has its time", () =>
      Effect.gen(function*() {
        for (const step of steps(9, 12)) {
          const limiter = yield* make(RateLimiter.gcra({ limit: 1, window: "1 second" }), { maxWait: "1 minute" })
          const calls = makeCalls(limiter)
          yield* calls.start("a")
          const doomed = Effect.forkChild(interruptAt(RateLimiter.protect(Effect.die("ran"), limiter), step), {
            startImmediately: true
          })
          const first = yield* doomed
          const second = yield* doomed
          yield* calls.start("b")
          yield* Fiber.join(first)
          yield* Fiber.join(second)
          assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, 1, JSON.stringify(step))
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(calls.order, ["a", "b"], JSON.stringify(step))
        }
      }))

    it.effect("in the moment of admission: what is used up is what was admitted, and the next goes on", () =>
      Effect.gen(function*() {
        for (const step of steps(9, 14)) {
          const limiter = yield* make(RateLimiter.gcra({ limit: 1, window: "1 second" }), { maxWait: "1 minute" })
          const calls = makeCalls(limiter)
          yield* calls.start("a")
          const released = yield* Deferred.make<void>()
          // Waits in line behind a grant; the refund lets it go, and the interruption falls into what follows.
          const waiter = interruptAt(RateLimiter.protect(Deferred.await(released), limiter), step)
          const fiber = yield* Effect.forkChild(waiter, { startImmediately: true })
          yield* calls.start("b")
          yield* TestClock.adjust("1 second")
          yield* Fiber.join(fiber)
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(calls.order, ["a", "b"], JSON.stringify(step))
          assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, 0)
        }
      }))
  })

  describe("keyed", () => {
    it.effect("has one state a key, and the error names the key, but not in its message", () =>
      Effect.gen(function*() {
        const users = yield* RateLimiter.keyed({ algorithm: RateLimiter.fixedWindow({ limit: 1, window: "1 second" }) })
        const ann = RateLimiter.forKey(users, "ann")
        yield* RateLimiter.consume(ann)
        yield* RateLimiter.consume(RateLimiter.forKey("bob")(users))
        const error = yield* Effect.flip(RateLimiter.consume(ann))
        assert.strictEqual(error.key, "ann")
        assert.notInclude(error.message, "ann")
      }))

    it.effect("waits for each key on its own", () =>
      Effect.gen(function*() {
        const users = yield* RateLimiter.keyed({
          algorithm: RateLimiter.gcra({ limit: 1, window: "1 second" }),
          maxWait: "1 minute"
        })
        const ann = makeCalls(RateLimiter.forKey(users, "ann"))
        const bob = makeCalls(RateLimiter.forKey(users, "bob"))
        yield* ann.start("a1")
        yield* ann.start("a2")
        yield* bob.start("b1")
        assert.deepStrictEqual([ann.order, bob.order], [["a1"], ["b1"]])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([ann.order, bob.order], [["a1", "a2"], ["b1"]])
      }))

    it.effect("forgets keys that are as good as new, as others come", () =>
      Effect.gen(function*() {
        const users = yield* RateLimiter.keyed({ algorithm: RateLimiter.fixedWindow({ limit: 1, window: "1 second" }) })
        const use = (key: string) => Effect.ignore(RateLimiter.consume(RateLimiter.forKey(users, key)))
        for (let i = 0; i < 1000; i++) yield* use(`old-${i}`)
        yield* TestClock.adjust("1 second")
        for (let i = 0; i < 1000; i++) yield* use(`new-${i}`)
        assert.isAtMost((yield* RateLimiter.metrics(users)).keys, 1001)
        for (let i = 0; i < 1000; i++) {
          assert.isFalse((yield* RateLimiter.peek(RateLimiter.forKey(users, `new-${i}`))).allowed)
        }
      }))

    it.effect("never holds more than maxKeys, and gives up one that would soon be as good as new", () =>
      Effect.gen(function*() {
        const users = yield* RateLimiter.keyed({
          algorithm: RateLimiter.tokenBucket({ limit: 10, window: "10 seconds" }),
          maxKeys: 8
        })
        const use = (key: string, cost: number) => RateLimiter.consume(RateLimiter.forKey(users, key), { cost })
        for (let i = 0; i < 7; i++) yield* use(`heavy-${i}`, 10)
        for (let i = 0; i < 50; i++) yield* use(`light-${i}`, 1)
        assert.strictEqual((yield* RateLimiter.metrics(users)).keys, 8)
        for (let i = 0; i < 7; i++) {
          assert.isFalse((yield* RateLimiter.peek(RateLimiter.forKey(users, `heavy-${i}`))).allowed)
        }
      }))

    it.effect("makes no key for a peek, nor for a cost that is never admitted", () =>
      Effect.gen(function*() {
        const users = yield* RateLimiter.keyed({ algorithm: RateLimiter.fixedWindow({ limit: 1, window: "1 second" }) })
        const ann = RateLimiter.forKey(users, "ann")
        yield* RateLimiter.peek(ann)
        yield* Effect.flip(RateLimiter.consume(ann, { cost: 2 }))
        assert.strictEqual((yield* RateLimiter.metrics(users)).keys, 0)
      }))
  })

  describe("distributed", () => {
    const algorithm = RateLimiter.fixedWindow({ limit: 2, window: "1 minute" })
    const request = { limit: 2, cost: 1 }

    /** A store that answers when, and as, it is told. */
    const makeStore = () => {
      const pending: Array<(effect: Effect.Effect<RateLimiter.Answer, RateLimiter.RateLimitStoreError>) => void> = []
      const refunds: Array<number> = []
      const ask = Effect.callback<RateLimiter.Answer, RateLimiter.RateLimitStoreError>((resume) =>
        void pending.push(resume)
      )
      const store = RateLimiter.RateLimiterStore.of({
        consume: () => ask,
        peek: () => ask,
        refund: (_request, takenAt) => Effect.sync(() => void refunds.push(takenAt))
      })
      const answer = (answer: Partial<RateLimiter.Answer>) =>
        Effect.andThen(
          Effect.sync(() => pending.shift()!(Effect.succeed({ wait: 0, remaining: 1, reset: 0, at: 7, ...answer }))),
          turns(5)
        )
      const fail = Effect.andThen(
        Effect.sync(() =>
          pending.shift()!(
            Effect.fail(
              new RateLimiter.RateLimitStoreError({
                strategy: "x",
                reason: "unavailable",
                cause: "redis://:secret@host"
              })
            )
          )
        ),
        turns(5)
      )
      return { store, answer, fail, refunds, pending }
    }

    const limiterOn = <const M extends "open" | "closed" | "local">(
      store: RateLimiter.RateLimiterStore["Service"],
      onStoreError: M,
      options?: Partial<RateLimiter.Options>
    ) =>
      RateLimiter.distributed({ algorithm, onStoreError, ...options }).pipe(
        Effect.provideService(RateLimiter.RateLimiterStore, store),
        Effect.map(RateLimiter.forKey("k"))
      )

    it.effect("keeps its state in the store: two limiters of one name share it, two names do not", () =>
      Effect.gen(function*() {
        const one = RateLimiter.forKey(yield* RateLimiter.distributed({ algorithm, name: "a" }), "k")
        const same = RateLimiter.forKey(yield* RateLimiter.distributed({ algorithm, name: "a" }), "k")
        const other = RateLimiter.forKey(yield* RateLimiter.distributed({ algorithm, name: "b" }), "k")
        const grant = yield* RateLimiter.consume(one)
        assert.strictEqual(grant.remaining, request.limit - request.cost)
        yield* RateLimiter.consume(same)
        assert.strictEqual((yield* Effect.flip(RateLimiter.consume(one)))._tag, "RateLimitExceededError")
        assert.strictEqual((yield* RateLimiter.peek(other)).remaining, 2)
        yield* RateLimiter.refund(grant)
        assert.strictEqual((yield* RateLimiter.peek(same)).remaining, 1)
      }).pipe(Effect.provide(RateLimiter.layerStoreMemory())))

    it.effect("waits, first come, first served", () =>
      Effect.gen(function*() {
        const limiter = RateLimiter.forKey(
          yield* RateLimiter.distributed({
            algorithm: RateLimiter.gcra({ limit: 1, window: "1 second" }),
            maxWait: "1 minute"
          }),
          "k"
        )
        const order: Array<string> = []
        for (const name of ["a", "b", "c"]) {
          yield* Effect.forkChild(RateLimiter.protect(Effect.sync(() => order.push(name)), limiter), {
            startImmediately: true
          })
        }
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(order, ["a", "b"])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(order, ["a", "b", "c"])
      }).pipe(Effect.provide(RateLimiter.layerStoreMemory())))

    it.effect("closed: an outage is an error of its own, which names no secret", () =>
      Effect.gen(function*() {
        const { fail, store } = makeStore()
        const limiter = yield* limiterOn(store, "closed")
        const fiber = yield* Effect.forkChild(Effect.flip(RateLimiter.protect(Effect.die("ran"), limiter)), {
          startImmediately: true
        })
        yield* fail
        const error = yield* Fiber.join(fiber)
        assert.instanceOf(error, RateLimiter.RateLimitStoreError)
        assert.isFalse(Rejection.isRejection(error))
        assert.notInclude(String(error) + JSON.stringify(error), "secret")
        assert.strictEqual((yield* RateLimiter.metrics(limiter)).storeErrors, 1)
      }))

    it.effect("open: a call runs while the store is away", () =>
      Effect.gen(function*() {
        const { fail, store } = makeStore()
        const limiter = yield* limiterOn(store, "open")
        const fiber = yield* Effect.forkChild(RateLimiter.protect(Effect.succeed("ran"), limiter), {
          startImmediately: true
        })
        yield* fail
        assert.strictEqual(yield* Fiber.join(fiber), "ran")
        assert.deepInclude(yield* RateLimiter.metrics(limiter), { admitted: 1, storeErrors: 1 })
      }))

    it.effect("local: calls are limited in this process while the store is away, and refunds go there", () =>
      Effect.gen(function*() {
        const { fail, refunds, store } = makeStore()
        const limiter = yield* limiterOn(store, "local")
        const consume = Effect.gen(function*() {
          const fiber = yield* Effect.forkChild(RateLimiter.consume(limiter), { startImmediately: true })
          yield* fail
          return yield* Fiber.join(fiber)
        })
        yield* consume
        const grant = yield* consume
        assert.strictEqual((yield* Effect.flip(consume)).reason, "limited")
        yield* RateLimiter.refund(grant)
        assert.deepStrictEqual(refunds, [])
        yield* consume
      }))

    it.effect("asks a silent store no longer than storeTimeout, 500 ms when not given", () =>
      Effect.gen(function*() {
        const { store } = makeStore()
        const limiter = yield* limiterOn(store, "closed")
        const fiber = yield* Effect.forkChild(RateLimiter.consume(limiter), { startImmediately: true })
        yield* TestClock.adjust(499)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert.strictEqual(error._tag, "RateLimitStoreError")
        if (error._tag === "RateLimitStoreError") assert.strictEqual(error.reason, "timed-out")
      }))

    it.effect("has one timer for all questions that are open, and none when all are answered", () =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        let sleeping = 0
        const counting: Clock.Clock = {
          ...clock,
          sleep: (duration) =>
            Effect.suspend(() => {
              sleeping++
              return Effect.ensuring(clock.sleep(duration), Effect.sync(() => void sleeping--))
            })
        }
        yield* Effect.provideService(
          Effect.gen(function*() {
            const { answer, store } = makeStore()
            const limiter = yield* limiterOn(store, "closed")
            const ask = Effect.forkChild(Effect.exit(RateLimiter.consume(limiter)), { startImmediately: true })
            yield* ask
            yield* TestClock.adjust(200)
            const second = yield* ask
            const third = yield* ask
            assert.strictEqual(sleeping, 1)
            yield* answer({})
            yield* Fiber.interrupt(third)
            // The timer was the first one's: the second has its own 500 ms all the same.
            yield* TestClock.adjust(499)
            assert.isUndefined(second.pollUnsafe())
            yield* TestClock.adjust(1)
            assert.isTrue(Exit.isFailure(yield* Fiber.join(second)))
            yield* turns(3)
            assert.strictEqual(sleeping, 0)
            const fourth = yield* ask
            yield* answer({})
            yield* answer({})
            yield* answer({})
            yield* Fiber.join(fourth)
            yield* turns(3)
            assert.strictEqual(sleeping, 0)
          }),
          Clock.Clock,
          counting
        )
      }))

    it.effect("gives back what a store grants too late to a call that failed, not to one that went ahead", () =>
      Effect.gen(function*() {
        for (const [mode, expected] of [["closed", [7]], ["open", []], ["local", []]] as const) {
          const { answer, refunds, store } = makeStore()
          const limiter = yield* limiterOn(store, mode)
          const fiber = yield* Effect.forkChild(Effect.exit(RateLimiter.consume(limiter)), { startImmediately: true })
          yield* TestClock.adjust("1 second")
          yield* Fiber.join(fiber)
          yield* answer({ at: 7 })
          assert.deepStrictEqual(refunds, [...expected], mode)
        }
      }))

    it.effect("lets an interrupted caller leave at once, and gives back what the store then grants it", () =>
      Effect.gen(function*() {
        for (const mode of ["closed", "open", "local"] as const) {
          const { answer, refunds, store } = makeStore()
          const limiter = yield* limiterOn(store, mode)
          const fiber = yield* Effect.forkChild(RateLimiter.consume(limiter), { startImmediately: true })
          yield* Fiber.interrupt(fiber)
          yield* answer({ at: 9 })
          assert.deepStrictEqual(refunds, [9])
          const refused = yield* Effect.forkChild(RateLimiter.consume(limiter), { startImmediately: true })
          yield* Fiber.interrupt(refused)
          yield* answer({ at: 11, wait: 5 })
          assert.deepStrictEqual(refunds, [9])
        }
      }))

    it.effect("lets a caller that waits in line be interrupted while the store is asked", () =>
      Effect.gen(function*() {
        const { answer, pending, refunds, store } = makeStore()
        const limiter = yield* limiterOn(store, "closed", { maxWait: "1 minute" })
        const waiter = yield* Effect.forkChild(RateLimiter.consume(limiter), { startImmediately: true })
        yield* answer({ wait: 1_000_000 })
        yield* TestClock.adjust("1 second")
        assert.strictEqual(pending.length, 1)
        yield* Fiber.interrupt(waiter)
        yield* answer({ at: 13 })
        assert.deepStrictEqual(refunds, [13])
        assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, 0)
      }))
  })

  describe("headers", () => {
    const source = {
      limit: 100,
      window: Duration.minutes(1),
      remaining: 42,
      resetAfter: Duration.millis(29_001),
      retryAfter: Duration.zero
    }

    it("follow the draft that is asked for, the newest when none is", () => {
      assert.deepStrictEqual(RateLimiter.headers(source), {
        "RateLimit-Policy": "\"default\";q=100;w=60",
        RateLimit: "\"default\";r=42;t=30"
      })
      assert.deepStrictEqual(RateLimiter.headers(source, { draft: 8, policy: "per-user", partitionKey: "ann" }), {
        "RateLimit-Policy": "\"per-user\";q=100;w=60;pk=:YW5u:",
        RateLimit: "\"per-user\";r=42;t=30;pk=:YW5u:"
      })
      assert.deepStrictEqual(RateLimiter.headers(source, { draft: 7 }), {
        "RateLimit-Policy": "100;w=60",
        RateLimit: "limit=100, remaining=42, reset=30"
      })
      assert.deepStrictEqual(RateLimiter.headers(source, { draft: 6 }), {
        "RateLimit-Policy": "100;w=60",
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "42",
        "RateLimit-Reset": "30"
      })
      assert.deepStrictEqual(RateLimiter.headers(source, { draft: 3 }), {
        "RateLimit-Limit": "100, 100;w=60",
        "RateLimit-Remaining": "42",
        "RateLimit-Reset": "30"
      })
    })

    it("tell a refused caller when to come again, in whole seconds and never too early", () => {
      const refused = { ...source, remaining: 0, retryAfter: Duration.millis(1001) }
      assert.strictEqual(RateLimiter.headers(refused)["Retry-After"], "2")
      assert.notProperty(RateLimiter.headers(source), "Retry-After")
      assert.notProperty(RateLimiter.headers({ ...source, retryAfter: Duration.infinity }), "Retry-After")
      assert.notProperty(RateLimiter.headers({ ...source, retryAfter: undefined }), "Retry-After")
    })

    it("leave out a window that is not whole seconds long, and quote what a policy is called", () => {
      assert.strictEqual(
        RateLimiter.headers({ ...source, window: Duration.millis(500) }, { policy: "a\"b\\cö" })["RateLimit-Policy"],
        "\"a\\\"b\\\\c_\";q=100"
      )
    })

    it.effect("are made from a grant, a peek or an error", () =>
      Effect.gen(function*() {
        const limiter = yield* make(RateLimiter.fixedWindow({ limit: 1, window: "10 seconds" }))
        assert.strictEqual(
          RateLimiter.headers(yield* RateLimiter.consume(limiter))["RateLimit"],
          "\"default\";r=0;t=10"
        )
        assert.strictEqual(RateLimiter.headers(yield* RateLimiter.peek(limiter))["Retry-After"], "10")
        const error = yield* Effect.flip(RateLimiter.consume(limiter))
        assert.strictEqual(RateLimiter.headers(error)["Retry-After"], "10")
      }))
  })

  describe("options", () => {
    it("of an algorithm or a call that are out of range throw a RangeError that names the option", () => {
      const throwing: ReadonlyArray<readonly [string, () => unknown]> = [
        ["limit", () => RateLimiter.tokenBucket({ limit: 0, window: "1 second" })],
        ["limit", () => RateLimiter.fixedWindow({ limit: 1.5, window: "1 second" })],
        ["window", () => RateLimiter.fixedWindow({ limit: 1, window: 0 })],
        ["window", () => RateLimiter.slidingWindowLog({ limit: 1, window: Infinity })],
        ["burst", () => RateLimiter.gcra({ limit: 1, window: "1 second", burst: 0 })]
      ]
      for (const [name, f] of throwing) assert.throws(f, RangeError, name)
    })

    it.effect("of a limiter that are out of range die with a RangeError that names the option", () =>
      Effect.gen(function*() {
        const algorithm = RateLimiter.tokenBucket({ limit: 1, window: "1 second" })
        const limiter = yield* make(algorithm)
        const dying: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
          ["maxWait", make(algorithm, { maxWait: -1 })],
          ["maxQueue", make(algorithm, { maxQueue: 0 })],
          ["maxKeys", RateLimiter.keyed({ algorithm, maxKeys: 0 })],
          [
            "storeTimeout",
            Effect.provide(RateLimiter.distributed({ algorithm, storeTimeout: 0 }), RateLimiter.layerStoreMemory())
          ]
        ]
        for (const [name, effect] of dying) {
          const exit = yield* Effect.exit(effect)
          assert.isTrue(Exit.isFailure(exit))
          const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
          assert.instanceOf(error, RangeError)
          assert.include((error as Error).message, name)
        }
        assert.throws(() => RateLimiter.consume(limiter, { cost: 0 }), RangeError, "cost")
        assert.throws(() => RateLimiter.protect(limiter, { cost: 1.5 }), RangeError, "cost")
      }))
  })

  it.effect("can be a service", () => {
    class Mails extends Context.Service<Mails, RateLimiter.RateLimiter>()("test/Mails") {}
    return Effect.gen(function*() {
      assert.strictEqual(yield* RateLimiter.protect(Effect.succeed(1), yield* Mails), 1)
    }).pipe(
      Effect.provide(
        RateLimiter.layer(Mails, { algorithm: RateLimiter.tokenBucket({ limit: 1, window: "1 second" }) })
      )
    )
  })

  it("adds exactly its own errors to the type", () => {
    const work = null as unknown as Effect.Effect<number, "mine", "needs">
    const inMemory = null as unknown as RateLimiter.RateLimiter
    const closed = null as unknown as RateLimiter.RateLimiter<RateLimiter.RateLimitStoreError>
    type Limited = Effect.Effect<number, "mine" | RateLimiter.RateLimitExceededError, "needs">
    type Closed = Effect.Effect<
      number,
      "mine" | RateLimiter.RateLimitExceededError | RateLimiter.RateLimitStoreError,
      "needs"
    >
    const types = () => {
      expectTypeOf(RateLimiter.protect(work, inMemory)).toEqualTypeOf<Limited>()
      expectTypeOf(work.pipe(RateLimiter.protect(inMemory, { cost: 2 }))).toEqualTypeOf<Limited>()
      expectTypeOf(RateLimiter.protect(work, closed)).toEqualTypeOf<Closed>()
      expectTypeOf(work.pipe(RateLimiter.protect(closed))).toEqualTypeOf<Closed>()
      const algorithm = RateLimiter.tokenBucket({ limit: 1, window: 1 })
      expectTypeOf(RateLimiter.distributed({ algorithm })).toEqualTypeOf<
        Effect.Effect<
          RateLimiter.KeyedRateLimiter<RateLimiter.RateLimitStoreError>,
          never,
          RateLimiter.RateLimiterStore
        >
      >()
      expectTypeOf(RateLimiter.distributed({ algorithm, onStoreError: "open" })).toEqualTypeOf<
        Effect.Effect<RateLimiter.KeyedRateLimiter, never, RateLimiter.RateLimiterStore>
      >()
      expectTypeOf(RateLimiter.consume(inMemory)).toEqualTypeOf<
        Effect.Effect<RateLimiter.Grant, RateLimiter.RateLimitExceededError>
      >()
      expectTypeOf(RateLimiter.peek(inMemory)).toEqualTypeOf<Effect.Effect<RateLimiter.Decision>>()
      const handled = work.pipe(
        RateLimiter.protect(inMemory),
        Effect.catchTag("RateLimitExceededError", () => Effect.succeed(0))
      )
      expectTypeOf(handled).toEqualTypeOf<Effect.Effect<number, "mine", "needs">>()
    }
    assert.isFunction(types)
  })
})
