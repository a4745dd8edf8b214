import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Stream from "effect/Stream"
import type * as Outcome from "../Outcome.ts"
import type { Circuit, ManualMode } from "./Circuit.ts"
import type { CircuitBreakerOpenError } from "./OpenError.ts"
import type { Snapshot } from "./Snapshot.ts"
import type { Tally } from "./TripRule.ts"

export type AnyFiber = Fiber.Fiber<unknown, unknown>

/** What state a circuit is in. */
export type StateTag = Exclude<Circuit["_tag"], "Manual"> | ManualMode

/** The state of a circuit, as it stands at the moment of reading. */
export type State =
  /** Calls run. `share` is below 1 while the circuit ramps up after having been open. */
  | { readonly _tag: "Closed"; readonly share: number }
  /** Calls are rejected for `retryAfter`; at zero, the next call is a probe. `openings` counts since the backoff began. */
  | { readonly _tag: "Open"; readonly retryAfter: Duration.Duration; readonly openings: number }
  /** `probes` calls run as probes, the others are rejected. */
  | { readonly _tag: "HalfOpen"; readonly probes: number; readonly openings: number }
  /** An operator's choice. */
  | { readonly _tag: ManualMode }

/** One change of state of a circuit. */
export interface Transition {
  /** Name of the breaker. */
  readonly name: string
  /** Key of the circuit, for a keyed breaker. */
  readonly key?: string | undefined
  readonly from: StateTag
  readonly to: StateTag
  /** How long the circuit stays open, when it opened. */
  readonly retryAfter?: Duration.Duration | undefined
}

/** Counts since the breaker was made; for a keyed breaker, of all keys together. Ignored calls are nowhere in it. */
export interface Totals {
  readonly successes: number
  readonly failures: number
  /** Slow calls, failed or not, when the rule judges slowness. */
  readonly slow: number
  readonly rejections: number
  readonly openings: number
}

/** What a breaker has counted. */
export interface Metrics {
  /** What the trip rule has in view now; under a consecutive rule, the current run of failures. */
  readonly window: Tally & { readonly failureRate: number; readonly slowRate: number }
  readonly total: Totals
  /** Circuits in memory: 1, or the keys that a keyed breaker stores. */
  readonly circuits: number
  /** Where the state lives: in this process, or in the store of a fleet (`Local` when that store is away). */
  readonly store: "Process" | "Fleet" | "Local"
}

/** What stands behind a breaker: circuits of this process, or those of a fleet. */
export interface Driver {
  readonly name: string
  readonly run: <A, E, R>(
    key: string,
    self: Effect.Effect<A, E, R>,
    classify: Outcome.Classify<A, E> | undefined
  ) => Effect.Effect<A, E | CircuitBreakerOpenError, R>
  /**
   * For a policy that runs several strategies in one pass: the generation of a call that the closed circuit admits, to be
   * given to `leave` with the call's exit. Negative when anything but that is the case (a circuit that ramps up
   * included): then go on with `run` or `runNotClosed`. Asking changes nothing.
   */
  readonly enter: (key: string) => number
  readonly runNotClosed: <A, E, R>(
    key: string,
    self: Effect.Effect<A, E, R>,
    classify: Outcome.Classify<A, E> | undefined,
    fiber: AnyFiber
  ) => Effect.Effect<A, E | CircuitBreakerOpenError, R>
  /** When the call starts, in milliseconds; 0 when the rule does not ask. */
  readonly startTime: (fiber: AnyFiber) => number
  readonly leave: <A, E>(
    key: string,
    generation: number,
    startedAt: number,
    exit: Exit.Exit<A, E>,
    classify: Outcome.Classify<A, E> | undefined,
    fiber: AnyFiber
  ) => void
  readonly transitions: Stream.Stream<Transition>
  readonly state: (key: string) => Effect.Effect<State>
  /** The circuits in memory. */
  readonly states: Effect.Effect<ReadonlyMap<string, State>>
  readonly metrics: (key: string) => Effect.Effect<Metrics>
  readonly control: (key: string, mode: ManualMode | "Automatic" | "Reset") => Effect.Effect<void>
  readonly snapshot: (key: string) => Effect.Effect<Snapshot>
  readonly restore: (key: string, snapshot: Snapshot) => Effect.Effect<void>
}
