import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Budget } from "../Budget.ts"
import { isRejection } from "../Rejection.ts"
import * as Window from "./budgetWindow.ts"
import { remainingMillis } from "./deadline.ts"
import { monotonicMillis } from "./monotonic.ts"
import { reportUnhandled } from "./unhandled.ts"

export interface Plan {
  /** Milliseconds before the next hedge; `Infinity` for none. */
  readonly delay: (now: number) => number
  /** Told how long the primary took, or had taken when a hedge won. */
  readonly record: ((now: number, millis: number) => void) | undefined
  readonly maxHedges: number
  readonly budget: Budget | undefined
}

type Verdict = "settles" | "hedgeNow" | "waits"

// A success settles; so do defects and interruption, which are not for a second try to hide. A typed failure calls for the
// next hedge at once. A rejection would hit the hedge as well, so it calls for none.
const judge = (exit: Exit.Exit<unknown, unknown>): Verdict => {
  if (Exit.isSuccess(exit) || !exit.cause.reasons.every(Cause.isFailReason)) return "settles"
  return exit.cause.reasons.every((reason) => isRejection(reason.error)) ? "waits" : "hedgeNow"
}

/**
 * Runs the effect, and copies of it, until one has succeeded or all have failed; then interrupts the others and resumes
 * the caller when every one has ended. To be called within the `register` function of `Effect.callback`: starting the
 * first attempt and registering the returned clean-up are then one step.
 */
export const startHedged = <A, E, R>(
  caller: Fiber.Fiber<unknown, unknown>,
  resume: (effect: Effect.Effect<A, E>) => void,
  self: Effect.Effect<A, E, R>,
  context: Context.Context<R>,
  plan: Plan
): Effect.Effect<void> | void => {
  const start = plan.record === undefined && plan.budget === undefined ? 0 : monotonicMillis(caller)
  let work = context
  // A call is counted once, also where a retry around it or within it shares the budget.
  if (plan.budget !== undefined && caller.getRef(Window.Counted) !== plan.budget.window) {
    Window.call(plan.budget.window, start)
    work = Context.add(context, Window.Counted, plan.budget.window)
  }
  const fork = Effect.runForkWith(work)
  const primary = fork(self)
  const done = primary.pollUnsafe()
  if (done !== undefined && Exit.isSuccess(done)) {
    if (plan.record !== undefined) plan.record(start, monotonicMillis(caller) - start)
    return resume(done)
  }
  /** Attempts and timers that have not ended. */
  const alive = new Set<Fiber.Fiber<unknown, unknown>>()
  let attempts = 0
  let hedges = 0
  let timer: Fiber.Fiber<void> | undefined
  let outcome: Exit.Exit<A, E> | undefined
  let swallowed: Cause.Cause<unknown> = Cause.empty
  let callerLeft = false

  const finish = () =>
    resume(
      swallowed.reasons.length === 0
        ? outcome!
        : Effect.andThen(
          reportUnhandled("A hedged attempt died after another had settled the call", swallowed),
          outcome!
        )
    )

  const settle = (exit: Exit.Exit<A, E>) => {
    outcome = exit
    for (const fiber of [...alive]) fiber.interruptUnsafe(caller.id)
    if (alive.size === 0) finish()
  }

  const track = <X, XE>(fiber: Fiber.Fiber<X, XE>, onEnd: (exit: Exit.Exit<X, XE>) => void) => {
    alive.add(fiber)
    fiber.addObserver((exit) => {
      alive.delete(fiber)
      if (callerLeft) return
      onEnd(exit)
      if (outcome !== undefined && alive.size === 0) finish()
    })
  }

  const mayHedge = (): boolean => {
    if (hedges >= plan.maxHedges) return false
    if (plan.budget === undefined) return true
    const now = monotonicMillis(caller)
    if (!Window.reserve(plan.budget.window, now)) return false
    Window.launch(plan.budget.window, now)
    return true
  }

  const hedge = () => {
    hedges++
    timer?.interruptUnsafe(caller.id)
    timer = undefined
    attempt(fork(self), false)
    // A copy that failed at once has launched the next one, and started the timer, already.
    if (outcome === undefined && timer === undefined) startTimer()
  }

  const startTimer = () => {
    if (hedges >= plan.maxHedges) return
    const delay = plan.delay(monotonicMillis(caller))
    // A hedge that would begin at the deadline is of no use.
    if (delay === Infinity || delay >= remainingMillis(caller)) return
    const sleep = caller.getRef(Clock.Clock).sleep(Duration.millis(delay))
    timer = Effect.runForkWith(caller.context)(sleep)
    track(timer, (exit) => {
      if (Exit.isSuccess(exit) && outcome === undefined && mayHedge()) hedge()
    })
  }

  const attempt = (fiber: Fiber.Fiber<A, E>, primary: boolean) => {
    attempts++
    track(fiber, (exit) => {
      attempts--
      if (primary && plan.record !== undefined && (Exit.isSuccess(exit) || outcome !== undefined)) {
        const now = monotonicMillis(caller)
        plan.record(now, now - start)
      }
      if (outcome !== undefined) {
        if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) swallowed = Cause.combine(swallowed, exit.cause)
        return
      }
      const verdict = judge(exit)
      if (verdict === "settles") settle(exit)
      else if (verdict === "hedgeNow" && mayHedge()) hedge()
      else if (attempts === 0) settle(exit)
    })
  }

  attempt(primary, true)
  if (outcome === undefined && hedges === 0) startTimer()
  return Effect.suspend(() => {
    callerLeft = true
    return Fiber.interruptAll(alive)
  })
}
