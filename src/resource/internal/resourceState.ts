// The state machine of a resource, as plain functions.
//
//   pending -> validating -> connecting -> initializing -> verifying -> ready <-> degraded <-> down
//      |                                                       |          |          |          |
//      |           (any phase may fail) ---------------> failed           +--- draining -> stopped
//      |
//   A restart goes from ready, degraded, down or failed back to validating.
import type { Phase } from "../ResourceError.ts"

export type State =
  | "pending"
  | "validating"
  | "connecting"
  | "initializing"
  | "verifying"
  | "ready"
  | "degraded"
  | "down"
  | "draining"
  | "stopped"
  | "failed"

const next: Record<State, ReadonlyArray<State>> = {
  pending: ["validating", "draining", "stopped"],
  validating: ["connecting", "failed", "down", "draining", "stopped"],
  connecting: ["initializing", "failed", "down", "draining", "stopped"],
  initializing: ["verifying", "failed", "down", "draining", "stopped"],
  verifying: ["ready", "degraded", "failed", "down", "draining", "stopped"],
  ready: ["degraded", "down", "draining", "validating"],
  degraded: ["ready", "down", "draining", "validating"],
  down: ["ready", "degraded", "failed", "draining", "validating"],
  failed: ["validating", "draining", "stopped"],
  draining: ["stopped"],
  stopped: []
}

export const canMove = (from: State, to: State): boolean => from === to || next[from].includes(to)

export const states: ReadonlyArray<State> = Object.keys(next) as Array<State>

export const stateOfPhase: Record<Exclude<Phase, "monitor" | "release">, State> = {
  validate: "validating",
  connect: "connecting",
  initialize: "initializing",
  verify: "verifying"
}

export interface Thresholds {
  /** Failures in a row until `down`; before that a failing resource is `degraded`. */
  readonly failureThreshold: number
  /** Successes in a row until a degraded or down resource is `ready`. */
  readonly successThreshold: number
  /** Milliseconds; a slower successful check means `degraded`. */
  readonly slow: number
}

export interface Watch {
  readonly state: "ready" | "degraded" | "down"
  readonly failures: number
  readonly successes: number
}

export type Check = { readonly ok: true; readonly millis: number } | { readonly ok: false }

/** What one check makes of a watched resource. `base` is the best state it can be in: degraded when a wanted part is absent. */
export const step = (watch: Watch, check: Check, thresholds: Thresholds, base: "ready" | "degraded"): Watch => {
  if (!check.ok) {
    const failures = watch.failures + 1
    const down = watch.state === "down" || failures >= thresholds.failureThreshold
    return { state: down ? "down" : "degraded", failures, successes: 0 }
  }
  const successes = watch.successes + 1
  const good = check.millis > thresholds.slow ? "degraded" : base
  const recovering = watch.state === "down" || watch.failures > 0
  if (recovering && successes < thresholds.successThreshold) {
    return { state: watch.state, failures: watch.failures, successes }
  }
  return { state: good, failures: 0, successes }
}
