/**
 * Tries an effect again when it fails.
 *
 * **When to use**
 *
 * Use `retry` around work that is safe to repeat and whose failures are short: a dropped connection, a lost race, a
 * throttled request. Put a `Timeout` inside it, so that each attempt has its own limit, and share a `Budget` between all
 * callers of one dependency.
 *
 * **Details**
 *
 * - `times: n` means n retries, so n + 1 calls. Without `schedule` the delays are those of full jitter from 100 ms to 5 s,
 *   and `times` is 3. With a `schedule` and no `times`, the schedule alone decides when to stop.
 * - Any Effect `Schedule` will do. Inside a retried attempt, `Schedule.CurrentMetadata` tells which it is.
 * - What is not retried passes through unchanged: errors that `while` refuses, rejections (open circuit, full bulkhead)
 *   unless `rejections: true`, defects, interruption, and `RetryBudgetExhaustedError` of an inner retry.
 * - A `retryAfter` of the error is never undercut: the delay is the longer of the two, whatever the schedule's cap.
 * - An attempt that could not begin in time (`totalDuration`, a surrounding `Deadline`, `maxRetryAfter`) ends the call at
 *   once instead of after a useless sleep. `totalDuration` does not interrupt an attempt: see `Deadline`.
 * - Interruption in a backoff ends the call at once and makes no further attempt.
 * - A result that `whileResult` still refuses at the end is returned as it is.
 *
 * **Gotchas**
 *
 * - Work that is not safe to repeat (a payment without an idempotency key) must not be retried.
 * - Nested retries multiply: retry at one level.
 *
 * Built on `Schedule` but not on `Effect.retry`, which takes about eight times as long for a call that succeeds, returns
 * the last error without its history, and knows no `retryAfter`, budget, deadline or rejections.
 *
 * **Example** (The third attempt succeeds)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Retry } from "seaworthy"
 *
 * let calls = 0
 * const flaky = Effect.suspend(() => ++calls < 3 ? Effect.fail("busy") : Effect.succeed(`answer ${calls}`))
 *
 * const program = Retry.retry(flaky, { schedule: Retry.exponential({ base: "1 millis", max: "5 seconds" }), times: 3 })
 * console.log(await Effect.runPromise(program)) // => 'answer 3'
 *
 * const hopeless = Retry.retry(Effect.fail("busy"), { schedule: Retry.fixed("1 millis"), times: 2 })
 * const error = await Effect.runPromise(Effect.flip(hopeless))
 * console.log([error._tag, error.attempts, error.error]) // => [ 'RetryExhaustedError', 3, 'busy' ]
 * ```
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import type { Budget, RetryBudgetExhaustedError } from "./Budget.ts"
import { integerAtLeast, nonNegativeMillis, positiveMillis } from "./internal/options.ts"
import type { RetryExhaustedError } from "./internal/retryError.ts"
import { pass, type Plan, run, type Verdict } from "./internal/retryLoop.ts"
import { fullJitter } from "./internal/schedules.ts"
import type { Classify } from "./Outcome.ts"
import { isRejection, type Rejection } from "./Rejection.ts"

export { type Attempt, type Reason, RetryExhaustedError } from "./internal/retryError.ts"
export {
  decorrelatedJitter,
  exponential,
  type ExponentialOptions,
  fixed,
  fullJitter,
  type GrowthOptions,
  linear,
  type LinearOptions
} from "./internal/schedules.ts"

/** Options that do not look at the effect's own types. */
export interface CommonOptions {
  /** Name in `RetryExhaustedError.strategy`. Default `"retry"`. */
  readonly name?: string | undefined
  /** Most retries after the first call: 0 or more. Default 3 without a `schedule`, else as many as the schedule allows. */
  readonly times?: number | undefined
  /** No attempt begins later than this after the start of the call. Default: no limit. */
  readonly totalDuration?: Duration.Input | undefined
  /** A longer wait than this asked for by `retryAfter` ends the call at once. Default 1 minute. */
  readonly maxRetryAfter?: Duration.Input | undefined
  /** Bounds the extra load of all that share it; adds `RetryBudgetExhaustedError` to the type. */
  readonly budget?: Budget | undefined
  /** Retry also what another strategy refused (rejections). Default: they pass through unchanged. */
  readonly rejections?: true | undefined
}

