import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** Monotonic time of a clock in milliseconds, with fractions. Good only for differences. */
export const millisOf = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

/** The same of a fiber's clock. */
export const monotonicMillis = (fiber: Fiber.Fiber<unknown, unknown>): number => millisOf(fiber.getRef(Clock.Clock))

// A clock that does not move while it sleeps must not keep a call for ever.
const maxTopUps = 10

/**
 * Sleeps and is never early. Node cuts a timer to whole milliseconds and counts from a rounded start, so that
 * `Effect.sleep(1.9)` can return after 1 ms: what is missing is slept as well.
 */
export const sleepAtLeast = (millis: number): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const clock = fiber.getRef(Clock.Clock)
    const end = monotonicMillis(fiber) + millis
    const topUp = (left: number): Effect.Effect<void> => {
      const missing = end - monotonicMillis(fiber)
      return missing > 0.000_5 && left > 0
        ? Effect.flatMap(clock.sleep(Duration.millis(Math.ceil(missing))), () => topUp(left - 1))
        : Effect.void
    }
    return Effect.flatMap(clock.sleep(Duration.millis(millis)), () => topUp(maxTopUps))
  })
