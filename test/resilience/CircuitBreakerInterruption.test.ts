import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { TestClock } from "effect/testing"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"

/**
 * Interrupts an effect after 0, 1, 2, ... turns of the scheduler, which may come after every few operations, and checks
 * each time.
 */
const interruptedAtEveryStep = Effect.fnUntraced(function*(
  self: Effect.Effect<unknown, unknown>,
  check: Effect.Effect<void>
) {
  for (const operations of [2, 3, 5]) {
    for (let turns = 0; turns < 40; turns++) {
      const fiber = yield* Effect.forkChild(Effect.provideService(self, Scheduler.MaxOpsBeforeYield, operations))
      for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      yield* check
    }
  }
})

/** Runs a program in a process of its own. True when that ends by itself. */
const endsByItself = (program: string) =>
  Effect.promise(() =>
    new Promise<boolean>((resolve) => {
      const cwd = fileURLToPath(new URL("../../", import.meta.url))
      const flags = ["--import", "tsx", "--input-type=module", "-e", program]
      execFile(process.execPath, flags, { timeout: 25_000, cwd }, (error) => resolve(error === null))
    })
  )

const halfOpen = (permitted: number) =>
  Effect.gen(function*() {
    const breaker = yield* CircuitBreaker.make({
      name: "test",
      trip: CircuitBreaker.consecutive(1),
      openTime: "10 seconds",
      halfOpen: { permitted }
    })
    yield* Effect.exit(CircuitBreaker.protect(Effect.fail("failed"), breaker))
    yield* TestClock.adjust("10 seconds")
    return breaker
  })

const before = (steps: number): Effect.Effect<unknown> =>
  steps === 0 ? Effect.void : Effect.as(before(steps - 1), steps)

describe("CircuitBreaker, interrupted at every scheduler step", () => {
  it.effect("a probe gives its place back", () =>
    Effect.gen(function*() {
      for (const steps of [0, 1, 2, 3]) {
        const breaker = yield* halfOpen(1)
        const probe = Effect.andThen(before(steps), CircuitBreaker.protect(Effect.never, breaker))
        let probed = 0
        yield* interruptedAtEveryStep(
          probe,
          Effect.map(CircuitBreaker.state(breaker), (state) => {
            if (state._tag === "HalfOpen") {
              probed++
              assert.strictEqual(state.probes, 0)
            }
          })
        )
        assert.isAbove(probed, 0)
        assert.strictEqual(yield* CircuitBreaker.protect(Effect.succeed("fine"), breaker), "fine")
        assert.strictEqual((yield* CircuitBreaker.state(breaker))._tag, "Closed")
      }
    }))

  it.effect("a probe that was about to end is counted or neutral, and never holds its place", () =>
    Effect.gen(function*() {
      const breaker = yield* halfOpen(2)
      const probe = CircuitBreaker.protect(before(5), breaker, { classify: () => ({ _tag: "Ignored" }) })
      yield* interruptedAtEveryStep(
        probe,
        Effect.map(CircuitBreaker.state(breaker), (state) => {
          if (state._tag === "HalfOpen") assert.strictEqual(state.probes, 0)
        })
      )
    }))

  it.effect("a call of a closed circuit counts for nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "test", trip: CircuitBreaker.failureRate() })
      yield* interruptedAtEveryStep(CircuitBreaker.protect(Effect.never, breaker), Effect.void)
      const { total, window } = yield* CircuitBreaker.metrics(breaker)
      assert.deepStrictEqual(total, { successes: 0, failures: 0, slow: 0, rejections: 0, openings: 0 })
      assert.strictEqual(window.calls, 0)
    }))

  it.live("a process with an open and a half-open breaker ends by itself", () =>
    Effect.gen(function*() {
      assert.isTrue(
        yield* endsByItself(`
          import * as Effect from "effect/Effect"
          import * as CircuitBreaker from "./src/resilience/CircuitBreaker.ts"
          await Effect.runPromise(Effect.gen(function*() {
            const make = (openTime) => CircuitBreaker.make({ name: "idle", trip: CircuitBreaker.consecutive(1), openTime })
            const open = yield* make("1 hour")
            yield* Effect.exit(CircuitBreaker.protect(Effect.fail("failed"), open))
            const half = yield* make("1 millis")
            yield* Effect.exit(CircuitBreaker.protect(Effect.fail("failed"), half))
            yield* Effect.sleep("5 millis")
            yield* Effect.forkDetach(CircuitBreaker.protect(Effect.never, half))
            yield* Effect.yieldNow
          }))
        `)
      )
    }))
})
