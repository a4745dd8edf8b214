/**
 * A bound on how many calls run at once, with a bounded queue for those that find no place.
 *
 * **When to use**
 *
 * Use one for each dependency, so that a slow one takes its own places and not every fiber, connection and byte of
 * memory. Use `AdaptiveLimit` where the right number is not known, `RateLimiter` where calls per second are bounded.
 *
 * **Details**
 *
 * - First come, first served, within a priority; a higher `priority` goes first. Nobody overtakes a waiter: a freed
 *   permit is handed on in the step that frees it.
 * - A full queue refuses at once. A caller that is interrupted or has waited for `maxWait` leaves the queue at once.
 *   Under a `Deadline` a wait is no longer than what is left.
 * - Interruption, failure and defect all give the permit back, and the work is waited for.
 * - {@link resize} at run time wakes waiters.
 *
 * **Gotchas**
 *
 * - Work that needs a second permit of the same bulkhead while it holds one can wait for itself.
 * - A steady stream of high priority starves the low one: `maxWait` bounds how long it stays in doubt.
 *
 * Not built on Effect's `Semaphore`: it neither bounds nor counts its waiters, has no priority, and wakes without handing
 * over, so that a newcomer of another size can overtake.
 *
 * **Example** (One place, no queue)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Bulkhead } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const reports = yield* Bulkhead.make({ name: "reports", maxConcurrent: 1 })
 *   const inner = Effect.succeed("second").pipe(
 *     Bulkhead.protect(reports),
 *     Effect.catchTag("BulkheadFullError", (error) => Effect.succeed(error.message))
 *   )
 *   return yield* Bulkhead.protect(inner, reports)
 * })
 *
 * console.log(await Effect.runPromise(program)) // => 'bulkhead "reports" is full: 1 running, queue of 0'
 * ```
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Keyed from "./internal/bulkheadKeyed.ts"
import { PermitQueue } from "./internal/bulkheadQueue.ts"
import { decodePriority, queued, type Refusal } from "./internal/bulkheadWait.ts"
import { integerAtLeast, nonNegativeMillis } from "./internal/options.ts"
import * as Rejection from "./Rejection.ts"

/** The bulkhead had no place for the call, which was not run. */
export class BulkheadFullError extends Rejection.Class("BulkheadFullError")<{
  /**
   * `queue-full`: refused at once. `waited-too-long`: no place within `maxWait`. `deadline`: no place within what the
   * surrounding `Deadline` left. `too-many-keys`: every one of `maxKeys` keys is in use.
   */
  readonly reason: Refusal | "too-many-keys"
  /** How many calls may run at once. */
  readonly maxConcurrent: number
  /** How many callers may wait. */
  readonly maxQueue: number
}> {
  override get message(): string {
    const full = `bulkhead "${this.strategy}" is full: ${this.maxConcurrent} running, queue of ${this.maxQueue}`
    switch (this.reason) {
      case "queue-full":
        return full
      case "waited-too-long":
        return `${full}, waited too long`
      case "deadline":
        return `${full}, no place before the deadline`
      case "too-many-keys":
        return `bulkhead "${this.strategy}" is full: all keys are in use`
    }
  }
}

/** How much a bulkhead holds. */
export interface Options {
  /** How many calls run at once: a whole number of at least 1. */
  readonly maxConcurrent: number
  /** How many callers wait for a place: a whole number, 0 or more. Default 0: refuse at once. */
  readonly maxQueue?: number | undefined
  /** How long a caller waits. Default 30 seconds; `Infinity` for as long as it takes. */
  readonly maxWait?: Duration.Input | undefined
  /** Name in errors and metrics. Default `"bulkhead"`. */
  readonly name?: string | undefined
}

/** Options of a bulkhead for each key. */
export interface KeyedOptions extends Options {
  /** How many keys are held at most: at least 1, default 10,000. The longest idle one makes room. */
  readonly maxKeys?: number | undefined
  /** After how long without a call a key is forgotten. Default 10 minutes. */
  readonly idleTimeToLive?: Duration.Input | undefined
}

/** Options of one protected call. */
export interface CallOptions {
  /** Place in the queue: higher goes first. Any number but NaN, default 0. */
  readonly priority?: number | undefined
}

