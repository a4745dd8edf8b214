/**
 * Stops calling a dependency that fails, and finds out when it is well again.
 *
 * **When to use**
 *
 * Use around every call to something that can be down, so that callers get an answer at once and the dependency gets time
 * to recover. Put `Timeout` inside it (a hung call then counts) and `Retry` outside it.
 *
 * **Details**
 *
 * - Closed: calls run, and the trip rule (`consecutive`, `failureRate`, `slowCallRate`) decides when the circuit opens.
 * - Open: calls fail with `CircuitBreakerOpenError` until the open time ends; the call at exactly its end is admitted.
 * - Half-open: at most `permitted` probes run at a time, the others are rejected at once. `successes` of them close the
 *   circuit, `failures` open it again. A probe that hangs loses its place after `lease`: half-open cannot be stuck.
 * - Forced open, disabled, metrics-only: an operator's states. `resume` brings back what stood before.
 * - A result counts only for the state its call was admitted in: late results change nothing.
 * - Interrupted calls, rejections by other strategies and `Ignored` outcomes move no counter. Defects are failures.
 * - Time is only ever compared, on the monotonic clock: no timer and no fiber, idle or not.
 *
 * Effect's own `effect/persistence/CircuitBreaker` has neither time windows, slow calls, several probes, manual control
 * nor ramp-up, and costs some 5 microseconds a call; its store is what `fleet` shares circuits through, and the
 * vocabulary (`classify`, `Outcome`, `retryAfter`, `transitions`) is the same.
 *
 * **Gotchas**
 *
 * - The rate is judged after failures and slow calls only; a good call never opens a circuit.
 * - `lease` has to be longer than a good call takes: a probe whose place was taken over counts for nothing.
 *
 * **Example** (Open after two failures in a row)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { CircuitBreaker } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const breaker = yield* CircuitBreaker.make({ name: "payments", trip: CircuitBreaker.consecutive(2) })
 *   const charge = Effect.fail("unreachable").pipe(CircuitBreaker.protect(breaker))
 *
 *   yield* Effect.flip(charge)
 *   yield* Effect.flip(charge)
 *   return yield* charge.pipe(
 *     Effect.catchTag("CircuitBreakerOpenError", (error) => Effect.succeed(error.message))
 *   )
 * })
 *
 * console.log(await Effect.runPromise(program)) // => 'circuit breaker "payments" rejected the call: the circuit is open'
 * ```
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import { hasProperty } from "effect/Predicate"
import type * as Stream from "effect/Stream"
import { KeyedCells, SingleCell } from "./circuit/Cells.ts"
import { Core } from "./circuit/Core.ts"
import type { Metrics, State, Totals, Transition } from "./circuit/Driver.ts"
import {
  type CircuitBreaker,
  keyed as keyedHandle,
  type KeyedCircuitBreaker,
  KeyedTypeId,
  single,
  TypeId
} from "./circuit/Handle.ts"
import { CircuitBreakerOpenError } from "./circuit/OpenError.ts"
import { compile, type KeyedOptions, type Options } from "./circuit/Options.ts"
import type { Snapshot } from "./circuit/Snapshot.ts"
import * as Rule from "./circuit/TripRule.ts"
import { integerAtLeast } from "./internal/options.ts"
import type * as Outcome from "./Outcome.ts"

export { CircuitBreakerOpenError }
export type { CircuitBreaker, KeyedCircuitBreaker }
export type { HalfOpenOptions, KeyedOptions, Options, RampUpOptions } from "./circuit/Options.ts"
export type { Metrics, Snapshot, State, Totals, Transition }
export type { StateTag } from "./circuit/Driver.ts"
export type { TripRule, WindowInput } from "./circuit/TripRule.ts"

/** Opens after `failures` (at least 1) failures in a row, in order of completion. */
export const consecutive = (failures: number): Rule.TripRule => Rule.consecutive(failures)

/**
 * Opens when the share of failures in a window reaches `threshold`.
 *
 * Defaults: `threshold` 0.5, `window` the last 100 calls, `minimum` 20 calls before anything is judged (or the size of a
 * smaller window). With `slow`, the share of slow calls is judged over the same window as well. Throws a `RangeError` that
 * names the option.
 */
