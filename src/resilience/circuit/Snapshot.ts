import {
  type Automatic,
  type Backoff,
  type Circuit,
  Closed,
  HalfOpen,
  Manual,
  type ManualMode,
  Open,
  type Recovery,
  type Settings
} from "./Circuit.ts"
import { emptyMemory, loadMemory, type SavedMemory, saveMemory, type TripRule } from "./TripRule.ts"

/** What a circuit remembers of having been open. */
export interface SavedRecovery {
  readonly openings: number
  readonly openMillis: number
}

/** A circuit as plain data (JSON), to be restored in this process or in the next one. Times are relative. */
export interface Snapshot {
  readonly version: 1
  /** Wall clock time of the snapshot, in milliseconds. */
  readonly takenAt: number
  readonly circuit:
    | {
      readonly _tag: "Closed"
      readonly memory: SavedMemory
      readonly recovery?: SavedRecovery & { readonly closedForMillis: number } | undefined
    }
    | { readonly _tag: "Open"; readonly remainingMillis: number; readonly recovery: SavedRecovery }
    | {
      readonly _tag: "HalfOpen"
      readonly successes: number
      readonly failures: number
      readonly recovery: SavedRecovery
    }
  /** The operator's state over it, if any. */
  readonly manual?: { readonly mode: ManualMode; readonly memory: SavedMemory } | undefined
}

const saveRecovery = ({ openMillis, openings }: Recovery): SavedRecovery => ({ openings, openMillis })

const saveAutomatic = (rule: TripRule, circuit: Automatic, now: number): Snapshot["circuit"] => {
  switch (circuit._tag) {
    case "Closed": {
      const memory = saveMemory(rule, circuit.memory, now)
      return circuit.recovery === undefined
        ? { _tag: "Closed", memory }
        : {
          _tag: "Closed",
          memory,
          recovery: { ...saveRecovery(circuit.recovery), closedForMillis: Math.max(0, now - circuit.recovery.closedAt) }
        }
    }
    case "Open":
      return {
        _tag: "Open",
        remainingMillis: Math.max(0, circuit.until - now),
        recovery: saveRecovery(circuit.recovery)
      }
    case "HalfOpen":
      // The probes in flight belong to callers of this process: whoever restores starts with all places free.
      return {
        _tag: "HalfOpen",
        successes: circuit.successes,
        failures: circuit.failures,
        recovery: saveRecovery(circuit.recovery)
      }
  }
}

export const save = (rule: TripRule, circuit: Circuit, now: number, wallNow: number): Snapshot =>
  circuit._tag === "Manual"
    ? {
      version: 1,
      takenAt: wallNow,
      circuit: saveAutomatic(rule, circuit.before, now),
      manual: { mode: circuit.mode, memory: saveMemory(rule, circuit.memory, now) }
    }
    : { version: 1, takenAt: wallNow, circuit: saveAutomatic(rule, circuit, now) }

const amount = (name: string, value: number): number => {
  if (value >= 0 && value < Infinity) return value
  throw new RangeError(`snapshot must have a finite ${name} of zero or more, got ${String(value)}`)
}

const memoryOf = (memory: SavedMemory): SavedMemory => {
  if (typeof memory === "number") return amount("memory", memory)
  if (memory._tag === "Time") {
    for (const [, calls, failures, slow] of memory.buckets) amount("memory", calls + failures + slow)
  }
  return memory
}

/**
 * The circuit of a snapshot. What had time left has less of it by the wall clock time that has passed since.
 *
 * Throws a `RangeError` for data that is no snapshot of this version: a number that is missing would otherwise become a
 * circuit that never closes, or never opens again.
 */
export const load = (
  settings: Settings,
  snapshot: Snapshot,
  generation: () => number,
  now: number,
  wallNow: number,
  backoffAfter: (openings: number) => Backoff
): Circuit => {
  if (snapshot.version !== 1) throw new RangeError(`snapshot must be of version 1, got ${String(snapshot.version)}`)
  const passed = Math.max(0, wallNow - amount("takenAt", snapshot.takenAt))
  const { circuit: saved, manual } = snapshot
  const recovery = ({ openMillis, openings }: SavedRecovery): Recovery => ({
    openings: amount("openings", openings),
    openMillis: amount("openMillis", openMillis),
    backoff: backoffAfter(openings)
  })
  const automatic = (): Automatic => {
    switch (saved._tag) {
      case "Closed":
        return new Closed(
          generation(),
          loadMemory(settings.rule, memoryOf(saved.memory), now - passed),
          saved.recovery === undefined ? undefined : {
            ...recovery(saved.recovery),
            closedAt: now - passed - amount("closedForMillis", saved.recovery.closedForMillis),
            ramping: settings.rampMillis > 0
          }
        )
      case "Open":
        return new Open(
          generation(),
          now + Math.max(0, amount("remainingMillis", saved.remainingMillis) - passed),
          recovery(saved.recovery)
        )
      case "HalfOpen": {
        const halfOpen = new HalfOpen(generation(), recovery(saved.recovery))
        halfOpen.successes = Math.min(amount("successes", saved.successes), settings.successes - 1)
        halfOpen.failures = Math.min(amount("failures", saved.failures), settings.failures - 1)
        return halfOpen
      }
    }
  }
  if (manual === undefined) return automatic()
  const memory = manual.mode === "MetricsOnly"
    ? loadMemory(settings.rule, memoryOf(manual.memory), now - passed)
    : emptyMemory(settings.rule)
  return new Manual(generation(), manual.mode, automatic(), memory)
}
