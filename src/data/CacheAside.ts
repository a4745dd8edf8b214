/**
 * Values that are loaded when they are asked for, and kept: with one load a key however many callers.
 *
 * **When to use**
 *
 * For what is costly to load, asked for often, and may be a little old. Where the application writes a value itself and
 * only wants it kept, `CacheStore` is enough.
 *
 * **Details**
 *
 * - `get` answers from the cache, or waits for the one load of that key. Who is interrupted leaves at once; the load ends
 *   when nobody waits for it any more.
 * - Absent (`Option.none`, kept for `absentTtl`), a value (`null`, `0`, `""`, `false` included) and a failure (not kept,
 *   unless `failureTtl` says so) are three things.
 * - After its `ttl` a value can still be served while it is loaded anew (`staleWhileRevalidate`), and if loading fails or is
 *   slow (`staleIfError`, `softTimeout`). A load that fails never replaces a value, and the next one is put off.
 * - `eagerRefresh` and `earlyExpiry` load anew before the end, so that no caller waits.
 * - An invalidation wins over loads that had begun before it: their value reaches those who asked before, and is not kept.
 *   So does a value that is `set`.
 * - `getMany` and `warm` load what is missing with `loadMany`, if it is given: many keys a call, and still one load a key.
 * - `storage: "redis"` and `"two-level"` share values between processes through `CacheAsideStore`: one load a key over all of
 *   them, by a lease. While the store is away, values come from memory and from loads, the status node is `degraded`, and
 *   the store is taken up again by itself.
 * - With a `Status` in the context, the node `cache-aside:<name>` shows what {@link Metrics} counts.
 *
 * **Gotchas**
 *
 * - A loader that asks its own cache for its own key waits for itself, until `hardTimeout`.
 * - Values in memory are shared, not copied: do not change them.
 * - A tag is known once its value is loaded; with tags, keep what `tags` gives small.
 * - An invalidation that the store did not take is kept and told it when it is back, before it is asked anything; other
 *   processes may serve the old value until then, at most for its time to live.
 *
 * Effect's `Cache` replaces a good value when its refresh fails, and knows no stale value, tag or second level;
 * `PersistedCache` fails when its store does. Hence our own.
 *
 * **Example** (A value, an absence, an invalidation)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { CacheAside } from "seaworthy"
 *
 * const prices = new Map([["tea", 3]])
 *
 * const program = Effect.gen(function*() {
 *   const cache = yield* CacheAside.make({
 *     name: "prices",
 *     load: (item) => Effect.fromNullishOr(prices.get(item)).pipe(Effect.option),
 *     ttl: "5 minutes"
 *   })
 *   const tea = yield* cache.get("tea")
 *   prices.set("tea", 4)
 *   const still = yield* cache.get("tea")
 *   yield* cache.invalidate("tea")
 *   const now = yield* cache.get("tea")
 *   const milk = yield* cache.get("milk")
 *   return [tea, still, now, milk].map((found) => found._tag === "Some" ? found.value : "none")
 * })
 *
 * console.log(await Effect.runPromise(Effect.scoped(program))) // => [3, 3, 4, "none"]
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { integerAtLeast } from "../resilience/internal/options.ts"
import { codec } from "../resource/cache/typed.ts"
import { Engine } from "./cacheAside/engine.ts"
import type { LoadTimeoutError } from "./cacheAside/errors.ts"
import { Level } from "./cacheAside/level.ts"
import type { Parts } from "./cacheAside/loads.ts"
import { getMany } from "./cacheAside/many.ts"
import * as Meter from "./cacheAside/metrics.ts"
import { decode, type MemoryOptions, type SharedOptions } from "./cacheAside/options.ts"
import { program } from "./cacheAside/sharedLoad.ts"
import { CacheAsideStore } from "./cacheAside/Store.ts"
import { fromTarget, type Target } from "./cacheAside/target.ts"
import { type Progress, warm, type WarmOptions } from "./cacheAside/warm.ts"

export { LoadTimeoutError } from "./cacheAside/errors.ts"
export type { Metrics } from "./cacheAside/metrics.ts"
export type { BaseOptions, MemoryOptions, SharedOptions, Storage } from "./cacheAside/options.ts"
export { CacheAsideStore } from "./cacheAside/Store.ts"
export type { Target } from "./cacheAside/target.ts"
export type { Progress, WarmOptions } from "./cacheAside/warm.ts"

/**
 * Runs an effect once its work is committed, and not if it is rolled back: `Transaction.afterCommit`, or the `afterCommit` of
 * Effect's `SqlClient`.
 *
 * @category models
 * @since 0.1.0
 */
export type CommitHook<E = never, R = never> = (effect: Effect.Effect<void>) => Effect.Effect<void, E, R>