/** What a bulkhead does at the moment, and has done. */
export interface Metrics {
  /** How many calls may run at once. */
  readonly maxConcurrent: number
  /** Calls that run now. More than `maxConcurrent` for a while after a {@link resize} to less. */
  readonly inUse: number
  /** How many callers may wait. */
  readonly maxQueue: number
  /** Callers that wait now. */
  readonly waiting: number
  /** Calls that have begun since the bulkhead (or its key) exists. */
  readonly started: number
  /** Calls that were refused, at once or after a wait. */
  readonly rejected: number
}

const TypeId = "~seaworthy/Bulkhead"
const KeyedTypeId = "~seaworthy/Bulkhead/Keyed"

/** A bulkhead: see {@link make}. */
export interface Bulkhead {
  readonly [TypeId]: typeof TypeId
  /** Name in errors and metrics. */
  readonly name: string
}

/** A bulkhead for each key: see {@link keyed}. */
export interface KeyedBulkhead {
  readonly [KeyedTypeId]: typeof KeyedTypeId
  /** Name in errors and metrics. */
  readonly name: string
}

/** Is this value a bulkhead (made by {@link make} or {@link forKey})? */
export const isBulkhead = (u: unknown): u is Bulkhead =>
  u instanceof Single || u instanceof Keyed.View && u.keyed instanceof KeyedImpl

interface Config {
  readonly name: string
  readonly maxConcurrent: number
  readonly maxQueue: number
  readonly maxWaitMillis: number
}

const decode = (options: Options): Config => ({
  name: options.name ?? "bulkhead",
  maxConcurrent: integerAtLeast("maxConcurrent", 1, options.maxConcurrent),
  maxQueue: integerAtLeast("maxQueue", 0, options.maxQueue ?? 0),
  maxWaitMillis: nonNegativeMillis("maxWait", options.maxWait ?? "30 seconds")
})

const full = (
  { maxQueue, name }: Config,
  maxConcurrent: number,
  reason: BulkheadFullError["reason"],
  key: string | undefined
): BulkheadFullError => new BulkheadFullError({ strategy: name, key, reason, maxConcurrent, maxQueue })

/** The state of one bulkhead, or of one key. */
class Single implements Bulkhead {
  readonly [TypeId] = TypeId
  readonly config: Config
  readonly key: string | undefined
  readonly queue: PermitQueue
  readonly onExit: () => undefined
  rejected = 0

  constructor(config: Config, maxConcurrent: number, key?: string, onIdle?: () => void) {
    const queue = new PermitQueue(maxConcurrent, config.maxQueue, onIdle)
    this.config = config
    this.key = key
    this.queue = queue
    this.onExit = () => {
      queue.release()
      return undefined
    }
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

  readonly refuse = (reason: BulkheadFullError["reason"]): BulkheadFullError => {
    this.rejected++
    return full(this.config, this.queue.limit, reason, this.key)
  }
}

/** A state for each key. New ones begin with the limit of the last `resize` of all. */
class KeyedImpl extends Keyed.Keyed<Single> {
  readonly start: { maxConcurrent: number }

  constructor(config: Config, options: KeyedOptions, clock: Clock.Clock) {
    const start = { maxConcurrent: config.maxConcurrent }
    super(config.name, options, clock, (key, onIdle) => new Single(config, start.maxConcurrent, key, onIdle))
    this.start = start
  }
}

type Impl = Single | Keyed.View<Single>

/**
 * Makes a bulkhead.
 *
 * An option that is out of range dies with a `RangeError` that names it.
 */
export const make = (options: Options): Effect.Effect<Bulkhead> =>
  Effect.sync(() => {
    const config = decode(options)
    return new Single(config, config.maxConcurrent)
  })

/** Makes a bulkhead as a service, shared by all that ask for it. */
export const layer = <Id>(service: Context.Key<Id, Bulkhead>, options: Options): Layer.Layer<Id> =>
  Layer.effect(service, make(options))

/**
 * Makes a bulkhead for each key (a tenant, a host), every one with the limits of `options`. Use one through
 * {@link forKey}.
 *
 * Keys come and go by themselves: one without calls for `idleTimeToLive` is forgotten when another is used. No timer
 * runs. When all of `maxKeys` are in use, calls of other keys are refused.
 */
export const keyed = (options: KeyedOptions): Effect.Effect<KeyedBulkhead> =>
  Effect.clockWith((clock) =>
    Effect.sync(() => new KeyedImpl(decode(options), options, clock) as unknown as KeyedBulkhead)
  )

/** The bulkhead of one key. Cheap to make: it may be kept, or made for each call. */
export const forKey: {
  (key: string): (keyed: KeyedBulkhead) => Bulkhead
  (keyed: KeyedBulkhead, key: string): Bulkhead
} = Keyed.forKey

const run = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  bulkhead: Impl,
  priority: number
): Effect.Effect<A, E | BulkheadFullError, R> =>
  Effect.uninterruptibleMask((restore): Effect.Effect<A, E | BulkheadFullError, R> => {
    const gate = bulkhead.gate
    if (gate === undefined) return Effect.fail(bulkhead.shown.refuse("too-many-keys"))
    if (gate.queue.tryAcquire()) return Effect.onExitPrimitive(restore(self), gate.onExit, true)
    const wait = { priority, maxWaitMillis: gate.config.maxWaitMillis }
    return queued(restore, gate.queue, wait, () => restore(self), gate.refuse)
  })

