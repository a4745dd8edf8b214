/**
 * What a policy does to the three types of an effect: each strategy in turn, from the inside out.
 */
import type * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import type { AdaptiveLimitFullError } from "../AdaptiveLimit.ts"
import type { BulkheadFullError } from "../Bulkhead.ts"
import type { CircuitBreakerOpenError } from "../CircuitBreaker.ts"
import type { DeadlineExceededError } from "../Deadline.ts"
import type * as Fallback from "../Fallback.ts"
import type { RateLimiter, RateLimitExceededError } from "../RateLimiter.ts"
import type * as Retry from "../Retry.ts"
import type { TimeoutError } from "../Timeout.ts"

/** The option `K`, without `undefined`; `never` when it is left out. */
type Given<O, K extends string> = K extends keyof O ? Exclude<O[K], undefined> : never

/** Is the option left out, or can it be? */
type MayMiss<O, K extends string> = K extends keyof O ? undefined extends O[K] ? true : false : true

type If<G, X> = [G] extends [never] ? never : X

/** The errors of one attempt: what the strategies within `retry` add to those of the work. */
type AttemptFailure<E, O> =
  | E
  | If<Given<O, "timeout">, TimeoutError>
  | If<Given<O, "circuitBreaker">, CircuitBreakerOpenError>
  | If<Given<O, "adaptiveLimit">, AdaptiveLimitFullError>
  | If<Given<O, "bulkhead">, BulkheadFullError>
  | If<Given<O, "rateLimiter">, RateLimitExceededError>
  | (Given<O, "rateLimiter"> extends infer L ? L extends RateLimiter<infer LE> ? LE : never : never)

type RetryOptions<O> = Given<O, "retry"> extends infer R ? R extends true ? {} : R : never

type RetriedFailure<E, O> =
  | (MayMiss<O, "retry"> extends true ? E : never)
  | (RetryOptions<O> extends infer R ? R extends unknown ? Retry.Failure<E, R> : never : never)

type TotalFailure<E, O> = RetriedFailure<AttemptFailure<E, O>, O> | If<Given<O, "deadline">, DeadlineExceededError>

type StrategiesOf<F> = F extends ReadonlyArray<unknown> ? F
  : F extends { readonly strategies: infer S extends ReadonlyArray<unknown> } ? S
  : never

type AnsweredFailure<E, O> =
  | (MayMiss<O, "fallback"> extends true ? E : never)
  | (Given<O, "fallback"> extends infer F ?
    F extends unknown ? Fallback.Failure<E, StrategiesOf<F>, F extends ReadonlyArray<unknown> ? {} : F>
    : never
    : never)

type Answer<H> = H extends Fallback.Value<infer B> ? B
  : H extends Fallback.Use<any, infer B, infer _E, infer _R> ? B
  : H extends Fallback.Cache<any, infer B> ? B
  : never

type FallbackServices<H> = H extends Fallback.Use<any, infer _B, infer _E, infer R> ? R : never

type RetryServices<R> = R extends { readonly schedule: Schedule.Schedule<infer _O, infer _I, infer _E, infer Env> } ?
  Env
  : never

/** The error type of work that fails with `E` under a policy with the options `O`. */
export type Failure<E, O> = AnsweredFailure<TotalFailure<E, O>, O>

/** The type of the answer to work that answers `A`. */
export type Success<A, O> = A | Answer<StrategiesOf<Given<O, "fallback">>[number]>

/** The services that are needed for work that needs `R`. */
export type Services<R, O> =
  | R
  | FallbackServices<StrategiesOf<Given<O, "fallback">>[number]>
  | RetryServices<RetryOptions<O>>

// ---------------------------------------------------------------------------------------------------------------------
// What the functions within the options can be given
// ---------------------------------------------------------------------------------------------------------------------

type Parameter<R, K extends string> = K extends keyof R
  ? R[K] extends ((value: infer X) => unknown) | undefined ? X : unknown
  : unknown

type ScheduleInput<R> = R extends { readonly schedule: Schedule.Schedule<infer _O, infer I, infer _E, infer _Env> } ? I
  : unknown

type JudgedError<R> = R extends { readonly classify: (exit: Exit.Exit<infer _A, infer E>) => unknown } ? E : unknown

type JudgedValue<R> = R extends { readonly classify: (exit: Exit.Exit<infer A, infer _E>) => unknown } ? A : unknown

type RetryAcceptsError<R> = [R] extends [never] ? unknown
  : Parameter<R, "while"> & Parameter<R, "retryAfter"> & ScheduleInput<R> & JudgedError<R>

type RetryAcceptsValue<R> = [R] extends [never] ? unknown : Parameter<R, "whileResult"> & JudgedValue<R>

type FallbackAcceptsError<F> = [F] extends [never] ? unknown
  :
    & Parameter<F, "when">
    & ([Extract<StrategiesOf<F>[number], Fallback.Use<any, any, any, any>>] extends [
      Fallback.Use<infer E, infer _B, infer _E2, infer _R>
    ] ? E
      : unknown)

type FallbackAcceptsValue<F> = [Extract<StrategiesOf<F>[number], Fallback.Cache<any, any>>] extends [
  Fallback.Cache<infer A, infer _B>
] ? A
  : unknown

/** `unknown` when the functions in the options take all that they can be given, else a type that nothing fits. */
export type Fits<A, E, O> = [A] extends
  [RetryAcceptsValue<RetryOptions<O>> & FallbackAcceptsValue<Given<O, "fallback">>]
  ? [AttemptFailure<E, O>] extends [RetryAcceptsError<RetryOptions<O>>]
    ? [TotalFailure<E, O>] extends [FallbackAcceptsError<Given<O, "fallback">>] ? unknown
    : Unfit<"fallback does not take every error of the work and of the other strategies", TotalFailure<E, O>>
  : Unfit<"retry does not take every error of an attempt", AttemptFailure<E, O>>
  : Unfit<"retry or fallback does not take what the work answers", A>

/** Says in a compiler message what does not fit. */
export interface Unfit<Reason extends string, Given> {
  readonly reason: Reason
  readonly given: Given
}
