import type * as Duration from "effect/Duration"
import { between, integerAtLeast, nonNegativeMillis, positiveMillis } from "../internal/options.ts"

/** Bounds of a limit that adapts. */
export interface BoundOptions {
  /** Limit to begin with: a whole number. Default 20. */
  readonly initial?: number | undefined
  /** The least it falls to: a whole number of at least 1. Default 1. */
  readonly min?: number | undefined
  /** The most it rises to: a whole number. Default 200. */
  readonly max?: number | undefined
  /** What a failure leaves of the limit: above 0 and below 1. Default 0.9. */
  readonly backoff?: number | undefined
}

/** Options of {@link aimd}. */
export interface AimdOptions extends BoundOptions {
  /** A call that takes longer counts as a failure. Default: no limit, only failures count. */
  readonly latency?: Duration.Input | undefined
}

/** Options of {@link gradient}. */
export interface GradientOptions extends BoundOptions {
  /** How many times its unloaded duration a call may take before the limit falls: at least 1. Default 1.5. */
  readonly tolerance?: number | undefined
  /** How much one interval moves the limit: above 0, at most 1. Default 0.2. */
  readonly smoothing?: number | undefined
  /** How many calls may queue at the dependency: the limit rises by so much while durations are as unloaded. Default 4. */
  readonly queue?: number | undefined
  /**
   * The limit moves at most this often, and not before ten calls have ended; up to 200 where durations vary much. Default
   * 100 milliseconds.
   */
  readonly interval?: Duration.Input | undefined
  /**
   * Calls that take long for this long make it probe: it lowers the limit to a quarter for as many calls as an interval
   * has, to see whether the dependency is slow by itself. Default 30 seconds.
   */
  readonly probeAfter?: Duration.Input | undefined
}

interface Bounds {
  readonly initial: number
  readonly min: number
  readonly max: number
  readonly backoff: number
}

/** How the limit follows what is seen: plain data, made by {@link aimd} or {@link gradient}. */
export type Adaptation =
  | Bounds & { readonly _tag: "aimd"; readonly latencyMillis: number }
  | Bounds & {
    readonly _tag: "gradient"
    readonly tolerance: number
    readonly smoothing: number
    readonly queue: number
    readonly intervalMillis: number
    readonly probeAfterMillis: number
  }

const bounds = (options: BoundOptions): Bounds => {
  const min = integerAtLeast("min", 1, options.min ?? 1)
  const max = integerAtLeast("max", min, options.max ?? Math.max(min, 200))
  const initial = between(
    "initial",
    min,
    max,
    integerAtLeast("initial", 1, options.initial ?? Math.min(max, Math.max(min, 20)))
  )
  const backoff = options.backoff ?? 0.9
  if (!(backoff > 0 && backoff < 1)) throw new RangeError(`backoff must be above 0 and below 1, got ${backoff}`)
  return { initial, min, max, backoff }
}

/**
 * Additive increase, multiplicative decrease (Chiu and Jain, 1989; TCP's congestion avoidance): one more for every `limit`
 * calls that went well, a tenth less after a failure.
 *
 * For dependencies that say when they are overloaded, by an error or by taking longer than `latency`.
 */
export const aimd = (options: AimdOptions = {}): Adaptation => ({
  _tag: "aimd",
  ...bounds(options),
  latencyMillis: options.latency === undefined ? Infinity : positiveMillis("latency", options.latency)
})

/**
 * The limit follows the ratio of the duration of a call without load to the mean of the last interval, and probes for more
 * while durations are as without load. A failure lowers it as in {@link aimd}.
 *
 * For dependencies that slow down before they fail. The formula is that of Gradient2 in Netflix's concurrency-limits.
 * That takes a long average for the usual duration, which learns from the very overload that it is to show, and lets the
 * limit drift up; here it is what calls take while the limit is low, as in Envoy's adaptive concurrency filter: the least
 * that was seen, measured anew by a probe when calls have been slow for {@link GradientOptions.probeAfter}.
 */
export const gradient = (options: GradientOptions = {}): Adaptation => {
  const smoothing = options.smoothing ?? 0.2
  if (!(smoothing > 0 && smoothing <= 1)) {
    throw new RangeError(`smoothing must be above 0 and at most 1, got ${smoothing}`)
  }
  return {
    _tag: "gradient",
    ...bounds(options),
    tolerance: between("tolerance", 1, Number.MAX_VALUE, options.tolerance ?? 1.5),
    smoothing,
    queue: between("queue", 0, Number.MAX_VALUE, options.queue ?? 4),
    intervalMillis: nonNegativeMillis("interval", options.interval ?? 100),
    probeAfterMillis: positiveMillis("probeAfter", options.probeAfter ?? 30_000)
  }
}

/** A limit and what is known to find the next one. Times are in milliseconds. */
export interface State {
  /** With fractions; see {@link admitted} for how many calls may run. */
  readonly limit: number
  /** When it was last lowered for a failure. */
  readonly loweredAt: number
  /** What a call takes without load; `Infinity` before it is known. */
  readonly unloaded: number
  /** Since when calls have been slow; `undefined` while they are not. */
  readonly slowSince: number | undefined
  /** Is the limit lowered, to see what a call takes without load? */
  readonly probing: boolean
  /** When the last probe began. */
  readonly probedAt: number
  /** How much durations vary: the mean of their squared coefficient of variation. */
  readonly spread: number
  readonly interval: Interval
}

