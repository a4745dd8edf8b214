/**
 * Starts a second copy of a slow call and takes the answer that comes first.
 *
 * **When to use**
 *
 * Use `hedge` to cut the slowest few per cent of calls to a dependency whose instances are slow now and then, and only
 * for work that is safe to do twice: `repeatable: true` is you saying so.
 *
 * **Details**
 *
 * - After `delay` without an answer a copy is launched, up to `maxHedges`. The first success wins. An attempt that fails
 *   launches the next at once. When all have failed, the failure that came last is the outcome.
 * - Losers are interrupted and their finalizers awaited before the winner's answer is returned.
 * - {@link percentile} learns the delay from the calls themselves. It counts how long the first attempt took, or had taken
 *   when a hedge won: leaving those out would pull the percentile down and hedge ever more.
 * - With a `budget` shared with `Retry`, hedges are bounded to a share of the calls. A hedge that would begin after the
 *   surrounding `Deadline` is not launched.
 * - A rejection (open circuit, full bulkhead) launches no hedge. A defect ends the call at once and stays a defect.
 *
 * **Gotchas**
 *
 * - Hedging adds load just when a dependency is slow: set the delay near the 95th percentile and give it a budget.
 * - If a loser never ends its finalizers, the answer waits for it.
 *
 * After Dean and Barroso, *The Tail at Scale*, Communications of the ACM, 2013.
 *
 * **Example** (The copy answers first)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Hedge } from "seaworthy"
 *
 * let calls = 0
 * const lookup = Effect.suspend(() => ++calls === 1 ? Effect.never : Effect.succeed("from the second"))
 *
 * const program = Hedge.hedge(lookup, { delay: "5 millis", repeatable: true })
 * console.log(await Effect.runPromise(program)) // => 'from the second'
 * ```
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"
import type { Budget } from "./Budget.ts"
import { type Plan, startHedged } from "./internal/hedgeRun.ts"
import { monotonicMillis } from "./internal/monotonic.ts"
import { between, integerAtLeast, nonNegativeMillis, positiveMillis } from "./internal/options.ts"
import * as Sliding from "./internal/slidingQuantile.ts"

const TypeId = "~seaworthy/Hedge/Percentile"

/** A delay that follows the latency of the calls it is used for, made by {@link percentile}. About 15 kB. */
export interface Percentile {
  readonly [TypeId]: typeof TypeId
  /** The delay at this moment, for status pages: `Duration.infinity` while there are too few calls to tell. */
  readonly delay: Effect.Effect<Duration.Duration>
  /** For {@link hedge}: the delay in milliseconds at a monotonic time. */
  readonly millis: (now: number) => number
  /** For {@link hedge}: counts how long a first attempt took. */
  readonly record: (now: number, millis: number) => void
}

/** How a {@link percentile} is learned. */
export interface PercentileOptions {
  /** Which share of calls is not to be hedged, from 0 to 1. Default 0.95. */
  readonly quantile?: number | undefined
  /** Shortest delay. Default zero. */
  readonly min?: Duration.Input | undefined
  /** Longest delay. Default: none. */
  readonly max?: Duration.Input | undefined
  /** How many calls it takes before the percentile is believed: at least 1. Default 100. */
  readonly minimumCalls?: number | undefined
  /** The delay until then. Default: no hedge. */
  readonly initial?: Duration.Input | undefined
  /** Calls older than this are forgotten: above zero. Default 2 minutes. */
  readonly window?: Duration.Input | undefined
}

/** When and how often to hedge. */
export interface Options {
  /** How long to wait for an answer before the next copy is launched: a duration, or a {@link percentile}. */
  readonly delay: Duration.Input | Percentile
  /** You say that the effect is safe to do several times at once. */
  readonly repeatable: true
  /** Most copies beside the first attempt: at least 1. Default 1. */
  readonly maxHedges?: number | undefined
  /** Bounds hedges, and the retries that share it, to a share of the calls. Default: no bound. */
  readonly budget?: Budget | undefined
}

/**
 * Makes a delay from the latency of the calls themselves. Keep one for each dependency and pass it to every `hedge`.
 *
 * An option that is out of range is a defect: a `RangeError` that names it.
 */
export const percentile = (options?: PercentileOptions): Effect.Effect<Percentile> =>
  Effect.sync(() => {
    const quantile = between("quantile", 0, 1, options?.quantile ?? 0.95)
    const min = nonNegativeMillis("min", options?.min ?? 0)
    const max = positiveMillis("max", options?.max ?? Infinity)
    if (max < min) throw new RangeError(`max must be at least min (${min} ms), got ${max} ms`)
    const minimumCalls = integerAtLeast("minimumCalls", 1, options?.minimumCalls ?? 100)
    const initial = nonNegativeMillis("initial", options?.initial ?? Infinity)
    const sliding = Sliding.make(quantile, positiveMillis("window", options?.window ?? "2 minutes"))
    const millis = (now: number): number =>
      Sliding.count(sliding, now) < minimumCalls
        ? initial
        : Math.min(max, Math.max(min, Sliding.value(sliding, now) ?? initial))
    return {
      [TypeId]: TypeId,
      delay: Effect.withFiber((fiber) => Effect.succeed(Duration.millis(millis(monotonicMillis(fiber))))),
      millis,
      record: (now, taken) => Sliding.record(sliding, now, taken)
    }
  })

const isPercentile = (delay: Duration.Input | Percentile): delay is Percentile => hasProperty(delay, TypeId)

const compile = (options: Options): Plan => {
  const maxHedges = integerAtLeast("maxHedges", 1, options.maxHedges ?? 1)
  const shared = { maxHedges, budget: options.budget }
  if (isPercentile(options.delay)) return { ...shared, delay: options.delay.millis, record: options.delay.record }
  const millis = nonNegativeMillis("delay", options.delay)
  return { ...shared, delay: () => millis, record: undefined }
}

const apply = <A, E, R>(self: Effect.Effect<A, E, R>, plan: Plan): Effect.Effect<A, E, R> =>
  Effect.callback<A, E, R>((resume) => {
    const caller = Fiber.getCurrent()!
    return startHedged(caller, resume, self, caller.context as Context.Context<R>, plan)
  })

/**
 * Runs the effect and, while it has not answered, copies of it; the first success wins.
 *
 * An option that is out of range throws a `RangeError` that names it.
 */
export const hedge: {
  (options: Options): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, options: Options): Effect.Effect<A, E, R>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second] = args as [Effect.Effect<unknown>, Options]
  if (Effect.isEffect(first)) return apply(first, compile(second)) as never
  const plan = compile(first)
  return ((self: Effect.Effect<unknown>) => apply(self, plan)) as never
}
