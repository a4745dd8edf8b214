/** Runs of real strategies in virtual time: the same on every machine, and over in no time. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

/** Milliseconds since the run began. */
export const now: Effect.Effect<number> = Clock.currentTimeMillis

/**
 * Runs a script for `until` milliseconds of virtual time, from a seed. What it has not ended by then is interrupted; what
 * it saw is what it wrote down.
 */
export const run = <E>(until: number, script: Effect.Effect<void, E, Scope.Scope>): Effect.Effect<void, E> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkScoped(script)
    yield* TestClock.adjust(until)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) yield* exit
  }).pipe(
    Effect.scoped,
    Effect.provide(TestClock.layer()),
    Random.withSeed("seaworthy")
  )

/** Starts one call at each of the times (milliseconds, rising), and goes on without waiting for them. */
export const callAt = <A, E>(
  times: ReadonlyArray<number>,
  call: (index: number, at: number) => Effect.Effect<A, E>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    for (const [index, time] of times.entries()) {
      yield* Effect.sleep(Math.max(0, time - (yield* now)))
      yield* Effect.forkScoped(call(index, time))
    }
  })

/** `from`, `from + step`, ... below `to`. */
export const every = (step: number, from: number, to: number): Array<number> => {
  const times: Array<number> = []
  for (let at = from; at < to; at += step) times.push(at)
  return times
}
