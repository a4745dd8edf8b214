import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
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
 * the caller when every one has ended. To be called within the `register` function of `Effect.callback`.
 */
export const startHedged = <A, E, R>(
  caller: Fiber.Fiber<unknown, unknown>,
  resume: (effect: Effect.Effect<A, E>) => void,
  self: Effect.Effect<A, E, R>,
  context: Context.Context<R>,
  plan: Plan
): Effect.Effect<void> | void => {
  const start = plan.record === undefined && plan.budget === undefined ? 0 : monotonicMillis(caller)
  if (plan.budget !== undefined) Window.call(plan.budget.window, start)
  const fork = Effect.runForkWith(context)
  const running = new Set<Fiber.Fiber<A, E>>()
  const clock = caller.getRef(Clock.Clock)
  let hedges = 0
  let outcome: Exit.Exit<A, E> | undefined
  let timer: Fiber.Fiber<void> | undefined
  let swallowed: Cause.Cause<unknown> = Cause.empty
  let interrupted = false

  const finish = () => {
    if (interrupted) return
    const exit = outcome!
    const result = swallowed.reasons.length === 0
      ? exit
      : Effect.andThen(reportUnhandled("A hedged attempt died after another had settled the call", swallowed), exit)
    if (timer === undefined) resume(result)
    else timer.addObserver(() => resume(result))
  }

  const settle = (exit: Exit.Exit<A, E>) => {
    outcome = exit
    timer?.interruptUnsafe(caller.id)
    if (running.size === 0) return finish()
    for (const loser of [...running]) loser.interruptUnsafe(caller.id)
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
    launch(fork(self), false)
    if (outcome === undefined) startTimer()
  }

  const startTimer = () => {
    timer?.interruptUnsafe(caller.id)
    timer = undefined
    if (hedges >= plan.maxHedges) return
    const delay = plan.delay(monotonicMillis(caller))
    // A hedge that would begin at the deadline is of no use.
    if (delay === Infinity || delay >= remainingMillis(caller)) return
    const sleeping = Effect.runForkWith(caller.context)(clock.sleep(Duration.millis(delay)))
    timer = sleeping
    sleeping.addObserver((exit) => {
      if (Exit.isSuccess(exit) && timer === sleeping && outcome === undefined && mayHedge()) hedge()
    })
  }

  const launch = (fiber: Fiber.Fiber<A, E>, primary: boolean) => {
    running.add(fiber)
    fiber.addObserver((exit) => {
      running.delete(fiber)
      if (primary && plan.record !== undefined && (Exit.isSuccess(exit) || outcome !== undefined) && !interrupted) {
        const now = monotonicMillis(caller)
        plan.record(now, now - start)
      }
      if (outcome !== undefined) {
        if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) swallowed = Cause.combine(swallowed, exit.cause)
        if (running.size === 0) finish()
        return
      }
      const verdict = judge(exit)
      if (verdict === "settles") return settle(exit)
      if (verdict === "hedgeNow" && mayHedge()) return hedge()
      if (running.size === 0) settle(exit)
    })
  }

  const primary = fork(self)
  launch(primary, true)
  if (outcome !== undefined && running.size === 0) return
  if (hedges === 0) startTimer()
  return Effect.suspend(() => {
    interrupted = true
    return Fiber.interruptAll(timer === undefined ? running : [timer, ...running])
  })
}
