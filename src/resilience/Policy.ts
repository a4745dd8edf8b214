/**
 * Several strategies under one name, applied in one order.
 *
 * **When to use**
 *
 * Make one policy a dependency, in a layer, and protect every call to that dependency with it. A custom order is an
 * ordinary `pipe` of the separate combinators.
 *
 * **Details**
 *
 * The canonical order, from the outermost strategy to the work, and why each stands where it does:
 *
 * 1. `fallback` answers when all else has failed, whatever it was.
 * 2. `deadline` is the time for everything within: attempts, backoffs and queues clip their waits to it.
 * 3. `retry` repeats all that follows: each attempt asks again for a token, a place and the circuit.
 * 4. `rateLimiter`: whoever waits for a token holds no place.
 * 5. `bulkhead`: whoever waits for a place is not yet on the circuit's clock, and holds no probe.
 * 6. `adaptiveLimit` learns from the durations of calls, and what the circuit refuses teaches it nothing.
 * 7. `circuitBreaker` judges the dependency and nothing else: no queue, no refusal by a limiter counts.
 * 8. `hedge` makes copies of one call, which together are one result for the circuit.
 * 9. `timeout` limits each copy of the work.
 *
 * - The error type is exact: what a retry turns into `RetryExhaustedError`, or a fallback answers, is gone from it.
 * - A policy runs fused, in one pass over the fiber, where that makes it faster, and is equal to the tower of the
 *   separate combinators in any case.
 * - Under a `Status` the policy and its strategies show their states and counts there until the scope closes.
 * - Mistakes that can be seen in the options ({@link warnings}) are logged once, when the policy is made.
 *
 * **Gotchas**
 *
 * - A token is used, also when the bulkhead or the circuit then refuses the call.
 * - Options are read when the policy is made; so is {@link Defaults}.
 *
 * **Example** (Three strategies)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Policy } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const payments = yield* Policy.make("payments", {
 *     retry: { times: 2 },
 *     bulkhead: { maxConcurrent: 10 },
 *     timeout: "2 seconds",
 *     repeatable: true
 *   })
 *   const paid = yield* Effect.succeed("paid").pipe(Policy.protect(payments))
 *   return [paid, Policy.draw(payments)] as const
 * })
 *
 * const [paid, picture] = await Effect.runPromise(Effect.scoped(program))
 * console.log(paid) // => 'paid'
 * console.log(picture.split("\n").map((line) => line.trim()))
 * // => [ 'policy "payments"', '└─ retry: up to 2 times, full jitter from 100ms to 5s', '└─ bulkhead: 10 at once, queue of 0', '└─ time-out: 2s for an attempt', '└─ the work' ]
 * ```
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Types from "effect/Types"
import * as CircuitBreaker from "./CircuitBreaker.ts"
import { assemble } from "./policy/Assemble.ts"
import { Defaults } from "./policy/Defaults.ts"
import { describeParts, type Description, drawMermaid, drawText } from "./policy/Describe.ts"
import type { Options } from "./policy/Options.ts"
import * as Parts from "./policy/Parts.ts"
import { healthOf, type Metrics, metricsOf, report } from "./policy/Report.ts"
import { type ErrorHandling, type FromSettings, optionsFrom, type SettingsOptions } from "./policy/Settings.ts"
import { Stats } from "./policy/Stats.ts"
import type { Failure, Fits, Services, Success } from "./policy/Types.ts"
import type { Warning } from "./policy/Warnings.ts"

export { configure, Defaults, type DefaultsConfig } from "./policy/Defaults.ts"
export type { Description, StrategyDescription } from "./policy/Describe.ts"
export {
  type CircuitBreakerOptions,
  type FallbackOptions,
  type HedgeOptions,
  type Kind,
  type Options,
  order
} from "./policy/Options.ts"
export type { Metrics } from "./policy/Report.ts"
export type { ErrorHandling, FromSettings, SettingsOptions } from "./policy/Settings.ts"
export type { Counts } from "./policy/Stats.ts"
export type { Failure, Services, Success } from "./policy/Types.ts"
export type { Warning, WarningCode } from "./policy/Warnings.ts"

const TypeId = "~seaworthy/Policy"

/** Strategies that are ready to protect an effect. `O` are the options: they decide on the types. */
export interface Policy<in out O> {
  readonly [TypeId]: Types.Invariant<O>
  readonly name: string
}

interface Impl {
  readonly [TypeId]: Types.Invariant<any>
  readonly name: string
  readonly parts: Parts.Parts
  readonly stats: Stats
  readonly description: Description
  readonly apply: Parts.Layer
}

