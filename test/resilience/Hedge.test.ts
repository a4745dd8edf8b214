import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { expectTypeOf } from "vitest"
import * as Budget from "../../src/resilience/Budget.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Hedge from "../../src/resilience/Hedge.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import { countingSleeps, interruptedAtEveryStep, inVirtualTime } from "./support.ts"

class FullError extends Rejection.Class("FullError") {}

type End = { readonly after: number; readonly with: "success" | "failure" | "defect" | "rejection" }

/** An effect whose first attempt ends as the first `End` says, the second as the second, and so on. */
const scripted = (ends: ReadonlyArray<End>) => {
  const log = { launchedAt: [] as Array<number>, running: 0, interrupted: 0 }
  const effect = Effect.suspend(() => {
    const attempt = log.launchedAt.length
    const end = ends[Math.min(attempt, ends.length - 1)]!
    return Effect.clockWith((clock) => {
      log.launchedAt.push(clock.currentTimeMillisUnsafe())
      log.running++
      const answer: Effect.Effect<number, string | FullError> = end.with === "success"
        ? Effect.succeed(attempt)
        : end.with === "failure"
        ? Effect.fail(`failure ${attempt}`)
        : end.with === "rejection"
        ? Effect.fail(new FullError({ strategy: "pool" }))
        : Effect.die(`defect ${attempt}`)
      return Effect.andThen(Effect.sleep(end.after), answer).pipe(
        Effect.onInterrupt(() => Effect.sync(() => log.interrupted++)),
        Effect.ensuring(Effect.sync(() => log.running--))
      )
    })
  })
  return { effect, log }
}

const timed = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.exit(self), (exit) => Effect.map(Clock.currentTimeMillis, (now) => [exit, now] as const))

const succeededAt = <A>(exit: Exit.Exit<A, unknown>): A => Exit.isSuccess(exit) ? exit.value : assert.fail("failed")

