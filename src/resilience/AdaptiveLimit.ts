/**
 * A bulkhead that finds its own size: the number of calls that may run at once follows how the dependency is doing.
 *
 * **When to use**
 *
 * Use it where the right `maxConcurrent` of a `Bulkhead` is not known or changes with time: in front of a service that
 * scales, or of many instances behind a balancer.
 *
 * **Details**
 *
 * - {@link aimd} lowers the limit on failures (and on calls that are too slow), {@link gradient} on durations that grow.
 * - The limit rises only while at least half of it is in use, and never beyond `max`: idle time cannot inflate it.
 * - What counts as failure is said by `classify` (see `Outcome`). Interrupted calls and rejections count for nothing.
 *   Calls that began before the limit was lowered do not lower it again.
 * - Queue, priority, `maxWait` and deadline are those of `Bulkhead`. A limit that rises wakes waiters at once.
 *
 * **Gotchas**
 *
 * - A typed error that is the caller's fault ("not found") is no sign of overload: leave it out with
 *   `Outcome.ignoreWhen`.
 * - While calls are slow for long, {@link gradient} lowers the limit to a quarter for some calls now and then (ten, more
 *   where durations vary), to see whether the dependency is slow by itself. Give it a queue if refusals in that moment
 *   matter.
 *
 * **Example** (One failure)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { AdaptiveLimit } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const search = yield* AdaptiveLimit.make({ algorithm: AdaptiveLimit.aimd({ initial: 10, backoff: 0.5 }) })
 *   yield* Effect.exit(AdaptiveLimit.protect(Effect.fail("overloaded"), search))
 *   return yield* AdaptiveLimit.metrics(search)
 * })
 *
 * console.log((await Effect.runPromise(program)).limit) // => 5
 * ```
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Keyed from "./internal/bulkheadKeyed.ts"
import { PermitQueue } from "./internal/bulkheadQueue.ts"
import { decodePriority, queued, type Refusal } from "./internal/bulkheadWait.ts"
import { monotonicMillis } from "./internal/monotonic.ts"
import { integerAtLeast, nonNegativeMillis } from "./internal/options.ts"
import { type Adaptation, admitted, gradient, initialState, type State, step } from "./limiter/adaptive.ts"
import * as Outcome from "./Outcome.ts"
import * as Rejection from "./Rejection.ts"

export {
  type Adaptation,
  aimd,
  type AimdOptions,
  type BoundOptions,
  gradient,
  type GradientOptions
} from "./limiter/adaptive.ts"

/** The limit was reached, and the call was not run. */
export class AdaptiveLimitFullError extends Rejection.Class("AdaptiveLimitFullError")<{
  /** As in `BulkheadFullError`. */
  readonly reason: Refusal | "too-many-keys"
  /** How many calls could run at once at that moment. */
  readonly limit: number
  /** How many callers may wait. */
  readonly maxQueue: number
}> {
  override get message(): string {
    return `adaptive limit "${this.strategy}" is reached: ${this.limit} running, queue of ${this.maxQueue}`
  }
}

/** How a limit adapts, and who waits. */
export interface Options {
  /** {@link aimd} or {@link gradient}. Default: {@link gradient} with its defaults. */
  readonly algorithm?: Adaptation | undefined
  /** How many callers wait for a place: a whole number, 0 or more. Default 0: refuse at once. */
  readonly maxQueue?: number | undefined
  /** How long a caller waits. Default 30 seconds; `Infinity` for as long as it takes. */
  readonly maxWait?: Duration.Input | undefined
  /** What a finished call says about the dependency. Default: `Outcome.classify`. */
  readonly classify?: Outcome.Classify | undefined
  /** Name in errors and metrics. Default `"adaptive-limit"`. */
  readonly name?: string | undefined
}

