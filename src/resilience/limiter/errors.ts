import * as Duration from "effect/Duration"
import { Class } from "../internal/stackless.ts"
import * as Rejection from "../Rejection.ts"

/** Why a rate limiter refused a call. */
export type Reason =
  /** The limit is reached; the call did not ask to wait. */
  | "limited"
  /** The cost is more than is ever admitted at once: waiting does not help. */
  | "never"
  /** The wait would be, or became, longer than `maxWait`. */
  | "wait-too-long"
  /** The wait would not be over before the surrounding `Deadline`. */
  | "deadline"
  /** As many callers as may wait are waiting. */
  | "queue-full"

/**
 * The rate limit is reached: the call was not run, and nothing was used up.
 *
 * `retryAfter` is how long until the same cost would be admitted, if nobody else came; it is missing for `never`.
 */
export class RateLimitExceededError extends Rejection.Class("RateLimitExceededError") {
  declare readonly reason: Reason
  /** What the call would have cost. */
  declare readonly cost: number
  /** How many units a window admits. */
  declare readonly limit: number
  declare readonly window: Duration.Duration
  /** Units that are left: less than `cost`, and 0 behind callers that wait. */
  declare readonly remaining: number
  /** How long until the whole limit is there again. */
  declare readonly resetAfter: Duration.Duration

  constructor(
    fields: Rejection.Fields & {
      readonly reason: Reason
      readonly cost: number
      readonly limit: number
      readonly window: Duration.Duration
      readonly remaining: number
      readonly resetAfter: Duration.Duration
    }
  ) {
    super({ strategy: fields.strategy, key: fields.key, retryAfter: fields.retryAfter })
    // One by one: a loop over the names takes as long as the rest of a refusal.
    this.reason = fields.reason
    this.cost = fields.cost
    this.limit = fields.limit
    this.window = fields.window
    this.remaining = fields.remaining
    this.resetAfter = fields.resetAfter
  }

  override get message(): string {
    const limit = `rate limit "${this.strategy}" of ${this.limit} in ${Duration.format(this.window)}`
    return this.reason === "never"
      ? `${limit} can never admit a cost of ${this.cost}`
      : this.retryAfter === undefined
      ? `${limit} is reached`
      : `${limit} is reached: try again after ${Duration.format(this.retryAfter)}`
  }
}

/**
 * The store of a rate limiter did not answer: whether the call is within the limit is not known. A failure, not a
 * refusal.
 */
export class RateLimitStoreError extends Class("RateLimitStoreError")<{
  /** Name of the rate limiter. */
  readonly strategy: string
  readonly reason: "unavailable" | "timed-out"
  /** What the store failed with. It may hold secrets, and is not part of the message. */
  readonly cause?: unknown
}> {
  override get message(): string {
    return `store of rate limit "${this.strategy}" ` +
      (this.reason === "timed-out" ? "gave no answer in time" : "is unavailable")
  }
}
