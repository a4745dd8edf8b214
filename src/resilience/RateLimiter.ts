/**
 * A bound on how many calls are made in a stretch of time.
 *
 * **When to use**
 *
 * Use it to keep within a quota of somebody else, or to share out one's own: for all callers ({@link make}), for each key
 * ({@link keyed}), or for each key over all processes ({@link distributed}). Use `Bulkhead` to bound how many run at once.
 *
 * **Details**
 *
 * - Five algorithms: {@link tokenBucket} (begin with it), {@link gcra}, {@link fixedWindow}, {@link slidingWindowLog},
 *   {@link slidingWindowCounter}. A call may cost more than one; a cost above what is ever admitted at once is refused
 *   with reason `never`.
 * - By default a call over the limit fails at once with {@link RateLimitExceededError} and changes nothing. With `maxWait`
 *   it waits, first come, first served, unless it is clear at the start that it would be too late.
 * - {@link peek} only looks. {@link consume} takes without running anything; {@link refund} gives that back, once.
 * - Admission takes the token in one step. A caller that is interrupted while it waits has taken none; one that was
 *   admitted has used its token, whatever becomes of the call.
 * - Time is monotonic. Memory is bounded by `maxKeys`, no timer runs unless somebody waits.
 *
 * **Gotchas**
 *
 * - While callers wait at a key, calls that would not wait are refused: they would push in.
 * - Behind a `RateLimiterStore`, the order of waiting holds within a process.
 *
 * Own arithmetic rather than `effect/persistence`'s `RateLimiter`: its fixed window admits up to nearly twice the limit,
 * its memory store keeps keys for ever, and it knows no sliding window, refund, peek or local fallback.
 *
 * **Example** (Two a minute)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { RateLimiter } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const mails = yield* RateLimiter.make({
 *     name: "mails",
 *     algorithm: RateLimiter.fixedWindow({ limit: 2, window: "1 minute" })
 *   })
 *   const send = RateLimiter.protect(Effect.succeed("sent"), mails)
 *   return yield* Effect.all([send, send, Effect.flip(send)])
 * })
 *
 * const [first, second, third] = await Effect.runPromise(program)
 * console.log(first, second) // => 'sent' 'sent'
 * console.log(third._tag, third.reason) // => 'RateLimitExceededError' 'limited'
 * ```
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Types from "effect/Types"
import { integerAtLeast, nonNegativeMillis, positiveMillis } from "./internal/options.ts"
import type { Algorithm } from "./limiter/Algorithm.ts"
import type { RateLimitExceededError, RateLimitStoreError } from "./limiter/errors.ts"
import type { Grant as GrantImpl } from "./limiter/limiter.ts"
import { type Call, Limiter } from "./limiter/limiter.ts"
import { localSource, type OnStoreError, storeSource } from "./limiter/sources.ts"
import { RateLimiterStore } from "./limiter/Store.ts"

export {
  type Algorithm,
  type AlgorithmOptions,
  type BurstOptions,
  fixedWindow,
  gcra,
  slidingWindowCounter,
  slidingWindowLog,
  tokenBucket
} from "./limiter/Algorithm.ts"
export { RateLimitExceededError, RateLimitStoreError, type Reason } from "./limiter/errors.ts"
export { type Draft, type HeaderOptions, headers, type HeaderSource } from "./limiter/headers.ts"
export { layerStoreMemory } from "./limiter/memory.ts"
export { type Answer, RateLimiterStore, type Request } from "./limiter/Store.ts"

const TypeId = "~seaworthy/RateLimiter"
const KeyedTypeId = "~seaworthy/RateLimiter/Keyed"

/** A rate limiter: see {@link make}. `E` is what its store can fail with. */
export interface RateLimiter<out E = never> {
  readonly [TypeId]: Types.Covariant<E>
  /** Name in errors and metrics. */
  readonly name: string
}

/** A rate limiter for each key: see {@link keyed} and {@link distributed}. */
export interface KeyedRateLimiter<out E = never> {
  readonly [KeyedTypeId]: Types.Covariant<E>
  /** Name in errors and metrics. */
  readonly name: string
}

/** How calls are limited. */
export interface Options {
  /** {@link tokenBucket}, {@link gcra}, {@link fixedWindow}, {@link slidingWindowLog} or {@link slidingWindowCounter}. */
  readonly algorithm: Algorithm
  /** Name in errors and metrics. Default `"rate-limiter"`. */
  readonly name?: string | undefined
  /** How long a call may wait, where it does not say so itself. Default 0: refuse at once. */
  readonly maxWait?: Duration.Input | undefined
  /** How many calls may wait (at one key): at least 1, default 1,000. */
  readonly maxQueue?: number | undefined
}