/** Options of a limit for each key. */
export interface KeyedOptions extends Options {
  /** How many keys are held at most: at least 1, default 10,000. The longest idle one makes room. */
  readonly maxKeys?: number | undefined
  /** After how long without a call a key, and what was learnt of it, is forgotten. Default 10 minutes. */
  readonly idleTimeToLive?: Duration.Input | undefined
}

/** Options of one protected call. */
export interface CallOptions {
  /** Place in the queue: higher goes first. Any number but NaN, default 0. */
  readonly priority?: number | undefined
}

/** What a limit does at the moment, and has done. */
export interface Metrics {
  /** How many calls may run at once now. */
  readonly limit: number
  readonly min: number
  readonly max: number
  /** Calls that run now. */
  readonly inUse: number
  /** How many callers may wait. */
  readonly maxQueue: number
  /** Callers that wait now. */
  readonly waiting: number
  /** Calls that have begun. */
  readonly started: number
  /** Calls that were refused, at once or after a wait. */
  readonly rejected: number
}

const TypeId = "~seaworthy/AdaptiveLimit"
const KeyedTypeId = "~seaworthy/AdaptiveLimit/Keyed"

/** A limit that adapts: see {@link make}. */
export interface AdaptiveLimit {
  readonly [TypeId]: typeof TypeId
  /** Name in errors and metrics. */
  readonly name: string
}

/** A limit that adapts for each key: see {@link keyed}. */
export interface KeyedAdaptiveLimit {
  readonly [KeyedTypeId]: typeof KeyedTypeId
  /** Name in errors and metrics. */
  readonly name: string
}

interface Config {
  readonly name: string
  readonly algorithm: Adaptation
  readonly maxQueue: number
  readonly maxWaitMillis: number
  readonly classify: Outcome.Classify
}

const decode = (options: Options): Config => ({
  name: options.name ?? "adaptive-limit",
  algorithm: options.algorithm ?? gradient(),
  maxQueue: integerAtLeast("maxQueue", 0, options.maxQueue ?? 0),
  maxWaitMillis: nonNegativeMillis("maxWait", options.maxWait ?? "30 seconds"),
  classify: options.classify ?? Outcome.classify
})

/** The state of one limit, or of one key. */
class Single implements AdaptiveLimit {
  readonly [TypeId] = TypeId
  readonly config: Config
  readonly key: string | undefined
  readonly queue: PermitQueue
  state: State
  rejected = 0

  constructor(config: Config, key?: string, onIdle?: () => void) {
    this.config = config
    this.key = key
    this.state = initialState(config.algorithm)
    this.queue = new PermitQueue(Math.floor(this.state.limit), config.maxQueue, onIdle)
  }

  get name(): string {
    return this.config.name
  }

  get gate(): Single | undefined {
    return this
  }

  get shown(): Single {
    return this
  }

  readonly refuse = (reason: AdaptiveLimitFullError["reason"]): AdaptiveLimitFullError => {
    this.rejected++
    const { maxQueue, name } = this.config
    return new AdaptiveLimitFullError({ strategy: name, key: this.key, reason, limit: this.queue.limit, maxQueue })
  }

  /** Learns from a call that has ended, while it still holds its place. */
  learn(startedAt: number, inFlight: number, exit: Exit.Exit<unknown, unknown>, endedAt: number): void {
    if (Outcome.isInterruption(exit)) return
    const outcome = this.config.classify(exit)
    if (outcome._tag === "Ignored") return
    const sample = { startedAt, endedAt, inFlight, failed: outcome._tag === "Failure" }
    this.state = step(this.config.algorithm, this.state, sample)
    const limit = admitted(this.config.algorithm, this.state)
    if (limit !== this.queue.limit) this.queue.resize(limit)
  }
}

/**
 * Makes an adaptive limit.
 *
 * An option that is out of range dies with a `RangeError` that names it.
 */
export const make = (options: Options = {}): Effect.Effect<AdaptiveLimit> =>
  Effect.sync(() => new Single(decode(options)))

