import * as Duration from "effect/Duration"
import { Class } from "./stackless.ts"

/** One attempt that failed. */
export interface Attempt<out E> {
  /** 1 is the call itself, 2 the first retry. */
  readonly number: number
  readonly error: E
  /** When it failed, counted as `RetryExhaustedError.elapsed` is. */
  readonly elapsed: Duration.Duration
}

/**
 * Why no further attempt was made: no retries left; the schedule ended; the next attempt would begin after the total
 * duration, or after the surrounding `Deadline`; the dependency asked for a longer wait than `maxRetryAfter`.
 */
export type Reason = "times" | "schedule" | "totalDuration" | "deadline" | "retryAfter"

const reasons: Record<Reason, string> = {
  times: "no retries left",
  schedule: "the schedule ended",
  totalDuration: "the next attempt would begin after the total duration",
  deadline: "the next attempt would begin after the deadline",
  retryAfter: "the dependency asked for a longer wait than maxRetryAfter"
}

/** Every attempt failed and there will be no other. */
export class RetryExhaustedError<out E> extends Class("RetryExhaustedError")<{
  /** Name of the retry, from its options. */
  readonly strategy: string
  /** The error of the last attempt. */
  readonly error: E
  readonly reason: Reason
  /** How many attempts were made, the first call included. */
  readonly attempts: number
  /** All attempts, in order; of more than 32 the last 32. */
  readonly recent: ReadonlyArray<Attempt<E>>
  /**
   * Time from the start of the call to the last failure when `totalDuration` or `budget` is set, else from the first
   * failure: a call that succeeds at once does not read the clock.
   */
  readonly elapsed: Duration.Duration
}> {
  override get message(): string {
    const attempts = this.attempts === 1 ? "1 attempt" : `${this.attempts} attempts`
    const elapsed = Duration.format(Duration.millis(Math.round(Duration.toMillis(this.elapsed))))
    return `retry "${this.strategy}" gave up after ${attempts} in ${elapsed}: ${reasons[this.reason]}`
  }
}
