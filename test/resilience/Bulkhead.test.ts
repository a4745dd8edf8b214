import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import { forkWith, interruptAt, steps, turns } from "../support/EveryStep.ts"

/** A call that is running until it is told to end, and notes when it began. */
const makeCalls = () => {
  const began: Array<string> = []
  const start = (name: string, bulkhead: Bulkhead.Bulkhead, options?: Bulkhead.CallOptions) =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<string, string>()
      const work = Effect.suspend(() => {
        began.push(name)
        return Deferred.await(gate)
      })
      const fiber = yield* Effect.forkChild(Bulkhead.protect(work, bulkhead, options), { startImmediately: true })
      return { gate, fiber, end: Effect.andThen(Deferred.succeed(gate, name), turns(3)) }
    })
  return { began, start }
}

const isFull = (exit: Exit.Exit<unknown, unknown> | undefined, reason: Bulkhead.BulkheadFullError["reason"]) => {
  assert.isTrue(exit !== undefined && Exit.isFailure(exit))
  const error = Cause.squash((exit as Exit.Failure<unknown, unknown>).cause)
  assert.instanceOf(error, Bulkhead.BulkheadFullError)
  assert.strictEqual((error as Bulkhead.BulkheadFullError).reason, reason)
}

describe("Bulkhead", () => {
  describe("places", () => {
    it.effect("runs a call that finds a place, and passes on success, failure and defect", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1 })
        assert.strictEqual(yield* Bulkhead.protect(Effect.succeed(1), bulkhead), 1)
        assert.strictEqual(yield* Effect.flip(Bulkhead.protect(Effect.fail("no"), bulkhead)), "no")
        const exit = yield* Effect.exit(Bulkhead.protect(Effect.die("bug"), bulkhead))
        assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.deepStrictEqual(yield* Bulkhead.metrics(bulkhead), {
          maxConcurrent: 1,
          inUse: 0,
          maxQueue: 0,
          waiting: 0,
          started: 3,
          rejected: 0
        })
      }))

    it.effect("is data-first and data-last", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1 })
        assert.strictEqual(yield* Effect.succeed(1).pipe(Bulkhead.protect(bulkhead)), 1)
        assert.strictEqual(yield* Effect.succeed(1).pipe(Bulkhead.protect(bulkhead, { priority: 2 })), 1)
        assert.strictEqual(yield* Bulkhead.protect(Effect.succeed(1), bulkhead, { priority: 2 }), 1)
      }))

    it.effect("refuses at once when no place and no queue is left, without running the call", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "reports", maxConcurrent: 1, maxQueue: 1 })
        const calls = makeCalls()
        yield* calls.start("a", bulkhead)
        yield* calls.start("b", bulkhead)
        const error = yield* Effect.flip(Bulkhead.protect(Effect.die("ran"), bulkhead))
        assert.instanceOf(error, Bulkhead.BulkheadFullError)
        assert.strictEqual(error.reason, "queue-full")
        assert.strictEqual(error.strategy, "reports")
        assert.strictEqual(error.message, "bulkhead \"reports\" is full: 1 running, queue of 1")
        assert.isTrue(Rejection.isRejection(error))
        assert.deepStrictEqual(calls.began, ["a"])
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).rejected, 1)
      }))

    it.effect("captures no stack when it refuses", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1 })
        const error = yield* Bulkhead.protect(Effect.flip(Bulkhead.protect(Effect.void, bulkhead)), bulkhead)
        assert.strictEqual((error as Error).stack?.split("\n").length, 1)
      }))

    it.effect("can be matched by tag", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1 })
        const inner = Effect.void.pipe(
          Bulkhead.protect(bulkhead),
          Effect.catchTag("BulkheadFullError", (error) => Effect.succeed(error.maxConcurrent))
        )
        assert.strictEqual(yield* Bulkhead.protect(inner, bulkhead), 1)
      }))
  })

  describe("queue", () => {
    it.effect("is first come, first served", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
        const calls = makeCalls()
        const a = yield* calls.start("a", bulkhead)
        const b = yield* calls.start("b", bulkhead)
        const c = yield* calls.start("c", bulkhead)
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).waiting, 2)
        yield* a.end
        assert.deepStrictEqual(calls.began, ["a", "b"])
        yield* b.end
        assert.deepStrictEqual(calls.began, ["a", "b", "c"])
        yield* c.end
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).inUse, 0)
      }))

    it.effect("is not overtaken by a newcomer that arrives when a place becomes free", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
        const order: Array<string> = []
        const note = (name: string) => Effect.sync(() => void order.push(name))
        const release = yield* Deferred.make<void>()
        // The newcomer calls in the very turn in which the holder gives its place back.
        const holder = Effect.andThen(
          Bulkhead.protect(Deferred.await(release), bulkhead),
          Bulkhead.protect(note("newcomer"), bulkhead)
        )
        const first = yield* Effect.forkChild(holder, { startImmediately: true })
        const waiter = yield* Effect.forkChild(Bulkhead.protect(note("waiter"), bulkhead), { startImmediately: true })
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(first)
        yield* Fiber.join(waiter)
        assert.deepStrictEqual(order, ["waiter", "newcomer"])
      }))

    it.effect("serves a higher priority first, and the same priority in order", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
        const order: Array<string> = []
        const release = yield* Deferred.make<void>()
        yield* Effect.forkChild(Bulkhead.protect(Deferred.await(release), bulkhead), { startImmediately: true })
        const fibers = yield* Effect.forEach(
          [["low1", -1], ["normal1", 0], ["high1", 5], ["normal2", 0], ["high2", 5], ["low2", -1]] as const,
          ([name, priority]) =>
            Effect.forkChild(Bulkhead.protect(Effect.sync(() => order.push(name)), bulkhead, { priority }), {
              startImmediately: true
            })
        )
        yield* Deferred.succeed(release, undefined)
        yield* Effect.forEach(fibers, Fiber.join)
        assert.deepStrictEqual(order, ["high1", "high2", "normal1", "normal2", "low1", "low2"])
      }))

    it.effect("lets ten thousand waiters pass one after another without growing the stack", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 10_000, maxWait: Infinity })
        const release = yield* Deferred.make<void>()
        yield* Effect.forkChild(Bulkhead.protect(Deferred.await(release), bulkhead), { startImmediately: true })
        let done = 0
        const fibers = yield* Effect.forEach(
          Array.from({ length: 10_000 }),
          () => Effect.forkChild(Bulkhead.protect(Effect.sync(() => done++), bulkhead), { startImmediately: true })
        )
        yield* Deferred.succeed(release, undefined)
        yield* Effect.forEach(fibers, Fiber.join)
        assert.strictEqual(done, 10_000)
      }))
  })

  describe("maxWait", () => {
    it.effect("ends the wait with an error at maxWait and not before, and frees the place in the queue at once", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1, maxWait: "1 second" })
        const calls = makeCalls()
        yield* calls.start("a", bulkhead)
        const b = yield* calls.start("b", bulkhead)
        yield* TestClock.adjust(999)
        assert.isUndefined(b.fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        isFull(b.fiber.pollUnsafe(), "waited-too-long")
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).waiting, 0)
        const c = yield* calls.start("c", bulkhead)
        yield* turns(2)
        assert.isUndefined(c.fiber.pollUnsafe())
      }))

    it.effect("is 30 seconds when not given", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1 })
        const calls = makeCalls()
        yield* calls.start("a", bulkhead)
        const b = yield* calls.start("b", bulkhead)
        yield* TestClock.adjust("29 seconds")
        assert.isUndefined(b.fiber.pollUnsafe())
        yield* TestClock.adjust("1 second")
        isFull(b.fiber.pollUnsafe(), "waited-too-long")
      }))

    it.effect("does not limit how long a call runs", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1, maxWait: "1 second" })
        const calls = makeCalls()
        const a = yield* calls.start("a", bulkhead)
        const b = yield* calls.start("b", bulkhead)
        yield* TestClock.adjust(500)
        yield* a.end
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(b.fiber.pollUnsafe())
        yield* b.end
        assert.deepStrictEqual(b.fiber.pollUnsafe(), Exit.succeed("b"))
      }))

    it.effect("leaves no timer: neither after a grant, nor after an interruption, nor while nobody waits", () =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        let sleeping = 0
        const counting: Clock.Clock = {
          ...clock,
          sleep: (duration) =>
            Effect.suspend(() => {
              sleeping++
              return Effect.ensuring(clock.sleep(duration), Effect.sync(() => sleeping--))
            })
        }
        yield* Effect.provideService(
          Effect.gen(function*() {
            const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
            const calls = makeCalls()
            const a = yield* calls.start("a", bulkhead)
            assert.strictEqual(sleeping, 0)
            const b = yield* calls.start("b", bulkhead)
            const c = yield* calls.start("c", bulkhead)
            assert.strictEqual(sleeping, 2)
            yield* a.end
            assert.strictEqual(sleeping, 1)
            yield* Fiber.interrupt(c.fiber)
            assert.strictEqual(sleeping, 0)
            yield* b.end
          }),
          Clock.Clock,
          counting
        )
      }))

    it.effect("runs a call whose place was granted in the moment when its time was up", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1, maxWait: "1 second" })
        // The holder's sleep ends at the same instant as the waiter's patience, and was registered first.
        const holder = yield* Effect.forkChild(Bulkhead.protect(Effect.sleep("1 second"), bulkhead), {
          startImmediately: true
        })
        const waiter = yield* Effect.forkChild(Bulkhead.protect(Effect.succeed("ran"), bulkhead), {
          startImmediately: true
        })
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(holder)
        assert.strictEqual(yield* Fiber.join(waiter), "ran")
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).inUse, 0)
      }))
  })

  describe("deadline", () => {
    it.effect("makes the wait no longer than what is left", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1 })
        const calls = makeCalls()
        yield* calls.start("a", bulkhead)
        // Within the deadline, but outside of its own interruption, so that the bulkhead's own refusal shows.
        const waiting = Bulkhead.protect(Effect.void, bulkhead).pipe(Effect.uninterruptible, Effect.exit)
        let exit: Exit.Exit<void, Bulkhead.BulkheadFullError> | undefined
        const noted = Effect.tap(waiting, (e) => Effect.sync(() => void (exit = e)))
        yield* Effect.forkChild(Deadline.within(noted, "2 seconds"), { startImmediately: true })
        yield* TestClock.adjust(1999)
        assert.isUndefined(exit)
        yield* TestClock.adjust(1)
        isFull(exit, "deadline")
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).waiting, 0)
      }))

    it.effect("refuses up front a wait when nothing is left", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1 })
        const calls = makeCalls()
        yield* calls.start("a", bulkhead)
        let exit: Exit.Exit<void, Bulkhead.BulkheadFullError> | undefined
        const late = Effect.sleep("1 second").pipe(
          Effect.andThen(Bulkhead.protect(Effect.void, bulkhead)),
          Effect.exit,
          Effect.tap((e) => Effect.sync(() => void (exit = e))),
          Effect.uninterruptible
        )
        yield* Effect.forkChild(Deadline.within(late, "500 millis"), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        isFull(exit, "deadline")
      }))
  })

  describe("interruption", () => {
    it.effect("of a running call gives the place to the next", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 1 })
        const calls = makeCalls()
        const a = yield* calls.start("a", bulkhead)
        yield* calls.start("b", bulkhead)
        yield* Fiber.interrupt(a.fiber)
        yield* turns(2)
        assert.deepStrictEqual(calls.began, ["a", "b"])
      }))

    it.effect("of a running call holds the place until its finalizers have run", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1 })
        const cleanedUp = yield* Deferred.make<void>()
        const work = Effect.ensuring(Effect.never, Deferred.await(cleanedUp))
        const fiber = yield* Effect.forkChild(Bulkhead.protect(work, bulkhead), { startImmediately: true })
        const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
        yield* turns(5)
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).inUse, 1)
        yield* Deferred.succeed(cleanedUp, undefined)
        yield* Fiber.join(interruption)
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).inUse, 0)
      }))

    it.effect("of a waiter frees its place in the queue at once, and skips nobody", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 2 })
        const calls = makeCalls()
        const a = yield* calls.start("a", bulkhead)
        const b = yield* calls.start("b", bulkhead)
        yield* calls.start("c", bulkhead)
        yield* Fiber.interrupt(b.fiber)
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).waiting, 1)
        yield* calls.start("d", bulkhead)
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).waiting, 2)
        yield* a.end
        assert.deepStrictEqual(calls.began, ["a", "c"])
      }))

    it.effect("at any step leaks no place", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 2 })
        for (const step of steps(9, 14)) {
          yield* interruptAt(Bulkhead.protect(turns(4), bulkhead), step)
          assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).inUse, 0, JSON.stringify(step))
        }
      }))

    it.effect("of a waiter at any step, also between grant and start, loses no place and no wake-up", () =>
      Effect.gen(function*() {
        for (const step of steps(9, 14)) {
          const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
          const holder = yield* forkWith(Bulkhead.protect(turns(5), bulkhead), step.ops)
          const doomed = yield* forkWith(Bulkhead.protect(turns(4), bulkhead), step.ops)
          const last = yield* forkWith(Bulkhead.protect(Effect.succeed("last"), bulkhead), step.ops)
          yield* turns(step.turns)
          yield* Fiber.interrupt(doomed)
          yield* Fiber.join(holder)
          assert.strictEqual(yield* Fiber.join(last), "last")
          const { inUse, waiting } = yield* Bulkhead.metrics(bulkhead)
          assert.deepStrictEqual({ inUse, waiting }, { inUse: 0, waiting: 0 }, JSON.stringify(step))
        }
      }))
  })

  it.effect("does not miss a place that becomes free while a caller is about to queue, at whatever step", () =>
    Effect.gen(function*() {
      for (const ops of [3, 4, 5, 6, 7, 8, 9]) {
        for (let before = 0; before < 12; before++) {
          const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
          let release = () => {}
          const held = Effect.callback<void>((resume) => void (release = () => resume(Effect.void)))
          const holder = yield* Effect.forkChild(Bulkhead.protect(held, bulkhead), { startImmediately: true })
          let ran = false
          let caller: Effect.Effect<void, unknown> = Bulkhead.protect(Effect.sync(() => void (ran = true)), bulkhead)
          for (let i = 0; i < before; i++) caller = Effect.andThen(Effect.void, caller)
          const fiber = yield* forkWith(caller, ops)
          // The place is given back in the very turn in which the caller yields.
          release()
          yield* turns(60)
          assert.isTrue(ran, `a yield every ${ops} operations, ${before} before the call`)
          yield* Fiber.join(holder)
          yield* Fiber.join(fiber)
        }
      }
    }))

  describe("resize", () => {
    it.effect("to more starts waiters at once", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: 9 })
        const calls = makeCalls()
        yield* Effect.forEach(["a", "b", "c", "d"], (name) => calls.start(name, bulkhead))
        yield* Bulkhead.resize(bulkhead, 3)
        yield* turns(2)
        assert.deepStrictEqual(calls.began, ["a", "b", "c"])
      }))

    it.effect("to fewer lets running calls go on, and starts none until enough have ended", () =>
      Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 3, maxQueue: 9 })
        const calls = makeCalls()
        const [a, b, c] = yield* Effect.forEach(["a", "b", "c", "d"], (name) => calls.start(name, bulkhead))
        yield* Bulkhead.resize(bulkhead, 1)
        yield* a!.end
        yield* b!.end
        assert.deepStrictEqual(calls.began, ["a", "b", "c"])
        assert.strictEqual((yield* Bulkhead.metrics(bulkhead)).maxConcurrent, 1)
        yield* c!.end
        assert.deepStrictEqual(calls.began, ["a", "b", "c", "d"])
      }))
  })

  describe("keyed", () => {
    it.effect("has one state a key", () =>
      Effect.gen(function*() {
        const tenants = yield* Bulkhead.keyed({ name: "tenants", maxConcurrent: 1 })
        const calls = makeCalls()
        yield* calls.start("a", Bulkhead.forKey(tenants, "t1"))
        yield* calls.start("b", Bulkhead.forKey("t2")(tenants))
        const error = yield* Effect.flip(Bulkhead.protect(Effect.void, Bulkhead.forKey(tenants, "t1")))
        assert.strictEqual(error.key, "t1")
        assert.notInclude(error.message, "t1")
        assert.deepStrictEqual(calls.began, ["a", "b"])
        assert.deepStrictEqual([...(yield* Bulkhead.metricsByKey(tenants)).keys()], ["t1", "t2"])
      }))

    it.effect("forgets a key that was idle for its time to live when another is used", () =>
      Effect.gen(function*() {
        const tenants = yield* Bulkhead.keyed({ maxConcurrent: 1, idleTimeToLive: "1 minute" })
        const use = (key: string) => Bulkhead.protect(Effect.void, Bulkhead.forKey(tenants, key))
        const held = () => Effect.map(Bulkhead.metricsByKey(tenants), (all) => [...all.keys()])
        yield* use("a")
        yield* TestClock.adjust("30 seconds")
        yield* use("b")
        yield* TestClock.adjust("29999 millis")
        yield* use("b")
        assert.deepStrictEqual(yield* held(), ["a", "b"])
        yield* TestClock.adjust("1 millis")
        yield* use("b")
        assert.deepStrictEqual(yield* held(), ["b"])
      }))

    it.effect("never forgets a key in use, however long", () =>
      Effect.gen(function*() {
        const tenants = yield* Bulkhead.keyed({ maxConcurrent: 1, idleTimeToLive: "1 minute", maxKeys: 2 })
        const calls = makeCalls()
        yield* calls.start("a", Bulkhead.forKey(tenants, "busy"))
        yield* TestClock.adjust("1 hour")
        for (const key of ["x", "y", "z"]) yield* Bulkhead.protect(Effect.void, Bulkhead.forKey(tenants, key))
        assert.strictEqual((yield* Bulkhead.metrics(Bulkhead.forKey(tenants, "busy"))).inUse, 1)
        assert.deepStrictEqual([...(yield* Bulkhead.metricsByKey(tenants)).keys()], ["busy", "z"])
      }))

    it.effect("refuses another key when all keys are in use", () =>
      Effect.gen(function*() {
        const tenants = yield* Bulkhead.keyed({ maxConcurrent: 1, maxKeys: 1 })
        const calls = makeCalls()
        const a = yield* calls.start("a", Bulkhead.forKey(tenants, "t1"))
        const error = yield* Effect.flip(Bulkhead.protect(Effect.void, Bulkhead.forKey(tenants, "t2")))
        assert.strictEqual(error.reason, "too-many-keys")
        yield* a.end
        yield* Bulkhead.protect(Effect.void, Bulkhead.forKey(tenants, "t2"))
      }))

    it.effect("makes no key when it is only asked about it", () =>
      Effect.gen(function*() {
        const tenants = yield* Bulkhead.keyed({ maxConcurrent: 4 })
        assert.strictEqual((yield* Bulkhead.metrics(Bulkhead.forKey(tenants, "t"))).maxConcurrent, 4)
        assert.strictEqual((yield* Bulkhead.metricsByKey(tenants)).size, 0)
      }))

    it.effect("resizes all keys, also those to come, or one", () =>
      Effect.gen(function*() {
        const tenants = yield* Bulkhead.keyed({ maxConcurrent: 1 })
        const limit = (key: string) =>
          Effect.map(Bulkhead.metrics(Bulkhead.forKey(tenants, key)), (m) => m.maxConcurrent)
        yield* Bulkhead.protect(Effect.void, Bulkhead.forKey(tenants, "a"))
        yield* Bulkhead.resize(tenants, 3)
        assert.deepStrictEqual([yield* limit("a"), yield* limit("b")], [3, 3])
        yield* Bulkhead.resize(Bulkhead.forKey(tenants, "a"), 5)
        assert.deepStrictEqual([yield* limit("a"), yield* limit("b")], [5, 3])
      }))
  })

  describe("options", () => {
    const defect = (effect: Effect.Effect<unknown>) =>
      Effect.map(Effect.exit(effect), (exit) => {
        assert.isTrue(Exit.isFailure(exit))
        return Cause.squash((exit as Exit.Failure<unknown, never>).cause) as Error
      })

    it.effect("that are out of range die with a RangeError that names the option", () =>
      Effect.gen(function*() {
        const cases: ReadonlyArray<readonly [string, Effect.Effect<unknown>]> = [
          ["maxConcurrent", Bulkhead.make({ maxConcurrent: 0 })],
          ["maxConcurrent", Bulkhead.make({ maxConcurrent: 1.5 })],
          ["maxQueue", Bulkhead.make({ maxConcurrent: 1, maxQueue: -1 })],
          ["maxWait", Bulkhead.make({ maxConcurrent: 1, maxWait: -1 })],
          ["maxKeys", Bulkhead.keyed({ maxConcurrent: 1, maxKeys: 0 })],
          ["idleTimeToLive", Bulkhead.keyed({ maxConcurrent: 1, idleTimeToLive: -1 })],
          ["maxConcurrent", Effect.flatMap(Bulkhead.make({ maxConcurrent: 1 }), Bulkhead.resize(0))]
        ]
        for (const [name, effect] of cases) {
          const error = yield* defect(effect)
          assert.instanceOf(error, RangeError)
          assert.include(error.message, name)
        }
        const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1 })
        assert.throws(() => Bulkhead.protect(bulkhead, { priority: NaN }), RangeError, "priority")
      }))
  })

  it.effect("can be a service", () => {
    class Reports extends Context.Service<Reports, Bulkhead.Bulkhead>()("test/Reports") {}
    return Effect.gen(function*() {
      assert.strictEqual(yield* Bulkhead.protect(Effect.succeed(1), yield* Reports), 1)
      assert.isTrue(Bulkhead.isBulkhead(yield* Reports))
    }).pipe(Effect.provide(Bulkhead.layer(Reports, { maxConcurrent: 1 })))
  })

  it("adds exactly its own error to the type", () => {
    const bulkhead = null as unknown as Bulkhead.Bulkhead
    const work = null as unknown as Effect.Effect<number, "mine", "needs">
    type Expected = Effect.Effect<number, "mine" | Bulkhead.BulkheadFullError, "needs">
    const types = () => {
      expectTypeOf(Bulkhead.protect(work, bulkhead)).toEqualTypeOf<Expected>()
      expectTypeOf(work.pipe(Bulkhead.protect(bulkhead))).toEqualTypeOf<Expected>()
      const handled = Effect.catchTag(Bulkhead.protect(work, bulkhead), "BulkheadFullError", () => Effect.succeed(0))
      expectTypeOf(handled).toEqualTypeOf<Effect.Effect<number, "mine", "needs">>()
    }
    assert.isFunction(types)
  })
})
