/**
 * The machine's time, for what deals with real sockets.
 *
 * Everywhere else time is `Clock`'s. A proxy delays bytes whose other end lives in another process and knows nothing of
 * a `TestClock`, so a delay in virtual time would never end, or would end before a byte has arrived.
 */
import * as Effect from "effect/Effect"
import { performance } from "node:perf_hooks"
import { clearTimeout, setTimeout } from "node:timers"

const MAX_TIMER_MILLIS = 2 ** 31 - 1

/** Milliseconds with fractions, good only for differences. */
export const now = (): number => performance.now()

/** Runs `action` later, or earlier than asked if that is beyond the longest timer. Gives the cancellation. */
export const after = (millis: number, action: () => void): () => void => {
  const timer = setTimeout(action, Math.min(Math.ceil(millis), MAX_TIMER_MILLIS))
  return () => clearTimeout(timer)
}

export const pause = (millis: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const cancel = after(millis, () => resume(Effect.void))
    return Effect.sync(cancel)
  })
