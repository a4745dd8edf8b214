/**
 * The options of a policy, made into strategies that are ready to be applied.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import * as AdaptiveLimit from "../AdaptiveLimit.ts"
import * as Bulkhead from "../Bulkhead.ts"
import * as CircuitBreaker from "../CircuitBreaker.ts"
import * as Deadline from "../Deadline.ts"
import * as Fallback from "../Fallback.ts"
import * as Hedge from "../Hedge.ts"
import { positiveMillis } from "../internal/options.ts"
import * as RateLimiter from "../RateLimiter.ts"
import * as Retry from "../Retry.ts"
import * as Timeout from "../Timeout.ts"
import type { DefaultsConfig } from "./Defaults.ts"
import type { CircuitBreakerOptions, FallbackOptions, HedgeOptions, Kind, Options } from "./Options.ts"
import type { Stats } from "./Stats.ts"

export type Any = Effect.Effect<unknown, unknown, unknown>
export type Layer = (self: Any) => Any

/** The limit of one attempt, decoded. */
export interface TimeoutPlan {
  readonly name: string
  readonly millis: number
  readonly grace: boolean
}

/** A policy's options with names, defaults and made strategies filled in. `layer(kind)` applies one of them. */
export interface Parts {
  readonly name: string
  readonly repeatable: boolean
  readonly fallback: FallbackOptions | undefined
  readonly deadline: { readonly name: string; readonly millis: number } | undefined
  readonly retry: Retry.Options<unknown, unknown> | undefined
  readonly rateLimiter: RateLimiter.RateLimiter<unknown> | undefined
  readonly bulkhead: Bulkhead.Bulkhead | undefined
  readonly adaptiveLimit: AdaptiveLimit.AdaptiveLimit | undefined
  readonly circuitBreaker: CircuitBreaker.CircuitBreaker | undefined
  /** `undefined` for a delay that is learned. */
  readonly hedge: { readonly delayMillis: number | undefined; readonly maxHedges: number } | undefined
  readonly timeout: TimeoutPlan | undefined
  /** The options of what was made for this policy; not there for what is shared. */
  readonly made: {
    readonly rateLimiter: RateLimiter.Options | undefined
    readonly bulkhead: Bulkhead.Options | undefined
    readonly adaptiveLimit: AdaptiveLimit.Options | undefined
    readonly circuitBreaker: CircuitBreaker.Options | undefined
  }
  readonly layers: Readonly<Record<Kind, Layer | undefined>>
}

const isLimiterOptions = (u: NonNullable<Options["rateLimiter"]>): u is RateLimiter.Options =>
  hasProperty(u, "algorithm")

// What `AdaptiveLimit` makes has a gate, options have none.
const isLimit = (u: object): u is AdaptiveLimit.AdaptiveLimit => "gate" in u

const isBreaker = (u: object): u is CircuitBreaker.CircuitBreaker => hasProperty(u, "~seaworthy/CircuitBreaker")

const durationAnd = <O extends { readonly duration: Duration.Input; readonly name?: string | undefined }>(
  input: Duration.Input | O,
  name: string
): O | { readonly duration: Duration.Input; readonly name: string } =>
  typeof input === "object" && "duration" in input ? { ...input, name: input.name ?? name } : { duration: input, name }

const delayMillis = (delay: HedgeOptions["delay"]): number | undefined =>
  hasProperty(delay, "record") ? undefined : Duration.toMillis(Duration.fromInputUnsafe(delay as Duration.Input))

const fallbackOf = (input: NonNullable<Options["fallback"]>): FallbackOptions =>
  "strategies" in input ? input : { strategies: input }

const retryOf = (
  input: NonNullable<Options["retry"]>,
  name: string,
  defaults: DefaultsConfig
): Retry.Options<unknown, unknown> => {
  const options: Retry.Options<unknown, unknown> = input === true ? {} : input
  const times = options.times ?? (options.schedule === undefined ? defaults.retryAttempts : undefined)
  return { ...options, name: options.name ?? name, times }
}

const breakerOf = (
  input: true | CircuitBreakerOptions,
  name: string,
  defaults: DefaultsConfig
): CircuitBreaker.Options => {
  const options = input === true ? {} : input
  return {
    ...options,
    name: options.name ?? name,
    trip: options.trip ?? CircuitBreaker.consecutive(defaults.circuitBreakerThreshold)
  }
}