/** Options of a limiter for each key in this process. */
export interface KeyedOptions extends Options {
  /**
   * How many keys are held at most: at least 1, default 100,000. When all of them count, one that would soon be as good
   * as new is forgotten.
   */
  readonly maxKeys?: number | undefined
}

/** Options of a limiter whose state is in a {@link RateLimiterStore}. */
export interface DistributedOptions<OnError extends OnStoreError = OnStoreError> extends KeyedOptions {
  /**
   * What happens to a call while the store is away: `closed` fails it with {@link RateLimitStoreError} (the default),
   * `open` admits it, `local` limits it by the same limit within this process, for up to `maxKeys` keys.
   */
  readonly onStoreError?: OnError | undefined
  /** How long the store may take to answer: above zero, default 500 milliseconds. */
  readonly storeTimeout?: Duration.Input | undefined
}

/** Options of one call. */
export interface CallOptions {
  /** What the call takes of the limit: a whole number of at least 1. Default 1. */
  readonly cost?: number | undefined
  /** How long the call may wait: 0 for not at all. Default: `maxWait` of the limiter. */
  readonly maxWait?: Duration.Input | undefined
}

/** Where a caller stands. */
export interface Decision {
  /** Is (or was) the cost within the limit? */
  readonly allowed: boolean
  readonly limit: number
  readonly window: Duration.Duration
  /** Units that are left. */
  readonly remaining: number
  /** How long until the whole limit is there again. */
  readonly resetAfter: Duration.Duration
  /** How long until the cost would be admitted: zero when it is, infinite when it never will be. */
  readonly retryAfter: Duration.Duration
}

/** What {@link consume} took: to be kept for {@link refund}. */
export interface Grant<out E = never> extends Decision {
  readonly cost: number
  readonly [TypeId]: Types.Covariant<E>
}

/** What a limiter does at the moment, and has done, in this process. */
export interface Metrics {
  /** Calls that were admitted. */
  readonly admitted: number
  /** Calls that were refused, at once or after a wait. */
  readonly rejected: number
  /** Calls that wait now. */
  readonly waiting: number
  /** Keys that are held in this process; 0 for a limiter with a store that answers. */
  readonly keys: number
  /** Questions that the store did not answer. */
  readonly storeErrors: number
}

// ---------------------------------------------------------------------------------------------------------------------
// Making one
// ---------------------------------------------------------------------------------------------------------------------

const shared = (options: Options) => ({
  name: options.name ?? "rate-limiter",
  algorithm: options.algorithm,
  maxWaitMillis: nonNegativeMillis("maxWait", options.maxWait ?? 0),
  maxQueue: integerAtLeast("maxQueue", 1, options.maxQueue ?? 1000)
})

const maxKeys = (options: KeyedOptions): number => integerAtLeast("maxKeys", 1, options.maxKeys ?? 100_000)

interface Impl {
  readonly limiter: Limiter<unknown>
  readonly key: string
}

const view = <E>(limiter: Limiter<E>, key: string): RateLimiter<E> => {
  const impl: Impl & Omit<RateLimiter, typeof TypeId> = { name: limiter.name, limiter, key }
  return impl as unknown as RateLimiter<E>
}

const keyedView = <E>(limiter: Limiter<E>): KeyedRateLimiter<E> =>
  ({ name: limiter.name, limiter }) as unknown as KeyedRateLimiter<E>

/**
 * Makes a rate limiter with one state for all calls, in this process.
 *
 * An option that is out of range dies with a `RangeError` that names it.
 */
export const make = (options: Options): Effect.Effect<RateLimiter> =>
  Effect.sync(() => view(new Limiter(shared(options), localSource(options.algorithm, undefined)), ""))

/** Makes a rate limiter as a service, shared by all that ask for it. */
export const layer = <Id>(service: Context.Key<Id, RateLimiter>, options: Options): Layer.Layer<Id> =>
  Layer.effect(service, make(options))

/**
 * Makes a rate limiter for each key (a user, a tenant, an address) in this process. Use one through {@link forKey}.
 *
 * A key whose limit is all there again costs nothing: it is forgotten as others come.
 */
export const keyed = (options: KeyedOptions): Effect.Effect<KeyedRateLimiter> =>
  Effect.sync(() => keyedView(new Limiter(shared(options), localSource(options.algorithm, maxKeys(options)))))

