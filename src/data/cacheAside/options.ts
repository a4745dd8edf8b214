// The options of a cache, and what they are once they have been checked.
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import {
  between,
  finiteMillis,
  integerAtLeast,
  nonNegativeMillis,
  positiveMillis
} from "../../resilience/internal/options.ts"
import type { Policy } from "./entry.ts"

/**
 * Where values are kept: in this process, in the shared store, or in both.
 *
 * @category models
 * @since 0.1.0
 */
export type Storage = "memory" | "redis" | "two-level"

/**
 * What holds for every cache.
 *
 * @category models
 * @since 0.1.0
 */
export interface BaseOptions<A, E, R> {
  /** Unique among the caches of a process; caches of one name in several processes share the store. */
  readonly name: string
  /**
   * Where values come from. `Option.none()` says that there is none, which is remembered for `absentTtl`; anything else,
   * `null`, `0` and `""` included, is a value. A value that is itself an `Option` has to be wrapped in `Option.some`.
   *
   * It runs with the services that were there when the cache was made, in a fiber of its own.
   */
  readonly load: (key: string) => Effect.Effect<A | Option.Option<A>, E, R>
  /**
   * Loads several keys at once: `getMany` and `warm` use it for what is missing. It gives pairs, as a `Map` does or
   * `Object.entries`; for a key that it leaves out there is no value. If it fails, it failed for all its keys.
   */
  readonly loadMany?:
    | ((keys: ReadonlyArray<string>) => Effect.Effect<Iterable<readonly [string, A | Option.Option<A>]>, E, R>)
    | undefined
  /** How many keys `loadMany` gets at a time: at least 1. Default 100. */
  readonly maxBatch?: number | undefined
  /** How long a value is fresh: above zero, or by value (zero or less: not kept). */
  readonly ttl: Duration.Input | ((value: NoInfer<A>, key: string) => Duration.Input)
  /** How long it is remembered that there is no value; 0 for not at all. Default 30 seconds. */
  readonly absentTtl?: Duration.Input | undefined
  /** How long a typed failure is remembered, in memory; 0 for not at all. Default 0. */
  readonly failureTtl?: Duration.Input | undefined
  /** Share from 0 to 1 by which a time to live is shortened at most, by chance. Default 0.1. */
  readonly jitter?: number | undefined
  /** How long after its `ttl` a value is served at once, while it is loaded anew. Default 0. */
  readonly staleWhileRevalidate?: Duration.Input | undefined
  /** How long after its `ttl` a value is served if loading fails. Default 0. */
  readonly staleIfError?: Duration.Input | undefined
  /** Pause after a failed load, while an older value is served; doubles with each. Default 1 second. */
  readonly errorBackoff?: Duration.Input | undefined
  /** The longest such pause. Default 30 seconds. */
  readonly maxErrorBackoff?: Duration.Input | undefined
  /** Share of the `ttl`, above 0, after which a hit starts a refresh in the background. Default 1: never. */
  readonly eagerRefresh?: number | undefined
  /**
   * `beta` of XFetch: a hit starts a refresh by chance, likelier the nearer the end and the longer the last load took. 1
   * is optimal, more is earlier. Default 0: never.
   */
  readonly earlyExpiry?: number | undefined
  /** After so long a caller gets the older value, if `staleIfError` allows, and the load goes on. Default: never. */
  readonly softTimeout?: Duration.Input | undefined
  /** After so long a load, with all waiting for other processes, is given up. Default 10 seconds. */
  readonly hardTimeout?: Duration.Input | undefined
  /** How many entries are kept in memory: at least 1. Default 10,000. */
  readonly capacity?: number | undefined
  /** What a value can be invalidated by, besides its key. `value` is `none` when there is no value. Default: nothing. */
  readonly tags?: ((key: string, value: Option.Option<NoInfer<A>>) => Iterable<string>) | undefined
}

/**
 * A cache in this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemoryOptions<A, E, R> extends BaseOptions<A, E, R> {
  /** Default `"memory"`. */
  readonly storage?: "memory" | undefined
  /** Of no use in memory: values are kept as they are. */
  readonly schema?: Schema.Codec<A, any> | undefined
}

/**
 * A cache in a store that processes share: `"redis"` keeps values there alone, `"two-level"` in memory too.
 *
 * @category models
 * @since 0.1.0
 */