const fallbackLayer = ({ onFallback, strategies, when }: FallbackOptions, stats: Stats): Layer => {
  const apply = Fallback.fallback(strategies, {
    ...(when === undefined ? undefined : { when }),
    onFallback: (used: Fallback.Used<unknown>) =>
      Effect.suspend(() => {
        stats.fallbacks++
        return onFallback === undefined ? Effect.void : onFallback(used)
      })
  })
  return (self) => apply(self) as Any
}

const retryLayer = (options: Retry.Options<unknown, unknown>, stats: Stats): Layer => {
  const apply = Retry.retry<unknown, unknown, Retry.Options<unknown, unknown>>(options)
  return (self) =>
    Effect.suspend(() => {
      let first = true
      return apply(Effect.suspend(() => {
        if (!first) stats.retries++
        first = false
        return self
      }))
    })
}

const timeoutLayer = (options: Timeout.Options, stats: Stats): Layer =>
  Timeout.timeout({
    ...options,
    onTimeout: (error) =>
      Effect.suspend(() => {
        stats.timeouts++
        return Effect.fail(error)
      })
  })

/** Checks the options and makes what is not shared. A bad option is a defect: a `RangeError` that names it. */
export const make = (name: string, options: Options, defaults: DefaultsConfig, stats: Stats): Effect.Effect<Parts> =>
  Effect.gen(function*() {
    const { adaptiveLimit: adaptive, bulkhead: places, circuitBreaker: circuit, rateLimiter: rate } = options
    const madeLimiter = rate !== undefined && isLimiterOptions(rate) ? { ...rate, name: rate.name ?? name } : undefined
    const rateLimiter = madeLimiter === undefined
      ? rate as RateLimiter.RateLimiter<unknown> | undefined
      : yield* RateLimiter.make(madeLimiter)
    const madeBulkhead = places === undefined || Bulkhead.isBulkhead(places)
      ? undefined
      : { ...places, name: places.name ?? name }
    const bulkhead = madeBulkhead === undefined
      ? places as Bulkhead.Bulkhead | undefined
      : yield* Bulkhead.make(madeBulkhead)
    const madeLimit = adaptive === undefined || (adaptive !== true && isLimit(adaptive))
      ? undefined
      : { name, ...adaptive === true ? undefined : adaptive }
    const adaptiveLimit = madeLimit === undefined
      ? adaptive as AdaptiveLimit.AdaptiveLimit | undefined
      : yield* AdaptiveLimit.make(madeLimit)
    const madeBreaker = circuit === undefined || (circuit !== true && isBreaker(circuit))
      ? undefined
      : breakerOf(circuit, name, defaults)
    const circuitBreaker = madeBreaker === undefined
      ? circuit as CircuitBreaker.CircuitBreaker | undefined
      : yield* CircuitBreaker.make(madeBreaker)

    const fallback = options.fallback === undefined ? undefined : fallbackOf(options.fallback)
    const deadline = options.deadline === undefined ? undefined : durationAnd(options.deadline, name)
    const retry = options.retry === undefined ? undefined : retryOf(options.retry, name, defaults)
    const timeout = options.timeout === undefined
      ? undefined
      : durationAnd<Timeout.Options>(options.timeout === true ? defaults.defaultTimeout : options.timeout, name)
    const { hedge } = options
    const hedgeLayer = hedge && Hedge.hedge({ ...hedge, repeatable: true })
    return {
      name,
      repeatable: options.repeatable === true,
      fallback,
      deadline: deadline && { name: deadline.name ?? name, millis: positiveMillis("deadline", deadline.duration) },
      retry,
      rateLimiter,
      bulkhead,
      adaptiveLimit,
      circuitBreaker,
      hedge: hedge && { delayMillis: delayMillis(hedge.delay), maxHedges: hedge.maxHedges ?? 1 },
      timeout: timeout && {
        name: timeout.name ?? name,
        millis: positiveMillis("timeout", timeout.duration),
        grace: "grace" in timeout && timeout.grace !== undefined
      },
      made: { rateLimiter: madeLimiter, bulkhead: madeBulkhead, adaptiveLimit: madeLimit, circuitBreaker: madeBreaker },
      layers: {
        fallback: fallback && fallbackLayer(fallback, stats),
        deadline: deadline && Deadline.within(deadline),
        retry: retry && retryLayer(retry, stats),
        rateLimiter: rateLimiter && RateLimiter.protect(rateLimiter),
        bulkhead: bulkhead && Bulkhead.protect(bulkhead),
        adaptiveLimit: adaptiveLimit && AdaptiveLimit.protect(adaptiveLimit),
        circuitBreaker: circuitBreaker && CircuitBreaker.protect(circuitBreaker),
        hedge: hedgeLayer,
        timeout: timeout && timeoutLayer(timeout, stats)
      }
    }
  })
