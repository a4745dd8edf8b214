import type * as Duration from "effect/Duration"
import * as Schedule from "effect/Schedule"
import { between, finiteMillis, integerAtLeast } from "../internal/options.ts"
import * as Outcome from "../Outcome.ts"
import type { Settings } from "./Circuit.ts"
import type { CoreOptions } from "./Core.ts"
import { consecutive, positiveFinite, type TripRule } from "./TripRule.ts"

/** How a circuit comes back from open. */
export interface HalfOpenOptions {
  /** Probes in flight at a time: at least 1. Default 1. */
  readonly permitted?: number | undefined
  /** Probes that have to succeed for the circuit to close: at least 1. Default: as many as `permitted`. */
  readonly successes?: number | undefined
  /** Probes that have to fail (or be slow, where slowness is judged) for it to open again: at least 1. Default 1. */
  readonly failures?: number | undefined
  /** How long a probe may take before another caller may have its place: finite, above zero. Default 30 seconds. */
  readonly lease?: Duration.Input | undefined
}

/** Admits a rising share of the calls after closing, so that a weak dependency is not buried again. */
export interface RampUpOptions {
  /** How long it takes until all calls are admitted: finite, above zero. */
  readonly duration: Duration.Input
  /** Share of calls admitted right after closing, 0 to 1. Default 0.1. */
  readonly from?: number | undefined
}

/** What a breaker may be told. Every field but the name has a default. */
export interface Options {
  /** Stands in errors, transitions and reports. */
  readonly name: string
  /** When the circuit opens. Default `consecutive(5)`. */
  readonly trip?: TripRule | undefined
  /**
   * How long it stays open: a finite duration above zero, or a schedule whose n-th delay is that of the n-th opening in a
   * row. A backoff starts over when the circuit stayed closed for as long as it was last open. Default 1 minute.
   */
  readonly openTime?: Duration.Input | Schedule.Schedule<unknown, number> | undefined
  /** Longest open time that the `retryAfter` of a failure may ask for. It can only lengthen. Default 1 hour. */
  readonly maxRetryAfter?: Duration.Input | undefined
  readonly halfOpen?: HalfOpenOptions | undefined
  /** Default: none, all calls are admitted at once after closing. */
  readonly rampUp?: RampUpOptions | undefined
  /** Judges a call's exit. Default `Outcome.classify`. */
  readonly classify?: Outcome.Classify | undefined
}

/** What a keyed breaker may be told. */
export interface KeyedOptions extends Options {
  /** A key that was not used for so long is forgotten (after at most twice as long). Default 1 hour. */
  readonly idleTimeToLive?: Duration.Input | undefined
  /** Keys in memory: at least 2. Those not used for longest make room. Default 10000. */
  readonly maxKeys?: number | undefined
}

/** Checks options and turns durations into milliseconds. Throws a `RangeError` that names the option. */
export const compile = (options: Options): Omit<CoreOptions, "cells" | "keyed"> => {
  const { halfOpen, openTime, rampUp } = options
  const permitted = integerAtLeast("halfOpen.permitted", 1, halfOpen?.permitted ?? 1)
  const settings: Settings = {
    rule: options.trip ?? consecutive(5),
    permitted,
    successes: integerAtLeast("halfOpen.successes", 1, halfOpen?.successes ?? permitted),
    failures: integerAtLeast("halfOpen.failures", 1, halfOpen?.failures ?? 1),
    leaseMillis: positiveFinite("halfOpen.lease", halfOpen?.lease ?? "30 seconds"),
    rampMillis: rampUp === undefined ? 0 : positiveFinite("rampUp.duration", rampUp.duration),
    rampFrom: between("rampUp.from", 0, 1, rampUp?.from ?? 0.1)
  }
  return {
    name: options.name,
    settings,
    openTime: Schedule.isSchedule(openTime)
      ? openTime as Schedule.Schedule<unknown, number>
      : positiveFinite("openTime", openTime ?? "1 minute"),
    maxRetryAfterMillis: finiteMillis("maxRetryAfter", options.maxRetryAfter ?? "1 hour"),
    classify: options.classify ?? Outcome.classify
  }
}