/**
 * A cache of values of type `A`, whose loads may fail with `E`. See {@link make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface CacheAside<in out A, out E = never> {
  readonly name: string
  /** The value, or `none` if there is none. */
  readonly get: (key: string) => Effect.Effect<Option.Option<A>, E | LoadTimeoutError>
  /**
   * In the order of the keys; the shared store is read in one round trip. Fails with the first load that fails.
   * `concurrency` is how many loads run at a time, with `loadMany` how many calls of it: default 16.
   */
  readonly getMany: (
    keys: Iterable<string>,
    options?: { readonly concurrency?: number | undefined }
  ) => Effect.Effect<ReadonlyArray<Option.Option<A>>, E | LoadTimeoutError>
  /** Loads now, whatever is there, and gives what came. If that fails, what is there stays. Joins a refresh that runs. */
  readonly refresh: (key: string) => Effect.Effect<Option.Option<A>, E | LoadTimeoutError>
  /**
   * Replaces the value, everywhere, as after a change that the caller has made; `Option.none()` says that there is none.
   * Loads that had begun before do not replace it again. Where the store is away, or the schema cannot encode the value,
   * the key is forgotten instead. Never fails.
   */
  readonly set: (key: string, value: A | Option.Option<A>) => Effect.Effect<void>
  /** Loads what is not there yet. Never fails: what failed is in the report. */
  readonly warm: (keys: Iterable<string>, options?: WarmOptions) => Effect.Effect<Progress>
  /** Forgets a key, everywhere. */
  readonly invalidate: (key: string) => Effect.Effect<void>
  /** Forgets what carries a tag, everywhere. */
  readonly invalidateTag: (tag: string) => Effect.Effect<void>
  /** Forgets the keys that begin so, everywhere. Walks over all keys. */
  readonly invalidatePrefix: (prefix: string) => Effect.Effect<void>
  /** Forgets everything, everywhere. */
  readonly invalidateAll: Effect.Effect<void>
  /** Forgets what the target names, everywhere. */
  readonly forget: (target: Target) => Effect.Effect<void>
  /**
   * Invalidates when the transaction is committed, as in `invalidateOn(Transaction.afterCommit, { key })`. A rollback
   * invalidates nothing.
   */
  readonly invalidateOn: <E2, R2>(afterCommit: CommitHook<E2, R2>, target: Target) => Effect.Effect<void, E2, R2>
  readonly metrics: Effect.Effect<Meter.Metrics>
  /** How many entries are in memory, expired ones included. */
  readonly size: Effect.Effect<number>
}

const view = <A, E>(name: string, engine: Engine<A, E>): CacheAside<A, E> => {
  const get: CacheAside<A, E>["get"] = (key) => engine.get(key)
  const forget = (target: Target) =>
    Effect.suspend(() =>
      Effect.forEach(fromTarget(target), (one) => engine.invalidate(one), { concurrency: 64, discard: true })
    )
  return {
    name,
    get,
    getMany: (keys, options) =>
      Effect.suspend(() => getMany(engine, keys, integerAtLeast("concurrency", 1, options?.concurrency ?? 16))),
    refresh: (key) => engine.refresh(key),
    warm: (keys, options) => warm(engine, keys, options),
    set: (key, value) => engine.set(key, value),
    invalidate: (key) => engine.invalidate({ kind: "key", of: key }),
    invalidateTag: (tag) => engine.invalidate({ kind: "tag", of: tag }),
    invalidatePrefix: (prefix) => engine.invalidate({ kind: "prefix", of: prefix }),
    invalidateAll: engine.invalidate({ kind: "all", of: "" }),
    forget,
    invalidateOn: (afterCommit, target) => afterCommit(forget(target)),
    metrics: Effect.sync(() => Meter.read(engine.loads.parts.meter.counters)),
    size: Effect.sync(() => engine.memory.size)
  }
}

/**
 * Makes a cache. It ends with the scope: what it loads then is interrupted.
 *
 * Dies with a `RangeError` that names the option if one is out of range, and with `DuplicateIdError` if the `Status` in the
 * context has a cache of that name.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <A, E, R>(options: MemoryOptions<A, E, R>): Effect.Effect<CacheAside<A, E>, never, Scope.Scope | R>
  <A, I, E, R>(
    options: SharedOptions<A, I, E, R>
  ): Effect.Effect<CacheAside<A, E>, never, Scope.Scope | CacheAsideStore | R>
} = <A, I, E, R>(options: MemoryOptions<A, E, R> | SharedOptions<A, I, E, R>) =>
  Effect.gen(function*() {
    const config = yield* Effect.sync(() => decode(options))
    const context = yield* Effect.context<Scope.Scope | R>()
    const scope = yield* Effect.scope
    const meter = yield* Meter.make(config.name)
    const fork = Effect.runForkWith(context)
    const run = (effect: Effect.Effect<unknown, unknown>) => Fiber.runIn(fork(effect), scope)
    const load = (key: string) => Effect.provideContext(options.load(key), context)
    const { loadMany: many } = options
    const loadMany = many === undefined
      ? undefined
      : (keys: ReadonlyArray<string>) => Effect.provideContext(many(keys), context)
    const parts = { config, load, loadMany, meter, run }
    if (!isShared(options)) return view(config.name, new Engine<A, E>({ ...parts, program: undefined }))
    // The types ask for the store exactly where it is used.
    const store = yield* CacheAsideStore as unknown as Effect.Effect<CacheAsideStore["Service"]>
    return view(config.name, yield* shared(options, parts, store))
  })

const isShared = <A, I, E, R>(
  options: MemoryOptions<A, E, R> | SharedOptions<A, I, E, R>
): options is SharedOptions<A, I, E, R> => options.storage === "redis" || options.storage === "two-level"

const shared = <A, I, E, R>(
  options: SharedOptions<A, I, E, R>,
  parts: Omit<Parts<A, E>, "program">,
  store: CacheAsideStore["Service"]
): Effect.Effect<Engine<A, E>> =>
  Effect.gen(function*() {
    const { config, meter, run } = parts
    const level: Level = new Level({
      entries: store.open(config.name),
      config,
      meter,
      node: `${(yield* Random.nextInt).toString(36)}${(yield* Random.nextInt).toString(36)}`.replaceAll("-", ""),
      spread: yield* Random.next,
      run,
      onInvalidation: (invalidation) => engine.invalidateLocally(invalidation),
      onGap: () => engine.distrust()
    })
    const both = { codec: codec(options.schema), level }
    const engine: Engine<A, E> = new Engine({ ...parts, program: program(both) })
    engine.share(both)
    run(level.listen)
    return engine
  })
