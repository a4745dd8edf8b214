/**
 * The `error_handling` section of the settings as options of a policy.
 */
import type * as Duration from "effect/Duration"
import type * as Types from "effect/Types"
import * as CircuitBreaker from "../CircuitBreaker.ts"
import * as Fallback from "../Fallback.ts"
import * as Retry from "../Retry.ts"
import type { CircuitBreakerOptions, Options } from "./Options.ts"

/** The decoded `error_handling` section. */
export interface ErrorHandling {
  readonly retry: {
    /** Tries in all, the first included. */
    readonly max_attempts: number
    /** Wait before the second try. */
    readonly delay: Duration.Input
    readonly backoff: "exponential" | "linear" | "fixed"
  }
  readonly circuit_breaker: {
    /** Share of failed calls that opens the circuit. */
    readonly threshold: number
    /** Time over which calls are counted. */
    readonly window: Duration.Input
    /** How long the circuit stays open. */
    readonly reset_timeout: Duration.Input
  }
  readonly fallback: {
    readonly enabled: boolean
    /** In the order in which they are tried. */
    readonly strategies: ReadonlyArray<string>
  }
}

/** What the settings do not say. */
export interface SettingsOptions extends Omit<Options, "retry" | "circuitBreaker" | "fallback"> {
  /** The fallbacks that there are: the settings choose and order them by name. */
  readonly fallback?: ReadonlyArray<Fallback.Strategy<any, any>> | undefined
}

const scheduleFrom = ({ backoff, delay }: ErrorHandling["retry"]) => {
  switch (backoff) {
    case "exponential":
      return Retry.exponential({ base: delay })
    case "linear":
      return Retry.linear({ base: delay })
    case "fixed":
      return Retry.fixed(delay)
  }
}

// A name that the program has no fallback for is passed over: the settings are made for all policies at once.
const chosen = <S extends Fallback.Strategy<any, any>>(
  { enabled, strategies: names }: ErrorHandling["fallback"],
  there: ReadonlyArray<S>
): ReadonlyArray<S> =>
  enabled ? Fallback.inOrder(names.filter((name) => there.some((strategy) => strategy.name === name)), there) : []

/** The options of a policy made from settings and `O`, for `Policy<FromSettings<O>>`. */
export type FromSettings<O> = Types.Simplify<
  & Omit<O, "fallback">
  & { readonly retry: { readonly times: number }; readonly circuitBreaker: CircuitBreakerOptions }
  & (O extends { readonly fallback: infer S extends ReadonlyArray<unknown> }
    ? { readonly fallback: ReadonlyArray<S[number]> }
    : {})
>

/** The options of a policy after the settings. */
export const optionsFrom = (settings: ErrorHandling, options: SettingsOptions | undefined): Options => ({
  ...options,
  fallback: options?.fallback && chosen(settings.fallback, options.fallback),
  retry: { times: settings.retry.max_attempts - 1, schedule: scheduleFrom(settings.retry) },
  circuitBreaker: {
    trip: CircuitBreaker.failureRate({
      threshold: settings.circuit_breaker.threshold,
      window: { time: settings.circuit_breaker.window }
    }),
    openTime: settings.circuit_breaker.reset_timeout
  }
})
