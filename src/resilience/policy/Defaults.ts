import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { integerAtLeast, positiveMillis } from "../internal/options.ts"

/** What holds for every policy that does not say otherwise. It is read when a policy is made. */
export interface DefaultsConfig {
  /** Count the calls of every policy, and how long they take, in `Status`. Default true. */
  readonly enableMetrics: boolean
  /** Show every policy and its strategies in `Status`. Default true. */
  readonly enableHealthChecks: boolean
  /** The time for one attempt, for policies with `timeout: true`: above zero. Default 10 seconds. */
  readonly defaultTimeout: Duration.Input
  /** Most retries of a policy with `retry: true`, or whose retry has neither `times` nor `schedule`. Default 3. */
  readonly retryAttempts: number
  /** Failures in a row that open the breaker of a policy with `circuitBreaker: true` or without `trip`. Default 5. */
  readonly circuitBreakerThreshold: number
}

/** The defaults in force where they are read. */
export const Defaults: Context.Reference<DefaultsConfig> = Context.Reference<DefaultsConfig>(
  "seaworthy/Policy/Defaults",
  {
    defaultValue: () => ({
      enableMetrics: true,
      enableHealthChecks: true,
      defaultTimeout: "10 seconds",
      retryAttempts: 3,
      circuitBreakerThreshold: 5
    })
  }
)

/** Changes some of the defaults for all policies that are made under the layer. */
export const configure = (config: Partial<DefaultsConfig>): Layer.Layer<never> =>
  Layer.effect(
    Defaults,
    Effect.map(Defaults, (outer) => {
      const merged = { ...outer, ...config }
      positiveMillis("defaultTimeout", merged.defaultTimeout)
      integerAtLeast("retryAttempts", 0, merged.retryAttempts)
      integerAtLeast("circuitBreakerThreshold", 1, merged.circuitBreakerThreshold)
      return merged
    })
  )
