import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import { type Budget, RetryBudgetExhaustedError } from "../Budget.ts"
import * as Window from "./budgetWindow.ts"
import { remainingMillis } from "./deadline.ts"
import { monotonicMillis, sleepAtLeast } from "./monotonic.ts"
import { type Attempt, type Reason, RetryExhaustedError } from "./retryError.ts"

type Step = (now: number, input: unknown) => Pull.Pull<[unknown, Duration.Duration], unknown, unknown, unknown>

/** Milliseconds that the dependency asked to wait before a retry (0 if it did not), or `pass`: no retry. */
export type Verdict = number

export const pass: Verdict = -1

/** The options of `Retry.retry`, checked and decoded once. Durations are milliseconds. */
export interface Plan {
  readonly name: string
  readonly times: number
  readonly schedule: Schedule.Schedule<unknown, unknown, unknown, unknown>
  readonly judgeFailure: (error: unknown, cause: Cause.Cause<unknown>) => Verdict
  readonly judgeSuccess: ((value: unknown) => Verdict) | undefined
  readonly maxRetryAfter: number
  readonly totalMillis: number
  readonly budget: Budget | undefined
}

/** What one call has behind it. Made at its first failure, so that a call that succeeds pays nothing for it. */
interface State {
  readonly start: number
  attempts: number
  /** The most recent attempts: a call that is retried for ever must not grow. */
  readonly recent: Array<Attempt<unknown>>
  step: Step | undefined
  metadata: Schedule.Metadata<unknown, unknown>
}

const maxRecent = 32

type Any = Effect.Effect<unknown, unknown, unknown>

/** How an attempt ended that may be followed by another. */
type Unwanted =
  & { readonly asked: number }
  & ({ readonly failed: true; readonly error: unknown } | { readonly failed: false; readonly value: unknown })

/** Runs the effect once, and then as the plan says. */
export const run = (self: Any, plan: Plan): Any => {
  const timed = plan.totalMillis < Infinity || plan.budget !== undefined
  if (!timed) {
    return attempt(
      self,
      plan,
      (unwanted) =>
        Effect.withFiber((fiber) => afterFailure(fiber, self, plan, makeState(monotonicMillis(fiber)), unwanted))
    )
  }
  return Effect.withFiber((fiber) => {
    const start = monotonicMillis(fiber)
    const work = plan.budget === undefined ? self : counted(fiber, self, plan.budget, start)
    return attempt(
      work,
      plan,
      (unwanted) => Effect.withFiber((fiber) => afterFailure(fiber, work, plan, makeState(start), unwanted))
    )
  })
}

// A call is counted once, also where a hedge or another retry of it shares the budget.
const counted = (fiber: Fiber.Fiber<unknown, unknown>, self: Any, { window }: Budget, now: number): Any => {
  if (fiber.getRef(Window.Counted) === window) return self
  Window.call(window, now)
  return Effect.provideService(self, Window.Counted, window)
}

const makeState = (start: number): State => ({
  start,
  attempts: 0,
  recent: [],
  step: undefined,
  metadata: Schedule.CurrentMetadata.defaultValue()
})

// Only a pure typed failure is a reason to try again: a cause that holds a defect or an interruption passes as it is.
const attempt = (self: Any, plan: Plan, again: (unwanted: Unwanted) => Any): Any => {
  const onFailure = (cause: Cause.Cause<unknown>): Any => {
    const reasons = cause.reasons
    const first = reasons[0]
    if (first === undefined || !reasons.every(Cause.isFailReason) || !Cause.isFailReason(first)) {
      return Effect.failCause(cause)
    }
    // An inner budget has said that there shall be no other attempt.
    if (first.error instanceof RetryBudgetExhaustedError) return Effect.failCause(cause)
    const asked = plan.judgeFailure(first.error, cause)
    return asked < 0 ? Effect.failCause(cause) : again({ failed: true, error: first.error, asked })
  }
  const judge = plan.judgeSuccess
  return judge === undefined ? Effect.catchCause(self, onFailure) : Effect.matchCauseEffect(self, {
    onFailure,
    onSuccess: (value) => {
      const asked = judge(value)
      return asked < 0 ? Effect.succeed(value) : again({ failed: false, value, asked })
    }
  })
}

