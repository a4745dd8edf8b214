/** Least code for a limit that adapts: up by one over the limit with each good call, down by a tenth with a bad one. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Full } from "./bulkhead.ts"

export const make = (min: number, max: number) => {
  let limit = min
  let inUse = 0
  const leave = (exit: Exit.Exit<unknown, unknown>) => {
    inUse--
    limit = Exit.isSuccess(exit) ? Math.min(max, limit + 1 / limit) : Math.max(min, limit * 0.9)
    return undefined
  }
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Full, R> =>
    Effect.uninterruptibleMask((restore): Effect.Effect<A, E | Full, R> => {
      if (inUse >= limit) return Effect.fail({ _tag: "Full" })
      inUse++
      return Effect.onExitPrimitive(restore(self), leave, true)
    })
}