/** Makes an adaptive limit as a service, shared by all that ask for it. */
export const layer = <Id>(service: Context.Key<Id, AdaptiveLimit>, options: Options = {}): Layer.Layer<Id> =>
  Layer.effect(service, make(options))

/** Makes an adaptive limit for each key (a host, a tenant). Keys come and go as those of `Bulkhead.keyed`. */
export const keyed = (options: KeyedOptions = {}): Effect.Effect<KeyedAdaptiveLimit> =>
  Effect.clockWith((clock) =>
    Effect.sync(() => {
      const config = decode(options)
      const begin = (key: string, onIdle?: () => void) => new Single(config, key, onIdle)
      return new Keyed.Keyed(config.name, options, clock, begin) as unknown as KeyedAdaptiveLimit
    })
  )

/** The adaptive limit of one key. Cheap to make: it may be kept, or made for each call. */
export const forKey: {
  (key: string): (keyed: KeyedAdaptiveLimit) => AdaptiveLimit
  (keyed: KeyedAdaptiveLimit, key: string): AdaptiveLimit
} = Keyed.forKey

const run = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  limit: Single | Keyed.View<Single>,
  priority: number
): Effect.Effect<A, E | AdaptiveLimitFullError, R> =>
  Effect.uninterruptibleMask((restore): Effect.Effect<A, E | AdaptiveLimitFullError, R> => {
    const gate = limit.gate
    if (gate === undefined) return Effect.fail((limit as Keyed.View<Single>).shown.refuse("too-many-keys"))
    const fiber = Fiber.getCurrent()!
    const { queue } = gate
    if (queue.tryAcquire()) {
      const startedAt = monotonicMillis(fiber)
      const inFlight = queue.inUse
      return Effect.onExitPrimitive(restore(self), (exit) => {
        try {
          gate.learn(startedAt, inFlight, exit, monotonicMillis(fiber))
        } finally {
          queue.release()
        }
        return undefined
      }, true)
    }
    const wait = { priority, maxWaitMillis: gate.config.maxWaitMillis }
    return queued(restore, queue, wait, () => {
      const startedAt = monotonicMillis(fiber)
      const inFlight = queue.inUse
      return Effect.onExitPrimitive(restore(self), (exit) => {
        gate.learn(startedAt, inFlight, exit, monotonicMillis(fiber))
        return undefined
      }, true)
    }, gate.refuse)
  })

/** Runs the effect when the limit has a place for it, and otherwise queues it or fails with {@link AdaptiveLimitFullError}. */
export const protect: {
  (
    limit: AdaptiveLimit,
    options?: CallOptions
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | AdaptiveLimitFullError, R>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    limit: AdaptiveLimit,
    options?: CallOptions
  ): Effect.Effect<A, E | AdaptiveLimitFullError, R>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second, third] = args
  if (Effect.isEffect(first)) {
    return run(first, second as Single, decodePriority(third as CallOptions | undefined)) as never
  }
  const priority = decodePriority(second as CallOptions | undefined)
  return ((self: Effect.Effect<unknown>) => run(self, first as Single, priority)) as never
}

const snapshot = ({ config, queue, rejected }: Single): Metrics => ({
  limit: queue.limit,
  min: config.algorithm.min,
  max: config.algorithm.max,
  inUse: queue.inUse,
  maxQueue: config.maxQueue,
  waiting: queue.waiting,
  started: queue.started,
  rejected
})

/** What the limit, or one key of a keyed one, does at the moment. Asking for a key does not make it. */
export const metrics = (limit: AdaptiveLimit): Effect.Effect<Metrics> =>
  Effect.sync(() => snapshot((limit as Single | Keyed.View<Single>).shown))

/** The metrics of every key that is held. Forgotten keys are not in it. */
export const metricsByKey = (keyed: KeyedAdaptiveLimit): Effect.Effect<ReadonlyMap<string, Metrics>> =>
  Keyed.byKey(keyed as unknown as Keyed.Keyed<Single>, snapshot)