/** Options for effects that fail with `E`. */
export interface ErrorOptions<in E> extends CommonOptions {
  /** When to try again, and when to stop. Gets the error. Default: full jitter from 100 ms to 5 s. */
  readonly schedule?: Schedule.Schedule<unknown, E, unknown, unknown> | undefined
  /** Which errors to retry. A type guard removes the others from `RetryExhaustedError`. Default: all but rejections. */
  readonly while?: ((error: E) => boolean) | undefined
  /** How long the dependency asked to wait. Default: the error's own `retryAfter`, if that is a `Duration`. */
  readonly retryAfter?: ((error: E) => Duration.Input | undefined) | undefined
  readonly whileResult?: undefined
  readonly classify?: undefined
}

/** Options that also retry unwanted successes. */
export interface ResultOptions<in A, in E> extends Omit<ErrorOptions<E>, "schedule" | "whileResult"> {
  /** When to try again, and when to stop. Gets the error, or the unwanted result. */
  readonly schedule?: Schedule.Schedule<unknown, A | E, unknown, unknown> | undefined
  /** Which results to retry. One that is still unwanted at the end is returned as it is. */
  readonly whileResult: (value: A) => boolean
}

/** Options that leave the judgement to the `Classify` that other strategies use too. */
export interface ClassifyOptions<in A, in E> extends CommonOptions {
  /** When to try again, and when to stop. Gets the error, or the result that counts as a failure. */
  readonly schedule?: Schedule.Schedule<unknown, A | E, unknown, unknown> | undefined
  /** Retried is what it calls a `Failure`, not before the `retryAfter` it gives. Not asked about defects and interruption. */
  readonly classify: Classify<A, E>
  readonly rejections?: undefined
  readonly while?: undefined
  readonly retryAfter?: undefined
  readonly whileResult?: undefined
}

/** Options of {@link retry}. */
export type Options<A, E> = ErrorOptions<E> | ResultOptions<A, E> | ClassifyOptions<A, E>

/** Options without functions of the effect's own types: a `retry` made with them fits any effect. */
export interface PlainOptions extends CommonOptions {
  readonly schedule?: Schedule.Schedule<unknown, unknown, unknown, unknown> | undefined
  readonly while?: undefined
  readonly retryAfter?: undefined
  readonly whileResult?: undefined
  readonly classify?: undefined
}

type Field<O, K extends string> = K extends keyof O ? O[K] : undefined

type Candidate<E, O> = Exclude<
  Field<O, "classify"> extends undefined ? Field<O, "rejections"> extends true ? E : Exclude<E, Rejection> : E,
  RetryBudgetExhaustedError<unknown>
>

type Narrow<C, X> = [Extract<C, X>] extends [never] ? C & X : Extract<C, X>

type Guard<O> = Field<O, "while"> extends (error: any) => error is infer X ? X : unknown

/** Which errors of `E` are retried under the options `O`. */
export type Retried<E, O> = unknown extends Guard<O> ? Candidate<E, O> : Narrow<Candidate<E, O>, Guard<O>>

/** The errors that pass through unchanged: under a plain predicate, any; else those that are not retried. */
type Passed<E, O> = Field<O, "classify"> extends undefined ? PassedBy<E, O> : E

type PassedBy<E, O> = Field<O, "while"> extends undefined ? Exclude<E, Candidate<E, O>>
  : unknown extends Guard<O> ? E
  : Exclude<E, Retried<E, O>>

type GaveUp<X, O> = [X] extends [never] ? never
  : RetryExhaustedError<X> | (Field<O, "budget"> extends undefined ? never : RetryBudgetExhaustedError<X>)

