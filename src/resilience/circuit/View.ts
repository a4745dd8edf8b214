import * as Duration from "effect/Duration"
import { admittedShare, type Circuit, type Settings } from "./Circuit.ts"
import type { Metrics, State, StateTag } from "./Driver.ts"
import { tally } from "./TripRule.ts"

export const tagOf = (circuit: Circuit): StateTag => circuit._tag === "Manual" ? circuit.mode : circuit._tag

/** A circuit as its users see it. */
export const stateOf = (settings: Settings, circuit: Circuit, now: number): State => {
  switch (circuit._tag) {
    case "Closed":
      return {
        _tag: "Closed",
        share: circuit.recovery === undefined ? 1 : admittedShare(settings, circuit.recovery, now)
      }
    case "Open":
      return {
        _tag: "Open",
        retryAfter: Duration.millis(Math.max(0, circuit.until - now)),
        openings: circuit.recovery.openings
      }
    case "HalfOpen":
      return { _tag: "HalfOpen", probes: circuit.probes.size, openings: circuit.recovery.openings }
    case "Manual":
      return { _tag: circuit.mode }
  }
}

/** What the rule has in view. Open and half-open circuits have nothing to judge. */
export const windowOf = (settings: Settings, circuit: Circuit, now: number): Metrics["window"] => {
  const window = circuit._tag === "Closed" || circuit._tag === "Manual"
    ? tally(settings.rule, circuit.memory, now)
    : { calls: 0, failures: 0, slow: 0 }
  const calls = Math.max(1, window.calls)
  return { ...window, failureRate: window.failures / calls, slowRate: window.slow / calls }
}
