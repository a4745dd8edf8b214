/** Least code for a circuit breaker: one circuit, counts kept in closures, one probe, no options, no events. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"

export interface Open {
  readonly _tag: "Open"
  readonly retryAfterMillis: number
}

/** Has the circuit to open, after a call that failed or not? */
type Trip = (failed: boolean) => boolean

/** After so many failures in a row. */
export const consecutive = (failures: number): Trip => {
  let row = 0
  return (failed) => {
    row = failed ? row + 1 : 0
    return row >= failures
  }
}

/** When at least half of the last `size` calls failed. */
export const halfOfLast = (size: number): Trip => {
  const ring = new Uint8Array(size)
  let index = 0
  let count = 0
  let failures = 0
  return (failed) => {
    if (count === size) failures -= ring[index]!
    else count++
    ring[index] = failed ? 1 : 0
    if (failed) failures++
    index = index + 1 === size ? 0 : index + 1
    return failed && count >= 20 && failures * 2 >= count
  }
}

/** The state machine without Effect. `admit` gives 0 for a free passage, -1 for a probe, else how long to wait. */
export const makeCircuit = (trip: Trip, openMillis: number) => {
  let state: "Closed" | "Open" | "HalfOpen" = "Closed"
  let openUntil = 0
  const open = (now: number) => {
    state = "Open"
    openUntil = now + openMillis
  }
  return {
    isClosed: () => state === "Closed",
    admit: (now: number): number => {
      if (state === "Closed") return 0
      if (state === "HalfOpen" || now < openUntil) return Math.max(1, openUntil - now)
      state = "HalfOpen"
      return -1
    },
    record: (failed: boolean, now: () => number) => {
      if (trip(failed)) open(now())
    },
    probed: (failed: boolean, now: number) => {
      if (failed) open(now)
      else state = "Closed"
    }
  }
}

export const nowOf = (fiber: Fiber.Fiber<unknown, unknown>): number =>
  fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()

export const make = (trip: Trip, openMillis: number) => {
  const circuit = makeCircuit(trip, openMillis)
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Open, R> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | Open, R> => {
      if (circuit.isClosed()) {
        return Effect.onExitPrimitive(self, (exit) => {
          circuit.record(Exit.isFailure(exit), () => nowOf(fiber))
          return undefined
        })
      }
      const wait = circuit.admit(nowOf(fiber))
      if (wait > 0) return Effect.fail({ _tag: "Open", retryAfterMillis: wait })
      return Effect.onExitPrimitive(self, (exit) => {
        circuit.probed(Exit.isFailure(exit), nowOf(fiber))
        return undefined
      })
    })
}
