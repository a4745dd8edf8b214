/**
 * When a closed circuit opens: rules as plain data, and the arithmetic that applies them.
 */
import type * as Duration from "effect/Duration"
import * as Windows from "../../observability/Windows.ts"
import { between, finiteMillis, integerAtLeast, positiveMillis } from "../internal/options.ts"

/** Opens after so many failures in a row. */
export interface Consecutive {
  readonly _tag: "Consecutive"
  readonly failures: number
}

/** Opens when the share of failures or of slow calls in a window reaches a threshold. */
export interface Rate {
  readonly _tag: "Rate"
  readonly window:
    | { readonly _tag: "Count"; readonly calls: number }
    | { readonly _tag: "Time"; readonly millis: number; readonly buckets: number }
  readonly minimum: number
  /** Share of failures that opens, or undefined when failures are not judged. */
  readonly failures: number | undefined
  /** Share of slow calls that opens, and from how many milliseconds on a call is slow. */
  readonly slow: { readonly threshold: number; readonly millis: number } | undefined
}

/** When a closed circuit opens. */
export type TripRule = Consecutive | Rate

/** The last calls that a rate is taken over: so many of them, or those of so long. */
export type WindowInput =
  | { readonly calls: number }
  | { readonly time: Duration.Input; readonly buckets?: number | undefined }

export const consecutive = (failures: number): TripRule => ({
  _tag: "Consecutive",
  failures: integerAtLeast("failures", 1, failures)
})

/** Milliseconds of a duration option that has to be above zero and finite. */
export const positiveFinite = (name: string, value: Duration.Input): number => {
  positiveMillis(name, value)
  return finiteMillis(name, value)
}

/** What the public constructors of rate rules come down to. */
export interface RateOptions {
  readonly failures?: number | undefined
  readonly slow?: { readonly threshold: number; readonly duration: Duration.Input } | undefined
  readonly window?: WindowInput | undefined
  readonly minimum?: number | undefined
}

export const rate = (options: RateOptions): TripRule => {
  const input = options.window ?? { calls: 100 }
  const window: Rate["window"] = "calls" in input
    ? { _tag: "Count", calls: integerAtLeast("window.calls", 1, input.calls) }
    : {
      _tag: "Time",
      millis: positiveFinite("window.time", input.time),
      buckets: integerAtLeast("window.buckets", 1, input.buckets ?? 10)
    }
  const most = window._tag === "Count" ? window.calls : Number.MAX_SAFE_INTEGER
  const minimum = integerAtLeast("minimum", 1, options.minimum ?? Math.min(20, most))
  return {
    _tag: "Rate",
    window,
    minimum: between("minimum", 1, most, minimum),
    failures: options.failures === undefined ? undefined : between("threshold", 0, 1, options.failures),
    slow: options.slow === undefined
      ? undefined
      : {
        threshold: between("slow.threshold", 0, 1, options.slow.threshold),
        millis: positiveFinite("slow.duration", options.slow.duration)
      }
  }
}

/**
 * What a rule remembers of the calls. Under a consecutive rule the current run of failures; under a rate over calls the
 * number of calls as long as all were good, which is all that most keys of a keyed breaker ever need; else a window.
 */
export type Memory = number | Windows.Window

export const emptyMemory = (rule: TripRule): Memory =>
  rule._tag === "Rate" && rule.window._tag === "Time" ? Windows.timeWindow(rule.window.millis, rule.window.buckets) : 0

/** Milliseconds from which on a call is slow; never, when the rule does not judge slowness. */
export const slowMillis = (rule: TripRule): number =>
  rule._tag === "Rate" && rule.slow !== undefined ? rule.slow.millis : Number.POSITIVE_INFINITY

/** Must `now` be true when a call is recorded? */
export const readsClock = (rule: TripRule): boolean =>
  rule._tag === "Rate" && (rule.slow !== undefined || rule.window._tag === "Time")

const windowSize = (rule: TripRule): number =>
  rule._tag === "Rate" && rule.window._tag === "Count" ? rule.window.calls : Number.POSITIVE_INFINITY

/** Does a rate over this window ask for the circuit to open? */
const exceeds = (rule: Rate, window: Windows.Window): boolean =>
  window.calls >= rule.minimum && (
    (rule.failures !== undefined && window.failures >= rule.failures * window.calls) ||
    (rule.slow !== undefined && window.slow >= rule.slow.threshold * window.calls)
  )

/**
 * Counts one call in the memory of `holder`. True when the circuit has to open: judged after failures and slow calls
 * only, so a good call never opens a circuit.
 */
export const record = (
  rule: TripRule,
  holder: { memory: Memory },
  failed: boolean,
  slow: boolean,
  now: number
): boolean => {
  let memory = holder.memory
  if (rule._tag === "Consecutive") {
    const failures = failed ? (memory as number) + 1 : 0
    if (memory !== failures) holder.memory = failures
    return failures >= rule.failures
  }
  if (typeof memory === "number") {
    const size = windowSize(rule)
    if (!failed && !slow) {
      if (memory < size) holder.memory = memory + 1
      return false
    }
    memory = holder.memory = Windows.countWindow(size, memory)
  }
  memory.record(failed, slow, now)
  return (failed || slow) && exceeds(rule, memory)
}

/** Calls, failures and slow calls that a rule has in view. */
export interface Tally {
  readonly calls: number
  readonly failures: number
  readonly slow: number
}

export const tally = (rule: TripRule, memory: Memory, now: number): Tally => {
  if (typeof memory === "number") {
    return { calls: memory, failures: rule._tag === "Consecutive" ? memory : 0, slow: 0 }
  }
  memory.advance(now)
  return { calls: memory.calls, failures: memory.failures, slow: memory.slow }
}

/** A memory as plain data. */
export type SavedMemory = number | Windows.Saved

export const saveMemory = (rule: TripRule, memory: Memory, now: number): SavedMemory => {
  if (typeof memory !== "number") return memory.save(now)
  return rule._tag === "Consecutive" ? memory : Windows.countWindow(windowSize(rule), memory).save(now)
}

/** The memory that was saved; an empty one when it was saved under a rule of another kind. */
export const loadMemory = (rule: TripRule, saved: SavedMemory, now: number): Memory => {
  if (rule._tag === "Consecutive") return typeof saved === "number" ? saved : 0
  const window = rule.window._tag === "Count"
    ? Windows.countWindow(rule.window.calls)
    : Windows.timeWindow(rule.window.millis, rule.window.buckets)
  if (typeof saved !== "number") window.load(saved, now)
  return window
}
