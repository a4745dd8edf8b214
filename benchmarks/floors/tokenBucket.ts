/** Least code for a token bucket: one bucket, refilled when a call comes. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export interface Exceeded {
  readonly _tag: "Exceeded"
  readonly retryAfterMillis: number
}

export const make = (limit: number, windowMillis: number) => {
  let tokens = limit
  let at = 0
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Exceeded, R> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | Exceeded, R> => {
      const now = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
      tokens = Math.min(limit, tokens + (now - at) * limit / windowMillis)
      at = now
      if (tokens < 1) {
        return Effect.fail({ _tag: "Exceeded", retryAfterMillis: (1 - tokens) * windowMillis / limit })
      }
      tokens--
      return self
    })
}
