/**
 * Real time for tests that talk to real servers and real processes.
 *
 * These helpers work the same under `it.live` and under `it.effect`: they never read the `TestClock`, which stands still
 * while a server starts.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { inspect } from "node:util"

/** Runs an effect on the machine's clock, also when the test around it has a `TestClock`. */
export const live = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, Clock.Clock.defaultValue())

/** A pause of real time. For building bounded polls and network-like delays, never for making a test right. */
export const pause = (duration: Duration.Input): Effect.Effect<void> => live(Effect.sleep(duration))

/** How long `effect` took in real milliseconds, and its exit. */
export const timed = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<{ readonly exit: Exit.Exit<A, E>; readonly millis: number }, never, R> =>
  Effect.suspend(() => {
    const started = performance.now()
    return Effect.map(Effect.exit(effect), (exit) => ({ exit, millis: performance.now() - started }))
  })

export interface EventuallyOptions<A> {
  /** The bound in real time. Default 10 seconds: generous, because it is only spent by a test that fails. */
  readonly within?: Duration.Input | undefined
  /** The pause between two looks. Default 20 milliseconds. */
  readonly every?: Duration.Input | undefined
  /** Which successes count. Default: all but `false`. */
  readonly until?: ((value: A) => boolean) | undefined
  /** What is waited for: the start of the message of a failure. */
  readonly what?: string | undefined
}

/**
 * Waits until a condition holds: runs `check` again and again until it succeeds with something other than `false`
 * (or with what `until` accepts), and gives that value. A failure, a thrown assertion and a `check` that hangs all
 * mean "not yet"; when the bound has passed, the effect dies with the last thing seen.
 */
export const eventually = <A, E, R>(
  check: Effect.Effect<A, E, R>,
  options?: EventuallyOptions<A>
): Effect.Effect<A, never, R> =>
  Effect.gen(function*() {
    const within = Duration.toMillis(Duration.fromInputUnsafe(options?.within ?? "10 seconds"))
    const every = options?.every ?? "20 millis"
    const accept = options?.until ?? ((value: A) => (value as unknown) !== false)
    const deadline = performance.now() + within
    let last = "the check did not come back"
    while (true) {
      const exit = yield* Effect.raceFirst(
        Effect.exit(check),
        // Interruptible, so that losing does not mean waiting for the whole bound when this runs in a finalizer.
        Effect.interruptible(Effect.as(pause(Math.max(0, deadline - performance.now())), undefined))
      )
      if (exit !== undefined) {
        if (Exit.isSuccess(exit)) {
          if (accept(exit.value)) return exit.value
          last = inspect(exit.value, { depth: 4 })
        } else {
          last = Cause.pretty(exit.cause)
        }
      }
      if (performance.now() >= deadline) {
        const what = options?.what ?? "the condition did not hold"
        return yield* Effect.die(new Error(`${what} (not within ${within} ms); last seen: ${last}`))
      }
      yield* pause(every)
    }
  })
