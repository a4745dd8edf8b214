/** Least code for retries: so many times, doubling the wait. */
import * as Effect from "effect/Effect"

export const make =
  (times: number, millis: number) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    const again = (attempt: number) => (error: E): Effect.Effect<A, E, R> =>
      attempt > times
        ? Effect.fail(error)
        : Effect.andThen(Effect.sleep(millis * 2 ** attempt), Effect.catch(self, again(attempt + 1)))
    return Effect.catch(self, again(1))
  }