export const failureRate = (options?: {
  readonly threshold?: number | undefined
  readonly window?: Rule.WindowInput | undefined
  readonly minimum?: number | undefined
  readonly slow?: { readonly threshold: number; readonly duration: Duration.Input } | undefined
}): Rule.TripRule =>
  Rule.rate({
    failures: options?.threshold ?? 0.5,
    slow: options?.slow,
    window: options?.window,
    minimum: options?.minimum
  })

/**
 * Opens when the share of calls that took `duration` or longer, failed or not, reaches `threshold`.
 *
 * Defaults: `threshold` 0.5, `window` the last 100 calls, `minimum` 20 calls. Failures as such are not judged; for both, use
 * `failureRate` with `slow`. Throws a `RangeError` that names the option.
 */
export const slowCallRate = (options: {
  readonly duration: Duration.Input
  readonly threshold?: number | undefined
  readonly window?: Rule.WindowInput | undefined
  readonly minimum?: number | undefined
}): Rule.TripRule =>
  Rule.rate({
    slow: { threshold: options.threshold ?? 0.5, duration: options.duration },
    window: options.window,
    minimum: options.minimum
  })

/**
 * Makes a breaker with one circuit, closed.
 *
 * A bad option is a `RangeError` (a defect) that names the option and what is valid.
 */
export const make = (options: Options): Effect.Effect<CircuitBreaker> =>
  Effect.suspend(() => {
    const compiled = compile(options)
    const cells = new SingleCell(compiled.settings.rule)
    return Effect.map(
      Core.make({ ...compiled, cells, keyed: false }),
      single
    )
  })

/** Provides a breaker as the service of your own tag. */
export const layer = <I>(tag: Context.Key<I, CircuitBreaker>, options: Options): Layer.Layer<I> =>
  Layer.effect(tag, make(options))

/**
 * Makes a breaker with one circuit a key, each closed until its own calls open it.
 *
 * A healthy key under a consecutive rule takes no memory; idle keys are forgotten without a timer, and `maxKeys` bounds
 * how many are kept. Circuits that an operator holds are kept in any case, open ones for as long as they are open, up to
 * a quarter of `maxKeys`.
 */
export const keyed = (options: KeyedOptions): Effect.Effect<KeyedCircuitBreaker> =>
  Effect.suspend(() => {
    const compiled = compile(options)
    const cells = new KeyedCells(
      compiled.settings.rule,
      integerAtLeast("maxKeys", 2, options.maxKeys ?? 10_000),
      Rule.positiveFinite("idleTimeToLive", options.idleTimeToLive ?? "1 hour")
    )
    return Effect.map(
      Core.make({ ...compiled, cells, keyed: true }),
      keyedHandle
    )
  })

/** Provides a keyed breaker as the service of your own tag. */
export const layerKeyed = <I>(tag: Context.Key<I, KeyedCircuitBreaker>, options: KeyedOptions): Layer.Layer<I> =>
  Layer.effect(tag, keyed(options))

/** The circuit of one key: a `CircuitBreaker` like any other. Making it costs next to nothing and stores nothing. */
export const forKey: {
  (key: string): (self: KeyedCircuitBreaker) => CircuitBreaker
  (self: KeyedCircuitBreaker, key: string): CircuitBreaker
} = dual(
  2,
  (self: KeyedCircuitBreaker, key: string): CircuitBreaker => ({ [TypeId]: self[KeyedTypeId], name: self.name, key })
)

/** The circuits of a keyed breaker that are in memory. A key that is not in it is closed. */
export const statesByKey = (self: KeyedCircuitBreaker): Effect.Effect<ReadonlyMap<string, State>> =>
  self[KeyedTypeId].states

/** Is this value a breaker with one circuit (or one key of a keyed one)? */
export const isCircuitBreaker = (u: unknown): u is CircuitBreaker => hasProperty(u, TypeId)

/** What one call may say differently. */
export interface ProtectOptions<A, E> {
  /** Judges this call's exit instead of the breaker's own `classify`. */
  readonly classify?: Outcome.Classify<A, E> | undefined
}

