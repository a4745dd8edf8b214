import type * as Duration from "effect/Duration"
import type * as AdaptiveLimit from "../AdaptiveLimit.ts"
import type * as Bulkhead from "../Bulkhead.ts"
import type * as CircuitBreaker from "../CircuitBreaker.ts"
import type * as Deadline from "../Deadline.ts"
import type * as Fallback from "../Fallback.ts"
import type * as Hedge from "../Hedge.ts"
import type * as RateLimiter from "../RateLimiter.ts"
import type * as Retry from "../Retry.ts"
import type * as Timeout from "../Timeout.ts"

/** Fallback strategies in order, and what `Fallback.fallback` may be told beside them. */
export interface FallbackOptions extends Fallback.Options<any> {
  readonly strategies: ReadonlyArray<Fallback.Strategy<any, any>>
}

/** A breaker for this policy alone. Its `name` is that of the policy, unless given. */
export interface CircuitBreakerOptions extends Omit<CircuitBreaker.Options, "name"> {
  readonly name?: string | undefined
}

/** When and how often to hedge. That the work is safe to repeat is said once for the policy: `repeatable`. */
export type HedgeOptions = Omit<Hedge.Options, "repeatable">

/**
 * The strategies of a policy. All are optional; what is left out is not applied. Whatever the order in which they are
 * written, they are applied in the canonical order. Names default to the name of the policy.
 *
 * A breaker, bulkhead or limiter is either made for this policy (give its options), or shared with others (give the thing
 * itself). `true` stands for the values of `Policy.Defaults`.
 */
export interface Options {
  /** What to answer when all else has failed: strategies in order, or an object with `strategies`, `when`, `onFallback`. */
  readonly fallback?: ReadonlyArray<Fallback.Strategy<any, any>> | FallbackOptions | undefined
  /** The time for everything together: all attempts, backoffs and queues. */
  readonly deadline?: Duration.Input | Deadline.Options | undefined
  /** `true`: as often as `Policy.Defaults` says, with the delays of `Retry`. */
  readonly retry?: true | Retry.Options<any, any> | undefined
  readonly rateLimiter?: RateLimiter.Options | RateLimiter.RateLimiter<any> | undefined
  readonly bulkhead?: Bulkhead.Options | Bulkhead.Bulkhead | undefined
  /** A bulkhead that finds its own size. `true`: with the defaults of `AdaptiveLimit`. */
  readonly adaptiveLimit?: true | AdaptiveLimit.Options | AdaptiveLimit.AdaptiveLimit | undefined
  /** `true`: opens after as many failures in a row as `Policy.Defaults` says. */
  readonly circuitBreaker?: true | CircuitBreakerOptions | CircuitBreaker.CircuitBreaker | undefined
  readonly hedge?: HedgeOptions | undefined
  /** The time for one attempt. `true`: that of `Policy.Defaults`. */
  readonly timeout?: true | Duration.Input | Timeout.Options | undefined
  /** You say that what this policy protects is safe to do twice. Without it, `retry` and `hedge` are warned about. */
  readonly repeatable?: boolean | undefined
}

/** A strategy of a policy. */
export type Kind = Exclude<keyof Options, "repeatable">

/** The canonical order, outermost first. */
export const order = [
  "fallback",
  "deadline",
  "retry",
  "rateLimiter",
  "bulkhead",
  "adaptiveLimit",
  "circuitBreaker",
  "hedge",
  "timeout"
] as const satisfies ReadonlyArray<Kind>