describe("Hedge", () => {
  describe("fixed delay", () => {
    it.effect("a quick call is not hedged", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 99, with: "success" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: 100, repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.succeed(0), 99])
        assert.deepStrictEqual(log.launchedAt, [0])
      }))

    it.effect("a slow call is, and the first success wins", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 1000, with: "success" }, { after: 50, with: "success" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: 100, repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.succeed(1), 150])
        assert.deepStrictEqual(log, { launchedAt: [0, 100], running: 0, interrupted: 1 })
      }))

    it.effect("the primary may still win", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 120, with: "success" }, { after: 50, with: "success" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: 100, repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.succeed(0), 120])
        assert.strictEqual(log.interrupted, 1)
      }))

    it.effect("launches up to maxHedges copies, one delay apart", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 1000, with: "success" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: 100, maxHedges: 3, repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.succeed(0), 1000])
        assert.deepStrictEqual(log, { launchedAt: [0, 100, 200, 300], running: 0, interrupted: 3 })
      }))
  })

  it.effect("losers are interrupted and their finalizers awaited before the winner returns", () =>
    Effect.gen(function*() {
      let calls = 0
      let cleaned = false
      const effect = Effect.suspend(() =>
        ++calls === 1
          ? Effect.ensuring(Effect.never, Effect.andThen(Effect.sleep(500), Effect.sync(() => cleaned = true)))
          : Effect.succeed("hedge")
      )
      const hedged = Effect.map(timed(Hedge.hedge(effect, { delay: 100, repeatable: true })), (r) => [...r, cleaned])
      assert.deepStrictEqual(succeededAt(yield* inVirtualTime(hedged)), [Exit.succeed("hedge"), 600, true])
    }))

  describe("failures", () => {
    it.effect("a failed primary launches the hedge at once", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 10, with: "failure" }, { after: 5, with: "success" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: "1 hour", repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.succeed(1), 15])
        assert.deepStrictEqual(log.launchedAt, [0, 10])
      }))

    it.effect("one that fails without waiting too", () =>
      Effect.gen(function*() {
        let calls = 0
        const effect = Effect.suspend(() => ++calls === 1 ? Effect.fail("no") : Effect.succeed(calls))
        assert.strictEqual(yield* Hedge.hedge(effect, { delay: "1 hour", repeatable: true }), 2)
      }))

    it.effect("copies that fail without waiting leave one delay between those that follow", () =>
      Effect.gen(function*() {
        const launchedAt: Array<number> = []
        // The second to the fifth attempt fail at once, all others take for ever.
        const effect = Effect.clockWith((clock) => {
          launchedAt.push(clock.currentTimeMillisUnsafe())
          return launchedAt.length > 1 && launchedAt.length < 6 ? Effect.fail("no") : Effect.never
        })
        const hedged = Hedge.hedge(effect, { delay: 100, maxHedges: 8, repeatable: true })
        const fiber = yield* Effect.forkChild(hedged, { startImmediately: true })
        yield* TestClock.adjust("1 second")
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(launchedAt, [0, 100, 100, 100, 100, 100, 200, 300, 400])
      }))

    it.effect("a failed attempt does not end the call while another is running", () =>
      Effect.gen(function*() {
        const { effect } = scripted([{ after: 200, with: "success" }, { after: 10, with: "failure" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: 100, repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.succeed(0), 200])
      }))

    it.effect("when all have failed, the failure that came last is the outcome", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 10, with: "failure" }])
        const exit = yield* inVirtualTime(Hedge.hedge(effect, { delay: "1 hour", maxHedges: 2, repeatable: true }))
        assert.deepStrictEqual(exit, Exit.fail("failure 2"))
        assert.deepStrictEqual(log.launchedAt, [0, 10, 20])
      }))

    it.effect("a rejection launches no hedge, and does not end the call while another attempt is running", () =>
      Effect.gen(function*() {
        const alone = scripted([{ after: 10, with: "rejection" }])
        const exit = yield* inVirtualTime(Hedge.hedge(alone.effect, { delay: "1 hour", repeatable: true }))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(alone.log.launchedAt.length, 1)
        const beside = scripted([{ after: 300, with: "success" }, { after: 10, with: "rejection" }])
        const hedged = Hedge.hedge(beside.effect, { delay: 100, maxHedges: 1, repeatable: true })
        assert.deepStrictEqual(yield* inVirtualTime(hedged), Exit.succeed(0))
      }))

    it.effect("a defect ends the call at once and stays a defect", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 200, with: "success" }, { after: 10, with: "defect" }])
        const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay: 100, repeatable: true })))
        assert.deepStrictEqual(succeededAt(exit), [Exit.die("defect 1"), 110])
        assert.strictEqual(log.interrupted, 1)
      }))

    it.effect("a loser that dies while cleaning up does not take the answer away", () =>
      Effect.gen(function*() {
        let calls = 0
        const effect = Effect.suspend(() =>
          ++calls === 1 ? Effect.ensuring(Effect.never, Effect.die("bug")) : Effect.succeed("ok")
        )
        const exit = yield* inVirtualTime(Hedge.hedge(effect, { delay: 100, repeatable: true }))
        assert.deepStrictEqual(exit, Exit.succeed("ok"))
      }))
  })

  it.effect("a hedge that would begin at or after the deadline is not launched", () =>
    Effect.gen(function*() {
      for (const [deadline, launches] of [[101, 2], [100, 1]] as const) {
        const { effect, log } = scripted([{ after: 1000, with: "success" }])
        yield* inVirtualTime(Deadline.within(Hedge.hedge(effect, { delay: 100, repeatable: true }), deadline))
        assert.strictEqual(log.launchedAt.length, launches)
      }
    }))

  it.effect("agrees with a reference model on when it launches, who wins and when", () =>
    Effect.promise(() => {
      const end = fc.record({
        after: fc.integer({ min: 1, max: 60 }),
        with: fc.constantFrom("success" as const, "success" as const, "failure" as const)
      })
      return fc.assert(
        fc.asyncProperty(
          // Distinct moments: who is first at the same millisecond is not promised.
          fc.uniqueArray(end, { minLength: 4, maxLength: 4, selector: (e) => e.after }),
          fc.integer({ min: 1, max: 40 }),
          fc.integer({ min: 1, max: 3 }),
          (ends, delay, maxHedges) => {
            const model = modelOf(ends, delay, maxHedges)
            if (model === undefined) return Promise.resolve()
            return Effect.runPromise(
              Effect.gen(function*() {
                const { effect, log } = scripted(ends)
                const exit = yield* inVirtualTime(timed(Hedge.hedge(effect, { delay, maxHedges, repeatable: true })))
                assert.deepStrictEqual(succeededAt(exit), [model.exit, model.at])
                assert.deepStrictEqual(log.launchedAt, model.launchedAt)
                assert.strictEqual(log.running, 0)
              }).pipe(Effect.provide(TestClock.layer()), Effect.scoped)
            )
          }
        ),
        { numRuns: 150 }
      )
    }))

  describe("percentile delay", () => {
    const calls = (delay: Hedge.Percentile, millis: ReadonlyArray<number>) =>
      Effect.forEach(millis, (ms) => inVirtualTime(Hedge.hedge(Effect.sleep(ms), { delay, repeatable: true }), ms), {
        discard: true
      })

    it.effect("does not hedge before it has seen enough calls, unless given an initial delay", () =>
      Effect.gen(function*() {
        const blank = yield* Hedge.percentile({ minimumCalls: 10 })
        assert.deepStrictEqual(yield* blank.delay, Duration.infinity)
        const initial = yield* Hedge.percentile({ minimumCalls: 10, initial: 70 })
        assert.deepStrictEqual(yield* initial.delay, Duration.millis(70))
      }))

    it.effect("follows the percentile of the calls, within min and max", () =>
      Effect.gen(function*() {
        const millis = Array.from({ length: 100 }, (_, i) => i + 1)
        const delay = yield* Hedge.percentile({ quantile: 0.9 })
        yield* calls(delay, millis)
        assert.closeTo(Duration.toMillis(yield* delay.delay), 90, 90 * 0.03)
        const low = yield* Hedge.percentile({ quantile: 0.9, max: 20 })
        yield* calls(low, millis)
        assert.strictEqual(Duration.toMillis(yield* low.delay), 20)
        const high = yield* Hedge.percentile({ quantile: 0.9, min: 200 })
        yield* calls(high, millis)
        assert.strictEqual(Duration.toMillis(yield* high.delay), 200)
      }))

    it.effect("hedges about the share of calls that it shall, and does not drift", () =>
      Effect.gen(function*() {
        const delay = yield* Hedge.percentile({ quantile: 0.9, minimumCalls: 50, window: "1 hour" })
        let launched = 0
        const rounds = 600
        for (let i = 0; i < rounds; i++) {
          const primary = 1 + (i * 37) % 100
          let attempt = 0
          const effect = Effect.suspend(() => (launched++, Effect.sleep(attempt++ === 0 ? primary : 1)))
          yield* inVirtualTime(Hedge.hedge(effect, { delay, repeatable: true }), 101)
        }
        const share = (launched - rounds) / rounds
        assert.isAbove(share, 0.04)
        assert.isBelow(share, 0.16)
      }))

    it.effect("forgets calls older than the window", () =>
      Effect.gen(function*() {
        const delay = yield* Hedge.percentile({ minimumCalls: 1, window: "10 seconds" })
        yield* calls(delay, Array.from({ length: 20 }, () => 500))
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(yield* delay.delay, Duration.infinity)
        yield* calls(delay, Array.from({ length: 20 }, () => 5))
        assert.closeTo(Duration.toMillis(yield* delay.delay), 5, 0.2)
      }))

    it.effect("does not learn from failed or interrupted calls", () =>
      Effect.gen(function*() {
        const delay = yield* Hedge.percentile({ minimumCalls: 1 })
        yield* Effect.exit(Hedge.hedge(Effect.fail("no"), { delay, repeatable: true }))
        const fiber = yield* Effect.forkChild(Hedge.hedge(Effect.never, { delay, repeatable: true }))
        yield* TestClock.adjust(50)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* delay.delay, Duration.infinity)
      }))
  })

  describe("interruption and clean-up", () => {
    it.effect("an interrupted caller ends all attempts", () =>
      Effect.gen(function*() {
        const { effect, log } = scripted([{ after: 1e6, with: "success" }])
        const hedged = Hedge.hedge(effect, { delay: 10, maxHedges: 2, repeatable: true })
        const fiber = yield* Effect.forkChild(hedged)
        yield* TestClock.adjust(50)
        assert.strictEqual(log.running, 3)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual([log.running, log.interrupted], [0, 3])
      }))

    it.effect("leaves no attempt running and no sleep pending, wherever it is interrupted", () =>
      countingSleeps((pending) =>
        Effect.gen(function*() {
          const budget = yield* Budget.make()
          const ends = [{ after: 1e6, with: "failure" }, { after: 1e6, with: "success" }] as const
          for (const delay of [0, 1000]) {
            const { effect, log } = scripted(ends)
            const hedged = Hedge.hedge(effect, { delay, maxHedges: 2, repeatable: true, budget })
            yield* interruptedAtEveryStep(hedged, () =>
              Effect.sync(() => assert.deepStrictEqual([log.running, pending()], [0, 0])))
          }
          assert.strictEqual((yield* Budget.snapshot(budget)).waiting, 0)
        })
      ))

    it.effect("leaves no sleep pending after success and failure", () =>
      countingSleeps((pending) =>
        Effect.gen(function*() {
          for (const end of ["success", "failure", "defect", "rejection"] as const) {
            for (const after of [0, 10, 150]) {
              const { effect, log } = scripted([{ after, with: end }])
              const hedged = Hedge.hedge(effect, { delay: 100, maxHedges: 5, repeatable: true })
              const fiber = yield* Effect.forkChild(hedged)
              yield* TestClock.adjust(10_000)
              assert.isDefined(fiber.pollUnsafe())
              assert.deepStrictEqual([log.running, pending()], [0, 0])
            }
          }
        })
      ))
  })

  it("refuses options that are out of range, by name, and effects not said to be repeatable, by type", () => {
    assert.throws(() => Hedge.hedge({ delay: -1, repeatable: true }), RangeError, "delay must be")
    assert.throws(() => Hedge.hedge({ delay: 1, repeatable: true, maxHedges: 0 }), RangeError, "maxHedges must be")
    // @ts-expect-error repeatable is missing
    assert.isFunction(Hedge.hedge({ delay: 1 }))
    const refused = (options: Hedge.PercentileOptions, name: string) =>
      assert.throws(() => Effect.runSync(Hedge.percentile(options)), RangeError, `${name} must be`)
    refused({ quantile: 1.5 }, "quantile")
    refused({ min: -1 }, "min")
    refused({ min: 10, max: 5 }, "max")
    refused({ minimumCalls: 0 }, "minimumCalls")
    refused({ window: 0 }, "window")
  })

  it("does not change the type of the effect", () => {
    const self = null as unknown as Effect.Effect<number, "E", "R">
    const check = () => {
      expectTypeOf(Hedge.hedge(self, { delay: 1, repeatable: true })).toEqualTypeOf<Effect.Effect<number, "E", "R">>()
      expectTypeOf(self.pipe(Hedge.hedge({ delay: 1, repeatable: true }))).toEqualTypeOf<
        Effect.Effect<number, "E", "R">
      >()
    }
    assert.isFunction(check)
  })
})

/** The plain account of a hedged call, millisecond by millisecond; `undefined` where two events share a moment. */
const modelOf = (ends: ReadonlyArray<End>, delay: number, maxHedges: number) => {
  const launchedAt: Array<number> = [0]
  let running = [{ attempt: 0, at: ends[0]!.after }]
  let next = delay
  const launch = (at: number) => {
    const attempt = launchedAt.length
    launchedAt.push(at)
    running.push({ attempt, at: at + ends[attempt]!.after })
    next = at + delay
  }
  for (let now = 1; now < 1000; now++) {
    const due = running.filter((attempt) => attempt.at === now)
    const timer = next === now && launchedAt.length <= maxHedges
    if (due.length + (timer ? 1 : 0) > 1) return undefined
    const done = due[0]
    if (done !== undefined) {
      running = running.filter((attempt) => attempt !== done)
      if (ends[done.attempt]!.with === "success") return { exit: Exit.succeed(done.attempt), at: now, launchedAt }
      if (launchedAt.length <= maxHedges) launch(now)
      else if (running.length === 0) return { exit: Exit.fail(`failure ${done.attempt}`), at: now, launchedAt }
    } else if (timer) launch(now)
  }
  return undefined
}
