import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { PermitQueue, Waiter } from "./bulkheadQueue.ts"
import { remainingMillis } from "./deadline.ts"

/** Why a caller got no permit. */
export type Refusal = "queue-full" | "waited-too-long" | "deadline"

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

// Ends when the permit is granted or the time is up; `waiter.state` tells which. Whoever waits without a limit has no
// timer.
const park = (fiber: Fiber.Fiber<unknown, unknown>, waiter: Waiter, millis: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (waiter.state !== "queued") return resume(Effect.void)
    waiter.resume = resume
    if (millis === Infinity) return
    const sleep = fiber.getRef(Clock.Clock).sleep(Duration.millis(millis))
    const timer = Effect.runForkWith(fiber.context)(sleep)
    waiter.timer = timer
    timer.addObserver((exit) => {
      if (Exit.isSuccess(exit)) resume(Effect.void)
    })
  })

/**
 * Runs `use` once a permit is granted, and gives the permit back when it has ended. To be called by a running fiber in
 * an uninterruptible region, in the same step in which it found no free permit.
 *
 * One finalizer covers every way out: it is registered with the place in the queue, and gives back the place or the
 * permit, whichever the caller has by then. A permit that is granted in the moment when the time is up is used.
 */
export const queued = <A, E, R, E2>(
  restore: Restore,
  queue: PermitQueue,
  options: { readonly priority: number; readonly maxWaitMillis: number },
  use: () => Effect.Effect<A, E, R>,
  refuse: (refusal: Refusal) => E2
): Effect.Effect<A, E | E2, R> => {
  if (queue.isFull) return Effect.fail(refuse("queue-full"))
  // Not `withFiber`: between that operation and the caller's look at the permits the fiber could yield, and a permit
  // that became free meanwhile would find nobody in the queue.
  const fiber = Fiber.getCurrent()!
  const left = remainingMillis(fiber)
  if (left <= 0) return Effect.fail(refuse("deadline"))
  const clipped = left < options.maxWaitMillis
  const waiter = queue.enqueue(options.priority, fiber.currentDispatcher)
  const wait = park(fiber, waiter, clipped ? left : options.maxWaitMillis)
  return Effect.onExitPrimitive(
    Effect.flatMap(
      restore(wait),
      (): Effect.Effect<A, E | E2, R> =>
        waiter.state === "granted" ? use() : Effect.fail(refuse(clipped ? "deadline" : "waited-too-long"))
    ),
    () => {
      queue.leave(waiter)
      return undefined
    },
    true
  )
}

/** The priority of a call: any number, so that it can be compared. */
export const decodePriority = (options: { readonly priority?: number | undefined } | undefined): number => {
  const priority = options?.priority ?? 0
  if (Number.isNaN(priority)) throw new RangeError("priority must be a number, got NaN")
  return priority
}