/**
 * Runs an effect through the circuit: unchanged while it is closed, `CircuitBreakerOpenError` at once while it is not.
 */
export const protect: {
  (
    breaker: CircuitBreaker
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | CircuitBreakerOpenError, R>
  <A0, E0>(
    breaker: CircuitBreaker,
    options: ProtectOptions<A0, E0>
  ): <A extends A0, E extends E0, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | CircuitBreakerOpenError, R>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    breaker: CircuitBreaker,
    options?: ProtectOptions<NoInfer<A>, NoInfer<E>>
  ): Effect.Effect<A, E | CircuitBreakerOpenError, R>
} = <A, E, R>(
  first: CircuitBreaker | Effect.Effect<A, E, R>,
  second?: CircuitBreaker | ProtectOptions<A, E>,
  third?: ProtectOptions<A, E>
): never => {
  // By hand: `dual` with a predicate costs as much as the rest of a closed call.
  if (TypeId in first) {
    const { [TypeId]: driver, key } = first
    const classify = (second as ProtectOptions<A, E> | undefined)?.classify
    return ((self: Effect.Effect<A, E, R>) => driver.run(key, self, classify)) as never
  }
  const { [TypeId]: driver, key } = second as CircuitBreaker
  return driver.run(key, first, third?.classify) as never
}

/** The state now. A circuit whose open time is over reads as open until the next call makes it half-open. */
export const state = (self: CircuitBreaker): Effect.Effect<State> => self[TypeId].state(self.key)

const isKeyed = (self: CircuitBreaker | KeyedCircuitBreaker): self is KeyedCircuitBreaker => KeyedTypeId in self

/** What was counted: the window of the circuit (none for a keyed breaker as a whole), and totals of all keys. */
export const metrics = (self: CircuitBreaker | KeyedCircuitBreaker): Effect.Effect<Metrics> =>
  isKeyed(self) ? self[KeyedTypeId].metrics("") : self[TypeId].metrics(self.key)

/**
 * The changes of state from now on. Every subscriber gets all of them, of all keys; one that lags more than 128 behind
 * misses the oldest. No call ever waits for a subscriber, and none fails with it.
 */
export const transitions = (self: CircuitBreaker | KeyedCircuitBreaker): Stream.Stream<Transition> =>
  isKeyed(self) ? self[KeyedTypeId].transitions : self[TypeId].transitions

/** Rejects every call until `resume` or `reset`. */
export const forceOpen = (self: CircuitBreaker): Effect.Effect<void> => self[TypeId].control(self.key, "ForcedOpen")

/** Lets every call through, uncounted, until `resume` or `reset`. */
export const disable = (self: CircuitBreaker): Effect.Effect<void> => self[TypeId].control(self.key, "Disabled")

/** Lets every call through and counts it in a window of its own, but never opens, until `resume` or `reset`. */
export const metricsOnly = (self: CircuitBreaker): Effect.Effect<void> => self[TypeId].control(self.key, "MetricsOnly")

/** Leaves an operator's state: what stood before stands again. */
export const resume = (self: CircuitBreaker): Effect.Effect<void> => self[TypeId].control(self.key, "Automatic")

/** Closes the circuit from any state and forgets failures and backoff. */
export const reset = (self: CircuitBreaker): Effect.Effect<void> => self[TypeId].control(self.key, "Reset")

/** The circuit as plain data, in any state, to be kept beyond the process. */
export const snapshot = (self: CircuitBreaker): Effect.Effect<Snapshot> => self[TypeId].snapshot(self.key)

/**
 * Puts a snapshot in place of the circuit. Time that has passed since counts by the wall clock. A window that was saved
 * under a rule of another kind is left out. What is no snapshot of this version dies with a `RangeError` that says what is
 * wrong, and changes nothing.
 */
export const restore: {
  (snapshot: Snapshot): (self: CircuitBreaker) => Effect.Effect<void>
  (self: CircuitBreaker, snapshot: Snapshot): Effect.Effect<void>
} = dual(
  2,
  (self: CircuitBreaker, snapshot: Snapshot): Effect.Effect<void> => self[TypeId].restore(self.key, snapshot)
)