const afterFailure = (
  fiber: Fiber.Fiber<unknown, unknown>,
  self: Any,
  plan: Plan,
  state: State,
  unwanted: Unwanted
): Any => {
  const elapsed = monotonicMillis(fiber) - state.start
  state.attempts++
  if (unwanted.failed) {
    if (state.recent.length === maxRecent) state.recent.shift()
    state.recent.push({ number: state.attempts, error: unwanted.error, elapsed: Duration.millis(elapsed) })
  }
  if (state.attempts > plan.times) return giveUp(plan, state, unwanted, elapsed, "times")
  const input = unwanted.failed ? unwanted.error : unwanted.value
  const withStep = (step: Step): Any => {
    state.step = step
    const now = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
    return Pull.matchEffect(step(now, input), {
      onSuccess: ([output, delay]) => {
        const millis = Math.max(Duration.toMillis(delay), unwanted.asked)
        state.metadata = nextMetadata(state.metadata, now, input, output, millis)
        return backOff(fiber, self, plan, state, unwanted, millis)
      },
      onFailure: Effect.failCause,
      onDone: () => giveUp(plan, state, unwanted, elapsed, "schedule")
    })
  }
  if (state.step !== undefined) return withStep(state.step)
  return Effect.flatMap(Schedule.toStep(plan.schedule) as Effect.Effect<Step, never, unknown>, withStep)
}

const backOff = (
  fiber: Fiber.Fiber<unknown, unknown>,
  self: Any,
  plan: Plan,
  state: State,
  unwanted: Unwanted,
  delay: number
): Any => {
  const now = monotonicMillis(fiber)
  const elapsed = now - state.start
  if (unwanted.asked > plan.maxRetryAfter) return giveUp(plan, state, unwanted, elapsed, "retryAfter")
  if (delay === Infinity) return giveUp(plan, state, unwanted, elapsed, "schedule")
  if (elapsed + delay > plan.totalMillis) return giveUp(plan, state, unwanted, elapsed, "totalDuration")
  if (delay >= remainingMillis(fiber)) return giveUp(plan, state, unwanted, elapsed, "deadline")
  const sleep = delay === 0 ? Effect.yieldNow : sleepAtLeast(delay)
  // Not nested within the sleep's frames: a call that is retried for ever must not grow the fiber's stack.
  const next = () =>
    attempt(
      Effect.provideService(self, Schedule.CurrentMetadata, state.metadata),
      plan,
      (unwanted) => Effect.withFiber((fiber) => afterFailure(fiber, self, plan, state, unwanted))
    )
  if (plan.budget === undefined) return Effect.flatMap(sleep, next)
  return Effect.flatMap(
    reserved(plan.budget, sleep),
    (granted) => granted ? next() : outOfBudget(plan.budget!, state, unwanted)
  )
}

// Set aside before the sleep and given back if it is interrupted, in one region that no interruption can split.
const reserved = (budget: Budget, sleep: Effect.Effect<void>): Effect.Effect<boolean> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => {
      if (!Window.reserve(budget.window, monotonicMillis(fiber))) return Effect.succeed(false)
      return Effect.as(
        Effect.onExitPrimitive(restore(sleep), (exit) => {
          if (Exit.isSuccess(exit)) Window.launch(budget.window, monotonicMillis(fiber))
          else Window.refund(budget.window)
          return undefined
        }),
        true
      )
    })
  )

const outOfBudget = (budget: Budget, state: State, unwanted: Unwanted): Any =>
  unwanted.failed
    ? Effect.fail(
      new RetryBudgetExhaustedError({ strategy: budget.name, error: unwanted.error, attempts: state.attempts })
    )
    : Effect.succeed(unwanted.value)

const giveUp = (plan: Plan, state: State, unwanted: Unwanted, elapsed: number, reason: Reason): Any =>
  unwanted.failed
    ? Effect.fail(
      new RetryExhaustedError({
        strategy: plan.name,
        error: unwanted.error,
        reason,
        attempts: state.attempts,
        recent: state.recent,
        elapsed: Duration.millis(elapsed)
      })
    )
    : Effect.succeed(unwanted.value)

const nextMetadata = (
  previous: Schedule.Metadata<unknown, unknown>,
  now: number,
  input: unknown,
  output: unknown,
  millis: number
): Schedule.Metadata<unknown, unknown> => {
  const start = previous.attempt === 0 ? now : previous.start
  return {
    input,
    output,
    duration: Duration.millis(millis),
    attempt: previous.attempt + 1,
    start,
    now,
    elapsed: now - start,
    elapsedSincePrevious: previous.attempt === 0 ? 0 : now - previous.now
  }
}
