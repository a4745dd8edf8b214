/**
 * What a finished call says about its dependency: it is well, it is not, or nothing.
 *
 * **When to use**
 *
 * Pass a `Classify` to a strategy when the default does not fit: a "not found" that is no failure, a success that carries
 * a status of 503.
 *
 * **Details**
 *
 * The default, `classify`: a success is a `Success`; pure interruption is `Ignored`; rejections by other strategies are
 * `Ignored`, since the dependency was not called, and so is a `TimeoutError` of work that was not begun because the
 * `Deadline` had passed; every other failure, defects included, is a `Failure`. A failure whose error has a `retryAfter`
 * duration passes it on. The vocabulary is the one of Effect's own `CircuitBreaker`.
 *
 * **Gotchas**
 *
 * - Pure interruption never reaches a `Classify` of your own: it is always `Ignored`.
 * - If a `Classify` throws, the call counts for nothing and dies with what was thrown.
 *
 * **Example** (A missing row is no failure)
 *
 * ```ts
 * import { Exit } from "effect"
 * import { Outcome } from "seaworthy"
 *
 * const classify = Outcome.ignoreWhen<{ readonly _tag: string }>((error) => error._tag === "NotFound")
 *
 * console.log(classify(Exit.fail({ _tag: "NotFound" }))._tag) // => 'Ignored'
 * console.log(classify(Exit.fail({ _tag: "Refused" }))._tag) // => 'Failure'
 * ```
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import { hasProperty } from "effect/Predicate"
import * as Rejection from "./Rejection.ts"
import { TimeoutError } from "./Timeout.ts"

/** The call shows that the dependency is well. */
export interface Success {
  readonly _tag: "Success"
}

/** The call counts against the dependency. `retryAfter` is its own word on when to try again. */
export interface Failure {
  readonly _tag: "Failure"
  readonly retryAfter?: Duration.Duration | undefined
}

/** The call says nothing about the dependency: no counter moves. */
export interface Ignored {
  readonly _tag: "Ignored"
}

/** What a finished call says about its dependency. */
export type Outcome = Success | Failure | Ignored

/** Judges the exit of a call. */
export type Classify<A = unknown, E = unknown> = (exit: Exit.Exit<A, E>) => Outcome

/** The outcome of a call that went well. */
export const success: Outcome = { _tag: "Success" }

/** The outcome of a call that says nothing. */
export const ignored: Outcome = { _tag: "Ignored" }

const plainFailure: Outcome = { _tag: "Failure" }

/** The outcome of a call that failed; `retryAfter`, where known, is when to try again. */
export const failure = (options?: { readonly retryAfter?: Duration.Input | undefined }): Outcome =>
  options?.retryAfter === undefined
    ? plainFailure
    : { _tag: "Failure", retryAfter: Duration.fromInputUnsafe(options.retryAfter) }

const notBegun = (error: unknown): boolean => error instanceof TimeoutError && Duration.isZero(error.duration)

/** The default: see the head of this module. */
export const classify: Classify = (exit) => {
  if (exit._tag === "Success") return success
  let failed = exit.cause.reasons.length === 0
  for (const reason of exit.cause.reasons) {
    switch (reason._tag) {
      case "Interrupt":
        break
      case "Die":
        failed = true
        break
      case "Fail": {
        const error = reason.error
        if (Rejection.isRejection(error) || notBegun(error)) break
        if (hasProperty(error, "retryAfter") && Duration.isDuration(error.retryAfter)) {
          return { _tag: "Failure", retryAfter: error.retryAfter }
        }
        failed = true
      }
    }
  }
  return failed ? plainFailure : ignored
}

/** The default, except that typed errors matching `predicate` are ignored. */
export const ignoreWhen = <E>(predicate: (error: E) => boolean): Classify<unknown, E> => (exit) => {
  if (exit._tag === "Failure") {
    const error = Cause.findErrorOption(exit.cause)
    if (error._tag === "Some" && predicate(error.value) && !Cause.hasDies(exit.cause)) return ignored
  }
  return classify(exit)
}

/** The default, except that successful results matching `predicate` are failures (a response with status 503, say). */
export const failWhen = <A>(predicate: (value: A) => boolean): Classify<A, unknown> => (exit) =>
  exit._tag === "Success" && predicate(exit.value) ? plainFailure : classify(exit)

/** Is the exit nothing but interruption? Such a call counts for nothing, whatever a `Classify` might say. */
export const isInterruption = (exit: Exit.Exit<unknown, unknown>): boolean =>
  exit._tag === "Failure" && Cause.hasInterruptsOnly(exit.cause)