/**
 * Makes a rate limiter whose state is in a {@link RateLimiterStore}: one limit for all processes that share the store and
 * the `name`. Use it through {@link forKey}, with one key for all calls if the limit is for all.
 *
 * The answer of a store that comes too late, or for a caller that is gone, is undone.
 */
export const distributed = <const OnError extends OnStoreError = "closed">(
  options: DistributedOptions<OnError>
): Effect.Effect<KeyedRateLimiter<"closed" extends OnError ? RateLimitStoreError : never>, never, RateLimiterStore> =>
  Effect.map(RateLimiterStore, (store) => {
    const config = shared(options)
    const source = storeSource(store, {
      ...config,
      maxKeys: maxKeys(options),
      onStoreError: options.onStoreError ?? "closed",
      timeoutMillis: positiveMillis("storeTimeout", options.storeTimeout ?? 500)
    })
    return keyedView(new Limiter(config, source)) as KeyedRateLimiter<never>
  })

/** The rate limiter of one key. Cheap to make: it may be kept, or made for each call. */
export const forKey: {
  (key: string): <E>(keyed: KeyedRateLimiter<E>) => RateLimiter<E>
  <E>(keyed: KeyedRateLimiter<E>, key: string): RateLimiter<E>
} = (...args: ReadonlyArray<unknown>): never => {
  if (args.length === 1) return ((keyed: Impl) => view(keyed.limiter, args[0] as string)) as never
  return view((args[0] as Impl).limiter, args[1] as string) as never
}

// ---------------------------------------------------------------------------------------------------------------------
// Using it
// ---------------------------------------------------------------------------------------------------------------------

const impl = (limiter: unknown): Impl => limiter as Impl

const decode = (limiter: unknown, options: CallOptions | undefined): Call => ({
  key: impl(limiter).key,
  cost: options?.cost === undefined ? 1 : integerAtLeast("cost", 1, options.cost),
  maxWaitMillis: options?.maxWait === undefined
    ? impl(limiter).limiter.maxWaitMillis
    : nonNegativeMillis("maxWait", options.maxWait)
})

/** Runs the effect if the limit admits it, and otherwise waits or fails with {@link RateLimitExceededError}. */
export const protect: {
  <LE>(
    limiter: RateLimiter<LE>,
    options?: CallOptions
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | RateLimitExceededError | LE, R>
  <A, E, R, LE>(
    self: Effect.Effect<A, E, R>,
    limiter: RateLimiter<LE>,
    options?: CallOptions
  ): Effect.Effect<A, E | RateLimitExceededError | LE, R>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second, third] = args
  if (Effect.isEffect(first)) {
    const call = decode(second, third as CallOptions | undefined)
    return impl(second).limiter.protect(first, call) as never
  }
  const call = decode(first, second as CallOptions | undefined)
  return ((self: Effect.Effect<unknown>) => impl(first).limiter.protect(self, call)) as never
}

/** Takes the cost, and answers where the caller stands. For limits that are not about running an effect. */
export const consume = <E>(
  limiter: RateLimiter<E>,
  options?: CallOptions
): Effect.Effect<Grant<E>, RateLimitExceededError | E> =>
  impl(limiter).limiter.consume(decode(limiter, options)) as Effect.Effect<never, RateLimitExceededError | E>

/** Answers where a caller would stand with this cost, and changes nothing. */
export const peek = <E>(
  limiter: RateLimiter<E>,
  options?: { readonly cost?: number | undefined }
): Effect.Effect<Decision, E> => impl(limiter).limiter.peek(decode(limiter, options)) as Effect.Effect<Decision, E>

/**
 * Gives back what {@link consume} took, for a call that was not made after all. The second time, and for a window that is
 * over, nothing happens. Callers that wait profit at once.
 */
export const refund = <E>(grant: Grant<E>): Effect.Effect<void, E> => (grant as unknown as GrantImpl<E>).refund()

/** What the limiter (of all its keys together) does at the moment. */
export const metrics = (limiter: RateLimiter<unknown> | KeyedRateLimiter<unknown>): Effect.Effect<Metrics> =>
  Effect.sync(() => impl(limiter).limiter.metrics())

/**
 * For strategies: takes one unit if that can be done at once, in memory, with nobody waiting. False, and nothing changed,
 * when it can not: then go on with {@link protect}.
 */
export const tryTakeUnsafe = (limiter: RateLimiter<unknown>): (fiber: Fiber.Fiber<unknown, unknown>) => boolean => {
  const call = decode(limiter, undefined)
  return (fiber) => impl(limiter).limiter.tryTake(fiber, call)
}
