// A time-out that holds even for uninterruptible work.
//
// `Effect.timeout` waits until the loser has ended, and the acquisition inside `acquireRelease` is uninterruptible in
// Effect 4: a connect to an address that accepts and never answers would defeat every start-up time-out. So the work
// runs in a fiber of its own; when time is up (or the caller is interrupted) it is told to stop and no longer waited for.
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** Runs `self` for at most `duration`; `none` when it did not end in time. What it acquires late it must release itself. */
export const bounded = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  duration: Duration.Input,
  /** Runs when time is up, before the work is told to stop. */
  onTimeout: Effect.Effect<void> = Effect.void
): Effect.Effect<Option.Option<A>, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkDetach(self, { startImmediately: true })
      // The wait has a fiber of its own too. In the finalizer of an interrupted fiber nothing is interruptible (an
      // `Effect.interruptible` region there ends at once), so a time-out around the wait itself would not work.
      const waiter = yield* Effect.forkDetach(Effect.timeoutOption(Fiber.await(fiber), duration), {
        startImmediately: true
      })
      const abandon = Effect.forkDetach(Fiber.interruptAll([waiter, fiber]), { startImmediately: true })
      const exit = yield* restore(Fiber.join(waiter)).pipe(Effect.onInterrupt(() => abandon))
      if (Option.isNone(exit)) {
        yield* onTimeout
        yield* abandon
        return Option.none<A>()
      }
      return Option.some(yield* exit.value)
    })
  )
