/**
 * Circuit breakers that a fleet of processes shares: what one of them finds out, all of them know.
 *
 * **When to use**
 *
 * Use when many processes call one dependency and each alone sees too few failures to judge it, or when all of them
 * probing it at once would be too much. Otherwise `CircuitBreaker.make` is simpler and costs a hundredth.
 *
 * **Details**
 *
 * - `make` and `keyed` give the same values as those of `CircuitBreaker`; all of its functions work on them.
 * - Circuits live in a `CircuitBreakerStore` of `effect/persistence`: on Redis with `layerStoreRedis`, under the keys
 *   `name` and `name:key`. Give every breaker that shares a store its own name, and all its processes the same options.
 * - When the store fails or does not answer within `storeTimeout`, the breaker works locally, says so (a warning in the
 *   log, `Local` in `CircuitBreaker.metrics`), goes on from what the store last said, and asks it again after `retryStore`.
 *
 * **Gotchas**
 *
 * - The store knows consecutive failures and failure rates over calls, and one probe at a time, whose lease is that of
 *   the store. Other trip rules are refused; `halfOpen` and `rampUp` do not exist here.
 * - A rate is judged by the store after good calls as well.
 * - An operator's states, `reset`, `snapshot` and `restore` concern this process alone.
 * - Every call costs two round trips to the store.
 *
 * **Example** (Two processes, one circuit)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { CircuitBreaker as Store } from "effect/persistence"
 * import { CircuitBreaker, FleetCircuitBreaker } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const options = { name: "payments", trip: CircuitBreaker.consecutive(1) }
 *   const here = yield* FleetCircuitBreaker.make(options)
 *   const there = yield* FleetCircuitBreaker.make(options)
 *   yield* Effect.exit(CircuitBreaker.protect(Effect.fail("unreachable"), here))
 *   return (yield* CircuitBreaker.state(there))._tag
 * })
 *
 * console.log(await Effect.runPromise(Effect.provide(program, Store.layerStoreMemory()))) // => 'Open'
 * ```
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Store from "effect/persistence/CircuitBreaker"
import { KeyedCells, SingleCell } from "./circuit/Cells.ts"
import { Core } from "./circuit/Core.ts"
import { Fleet, type FleetOptions } from "./circuit/Fleet.ts"
import { keyed as keyedHandle, single } from "./circuit/Handle.ts"
import { compile, type KeyedOptions } from "./circuit/Options.ts"
import { positiveFinite, type TripRule } from "./circuit/TripRule.ts"
import type { CircuitBreaker, KeyedCircuitBreaker, Options as LocalOptions } from "./CircuitBreaker.ts"
import { integerAtLeast } from "./internal/options.ts"

/** What a shared breaker may be told. Every field but the name has a default. */
export interface Options extends Omit<LocalOptions, "halfOpen" | "rampUp"> {
  /** How long the store may take to answer. Default 250 milliseconds. */
  readonly storeTimeout?: Duration.Input | undefined
  /** How long to work locally before the store is asked again. Default 5 seconds. */
  readonly retryStore?: Duration.Input | undefined
}

/** What a shared keyed breaker may be told; the limits on keys are those of what this process remembers. */
export interface OptionsKeyed extends Options, Pick<KeyedOptions, "idleTimeToLive" | "maxKeys"> {}

const policyOf = (rule: TripRule): Store.TripPolicy => {
  if (rule._tag === "Consecutive") return Store.consecutive(rule.failures)
  if (rule.window._tag === "Count" && rule.failures !== undefined && rule.slow === undefined) {
    return Store.rate({ threshold: rule.failures, size: rule.window.calls, minimumCalls: rule.minimum })
  }
  throw new RangeError("trip must be consecutive failures or a failure rate over calls when circuits are shared")
}

const makeFleet = Effect.fnUntraced(function*(options: OptionsKeyed, keyed: boolean) {
  const store = yield* Store.CircuitBreakerStore
  const compiled = compile(options)
  const { rule } = compiled.settings
  const cells = keyed
    ? new KeyedCells(
      rule,
      integerAtLeast("maxKeys", 2, options.maxKeys ?? 10_000),
      positiveFinite("idleTimeToLive", options.idleTimeToLive ?? "1 hour")
    )
    : new SingleCell(rule)
  const fleet: FleetOptions = {
    ...compiled,
    cells,
    keyed,
    policy: policyOf(rule),
    storeMillis: positiveFinite("storeTimeout", options.storeTimeout ?? "250 millis"),
    awayMillis: positiveFinite("retryStore", options.retryStore ?? "5 seconds"),
    storeKey: (key) => keyed ? `${options.name}:${key}` : options.name
  }
  return new Fleet(fleet, store, yield* Core.make(fleet))
})

/**
 * Makes a breaker with one circuit that is shared through the store.
 *
 * A bad option is a `RangeError` (a defect) that names the option and what is valid.
 */
export const make = (options: Options): Effect.Effect<CircuitBreaker, never, Store.CircuitBreakerStore> =>
  Effect.map(makeFleet(options, false), single)

/** Makes a breaker with one circuit a key, all shared through the store. */
export const keyed = (options: OptionsKeyed): Effect.Effect<KeyedCircuitBreaker, never, Store.CircuitBreakerStore> =>
  Effect.map(makeFleet(options, true), keyedHandle)

/** Provides a shared breaker as the service of your own tag. */
export const layer = <I>(
  tag: Context.Key<I, CircuitBreaker>,
  options: Options
): Layer.Layer<I, never, Store.CircuitBreakerStore> => Layer.effect(tag, make(options))

/** Provides a shared keyed breaker as the service of your own tag. */
export const layerKeyed = <I>(
  tag: Context.Key<I, KeyedCircuitBreaker>,
  options: OptionsKeyed
): Layer.Layer<I, never, Store.CircuitBreakerStore> => Layer.effect(tag, keyed(options))
