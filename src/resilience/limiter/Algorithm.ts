import type * as Duration from "effect/Duration"
import { finiteMillis, integerAtLeast } from "../internal/options.ts"

/** Limits of every algorithm. */
export interface AlgorithmOptions {
  /** How many calls (or units of cost) a window admits: a whole number of at least 1. */
  readonly limit: number
  /** Length of the window: a microsecond or more, and finite. */
  readonly window: Duration.Input
}

/** Limits of an algorithm that lets calls through in bursts. */
export interface BurstOptions extends AlgorithmOptions {
  /** How many calls may come at once after a rest: a whole number of at least 1. */
  readonly burst?: number | undefined
}

/** How calls are counted: plain data, made by `RateLimiter.tokenBucket` and its sisters. */
export interface Algorithm {
  readonly _tag: "tokenBucket" | "gcra" | "fixedWindow" | "slidingWindowLog" | "slidingWindowCounter"
  readonly limit: number
  readonly windowMicros: number
  /** The most that is ever admitted at once: what costs more is refused for ever. */
  readonly capacity: number
}

const make = (_tag: Algorithm["_tag"], options: BurstOptions, burst: number): Algorithm => {
  const limit = integerAtLeast("limit", 1, options.limit)
  const windowMicros = Math.round(finiteMillis("window", options.window) * 1000)
  if (windowMicros < 1) throw new RangeError("window must be a microsecond or more")
  return { _tag, limit, windowMicros, capacity: integerAtLeast("burst", 1, burst) }
}

/**
 * Token bucket: a bucket of `burst` tokens (default `limit`) that is refilled steadily with `limit` tokens a window.
 *
 * The one to begin with: it lets a burst through after a rest, holds the rate in the long run, needs two numbers a key.
 */
export const tokenBucket = (options: BurstOptions): Algorithm =>
  make("tokenBucket", options, options.burst ?? options.limit)

/**
 * Generic cell rate algorithm (ATM Forum TM 4.0; redis-cell): calls are spaced evenly, `window / limit` apart, and at
 * most `burst` (default 1) may come early.
 *
 * For a dependency that wants an even flow. The arithmetic is the token bucket's; the default is the other extreme.
 */
export const gcra = (options: BurstOptions): Algorithm => make("gcra", options, options.burst ?? 1)

/**
 * Fixed window: starts at the first call, admits `limit` until it ends, then the next call starts another.
 *
 * For quotas that reset at once ("1,000 an hour"). Around the end of a window up to twice the limit can pass.
 */
export const fixedWindow = (options: AlgorithmOptions): Algorithm => make("fixedWindow", options, options.limit)

/**
 * Sliding window log: never more than `limit` within any stretch of one window, exactly.
 *
 * It remembers the time of each admitted call: up to `limit` entries a key. For small limits that must hold strictly.
 */
export const slidingWindowLog = (options: AlgorithmOptions): Algorithm =>
  make("slidingWindowLog", options, options.limit)

/**
 * Sliding window counter (Cloudflare, 2017): weighs the count of the last window by how much of it is still in view.
 *
 * Nearly as fair as the log with three numbers a key. It takes calls to be spread evenly over the last window.
 */
export const slidingWindowCounter = (options: AlgorithmOptions): Algorithm =>
  make("slidingWindowCounter", options, options.limit)
