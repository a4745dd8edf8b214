import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Alarm from "../../../src/data/transaction/alarm.ts"
import { turns } from "../../support/EveryStep.ts"

/** A clock that counts how many sleep on it. */
const counted = (clock: Clock.Clock) => {
  const count = { sleeping: 0, slept: 0 }
  const sleep = (duration: Duration.Duration) =>
    Effect.suspend(() => {
      count.sleeping++
      count.slept++
      return Effect.onExit(clock.sleep(duration), () => Effect.sync(() => void count.sleeping--))
    })
  return { count, clock: Object.assign(Object.create(clock) as Clock.Clock, { sleep }) }
}

const setUp = Effect.clockWith((clock) =>
  Effect.sync(() => {
    const { clock: slow, count } = counted(clock)
    return { alarm: new Alarm.Alarm(slow), count, fiber: Fiber.getCurrent()! }
  })
)

describe("The timer of all transactions", () => {
  it.effect("rings each call at its time, with one sleeper, and is silent about those taken off", () =>
    Effect.gen(function*() {
      const { alarm, count, fiber } = yield* setUp
      const rung: Array<string> = []
      const call = (name: string, at: number) => new Alarm.Call(at, () => void rung.push(name))
      const off = call("off", 1_500)
      for (const one of [call("late", 3_000), off, call("early", 1_000), call("never", Infinity)]) alarm.add(one)
      assert.strictEqual(count.sleeping, 1)
      alarm.remove(off, fiber)
      yield* TestClock.adjust(999)
      assert.deepStrictEqual(rung, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, ["early"])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(rung, ["early", "late"])
      assert.strictEqual(count.sleeping, 0)
    }))

  it.effect("keeps its sleeper for a call that follows at once, and lets it go when none does", () =>
    Effect.gen(function*() {
      const { alarm, count, fiber } = yield* setUp
      for (let n = 0; n < 10; n++) {
        const call = new Alarm.Call(30_000 + n, () => {})
        alarm.add(call)
        alarm.remove(call, fiber)
      }
      assert.deepStrictEqual(count, { sleeping: 1, slept: 1 })
      yield* turns(5)
      assert.deepStrictEqual(count, { sleeping: 0, slept: 1 })
    }))

  it.effect("rings what it slept for, also on a clock that does not move", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const still = Object.assign(Object.create(clock) as Clock.Clock, { sleep: () => Effect.yieldNow })
      const alarm = new Alarm.Alarm(still)
      let rung = 0
      alarm.add(new Alarm.Call(5_000, () => void rung++))
      yield* turns(5)
      assert.strictEqual(rung, 1)
    }))

  it.effect("rings everything once and in time, however calls come and go", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              from: fc.nat(40),
              after: fc.integer({ min: 1, max: 50 }),
              off: fc.option(fc.nat(60), { nil: Infinity })
            }),
            { maxLength: 12 }
          ),
          (plan) =>
            Effect.runPromise(Effect.provide(
              Effect.gen(function*() {
                const { alarm, count, fiber } = yield* setUp
                const clock = yield* Clock.Clock
                const rung: Array<ReadonlyArray<number>> = []
                const calls = plan.map(({ after, from }, index) =>
                  new Alarm.Call(from + after, () => void rung.push([index, clock.currentTimeMillisUnsafe()]))
                )
                for (let now = 0; now <= 120; now++) {
                  for (const [index, { from, off }] of plan.entries()) {
                    if (from === now) alarm.add(calls[index]!)
                    if (from + off === now) alarm.remove(calls[index]!, fiber)
                  }
                  yield* turns(2)
                  yield* TestClock.adjust(1)
                }
                // Taken off at the very time at which it was due, it has rung.
                const expected = plan.flatMap(({ after, from, off }, index) =>
                  off < after ? [] : [[index, from + after]]
                )
                const byIndex = rung.toSorted(([one], [other]) => one! - other!)
                assert.deepStrictEqual(byIndex, expected)
                assert.strictEqual(count.sleeping, 0)
              }),
              TestClock.layer()
            ))
        ),
        { numRuns: 60 }
      )
    ))
})