type ScheduleError<O> = Field<O, "schedule"> extends infer S
  ? S extends Schedule.Schedule<infer _Out, infer _In, infer Error, infer _Env> ? Error : never
  : never

type ScheduleServices<O> = Field<O, "schedule"> extends infer S
  ? S extends Schedule.Schedule<infer _Out, infer _In, infer _Error, infer Env> ? Env : never
  : never

/** The error type of an effect that fails with `E` under {@link retry} with the options `O`. */
export type Failure<E, O> = Passed<E, O> | GaveUp<Retried<E, O>, O> | ScheduleError<O>

const defaultSchedule = fullJitter({ base: "100 millis", max: "5 seconds" })

const retryAfterOf = (error: unknown): Duration.Duration | undefined =>
  hasProperty(error, "retryAfter") && Duration.isDuration(error.retryAfter) ? error.retryAfter : undefined

// What a dependency says is not an option of ours: nonsense is ignored, not thrown.
const askedMillis = (asked: Duration.Input | undefined): number => {
  if (asked === undefined) return 0
  const decoded = Duration.fromInput(asked)
  const millis = Option.isSome(decoded) ? Duration.toMillis(decoded.value) : 0
  return millis > 0 ? millis : 0
}

const byClassify = (classify: Classify): Pick<Plan, "judgeFailure" | "judgeSuccess"> => {
  const judge = (exit: Exit.Exit<unknown, unknown>): Verdict => {
    const outcome = classify(exit)
    return outcome._tag === "Failure" ? askedMillis(outcome.retryAfter) : pass
  }
  return {
    judgeFailure: (_, cause) => judge(Exit.failCause(cause)),
    judgeSuccess: (value) => judge(Exit.succeed(value))
  }
}

const byPredicates = (options: Options<unknown, unknown>): Pick<Plan, "judgeFailure" | "judgeSuccess"> => {
  const { rejections, retryAfter = retryAfterOf, while: isWanted, whileResult } = options
  return {
    judgeFailure: (error) =>
      (rejections === true || !isRejection(error)) && (isWanted === undefined || isWanted(error))
        ? askedMillis(retryAfter(error))
        : pass,
    judgeSuccess: whileResult && ((value) => whileResult(value) ? 0 : pass)
  }
}

const compile = (options: Options<unknown, unknown>): Plan => {
  const times = options.times ?? (options.schedule === undefined ? 3 : Infinity)
  return {
    name: options.name ?? "retry",
    times: times === Infinity ? times : integerAtLeast("times", 0, times),
    schedule: options.schedule ?? defaultSchedule,
    ...(options.classify === undefined ? byPredicates(options) : byClassify(options.classify)),
    maxRetryAfter: options.maxRetryAfter === undefined
      ? 60_000
      : nonNegativeMillis("maxRetryAfter", options.maxRetryAfter),
    totalMillis: options.totalDuration === undefined
      ? Infinity
      : positiveMillis("totalDuration", options.totalDuration),
    budget: options.budget
  }
}

/**
 * Runs the effect, and again when it fails, as the options say. When there will be no other attempt it fails with
 * {@link RetryExhaustedError}.
 *
 * An option that is out of range throws a `RangeError` that names it.
 */
export const retry: {
  <O extends PlainOptions>(
    options: O
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, Failure<E, O>, R | ScheduleServices<O>>
  <A, E, O extends Options<A, E>>(
    options: O
  ): <R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, Failure<E, O>, R | ScheduleServices<O>>
  <A, E, R, O extends Options<A, E>>(
    self: Effect.Effect<A, E, R>,
    options: O
  ): Effect.Effect<A, Failure<E, O>, R | ScheduleServices<O>>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second] = args as [Effect.Effect<unknown>, Options<unknown, unknown>]
  if (Effect.isEffect(first)) return run(first, compile(second)) as never
  const plan = compile(first)
  return ((self: Effect.Effect<unknown>) => run(self, plan)) as never
}
