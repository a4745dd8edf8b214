import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { TestClock } from "effect/testing"

/** Runs an effect in virtual time: starts it, lets `time` pass, and gives its exit. It must have ended by then. */
export const inVirtualTime = <A, E, R>(self: Effect.Effect<A, E, R>, time: Duration.Input = "1 hour") =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(self)
    // What can be done without waiting needs turns of the scheduler, not time.
    for (let turn = 0; turn < 100 && fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
    yield* TestClock.adjust(time)
    for (let turn = 0; turn < 100 && fiber.pollUnsafe() === undefined; turn++) yield* Effect.yieldNow
    const exit = fiber.pollUnsafe()
    if (exit === undefined) return yield* Effect.die(new Error("not ended in virtual time"))
    return exit
  })

/** Runs an effect and counts the sleeps that are still pending on its clock. */
export const countingSleeps = <A, E, R>(use: (pending: () => number) => Effect.Effect<A, E, R>) =>
  Effect.clockWith((clock) => {
    let pending = 0
    const counting: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
      sleep: (duration: Duration.Duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => pending++),
          () => clock.sleep(duration),
          () => Effect.sync(() => pending--)
        )
    })
    return Effect.provideService(use(() => pending), Clock.Clock, counting)
  })

/**
 * Interrupts an effect after 0, 1, 2, ... turns of the scheduler, yielding after every few operations so that a turn may
 * end anywhere, and runs `check` each time.
 */
export const interruptedAtEveryStep = <A, E, R, E2, R2>(
  self: Effect.Effect<A, E, R>,
  check: (turns: number) => Effect.Effect<void, E2, R2>,
  turns = 40
) =>
  Effect.gen(function*() {
    for (const operations of [2, 3, 5]) {
      for (let turn = 0; turn < turns; turn++) {
        const fiber = yield* Effect.forkChild(Effect.provideService(self, Scheduler.MaxOpsBeforeYield, operations))
        for (let i = 0; i < turn; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        yield* check(turn)
      }
    }
  })