/** The calls since the limit last moved. */
interface Interval {
  /** `undefined` before the first call. */
  readonly from: number | undefined
  readonly calls: number
  /** Of their durations, and of the squares of these. */
  readonly sum: number
  readonly squares: number
  /** Most calls that ran at once. */
  readonly inFlight: number
}

/** One finished call. */
export interface Sample {
  readonly startedAt: number
  readonly endedAt: number
  /** How many calls were running when it began, itself included. */
  readonly inFlight: number
  readonly failed: boolean
}

const nothing: Interval = { from: undefined, calls: 0, sum: 0, squares: 0, inFlight: 0 }

export const initialState = (adaptation: Adaptation): State => ({
  limit: adaptation.initial,
  loweredAt: -Infinity,
  unloaded: Infinity,
  slowSince: undefined,
  probing: false,
  probedAt: -Infinity,
  spread: 0,
  interval: nothing
})

/** Calls that an interval, and a probe, has at least: fewer are chance. */
const minCalls = 10
/** And at most: what varies too much for that is not worth the wait. */
const maxCalls = 200
/** Squared relative error of the mean duration that an interval waits for: durations that vary need more calls. */
const meanError = 0.02
/** How fast the variation of one interval becomes the usual one. */
const spreadWeight = 0.1
/** What a probe leaves of the limit: the limit is at most about twice the capacity, so this is below it. */
const probeShare = 0.25
/** How fast a lower duration becomes the unloaded one: one quick interval is not believed at once. */
const trust = 0.5

/** How many calls may run at once. */
export const admitted = (adaptation: Adaptation, state: State): number =>
  Math.floor(state.probing ? Math.max(adaptation.min, state.limit * shareOf(adaptation)) : state.limit)

// A limit that tolerates more rises to more of the capacity.
const shareOf = (adaptation: Adaptation): number =>
  adaptation._tag === "gradient" ? Math.min(probeShare, 0.5 / adaptation.tolerance) : probeShare

/** The state after one more call. The limit never leaves its bounds, and never rises while less than half of it is in use. */
export const step = (adaptation: Adaptation, state: State, sample: Sample): State => {
  const { backoff, max, min } = adaptation
  const { limit } = state
  const failed = sample.failed ||
    adaptation._tag === "aimd" && sample.endedAt - sample.startedAt > adaptation.latencyMillis
  if (failed) {
    // Calls that began before the limit was lowered tell of the same overload.
    return sample.startedAt < state.loweredAt
      ? state
      : { ...state, limit: Math.max(min, limit * backoff), loweredAt: sample.endedAt }
  }
  if (adaptation._tag === "gradient") return follow(adaptation, state, sample)
  return sample.inFlight * 2 >= limit ? { ...state, limit: Math.min(max, limit + 1 / limit) } : state
}

type Gradient = Extract<Adaptation, { readonly _tag: "gradient" }>

const follow = (adaptation: Gradient, state: State, sample: Sample): State => {
  // A call that began before the probe has seen the load.
  if (state.probing && (sample.startedAt < state.probedAt || sample.inFlight > admitted(adaptation, state))) {
    return state
  }
  const interval = count(state.interval, sample)
  const mean = interval.sum / interval.calls
  const elapsed = sample.endedAt - interval.from!
  const spread = variation(interval)
  const needed = Math.max(minCalls, Math.max(state.spread, spread) / meanError)
  // Not sooner than a call takes: what the limit did last has to show first.
  if (interval.calls < needed || !state.probing && elapsed < Math.max(adaptation.intervalMillis, mean)) {
    return { ...state, interval }
  }
  const known = { ...state, spread: state.spread + (spread - state.spread) * spreadWeight, interval: nothing }
  return state.probing
    ? { ...known, unloaded: mean, slowSince: undefined, probing: false }
    : move(adaptation, known, interval, mean, sample.endedAt)
}

const variation = ({ calls, squares, sum }: Interval): number =>
  sum > 0 ? Math.max(0, Math.min(maxCalls * meanError, calls * squares / (sum * sum) - 1)) : 0

const count = (interval: Interval, { endedAt, inFlight, startedAt }: Sample): Interval => {
  const took = endedAt - startedAt
  return {
    from: interval.from ?? endedAt,
    calls: interval.calls + 1,
    sum: interval.sum + took,
    squares: interval.squares + took * took,
    inFlight: Math.max(interval.inFlight, inFlight)
  }
}

const move = (adaptation: Gradient, state: State, interval: Interval, mean: number, now: number): State => {
  const { max, min, probeAfterMillis, queue, smoothing, tolerance } = adaptation
  const { limit } = state
  const unloaded = state.unloaded === Infinity
    ? mean
    : mean < state.unloaded
    ? state.unloaded + (mean - state.unloaded) * trust
    : state.unloaded
  const ratio = mean > 0 ? Math.max(0.5, Math.min(1, tolerance * unloaded / mean)) : 1
  const wanted = limit * (1 - smoothing) + (limit * ratio + queue) * smoothing
  const mayRise = interval.inFlight * 2 >= limit
  const slowSince = ratio < 1 ? state.slowSince ?? now : undefined
  const probing = slowSince !== undefined && now - slowSince >= probeAfterMillis
  return {
    ...state,
    limit: mayRise || wanted < limit ? Math.max(min, Math.min(max, wanted)) : limit,
    unloaded,
    slowSince,
    probing,
    probedAt: probing ? now : state.probedAt
  }
}