const variance: Types.Invariant<any> = (_) => _

const impl = (policy: Policy<any>): Impl => policy as Impl

/** Checks options against their type and keeps that exact: for a `Policy<typeof options>` in the type of a service. */
export const options = <const O extends Options>(options: O & Fits<never, never, O>): O => options

/**
 * Makes a policy. The name stands in errors, in the status tree and, unless they are given others, for its strategies.
 *
 * An option that is out of range dies with a `RangeError` that names it; a name that another policy has under the same
 * `Status`, with its `DuplicateIdError`.
 */
export const make = <const O extends Options>(
  name: string,
  options: O & Fits<never, never, O>
): Effect.Effect<Policy<O>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const defaults = yield* Defaults
    const stats = new Stats()
    const parts = yield* Parts.make(name, options, defaults, stats)
    const description = describeParts(parts)
    for (const { message } of description.warnings) yield* Effect.logWarning(`policy "${name}": ${message}`)
    yield* report(parts, stats, defaults)
    const policy: Impl = { [TypeId]: variance, name, parts, stats, description, apply: assemble(parts, stats) }
    return policy
  })

/** Provides a policy as the service of your own tag. */
export const layer = <I, const O extends Options>(
  tag: Context.Key<I, Policy<O>>,
  name: string,
  options: O & Fits<never, never, O>
): Layer.Layer<I> => Layer.effect(tag, make<O>(name, options))

/**
 * A policy from the `error_handling` section of the settings, decoded: `retry`, `circuitBreaker` and `fallback` come from
 * there, all else from `options`. Of the fallbacks in `options`, those that the settings name are used, in their order.
 *
 * Since the order of the fallbacks is not known to the compiler, the error type covers every order.
 */
export const fromSettings = <const O extends SettingsOptions = {}>(
  name: string,
  settings: ErrorHandling,
  options?: O
): Effect.Effect<Policy<FromSettings<O>>, never, Scope.Scope> =>
  Effect.suspend(() => make<Options>(name, optionsFrom(settings, options))) as Effect.Effect<never, never, Scope.Scope>

/** Runs an effect under the policy. */
export const protect: {
  <O>(
    policy: Policy<O>
  ): <A, E, R>(
    self: Effect.Effect<A, E, R> & Fits<A, E, O>
  ) => Effect.Effect<Success<A, O>, Failure<E, O>, Services<R, O>>
  <A, E, R, O>(
    self: Effect.Effect<A, E, R> & Fits<A, E, O>,
    policy: Policy<O>
  ): Effect.Effect<Success<A, O>, Failure<E, O>, Services<R, O>>
} = (first: unknown, second?: unknown): never => {
  // By hand: `dual` costs a good part of what a fused policy does.
  if (second === undefined) return (first as Impl).apply as never
  return (second as Impl).apply(first as Parts.Any) as never
}

/** The policy as data: strategies in the canonical order with their settings, and the warnings. */
export const describe = (policy: Policy<any>): Description => impl(policy).description

/** What seems to be a mistake in the options; empty when nothing does. */
export const warnings = (policy: Policy<any>): ReadonlyArray<Warning> => impl(policy).description.warnings

/** A picture of the policy: indented text, or a Mermaid flow chart for documentation. */
export const draw = (policy: Policy<any>, format: "text" | "mermaid" = "text"): string =>
  format === "text" ? drawText(describe(policy)) : drawMermaid(describe(policy))

/** What the policy and its strategies have done, and do at the moment. */
export const metrics = (policy: Policy<any>): Effect.Effect<Metrics> =>
  metricsOf(impl(policy).parts, impl(policy).stats)

/** `degraded` while the circuit is open, half-open or held open; else `up`. */
export const health = (policy: Policy<any>): Effect.Effect<"up" | "degraded"> => {
  const { circuitBreaker } = impl(policy).parts
  return circuitBreaker === undefined
    ? Effect.succeed("up")
    : Effect.map(CircuitBreaker.state(circuitBreaker), ({ _tag }) => healthOf(_tag))
}

/** The strategies that keep a state, for manual control (`CircuitBreaker.forceOpen`, `Bulkhead.resize`). */
export const strategies = (
  policy: Policy<any>
): Pick<Parts.Parts, "rateLimiter" | "bulkhead" | "adaptiveLimit" | "circuitBreaker"> => {
  const { adaptiveLimit, bulkhead, circuitBreaker, rateLimiter } = impl(policy).parts
  return { rateLimiter, bulkhead, adaptiveLimit, circuitBreaker }
}
