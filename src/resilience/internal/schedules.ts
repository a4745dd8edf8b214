import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Backoff from "./backoff.ts"
import { between, finiteMillis } from "./options.ts"

/** The longest delay of a built-in schedule, unless given: 30 seconds. */
const defaultMax = "30 seconds"

const schedule = (delay: (attempt: number) => number): Schedule.Schedule<Duration.Duration> =>
  Schedule.fromStepWithMetadata(Effect.succeed((meta) => {
    const duration = Duration.millis(delay(meta.attempt))
    return Effect.succeed([duration, duration] as [Duration.Duration, Duration.Duration])
  }))

const jittered = (
  start: () => (attempt: number, draw: number) => number
): Schedule.Schedule<Duration.Duration> =>
  Schedule.fromStepWithMetadata(Effect.sync(() => {
    const delay = start()
    return (meta) =>
      Effect.withFiber((fiber) => {
        const duration = Duration.millis(delay(meta.attempt, fiber.getRef(Random.Random).nextDoubleUnsafe()))
        return Effect.succeed([duration, duration] as [Duration.Duration, Duration.Duration])
      })
  }))

const range = (options: { readonly base: Duration.Input; readonly max?: Duration.Input | undefined }) => {
  const base = finiteMillis("base", options.base)
  const max = finiteMillis("max", options.max ?? defaultMax)
  if (max < base && options.max !== undefined) {
    throw new RangeError(`max must be at least base (${base} ms), got ${max} ms`)
  }
  return { base, max: Math.max(base, max) }
}

/** Options of the schedules that start at `base` and grow up to `max`. */
export interface GrowthOptions {
  /** The first delay. */
  readonly base: Duration.Input
  /** The longest delay: at least `base`. Default 30 seconds. */
  readonly max?: Duration.Input | undefined
}

/** Options of the schedules that multiply. */
export interface ExponentialOptions extends GrowthOptions {
  /** What each delay is multiplied by to get the next: 1 to 100. Default 2. */
  readonly factor?: number | undefined
}

/** Options of {@link linear}. */
export interface LinearOptions extends GrowthOptions {
  /** What is added to each delay to get the next. Default: `base`. */
  readonly step?: Duration.Input | undefined
}

/** The same delay before every retry. */
export const fixed = (delay: Duration.Input): Schedule.Schedule<Duration.Duration> => {
  const millis = finiteMillis("delay", delay)
  return schedule(() => millis)
}

/** Delays `base`, `base + step`, `base + 2 step`, ... up to `max`. */
export const linear = (options: LinearOptions): Schedule.Schedule<Duration.Duration> => {
  const { base, max } = range(options)
  const step = options.step === undefined ? base : finiteMillis("step", options.step)
  return schedule((attempt) => Backoff.linear(base, step, max, attempt))
}

/**
 * Delays `base`, `base * factor`, `base * factor^2`, ... up to `max`. Callers that failed together come back together:
 * where there are many, prefer {@link fullJitter}.
 */
export const exponential = (options: ExponentialOptions): Schedule.Schedule<Duration.Duration> => {
  const { base, max } = range(options)
  const factor = between("factor", 1, 100, options.factor ?? 2)
  return schedule((attempt) => Backoff.exponential(base, factor, max, attempt))
}

/**
 * A random delay from zero up to the exponential one: spreads callers most evenly. Source: Marc Brooker, *Exponential
 * Backoff And Jitter*, AWS Architecture Blog, 2015 ("Full Jitter").
 */
export const fullJitter = (options: ExponentialOptions): Schedule.Schedule<Duration.Duration> => {
  const { base, max } = range(options)
  const factor = between("factor", 1, 100, options.factor ?? 2)
  return jittered(() => (attempt, draw) => Backoff.fullJitter(base, factor, max, attempt, draw))
}

/**
 * A random delay from `base` up to three times the delay before, up to `max`: grows, spreads, and never retries at once.
 * Source: the same article ("Decorrelated Jitter").
 */
export const decorrelatedJitter = (options: GrowthOptions): Schedule.Schedule<Duration.Duration> => {
  const { base, max } = range(options)
  return jittered(() => {
    let previous = base
    return (_, draw) => previous = Backoff.decorrelated(base, max, previous, draw)
  })
}