export interface SharedOptions<A, I, E, R> extends BaseOptions<A, E, R> {
  readonly storage: "redis" | "two-level"
  /** How values become text and back. It must encode without waiting. */
  readonly schema: Schema.Codec<A, I>
  /**
   * How long other processes wait for one that loads before they take it for dead: it says three times in that time that
   * it is alive. Above zero and below `hardTimeout`. Default 3 seconds.
   */
  readonly lease?: Duration.Input | undefined
  /** How long one question to the store may take. Default 500 milliseconds. */
  readonly storeTimeout?: Duration.Input | undefined
  /** How long after a failed question the store is left alone. Default 1 second. */
  readonly storeRetry?: Duration.Input | undefined
  /** After so long without a sign from the invalidation bus the memory level is distrusted. Default 2 seconds. */
  readonly distrustAfter?: Duration.Input | undefined
}

/** Checked, in milliseconds. */
export interface Config<A> extends Policy {
  readonly name: string
  readonly storage: Storage
  readonly ttl: (value: A, key: string) => number
  readonly absentTtl: number
  readonly failureTtl: number
  readonly jitter: number
  readonly errorBackoff: number
  readonly maxErrorBackoff: number
  readonly softTimeout: number
  readonly hardTimeout: number
  readonly capacity: number
  readonly maxBatch: number
  readonly tags: ((key: string, value: Option.Option<A>) => Iterable<string>) | undefined
  readonly lease: number
  readonly storeTimeout: number
  readonly storeRetry: number
  readonly distrustAfter: number
}

const ttlOf = <A>(ttl: BaseOptions<A, unknown, unknown>["ttl"]): Config<A>["ttl"] => {
  if (typeof ttl === "function") return (value, key) => Duration.toMillis(Duration.fromInputUnsafe(ttl(value, key)))
  const millis = positiveMillis("ttl", ttl)
  return () => millis
}

const storages: ReadonlyArray<string> = ["memory", "redis", "two-level"]

/** Throws a `RangeError` that names the option that is out of range. */
export const decode = <A, I, E, R>(options: MemoryOptions<A, E, R> | SharedOptions<A, I, E, R>): Config<A> => {
  const storage = options.storage ?? "memory"
  if (!storages.includes(storage)) throw new RangeError("storage must be \"memory\", \"redis\" or \"two-level\"")
  if (options.name === "") throw new RangeError("name must not be empty")
  const shared: Pick<SharedOptions<A, I, E, R>, "lease" | "storeTimeout" | "storeRetry" | "distrustAfter"> =
    options.storage === "redis" || options.storage === "two-level" ? options : {}
  const errorBackoff = positiveMillis("errorBackoff", options.errorBackoff ?? "1 second")
  const hardTimeout = positiveMillis("hardTimeout", options.hardTimeout ?? "10 seconds")
  const lease = positiveMillis("lease", shared.lease ?? Math.min(3_000, hardTimeout / 2))
  if (storage !== "memory" && lease >= hardTimeout) throw new RangeError("lease must be below hardTimeout")
  const eagerRefresh = between("eagerRefresh", 0, 1, options.eagerRefresh ?? 1)
  if (eagerRefresh === 0) throw new RangeError("eagerRefresh must be above 0")
  return {
    name: options.name,
    storage,
    ttl: ttlOf(options.ttl),
    absentTtl: nonNegativeMillis("absentTtl", options.absentTtl ?? "30 seconds"),
    failureTtl: nonNegativeMillis("failureTtl", options.failureTtl ?? 0),
    jitter: between("jitter", 0, 1, options.jitter ?? 0.1),
    staleWhileRevalidate: finiteMillis("staleWhileRevalidate", options.staleWhileRevalidate ?? 0),
    staleIfError: finiteMillis("staleIfError", options.staleIfError ?? 0),
    errorBackoff,
    maxErrorBackoff: Math.max(errorBackoff, positiveMillis("maxErrorBackoff", options.maxErrorBackoff ?? "30 seconds")),
    eagerRefresh,
    earlyExpiry: between("earlyExpiry", 0, 1_000, options.earlyExpiry ?? 0),
    softTimeout: positiveMillis("softTimeout", options.softTimeout ?? Infinity),
    hardTimeout,
    capacity: integerAtLeast("capacity", 1, options.capacity ?? 10_000),
    maxBatch: integerAtLeast("maxBatch", 1, options.maxBatch ?? 100),
    tags: options.tags,
    lease,
    // A store that takes longer than a load may take is of no use.
    storeTimeout: Math.min(hardTimeout, positiveMillis("storeTimeout", shared.storeTimeout ?? "500 millis")),
    storeRetry: positiveMillis("storeRetry", shared.storeRetry ?? "1 second"),
    distrustAfter: positiveMillis("distrustAfter", shared.distrustAfter ?? "2 seconds")
  }
}
