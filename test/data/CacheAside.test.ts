import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { TestClock } from "effect/testing"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"
import { interruptAt, steps } from "../support/EveryStep.ts"

/** A loader that a test commands: it counts its calls and answers `next`. */
const source = <A>(first: Effect.Effect<A | Option.Option<A>, string>) => {
  const self = {
    next: first,
    loads: 0,
    load: (_key: string): Effect.Effect<A | Option.Option<A>, string> =>
      Effect.suspend(() => {
        self.loads++
        return self.next
      })
  }
  return self
}

const value = (exit: Exit.Exit<Option.Option<unknown>, unknown>) =>
  Exit.isSuccess(exit) ? Option.getOrElse(exit.value, () => "absent") : "failed"

/** What a `get` gives: a value, "absent" or "failed". */
const got = <A, E>(cache: CacheAside.CacheAside<A, E>, key = "k") => Effect.map(Effect.exit(cache.get(key)), value)

const numbers = <A, E>(cache: CacheAside.CacheAside<A, E>) =>
  Effect.map(cache.metrics, ({ hits, loads, misses, stale }) => ({ hits, stale, misses, loads }))

describe("CacheAside in memory", () => {
  describe("one load a key", () => {
    it.effect("1,000 callers at once make one load", () =>
      Effect.gen(function*() {
        const from = source(Effect.delay(Effect.succeed("v"), "1 second"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 minute" })
        const fiber = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 1_000 }), () => got(cache), { concurrency: "unbounded" })
        )
        yield* TestClock.adjust("1 second")
        const all = yield* Fiber.join(fiber)
        assert.deepStrictEqual(new Set(all), new Set(["v"]))
        assert.strictEqual(all.length, 1_000)
        assert.deepStrictEqual(yield* numbers(cache), { hits: 0, stale: 0, misses: 1_000, loads: 1 })
      }))

    it.effect("an interrupted caller leaves at once, and the load goes on for the others", () =>
      Effect.gen(function*() {
        const from = source(Effect.delay(Effect.succeed("v"), "1 second"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 minute" })
        const leaver = yield* Effect.forkChild(got(cache), { startImmediately: true })
        const stayer = yield* Effect.forkChild(got(cache), { startImmediately: true })
        yield* Fiber.interrupt(leaver)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(stayer), "v")
        assert.strictEqual(from.loads, 1)
      }))

    it.effect("a load that nobody waits for any more is interrupted, and the next caller has a load of its own", () =>
      Effect.gen(function*() {
        let interrupted = 0
        const from = source<string>(Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 minute" })
        const callers = yield* Effect.forEach([1, 2], () => Effect.forkChild(got(cache), { startImmediately: true }))
        yield* Fiber.interruptAll(callers)
        assert.strictEqual(interrupted, 1)
        from.next = Effect.succeed("v")
        assert.strictEqual(yield* got(cache), "v")
      }))

    it.effect("whatever step of the scheduler a caller is interrupted at, the others are served and nothing is left", () =>
      Effect.gen(function*() {
        for (const step of steps(9, 12)) {
          const from = source(Effect.andThen(Effect.yieldNow, Effect.succeed("v")))
          const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 minute" }).pipe(
            Effect.provideService(MaxOpsBeforeYield, step.ops)
          )
          const other = yield* Effect.forkChild(got(cache))
          yield* interruptAt(got(cache), step)
          assert.strictEqual(yield* Fiber.join(other), "v")
          assert.strictEqual(yield* got(cache), "v")
          // The one who is alone ends its load, and the next is not stuck on it.
          yield* interruptAt(got(cache, "alone"), step)
          assert.strictEqual(yield* got(cache, "alone"), "v")
        }
      }))

    it.effect("the load runs with the services that were there when the cache was made", () =>
      Effect.gen(function*() {
        const cache = yield* CacheAside.make({ name: "c", load: () => Random.next, ttl: "1 minute", jitter: 0 }).pipe(
          Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0.25, nextIntUnsafe: () => 0 })
        )
        assert.strictEqual(yield* got(cache), 0.25)
      }))

    it.effect("when the scope of the cache closes, its loads are interrupted", () =>
      Effect.gen(function*() {
        let interrupted = false
        const load = () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => (interrupted = true)))
        yield* Effect.scoped(Effect.gen(function*() {
          const cache = yield* CacheAside.make({ name: "c", load, ttl: "1 minute" })
          yield* Effect.forkDetach(Effect.exit(cache.get("k")), { startImmediately: true })
        }))
        assert.isTrue(interrupted)
      }))
  })

  describe("absent, null and failure are three things", () => {
    it.effect("0, \"\", false and null are values, and hits", () =>
      Effect.gen(function*() {
        for (const falsy of [0, "", false, null]) {
          const from = source<string | number | boolean | null>(Effect.succeed(falsy))
          const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 minute" })
          assert.strictEqual(yield* got(cache), falsy)
          assert.strictEqual(yield* got(cache), falsy)
          assert.strictEqual(from.loads, 1)
        }
      }))

    it.effect("absence has its own time to live, and 0 does not keep it", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed(Option.none()))
        const options = { load: from.load, ttl: "1 hour", jitter: 0 } as const
        const cache = yield* CacheAside.make({ ...options, name: "c", absentTtl: "10 seconds" })
        yield* got(cache)
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(yield* got(cache), "absent")
        assert.strictEqual(from.loads, 1)
        assert.strictEqual((yield* cache.metrics).negativeHits, 1)
        yield* TestClock.adjust("1 second")
        yield* got(cache)
        assert.strictEqual(from.loads, 2)
        const forgetful = yield* CacheAside.make({ ...options, name: "d", absentTtl: 0 })
        yield* got(forgetful)
        yield* got(forgetful)
        assert.strictEqual(from.loads, 4)
        assert.strictEqual(yield* forgetful.size, 0)
      }))

    it.effect("failures are not kept, unless asked, and then not defects", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.fail("down"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour" })
        assert.strictEqual(yield* Effect.flip(cache.get("k")), "down")
        yield* Effect.flip(cache.get("k"))
        assert.strictEqual(from.loads, 2)
        const keeper = yield* CacheAside.make({
          name: "d",
          load: from.load,
          ttl: "1 hour",
          failureTtl: "5 seconds",
          jitter: 0
        })
        assert.strictEqual(yield* Effect.flip(keeper.get("k")), "down")
        assert.strictEqual(yield* Effect.flip(keeper.get("k")), "down")
        assert.strictEqual(from.loads, 3)
        yield* TestClock.adjust("5 seconds")
        from.next = Effect.die("bug")
        assert.isTrue(Exit.hasDies(yield* Effect.exit(keeper.get("k"))))
        from.next = Effect.succeed("v")
        assert.strictEqual(yield* got(keeper), "v")
      }))
  })

  describe("time to live", () => {
    it.effect("a value is a hit until its time is over, and at exactly that time it is not", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("v"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "10 seconds", jitter: 0 })
        yield* got(cache)
        yield* TestClock.adjust(9_999)
        yield* got(cache)
        assert.strictEqual(from.loads, 1)
        yield* TestClock.adjust(1)
        yield* got(cache)
        assert.strictEqual(from.loads, 2)
      }))

    it.effect("jitter shortens it by chance, never beyond its share, and never lengthens it", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("v"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "100 seconds", jitter: 0.2 })
        const keys = Array.from({ length: 200 }, (_, index) => String(index))
        yield* cache.warm(keys)
        yield* TestClock.adjust("80 seconds")
        yield* cache.getMany(keys)
        assert.strictEqual(from.loads, 200)
        yield* TestClock.adjust("10 seconds")
        yield* cache.getMany(keys)
        const early = from.loads - 200
        assert.isTrue(early > 50 && early < 150, `${early} of 200 within the first half of the jitter`)
        yield* TestClock.adjust("10 seconds")
        yield* cache.getMany(keys)
        assert.strictEqual(from.loads, 400)
      }))

    it.effect("it may depend on the value; zero keeps nothing", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed(10))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: (seconds) => seconds * 1000,
          jitter: 0
        })
        yield* got(cache)
        yield* TestClock.adjust("10 seconds")
        from.next = Effect.succeed(0)
        yield* got(cache)
        yield* got(cache)
        assert.strictEqual(from.loads, 3)
      }))

    it.effect("an entry that is not read goes first when memory is full", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("v"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour", capacity: 3 })
        yield* cache.warm(["a", "b", "c"], { concurrency: 1 })
        yield* cache.get("a")
        yield* cache.get("d")
        assert.strictEqual(yield* cache.size, 3)
        assert.strictEqual((yield* cache.metrics).evictions, 1)
        yield* cache.get("a")
        assert.strictEqual(from.loads, 4)
        yield* cache.get("b")
        assert.strictEqual(from.loads, 5)
      }))
  })

  describe("after its time to live", () => {
    it.effect("stale-while-revalidate serves the value at once and loads anew in the background, once", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "10 seconds",
          jitter: 0,
          staleWhileRevalidate: "5 seconds"
        })
        yield* got(cache)
        yield* TestClock.adjust("14 seconds")
        from.next = Effect.delay(Effect.succeed("new"), "1 second")
        assert.deepStrictEqual(yield* Effect.all([got(cache), got(cache), got(cache)]), ["old", "old", "old"])
        assert.strictEqual(from.loads, 2)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* got(cache), "new")
        assert.deepStrictEqual(yield* numbers(cache), { hits: 1, stale: 3, misses: 1, loads: 2 })
        yield* TestClock.adjust("15 seconds")
        from.next = Effect.succeed("newest")
        assert.strictEqual(yield* got(cache), "newest")
      }))

    it.effect("stale-if-error serves the value when a load fails, up to its bound, with a growing pause between loads", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "10 seconds",
          jitter: 0,
          staleIfError: "60 seconds",
          errorBackoff: "2 seconds",
          maxErrorBackoff: "5 seconds"
        })
        yield* got(cache)
        yield* TestClock.adjust("10 seconds")
        from.next = Effect.fail("down")
        const seen: Array<number> = []
        for (let second = 10; second < 30; second++) {
          const before = from.loads
          assert.strictEqual(yield* got(cache), "old")
          if (from.loads > before) seen.push(second)
          yield* TestClock.adjust("1 second")
        }
        assert.deepStrictEqual(seen, [10, 12, 16, 21, 26])
        yield* TestClock.adjust("40 seconds")
        assert.strictEqual(yield* got(cache), "failed")
        from.next = Effect.succeed("new")
        assert.strictEqual(yield* got(cache), "new")
      }))

    it.effect("a defect is not hidden by an older value", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "1 second",
          jitter: 0,
          staleIfError: "1 hour"
        })
        yield* got(cache)
        yield* TestClock.adjust("1 second")
        from.next = Effect.die("bug")
        assert.isTrue(Exit.hasDies(yield* Effect.exit(cache.get("k"))))
      }))

    it.effect("a failing refresh fails its caller and never replaces a good value", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed("good"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "10 seconds",
          jitter: 0,
          failureTtl: "1 hour",
          staleIfError: "1 minute"
        })
        yield* got(cache)
        from.next = Effect.fail("down")
        assert.strictEqual(yield* Effect.flip(cache.refresh("k")), "down")
        assert.strictEqual(yield* got(cache), "good")
        from.next = Effect.succeed("better")
        assert.deepStrictEqual(yield* cache.refresh("k"), Option.some("better"))
        assert.strictEqual(yield* got(cache), "better")
      }))
  })

  describe("before the end", () => {
    it.effect("an eager refresh starts with the first hit after its share of the time, and nobody waits", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "10 seconds",
          jitter: 0,
          eagerRefresh: 0.8
        })
        yield* got(cache)
        yield* TestClock.adjust(7_999)
        yield* got(cache)
        assert.strictEqual(from.loads, 1)
        yield* TestClock.adjust(1)
        from.next = Effect.delay(Effect.succeed("new"), "1 second")
        assert.strictEqual(yield* got(cache), "old")
        assert.strictEqual(from.loads, 2)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* got(cache), "new")
      }))

    it.effect("an early expiry comes by chance, as XFetch has it: sooner the longer a load takes", () =>
      Effect.gen(function*() {
        const run = (loadSeconds: number, draw: number) =>
          Effect.gen(function*() {
            const from = source(Effect.delay(Effect.succeed("v"), loadSeconds * 1000))
            const cache = yield* CacheAside.make({
              name: "c",
              load: from.load,
              ttl: "100 seconds",
              jitter: 0,
              earlyExpiry: 1
            })
            const first = yield* Effect.forkChild(got(cache))
            yield* TestClock.adjust(loadSeconds * 1000)
            yield* Fiber.join(first)
            yield* TestClock.adjust("90 seconds")
            // -ln(e^-2) = 2: refreshed if 2 load times before the end are not left.
            yield* got(cache).pipe(
              Effect.provideService(Random.Random, { nextDoubleUnsafe: () => draw, nextIntUnsafe: () => 0 })
            )
            return from.loads
          }).pipe(Effect.scoped)
        assert.strictEqual(yield* run(6, Math.exp(-2)), 2)
        assert.strictEqual(yield* run(4, Math.exp(-2)), 1)
        assert.strictEqual(yield* run(4, Math.exp(-3)), 2)
        assert.strictEqual(yield* run(6, 1), 1)
      }))
  })

  describe("time-outs", () => {
    it.effect("after the soft one a caller gets the older value, and the load goes on", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "10 seconds",
          jitter: 0,
          staleIfError: "1 minute",
          softTimeout: "1 second"
        })
        yield* got(cache)
        yield* TestClock.adjust("10 seconds")
        from.next = Effect.delay(Effect.succeed("new"), "5 seconds")
        const caller = yield* Effect.forkChild(got(cache))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(caller), "old")
        // Who comes later does not wait again.
        assert.strictEqual(yield* got(cache), "old")
        assert.strictEqual(from.loads, 2)
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(yield* got(cache), "new")
        assert.strictEqual(from.loads, 2)
      }))

    it.effect("a value past its bound is not served to those who come while a slow load goes on", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "10 seconds",
          jitter: 0,
          staleIfError: "3 seconds",
          softTimeout: "1 second"
        })
        yield* got(cache)
        yield* TestClock.adjust("10 seconds")
        from.next = Effect.delay(Effect.succeed("new"), "6 seconds")
        const early = yield* Effect.forkChild(got(cache))
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* Fiber.join(early), "old")
        const late = yield* Effect.forkChild(got(cache))
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* Fiber.join(late), "new")
        assert.strictEqual(from.loads, 2)
      }))

    it.effect("at the hard one the load is interrupted and its callers fail at once, even if it cannot be interrupted", () =>
      Effect.gen(function*() {
        const from = source(Effect.uninterruptible(Effect.delay(Effect.succeed("late"), "1 minute")))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour", hardTimeout: "2 seconds" })
        const caller = yield* Effect.forkChild(Effect.flip(cache.get("k")))
        yield* TestClock.adjust("2 seconds")
        const error = yield* Fiber.join(caller)
        assert.instanceOf(error, CacheAside.LoadTimeoutError)
        assert.strictEqual(error.message, "cache \"c\": a load took longer than 2s")
        yield* TestClock.adjust("1 minute")
        // What comes after the time-out is not kept.
        assert.strictEqual(yield* cache.size, 0)
        assert.strictEqual((yield* cache.metrics).loadTimeouts, 1)
      }))

    it.effect("at the hard one an older value is served where stale-if-error allows", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "1 second",
          jitter: 0,
          staleIfError: "1 minute",
          hardTimeout: "2 seconds"
        })
        yield* got(cache)
        yield* TestClock.adjust("1 second")
        from.next = Effect.never
        const caller = yield* Effect.forkChild(got(cache))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* Fiber.join(caller), "old")
      }))
  })

  describe("invalidation", () => {
    const invalidations: ReadonlyArray<readonly [string, CacheAside.Target, boolean]> = [
      ["by key", { key: "user:1" }, true],
      ["of another key", { key: "user:2" }, false],
      ["by keys", { keys: ["x", "user:1"] }, true],
      ["by tag", { tag: "people" }, true],
      ["of another tag", { tag: "places" }, false],
      ["by prefix", { prefix: "user:" }, true],
      ["of another prefix", { prefix: "usr:" }, false],
      ["of all", { all: true }, true]
    ]
    const tags = () => ["people"]

    for (const [name, target, hit] of invalidations) {
      it.effect(`${name} ${hit ? "forgets" : "leaves"} the value`, () =>
        Effect.gen(function*() {
          const from = source(Effect.succeed("v"))
          const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour", tags })
          yield* got(cache, "user:1")
          yield* cache.forget(target)
          yield* got(cache, "user:1")
          assert.strictEqual(from.loads, hit ? 2 : 1)
        }))

      it.effect(`${name} during a load that nobody joins ${hit ? "wins too" : "does not touch it"}`, () =>
        Effect.gen(function*() {
          const gate = yield* Deferred.make<string>()
          const from = source(Deferred.await(gate))
          const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour", tags })
          const before = yield* Effect.forkChild(got(cache, "user:1"), { startImmediately: true })
          yield* cache.forget(target)
          yield* Deferred.succeed(gate, "v")
          assert.strictEqual(yield* Fiber.join(before), "v")
          assert.strictEqual(yield* cache.size, hit ? 0 : 1)
        }))

      it.effect(`${name} during a load ${hit ? "wins: the value is not kept" : "does not touch it"}`, () =>
        Effect.gen(function*() {
          const gate = yield* Deferred.make<string>()
          const from = source(Deferred.await(gate))
          const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour", tags })
          const before = yield* Effect.forkChild(got(cache, "user:1"), { startImmediately: true })
          yield* cache.forget(target)
          from.next = Effect.succeed("new")
          const after = yield* Effect.forkChild(got(cache, "user:1"), { startImmediately: true })
          yield* Deferred.succeed(gate, "old")
          assert.strictEqual(yield* Fiber.join(before), "old")
          assert.strictEqual(yield* Fiber.join(after), hit ? "new" : "old")
          assert.strictEqual(yield* got(cache, "user:1"), hit ? "new" : "old")
          assert.strictEqual(from.loads, hit ? 2 : 1)
        }))
    }

    it.effect("an invalidated value is not served when the next load fails or is slow", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "1 second",
          jitter: 0,
          tags,
          staleIfError: "1 hour",
          staleWhileRevalidate: "1 hour",
          softTimeout: "1 second"
        })
        yield* got(cache)
        yield* TestClock.adjust("2 seconds")
        from.next = Effect.delay(Effect.fail("down"), "3 seconds")
        assert.strictEqual(yield* got(cache), "old")
        yield* cache.invalidateTag("people")
        const caller = yield* Effect.forkChild(got(cache))
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(yield* Fiber.join(caller), "failed")
      }))

    it.effect("follows a commit, and not a rollback", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("old"))
        const cache = yield* CacheAside.make({ name: "c", load: from.load, ttl: "1 hour" })
        yield* got(cache)
        let hooks: Array<Effect.Effect<void>> = []
        const afterCommit = (effect: Effect.Effect<void>) => Effect.sync(() => void hooks.push(effect))
        from.next = Effect.succeed("new")
        yield* cache.invalidateOn(afterCommit, { key: "k" })
        hooks = []
        assert.strictEqual(yield* got(cache), "old")
        yield* cache.invalidateOn(afterCommit, { key: "k" })
        yield* Effect.all(hooks)
        assert.strictEqual(yield* got(cache), "new")
      }))
  })

  describe("a value that the application sets", () => {
    it.effect("is a hit until its time is over, and so is an absence", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("loaded"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: (value) => value === "short" ? "1 second" : "1 minute",
          absentTtl: "10 seconds",
          jitter: 0
        })
        yield* got(cache)
        yield* cache.set("k", "set")
        assert.strictEqual(yield* got(cache), "set")
        yield* cache.set("k", Option.none())
        assert.strictEqual(yield* got(cache), "absent")
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* got(cache), "loaded")
        yield* cache.set("k", "short")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* got(cache), "loaded")
        assert.deepStrictEqual([from.loads, (yield* cache.metrics).sets], [3, 3])
      }))

    it.effect("is not replaced by a load that had begun before, whose callers get what it loaded", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<string>()
        const cache = yield* CacheAside.make({ name: "c", load: () => Deferred.await(gate), ttl: "1 minute" })
        const before = yield* Effect.forkChild(got(cache), { startImmediately: true })
        yield* cache.set("k", "set")
        assert.strictEqual(yield* got(cache), "set")
        yield* Deferred.succeed(gate, "loaded")
        assert.strictEqual(yield* Fiber.join(before), "loaded")
        assert.strictEqual(yield* got(cache), "set")
      }))

    it.effect("carries the tags that are its own", () =>
      Effect.gen(function*() {
        const from = source(Effect.succeed("loaded"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "1 minute",
          tags: (_, value) => Option.toArray(value)
        })
        yield* cache.get("k")
        yield* cache.set("k", "set")
        yield* cache.invalidateTag("loaded")
        assert.strictEqual(yield* got(cache), "set")
        yield* cache.invalidateTag("set")
        assert.strictEqual(yield* got(cache), "loaded")
      }))

    it.effect("ends the pause after failed loads", () =>
      Effect.gen(function*() {
        const from = source<string>(Effect.succeed("old"))
        const cache = yield* CacheAside.make({
          name: "c",
          load: from.load,
          ttl: "1 second",
          jitter: 0,
          staleIfError: "1 hour",
          errorBackoff: "30 seconds"
        })
        yield* got(cache)
        from.next = Effect.fail("down")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* got(cache), "old")
        yield* cache.set("k", "set")
        from.next = Effect.succeed("new")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* got(cache), "new")
      }))
  })

  describe("loads made together", () => {
    /** A loader of many that a test commands. */
    const batches = (
      answer: (keys: ReadonlyArray<string>) => Effect.Effect<Iterable<readonly [string, string]>, string>
    ) => {
      const calls: Array<ReadonlyArray<string>> = []
      return {
        calls,
        options: {
          name: "c",
          ttl: "1 minute",
          load: (key: string) => Effect.succeed(`${key} alone`),
          loadMany: (keys: ReadonlyArray<string>) =>
            Effect.suspend(() => {
              calls.push(keys)
              return answer(keys)
            })
        } as const
      }
    }
    const upper = (keys: ReadonlyArray<string>) => keys.map((key) => [key, key.toUpperCase()] as const)
    const values = <A>(found: ReadonlyArray<Option.Option<A>>) => found.map(Option.getOrElse(() => "absent" as const))

    it.effect("getMany loads what is missing with one call; what that leaves out is absent, and kept so", () =>
      Effect.gen(function*() {
        const { calls, options } = batches((keys) => Effect.succeed(new Map(upper(keys.filter((key) => key !== "b")))))
        const cache = yield* CacheAside.make(options)
        yield* cache.set("d", "there")
        assert.deepStrictEqual(values(yield* cache.getMany(["c", "b", "d", "a", "c"])), [
          ...["C", "absent", "there", "A", "C"]
        ])
        assert.deepStrictEqual(calls, [["c", "b", "a"]])
        assert.deepStrictEqual(values(yield* cache.getMany(["a", "b", "c"])), ["A", "absent", "C"])
        assert.strictEqual(calls.length, 1)
        assert.strictEqual(yield* got(cache, "e"), "e alone")
        const { hits, loads, misses } = yield* cache.metrics
        assert.deepStrictEqual({ hits, loads, misses }, { hits: 4, loads: 4, misses: 4 })
      }))

    it.effect("no call gets more than `maxBatch` keys, and no more calls run at a time than `concurrency`", () =>
      Effect.gen(function*() {
        let running = 0
        let most = 0
        const { calls, options } = batches((keys) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            yield* Effect.sleep("1 second")
            running--
            return upper(keys)
          })
        )
        const cache = yield* CacheAside.make({ ...options, maxBatch: 3 })
        const keys = Array.from({ length: 10 }, (_, index) => `k${index}`)
        const fiber = yield* Effect.forkChild(cache.getMany(keys, { concurrency: 2 }), { startImmediately: true })
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(values(yield* Fiber.join(fiber)), keys.map((key) => key.toUpperCase()))
        assert.deepStrictEqual(calls.map(({ length }) => length), [3, 3, 3, 1])
        assert.strictEqual(most, 2)
      }))

    it.effect("a failure is that of all keys of the call, and is not kept; a defect too", () =>
      Effect.gen(function*() {
        const failures: ReadonlyArray<Effect.Effect<never, string>> = [Effect.fail("down"), Effect.die("broken")]
        for (const failure of failures) {
          let next: Effect.Effect<void, string> = Effect.andThen(Effect.yieldNow, failure)
          const { calls, options } = batches((keys) => Effect.as(next, upper(keys)))
          const cache = yield* CacheAside.make(options)
          const both = yield* Effect.all([
            Effect.exit(cache.getMany(["a", "b"])),
            Effect.exit(cache.get("b"))
          ], { concurrency: 2 })
          assert.deepStrictEqual(both.map(({ _tag }) => _tag), ["Failure", "Failure"])
          next = Effect.void
          assert.deepStrictEqual(values(yield* cache.getMany(["a", "b"])), ["A", "B"])
          assert.strictEqual(calls.length, 2)
        }
      }))

    it.effect("a key that is being loaded is waited for, and is not asked for twice", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<string>()
        const { calls, options } = batches((keys) => Effect.delay(Effect.succeed(upper(keys)), "1 second"))
        const cache = yield* CacheAside.make({ ...options, load: () => Deferred.await(gate) })
        const single = yield* Effect.forkChild(got(cache, "a"), { startImmediately: true })
        const first = yield* Effect.forkChild(cache.getMany(["a", "b", "c"]), { startImmediately: true })
        const second = yield* Effect.forkChild(cache.getMany(["b", "d"]), { startImmediately: true })
        const other = yield* Effect.forkChild(got(cache, "c"), { startImmediately: true })
        // The load of the one key holds up nobody who does not want it.
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(values(yield* Fiber.join(second)), ["B", "D"])
        assert.strictEqual(yield* Fiber.join(other), "C")
        yield* Deferred.succeed(gate, "alone")
        assert.deepStrictEqual(values(yield* Fiber.join(first)), ["alone", "B", "C"])
        assert.strictEqual(yield* Fiber.join(single), "alone")
        assert.deepStrictEqual(calls, [["b", "c"], ["d"]])
      }))

    it.effect("who leaves ends the call, unless somebody waits for one of its keys", () =>
      Effect.gen(function*() {
        let interrupted = 0
        const { calls, options } = batches((keys) =>
          Effect.onInterrupt(Effect.delay(Effect.succeed(upper(keys)), "1 second"), () =>
            Effect.sync(() => void interrupted++))
        )
        const cache = yield* CacheAside.make(options)
        const alone = yield* Effect.forkChild(cache.getMany(["a", "b"]), { startImmediately: true })
        yield* Fiber.interrupt(alone)
        assert.strictEqual(interrupted, 1)
        const leaves = yield* Effect.forkChild(cache.getMany(["a", "b"]), { startImmediately: true })
        const stays = yield* Effect.forkChild(got(cache, "b"), { startImmediately: true })
        yield* Fiber.interrupt(leaves)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(stays), "B")
        assert.deepStrictEqual([interrupted, calls.length], [1, 2])
      }))

    it.effect("whatever step of the scheduler it is interrupted at, those who joined are served", () =>
      Effect.gen(function*() {
        for (const step of steps(9, 12)) {
          const { options } = batches((keys) => Effect.andThen(Effect.yieldNow, Effect.succeed(upper(keys))))
          const cache = yield* CacheAside.make(options).pipe(Effect.provideService(MaxOpsBeforeYield, step.ops))
          const other = yield* Effect.forkChild(
            Effect.andThen(Effect.yieldNow, Effect.all([got(cache, "a"), got(cache, "c")], { concurrency: 2 }))
          )
          yield* interruptAt(cache.getMany(["a", "b", "c"]), step)
          for (const [key, found] of [["A", (yield* Fiber.join(other))[0]], ["B", yield* got(cache, "b")]] as const) {
            assert.include([key, `${key.toLowerCase()} alone`], found)
          }
          assert.strictEqual(yield* got(cache, "z"), "z alone")
        }
      }))

    it.effect("an invalidation during the call wins, for its key alone", () =>
      Effect.gen(function*() {
        const { calls, options } = batches((keys) => Effect.delay(Effect.succeed(upper(keys)), "1 second"))
        const cache = yield* CacheAside.make(options)
        const fiber = yield* Effect.forkChild(cache.getMany(["a", "b"]), { startImmediately: true })
        yield* cache.invalidate("a")
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(values(yield* Fiber.join(fiber)), ["A", "B"])
        assert.deepStrictEqual([yield* got(cache, "a"), yield* got(cache, "b")], ["a alone", "B"])
        assert.strictEqual(calls.length, 1)
      }))

    it.effect("warming uses it, tells how far it is, and goes on after a failure", () =>
      Effect.gen(function*() {
        const { calls, options } = batches((keys) =>
          keys.includes("k3") ? Effect.fail("down") : Effect.succeed(upper(keys))
        )
        const cache = yield* CacheAside.make({ ...options, maxBatch: 3 })
        const seen: Array<CacheAside.Progress> = []
        const report = yield* cache.warm(Array.from({ length: 8 }, (_, index) => `k${index}`), {
          onProgress: (progress) => Effect.sync(() => void seen.push(progress))
        })
        assert.deepStrictEqual(report, { total: 8, done: 8, failed: 3 })
        assert.deepStrictEqual(seen.map(({ done }) => done), [1, 2, 3, 4, 5, 6, 7, 8])
        assert.strictEqual(calls.length, 3)
        assert.strictEqual(yield* got(cache, "k7"), "K7")
      }))
  })

  describe("many keys", () => {
    it.effect("getMany answers in the order of the keys, and loads each once", () =>
      Effect.gen(function*() {
        let loads = 0
        const cache = yield* CacheAside.make({
          name: "c",
          load: (key) => Effect.sync(() => ++loads && (key === "b" ? Option.none<string>() : key.toUpperCase())),
          ttl: "1 hour"
        })
        const found = yield* cache.getMany(["c", "b", "a", "c"])
        assert.deepStrictEqual(found.map(Option.getOrElse(() => "absent")), ["C", "absent", "A", "C"])
        assert.strictEqual(loads, 3)
        assert.deepStrictEqual(yield* cache.getMany([]), [])
      }))

    it.effect("warming loads a bounded number at a time, tells how far it is, and goes on after a failure", () =>
      Effect.gen(function*() {
        let running = 0
        let most = 0
        const load = (key: string) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            yield* Effect.sleep("1 second")
            running--
            return key === "3" ? yield* Effect.fail("down") : key
          })
        const cache = yield* CacheAside.make({ name: "c", load, ttl: "1 hour" })
        const keys = Array.from({ length: 10 }, (_, index) => String(index))
        const seen: Array<CacheAside.Progress> = []
        const fiber = yield* Effect.forkChild(
          cache.warm(keys, { concurrency: 4, onProgress: (progress) => Effect.sync(() => void seen.push(progress)) })
        )
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(yield* Fiber.join(fiber), { total: 10, done: 10, failed: 1 })
        assert.deepStrictEqual(seen.map(({ done }) => done), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        assert.strictEqual(most, 4)
      }))
  })

  it.effect("the status node shows what it counts", () =>
    Effect.gen(function*() {
      const from = source<string>(Effect.succeed("v"))
      const cache = yield* CacheAside.make({ name: "prices", load: from.load, ttl: "1 hour" })
      yield* got(cache)
      yield* got(cache)
      from.next = Effect.fail("down")
      yield* got(cache, "other")
      const node = yield* Effect.flatMap(Status.Status, (status) => status.get("cache-aside:prices"))
      assert.strictEqual(node?.state, "ready")
      const { hits, loadFailures, loads, misses } = node!.counters as unknown as CacheAside.Metrics
      assert.deepStrictEqual({ hits, loadFailures, loads, misses }, { hits: 1, loadFailures: 1, loads: 2, misses: 2 })
      assert.strictEqual(node!.operations["load"]!.attempts, 2)
    }).pipe(Effect.scoped, Effect.provide(Status.layer)))

  it.effect("an option out of range is named", () =>
    Effect.gen(function*() {
      const base = { name: "c", load: () => Effect.succeed(1), ttl: "1 hour" } as const
      const bad: ReadonlyArray<readonly [string, object]> = [
        ["name", { name: "" }],
        ["ttl", { ttl: 0 }],
        ["absentTtl", { absentTtl: -1 }],
        ["jitter", { jitter: 1.1 }],
        ["capacity", { capacity: 0 }],
        ["maxBatch", { maxBatch: 0 }],
        ["eagerRefresh", { eagerRefresh: 0 }],
        ["earlyExpiry", { earlyExpiry: -1 }],
        ["staleIfError", { staleIfError: Infinity }],
        ["hardTimeout", { hardTimeout: 0 }],
        ["storage", { storage: "disk" }]
      ]
      for (const [option, wrong] of bad) {
        const exit = yield* Effect.exit(CacheAside.make({ ...base, ...wrong }))
        const defect = Exit.isFailure(exit)
          ? exit.cause.reasons.find((reason) => reason._tag === "Die")?.defect
          : undefined
        assert.instanceOf(defect, RangeError)
        assert.include(defect.message, option)
      }
    }))
})
