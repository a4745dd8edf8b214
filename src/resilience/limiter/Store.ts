import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Algorithm } from "./Algorithm.ts"
import type { RateLimitStoreError } from "./errors.ts"

/** What a store is asked. */
export interface Request {
  /** Name of the rate limiter: keys of two limiters are different keys. */
  readonly name: string
  readonly key: string
  readonly algorithm: Algorithm
  readonly cost: number
}

/** What a store answers. Times are in microseconds, of the store's own clock. */
export interface Answer {
  /** How long until the cost is admitted. 0: it is, and was taken (by `consume`). Infinity: never. */
  readonly wait: number
  /** Units that are left after this. */
  readonly remaining: number
  /** How long until everything is there again. */
  readonly reset: number
  /** The store's time. */
  readonly at: number
}

/**
 * Where the state of rate limiters is kept.
 *
 * Every operation is one step for all that share the store, under the store's own clock. `consume` that is refused and
 * `peek` change nothing. `refund` undoes a `consume` that was answered with `at: takenAt`, as far as it still counts.
 */
export class RateLimiterStore extends Context.Service<RateLimiterStore, {
  readonly consume: (request: Request) => Effect.Effect<Answer, RateLimitStoreError>
  readonly peek: (request: Request) => Effect.Effect<Answer, RateLimitStoreError>
  readonly refund: (request: Request, takenAt: number) => Effect.Effect<void, RateLimitStoreError>
}>()("seaworthy/RateLimiterStore") {}
