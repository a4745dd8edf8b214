import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"

/** A last warning before the work is interrupted. */
export interface Grace {
  /** Tells the work that its time is up. */
  readonly warn: () => void
  /** How long it may go on after the warning, in milliseconds. */
  readonly millis: number
}

// A defect stays a defect: one that is raised while the work cleans up is not hidden behind "timed out".
const late = <A, E, A2, E2, R2>(exit: Exit.Exit<A, E>, orElse: () => Effect.Effect<A2, E2, R2>) => {
  if (Exit.isFailure(exit)) {
    const defects = exit.cause.reasons.filter(Cause.isDieReason)
    if (defects.length > 0) return Effect.failCause(Cause.fromReasons<never>(defects))
  }
  return orElse()
}

/**
 * Starts `work` in a fiber of its own and resumes the caller when that fiber has ended, never before: what the work
 * holds is given back before anybody is told. After `millis` the work is interrupted and `orElse` replaces its outcome.
 *
 * To be called within the `register` function of `Effect.callback`: starting the work and registering the returned
 * clean-up are then one step, so that no interruption can fall between them.
 *
 * The work starts at once, in the caller's turn. Work that ends without waiting never gets a timer.
 */
export const startLimited = <A, E, R, A2, E2, R2>(
  caller: Fiber.Fiber<unknown, unknown>,
  resume: (effect: Effect.Effect<A | A2, E | E2, R2>) => void,
  work: Effect.Effect<A, E, R>,
  context: Context.Context<R>,
  millis: number,
  orElse: () => Effect.Effect<A2, E2, R2>,
  grace?: Grace | undefined
): Effect.Effect<void> | void => {
  const fiber = Effect.runForkWith(context)(work)
  const done = fiber.pollUnsafe()
  return done === undefined ? limit(caller, resume, fiber, millis, orElse, grace) : resume(done)
}

/** The same for work that has just been started, in the same step, and has not ended. */
export const limit = <A, E, A2, E2, R2>(
  caller: Fiber.Fiber<unknown, unknown>,
  resume: (effect: Effect.Effect<A | A2, E | E2, R2>) => void,
  fiber: Fiber.Fiber<A, E>,
  millis: number,
  orElse: () => Effect.Effect<A2, E2, R2>,
  grace?: Grace | undefined
): Effect.Effect<void> => {
  let timedOut = false
  const clock = caller.getRef(Clock.Clock)
  let timer: Fiber.Fiber<void> | undefined
  const startTimer = (delay: number, onTime: () => void): void => {
    if (delay === Infinity) return
    const sleeping = Effect.runForkWith(caller.context)(clock.sleep(Duration.millis(delay)))
    timer = sleeping
    sleeping.addObserver((exit) => {
      if (Exit.isSuccess(exit)) onTime()
    })
  }
  const interrupt = () => {
    timedOut = true
    fiber.interruptUnsafe(caller.id)
  }
  startTimer(millis, () => {
    if (grace === undefined) return interrupt()
    startTimer(grace.millis, interrupt)
    grace.warn()
  })
  fiber.addObserver((exit) => {
    const outcome = timedOut ? late(exit, orElse) : exit
    if (timer === undefined) return resume(outcome)
    timer.interruptUnsafe(caller.id)
    timer.addObserver(() => resume(outcome))
  })
  return Effect.suspend(() => Fiber.interruptAll(timer === undefined ? [fiber] : [timer, fiber]))
}
