/**
 * Interruption at every step that a scheduler can take, not only at sleeps.
 *
 * A fiber yields after `MaxOpsBeforeYield` operations. With a small number the yields fall between any two operations,
 * and an interruption that arrives there finds every hole in a reservation.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { MaxOpsBeforeYield } from "effect/Scheduler"

export interface Step {
  /** Operations between two yields. */
  readonly ops: number
  /** Turns after which the interruption comes. */
  readonly turns: number
}

/** Every combination up to the given numbers. With fewer than 3 operations a fiber does nothing but yield. */
export const steps = (maxOps: number, maxTurns: number): ReadonlyArray<Step> => {
  const all: Array<Step> = []
  for (let ops = 3; ops <= maxOps; ops++) {
    for (let turns = 0; turns <= maxTurns; turns++) all.push({ ops, turns })
  }
  return all
}

/** Lets other fibers take a number of turns. */
export const turns = (n: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < n; i++) yield* Effect.yieldNow
  })

/** Forks with a yield every `ops` operations. */
export const forkWith = <A, E, R>(self: Effect.Effect<A, E, R>, ops: number) =>
  Effect.forkChild(Effect.provideService(self, MaxOpsBeforeYield, ops), { startImmediately: true })

/** Starts the effect, interrupts it at the step, and waits until it has ended. */
export const interruptAt = <A, E, R>(self: Effect.Effect<A, E, R>, step: Step): Effect.Effect<void, never, R> =>
  Effect.gen(function*() {
    const fiber = yield* forkWith(self, step.ops)
    yield* turns(step.turns)
    yield* Fiber.interrupt(fiber)
  })
