/**
 * Quantiles of latencies in bounded memory: a histogram whose buckets grow by a constant factor.
 *
 * **When to use**: to keep percentiles of a stream of durations for ever, in a fixed few kilobytes: hedge delays, the
 * latency figures of a status page, slow-call rules.
 *
 * **Details**: the bucket scheme is DDSketch (Masson, Rim, Lee: *DDSketch: a fast and fully-mergeable quantile sketch with
 * relative-error guarantees*, VLDB 2019) with a fixed range in place of collapsing, as HdrHistogram has it. A quantile is
 * within `relativeError` of a value that was really recorded at that rank. `record` is O(1) and allocates nothing;
 * `quantile` is O(buckets). Two histograms of the same options merge without loss.
 *
 * **Gotchas**: values at or below `min` are counted as "at most `min`", values above `max` as `max` or more: both are
 * reported within the exact smallest and largest value seen. What is not a finite number is ignored, negative is zero.
 *
 * **Example** (Percentiles of recorded latencies)
 *
 * ```ts
 * import { Quantile } from "seaworthy"
 *
 * const latency = Quantile.make()
 * for (let millis = 1; millis <= 1000; millis++) Quantile.record(latency, millis)
 *
 * console.log(Math.abs(Quantile.quantile(latency, 0.5)! - 500) <= 500 * 0.02) // => true
 * console.log(Quantile.quantile(latency, 1)) // => 1000
 * console.log(latency.count) // => 1000
 * ```
 */

/** What a histogram may be told. Every field has a default. */
export interface Options {
  /** Largest relative error of a reported quantile, between 0 and 1 (exclusive). Default 0.02 (2 %), about 5 kB. */
  readonly relativeError?: number | undefined
  /** Smallest value told apart, in milliseconds. Default 0.001 (one microsecond). */
  readonly min?: number | undefined
  /** Largest value told apart, in milliseconds. Default 86400000 (one day). */
  readonly max?: number | undefined
}

/** A mutable histogram of milliseconds. Read its figures; change it only with {@link record}, {@link merge}, {@link reset}. */
export interface Histogram {
  /** How many values were recorded. */
  readonly count: number
  /** Sum of the recorded values, in milliseconds. */
  readonly sum: number
  /** Exact smallest value recorded, in milliseconds; `Infinity` when empty. */
  readonly min: number
  /** Exact largest value recorded, in milliseconds; `-Infinity` when empty. */
  readonly max: number
  /** Size of the bucket table in bytes: fixed from the start. */
  readonly bytes: number
}

interface State extends Histogram {
  count: number
  sum: number
  min: number
  max: number
  readonly low: number
  readonly gamma: number
  readonly scale: number
  readonly offset: number
  readonly buckets: Float64Array
}

const state = (self: Histogram): State => self as State

/**
 * An empty histogram.
 *
 * Throws a `RangeError` that names the option when one is out of range.
 */
export const make = (options?: Options): Histogram => {
  const relativeError = options?.relativeError ?? 0.02
  const low = options?.min ?? 0.001
  const high = options?.max ?? 86_400_000
  if (!(relativeError > 0 && relativeError < 1)) {
    throw new RangeError(`relativeError must be between 0 and 1 (exclusive), got ${relativeError}`)
  }
  if (!(low > 0 && low < Infinity)) throw new RangeError(`min must be a finite number above 0, got ${low}`)
  if (!(high > low && high < Infinity)) throw new RangeError(`max must be finite and above min (${low}), got ${high}`)
  const gamma = (1 + relativeError) / (1 - relativeError)
  const scale = 1 / Math.log(gamma)
  // Bucket 0 holds what is at most `low`; bucket i > 0 holds (low * gamma^(i-1), low * gamma^i].
  const buckets = new Float64Array(Math.ceil(Math.log(high / low) * scale) + 2)
  const self: State = {
    count: 0,
    sum: 0,
    min: Infinity,
    max: -Infinity,
    bytes: buckets.byteLength,
    low,
    gamma,
    scale,
    offset: Math.log(low) * scale,
    buckets
  }
  return self
}

/** Adds one value, in milliseconds. O(1), no allocation. Not a finite number: ignored. Negative: counted as 0. */
export const record = (self: Histogram, millis: number): void => {
  // `x - x` is NaN for NaN and for both infinities.
  if (millis - millis !== 0) return
  const s = state(self)
  const value = millis < 0 ? 0 : millis
  s.count++
  s.sum += value
  if (value < s.min) s.min = value
  if (value > s.max) s.max = value
  let index = 0
  if (value > s.low) {
    index = Math.ceil(Math.log(value) * s.scale - s.offset)
    // Rounding may put a value a hair above `low` into bucket 0, or one at the top a bucket too far.
    if (index < 1) index = 1
    else if (index >= s.buckets.length) index = s.buckets.length - 1
  }
  s.buckets[index] = s.buckets[index]! + 1
}

/**
 * The value, in milliseconds, that a share `q` (0 to 1) of the recorded values does not exceed: the one at rank
 * `floor(q * (count - 1))`, within the relative error. `undefined` when nothing was recorded.
 *
 * Throws a `RangeError` when `q` is not between 0 and 1.
 */
export const quantile = (self: Histogram, q: number): number | undefined => {
  if (!(q >= 0 && q <= 1)) throw new RangeError(`q must be between 0 and 1, got ${q}`)
  const s = state(self)
  if (s.count === 0) return undefined
  const rank = Math.floor(q * (s.count - 1))
  if (rank === 0) return s.min
  if (rank === s.count - 1) return s.max
  const buckets = s.buckets
  let seen = 0
  let index = 0
  for (; index < buckets.length - 1; index++) {
    seen += buckets[index]!
    if (seen > rank) break
  }
  // The middle of the bucket, in the sense that both ends are equally wrong in relative terms.
  const middle = index === 0 ? s.low : s.low * Math.pow(s.gamma, index) * 2 / (1 + s.gamma)
  return middle < s.min ? s.min : middle > s.max ? s.max : middle
}

/** Mean of the recorded values, in milliseconds (exact, not from buckets). `undefined` when nothing was recorded. */
export const mean = (self: Histogram): number | undefined => self.count === 0 ? undefined : self.sum / self.count

/** Adds all of `from` to `self` without loss. Throws a `RangeError` when the two were made with different options. */
export const merge = (self: Histogram, from: Histogram): void => {
  const s = state(self)
  const f = state(from)
  if (s.gamma !== f.gamma || s.low !== f.low || s.buckets.length !== f.buckets.length) {
    throw new RangeError("from must be a histogram of the same relativeError, min and max")
  }
  s.count += f.count
  s.sum += f.sum
  if (f.min < s.min) s.min = f.min
  if (f.max > s.max) s.max = f.max
  for (let i = 0; i < s.buckets.length; i++) s.buckets[i] = s.buckets[i]! + f.buckets[i]!
}

/** Empties the histogram and keeps its memory. */
export const reset = (self: Histogram): void => {
  const s = state(self)
  s.count = 0
  s.sum = 0
  s.min = Infinity
  s.max = -Infinity
  s.buckets.fill(0)
}
