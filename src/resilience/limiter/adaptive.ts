import type * as Duration from "effect/Duration"
import { between, integerAtLeast, positiveMillis } from "../internal/options.ts"

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
  /** How many times its usual duration a call may take before the limit falls: at least 1. Default 1.5. */
  readonly tolerance?: number | undefined
  /** How much one call moves the limit: above 0, at most 1. Default 0.2. */
  readonly smoothing?: number | undefined
  /** How many calls the usual duration is averaged over: a whole number of at least 1. Default 600. */
  readonly window?: number | undefined
  /** How many calls may queue at the dependency: the limit rises by so much while durations are as usual. Default 4. */
  readonly queue?: number | undefined
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
    readonly window: number
    readonly queue: number
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
 * Gradient2 of Netflix's concurrency-limits: the limit follows the ratio of the usual duration of a call to that of the
 * last one, and probes for more while durations are as usual. A failure lowers it as in {@link aimd}, which Netflix leaves
 * out.
 *
 * For dependencies that slow down before they fail.
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
    window: integerAtLeast("window", 1, options.window ?? 600),
    queue: between("queue", 0, Number.MAX_VALUE, options.queue ?? 4)
  }
}

/** A limit and what is known to find the next one. */
export interface State {
  /** With fractions; whole calls are admitted. */
  readonly limit: number
  /** When it was last lowered for a failure, in milliseconds. */
  readonly loweredAt: number
  /** Usual duration of a call, in milliseconds, and how many calls it was taken from. */
  readonly usual: number
  readonly calls: number
}

/** One finished call. */
export interface Sample {
  readonly startedAt: number
  readonly endedAt: number
  /** How many calls were running when it began, itself included. */
  readonly inFlight: number
  readonly failed: boolean
}

export const initialState = (adaptation: Adaptation): State => ({
  limit: adaptation.initial,
  loweredAt: -Infinity,
  usual: 0,
  calls: 0
})

const WARM_UP = 10

// The mean of the first calls, then an exponential average: one slow first call must not be what is usual.
const average = (state: State, window: number, duration: number): number => {
  const n = state.calls + 1
  const factor = n <= Math.min(WARM_UP, window) ? 1 / n : 2 / (window + 1)
  return state.usual + (duration - state.usual) * factor
}

/** The limit after one more call. Never out of its bounds, and never higher while less than half of it is in use. */
export const step = (adaptation: Adaptation, state: State, sample: Sample): State => {
  const duration = sample.endedAt - sample.startedAt
  const failed = sample.failed || adaptation._tag === "aimd" && duration > adaptation.latencyMillis
  const { backoff, max, min } = adaptation
  const { limit } = state
  if (failed) {
    // Calls that began before the limit was lowered tell of the same overload.
    return sample.startedAt < state.loweredAt
      ? state
      : { ...state, limit: Math.max(min, limit * backoff), loweredAt: sample.endedAt }
  }
  const inUse = sample.inFlight * 2 >= limit
  if (adaptation._tag === "aimd") return inUse ? { ...state, limit: Math.min(max, limit + 1 / limit) } : state
  const { queue, smoothing, tolerance, window } = adaptation
  const seen = average(state, window, duration)
  // After a long overload what is usual is too much: it comes down faster than it went up.
  const usual = seen > duration * 2 ? seen * 0.95 : seen
  const ratio = duration > 0 ? Math.max(0.5, Math.min(1, tolerance * usual / duration)) : 1
  const wanted = limit * (1 - smoothing) + (limit * ratio + queue) * smoothing
  const next = inUse || wanted < limit ? Math.max(min, Math.min(max, wanted)) : limit
  return { limit: next, loweredAt: state.loweredAt, usual, calls: state.calls + 1 }
}
