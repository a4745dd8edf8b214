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
}

export interface Gate {
  /** Runs `self` inside. */
  readonly pass: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | PoolExhaustedError, R>
  /** Inside until the scope closes. */
  readonly enter: Effect.Effect<void, PoolExhaustedError, Scope.Scope>
  readonly inside: () => number
  readonly waiting: () => number
  /** Turns away everyone who waits or comes later. */
  readonly close: () => void
}

interface Waiter {
  admitted: boolean
  readonly wake: (effect: Effect.Effect<void>) => void
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

export const make = (limits: Limits): Gate => {
  // In order of arrival: a Set keeps it, and anyone can leave from the middle.
  const queue = new Set<Waiter>()
  let inside = 0
  let closed = false

  const refuse = (reason: PoolExhaustedError["reason"]) =>
    Effect.suspend(() =>
      Effect.fail(
        new PoolExhaustedError({
          reason,
          inUse: inside,
          waiting: queue.size,
          maxConnections: limits.maxConnections,
          maxWaiting: limits.maxWaiting,
          waited: reason === "AcquireTimeout" ? Duration.toMillis(limits.acquireTimeout) : 0
        })
      )
    )

  const admitNext = () => {
    const next = queue.values().next()
    if (next.done === true) return
    queue.delete(next.value)
    next.value.admitted = true
    inside++
    next.value.wake(Effect.void)
  }

  const leave = () => {
    inside--
    if (inside < limits.maxConnections) admitNext()
  }

  const wait = (restore: Restore): Effect.Effect<void, PoolExhaustedError> =>
    Effect.suspend(() => {
      let waiter: Waiter | undefined
      const admission = Effect.callback<void>((resume) => {
        waiter = { admitted: false, wake: resume }
        queue.add(waiter)
      })
      const settled = Effect.onExitPrimitive(
        restore(Effect.timeoutOption(admission, limits.acquireTimeout)),
        (exit) => {
          if (waiter === undefined) return undefined
          queue.delete(waiter)
          // Admitted at the very moment it gave up: the place goes to the next one.
          if (Exit.isFailure(exit) && waiter.admitted) leave()
          return undefined
        },
        true
      )
      return Effect.flatMap(settled, (outcome) => {
        if (waiter?.admitted === true) return Effect.void
        return refuse(Option.isNone(outcome) ? "AcquireTimeout" : "Closed")
      })
    })

  const enter = (restore: Restore): Effect.Effect<void, PoolExhaustedError> =>
    Effect.suspend(() => {
      if (closed) return refuse("Closed")
      if (inside < limits.maxConnections) {
        inside++
        return Effect.void
      }
      if (queue.size >= limits.maxWaiting) return refuse("TooManyWaiting")
      return Effect.withFiber((fiber) =>
        fiber.getRef(CurrentBegin)?.impatient === true ? refuse("WouldDeadlock") : wait(restore)
      )
    })

  return {
    pass: (self) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(enter(restore), () =>
          Effect.onExitPrimitive(restore(self), () => {
            leave()
            return undefined
          }, true))
      ),
    enter: Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.scope,
        (scope) => Effect.flatMap(enter(restore), () => Scope.addFinalizer(scope, Effect.sync(leave)))
      )
    ),
    inside: () => inside,
    waiting: () => queue.size,
    close: () => {
      closed = true
      const all = Array.from(queue)
      queue.clear()
      for (const waiter of all) waiter.wake(Effect.void)
    }
  }
}
