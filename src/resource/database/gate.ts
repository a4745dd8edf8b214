// The door in front of a connection pool: as many inside as there are connections, a bounded queue outside, and a bound
// on the wait. Database clients have pools of their own, but `@effect/sql-pg` bounds neither wait nor queue.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { PoolExhaustedError } from "./errors.ts"
import { CurrentBegin } from "./hooks.ts"

export interface Limits {
  readonly maxConnections: number
  readonly maxWaiting: number
  readonly acquireTimeout: Duration.Duration
  /** Name of the pool in errors; without one it is the database's. */
  readonly pool?: string | undefined
}

export interface Gate {
  /** Runs `self` inside. */
  readonly pass: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | PoolExhaustedError, R>
  /** Inside until the scope closes. */
  readonly enter: Effect.Effect<void, PoolExhaustedError, Scope.Scope>
  /** The first half of `pass`, to be run where nothing interrupts: whoever is admitted owes a `leave`. */
  readonly admit: (restore: Restore) => Effect.Effect<void, PoolExhaustedError>
  /** The place goes to the next one who waits. */
  readonly leave: () => void
  /** Takes a place past the queue, which must be known to be there; owes a `leave`. */
  readonly occupy: () => void
  readonly refuse: (reason: PoolExhaustedError["reason"]) => PoolExhaustedError
  readonly inside: () => number
  readonly waiting: () => number
  /** Turns away everyone who waits or comes later. */
  readonly close: () => void
}

interface Waiter {
  admitted: boolean
  /** Admitted or turned away; it may not have begun to listen. */
  over: boolean
  wake: () => void
}

export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

export const make = (limits: Limits): Gate => {
  // In order of arrival: a Set keeps it, and anyone can leave from the middle.
  const queue = new Set<Waiter>()
  let inside = 0
  let closed = false

  const refusal = (reason: PoolExhaustedError["reason"]) =>
    new PoolExhaustedError({
      reason,
      inUse: inside,
      waiting: queue.size,
      maxConnections: limits.maxConnections,
      maxWaiting: limits.maxWaiting,
      waited: reason === "AcquireTimeout" ? Duration.toMillis(limits.acquireTimeout) : 0,
      ...(limits.pool === undefined ? {} : { pool: limits.pool })
    })
  const refuse = (reason: PoolExhaustedError["reason"]) => Effect.suspend(() => Effect.fail(refusal(reason)))

  const admitNext = () => {
    const next = queue.values().next()
    if (next.done === true) return
    queue.delete(next.value)
    next.value.admitted = true
    next.value.over = true
    inside++
    next.value.wake()
  }

  const leave = () => {
    inside--
    if (inside < limits.maxConnections) admitNext()
  }

  const wait = (waiter: Waiter, restore: Restore): Effect.Effect<void, PoolExhaustedError> => {
    const admission = Effect.callback<void>((resume) => {
      waiter.wake = () => resume(Effect.void)
      if (waiter.over) waiter.wake()
    })
    const settled = Effect.onExitPrimitive(
      restore(Effect.timeoutOption(admission, limits.acquireTimeout)),
      (exit) => {
        queue.delete(waiter)
        // Admitted at the very moment it gave up: the place goes to the next one.
        if (Exit.isFailure(exit) && waiter.admitted) leave()
        return undefined
      },
      true
    )
    return Effect.flatMap(settled, (outcome) => {
      if (waiter.admitted) return Effect.void
      return refuse(Option.isNone(outcome) ? "AcquireTimeout" : "Closed")
    })
  }

  const admit = (restore: Restore): Effect.Effect<void, PoolExhaustedError> =>
    Effect.withFiber((fiber) => {
      if (closed) return refuse("Closed")
      if (inside < limits.maxConnections) {
        inside++
        return Effect.void
      }
      if (queue.size >= limits.maxWaiting) return refuse("TooManyWaiting")
      if (fiber.getRef(CurrentBegin)?.impatient === true) return refuse("WouldDeadlock")
      // In the same step as the look at the places: one that is left between the two would wake nobody.
      const waiter: Waiter = { admitted: false, over: false, wake: () => {} }
      queue.add(waiter)
      return wait(waiter, restore)
    })

  return {
    pass: (self) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(admit(restore), () =>
          Effect.onExitPrimitive(restore(self), () => {
            leave()
            return undefined
          }, true))
      ),
    enter: Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.scope,
        (scope) => Effect.flatMap(admit(restore), () => Scope.addFinalizer(scope, Effect.sync(leave)))
      )
    ),
    admit,
    leave,
    occupy: () => {
      inside++
    },
    refuse: refusal,
    inside: () => inside,
    waiting: () => queue.size,
    close: () => {
      closed = true
      const all = Array.from(queue)
      queue.clear()
      for (const waiter of all) {
        waiter.over = true
        waiter.wake()
      }
    }
  }
}