/**
 * Runs the effect when the bulkhead has a place for it, and otherwise queues it or fails with
 * {@link BulkheadFullError}.
 */
export const protect: {
  (
    bulkhead: Bulkhead,
    options?: CallOptions
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | BulkheadFullError, R>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    bulkhead: Bulkhead,
    options?: CallOptions
  ): Effect.Effect<A, E | BulkheadFullError, R>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second, third] = args
  if (Effect.isEffect(first)) {
    return run(first, second as Single, decodePriority(third as CallOptions | undefined)) as never
  }
  const priority = decodePriority(second as CallOptions | undefined)
  return ((self: Effect.Effect<unknown>) => run(self, first as Single, priority)) as never
}

/**
 * Changes how many calls may run at once, to a whole number of at least 1. With more, waiters start at once; with fewer,
 * running calls go on and none starts until enough have ended.
 *
 * Resizing a keyed bulkhead changes every key, those to come included. Resizing one key ({@link forKey}) lasts until it
 * is forgotten. A number that is out of range dies with a `RangeError`.
 */
export const resize: {
  (maxConcurrent: number): (bulkhead: Bulkhead | KeyedBulkhead) => Effect.Effect<void>
  (bulkhead: Bulkhead | KeyedBulkhead, maxConcurrent: number): Effect.Effect<void>
} = (...args: ReadonlyArray<unknown>): never => {
  if (args.length === 1) return ((bulkhead: Bulkhead) => resize(bulkhead, args[0] as number)) as never
  const [bulkhead, maxConcurrent] = args as unknown as [Impl | KeyedImpl, number]
  return Effect.sync(() => {
    integerAtLeast("maxConcurrent", 1, maxConcurrent)
    if (bulkhead instanceof Single) return bulkhead.queue.resize(maxConcurrent)
    if (bulkhead instanceof Keyed.View) return bulkhead.keyed.keys.peek(bulkhead.key)?.queue.resize(maxConcurrent)
    bulkhead.start.maxConcurrent = maxConcurrent
    for (const entry of bulkhead.keys.states()) entry.state.queue.resize(maxConcurrent)
  }) as never
}

const snapshot = ({ config, queue, rejected }: Single): Metrics => ({
  maxConcurrent: queue.limit,
  inUse: queue.inUse,
  maxQueue: config.maxQueue,
  waiting: queue.waiting,
  started: queue.started,
  rejected
})

/** What the bulkhead, or one key of a keyed one, does at the moment. Asking for a key does not make it. */
export const metrics = (bulkhead: Bulkhead): Effect.Effect<Metrics> =>
  Effect.sync(() => snapshot((bulkhead as Impl).shown))

/** The metrics of every key that is held. Forgotten keys are not in it. */
export const metricsByKey = (keyed: KeyedBulkhead): Effect.Effect<ReadonlyMap<string, Metrics>> =>
  Keyed.byKey(keyed as unknown as KeyedImpl, snapshot)

/**
 * For strategies: the permits that a call takes, to be asked for anew for each call. `undefined` when all keys of a keyed
 * bulkhead are in use.
 */
export const permitsUnsafe = (bulkhead: Bulkhead): PermitQueue | undefined => (bulkhead as Impl).gate?.queue
