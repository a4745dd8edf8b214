/** Least code for a bulkhead that refuses when it is full: a counter that interruption cannot falsify. No queue. */
import * as Effect from "effect/Effect"

export interface Full {
  readonly _tag: "Full"
}

const full: Full = { _tag: "Full" }

export const make = (places: number) => {
  let free = places
  const leave = () => {
    free++
    return undefined
  }
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Full, R> =>
    Effect.uninterruptibleMask((restore): Effect.Effect<A, E | Full, R> => {
      if (free === 0) return Effect.fail(full)
      free--
      return Effect.onExitPrimitive(restore(self), leave, true)
    })
}
