/**
 * A store of values that may be lost: in memory here, in Redis with `seaworthy/redis`, behind one service.
 *
 * **When to use**
 *
 * For what is costly to make and cheap to lose. `layerMemory` needs nothing and is the default; a cluster of processes
 * that shall see the same values provides `RedisCache.layer` instead, and no other line changes. {@link typed} gives
 * values a schema.
 *
 * **Details**
 *
 * Absent, empty and failed are three things: `get` gives `Option.none` for an absent key, `0`, `""`, `false` and `null`
 * are hits, and a cache that cannot be reached is a {@link CacheError}. Bytes that do not decode are a miss, counted in
 * `undecodable` too. The status node `cache` counts hits, misses, and each operation with its latency.
 *
 * The memory store holds `cache.max_entries` and then forgets what was used least recently; entries expire by the
 * monotonic clock, without timers. A write with a time to live of zero or less removes the entry.
 *
 * `KeyValueStore` of Effect has no time to live, and `Persistence` clears with `KEYS` and counts nothing: hence our own.
 *
 * **Gotchas**
 *
 * The memory store is gone with the process, and no other process sees it. Schemas must encode without waiting.
 *
 * **Example** (Values with a schema)
 *
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { CacheStore, Status } from "seaworthy"
 *
 * const User = Schema.Struct({ name: Schema.String, born: Schema.Date })
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* CacheStore.typed(User, { prefix: "user:", ttl: "5 minutes" })
 *   yield* users.set("ada", { name: "Ada", born: new Date("1815-12-10") })
 *   const found = yield* users.get("ada")
 *   console.log(found._tag, found._tag === "Some" && found.value.born.getUTCFullYear()) // => "Some" 1815
 *   console.log((yield* users.get("bob"))._tag) // => "None"
 * })
 *
 * const layer = CacheStore.layerMemoryWith({ max_entries: 100 }).pipe(Layer.provide(Status.layer))
 * await Effect.runPromise(program.pipe(Effect.provide(layer)))
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type { Counter, Status } from "../observability/Status.ts"
import type { CacheError } from "./cache/CacheError.ts"
import * as Lru from "./cache/lru.ts"
import * as Memory from "./cache/memory.ts"
import { type Options, settings } from "./cache/options.ts"
import * as TypedView from "./cache/typed.ts"
import { resourceOptions } from "./internal/settingsOptions.ts"
import * as ManagedResource from "./ManagedResource.ts"
import type { ResourceError } from "./ResourceError.ts"
import * as Settings from "./Settings.ts"

export { CacheError, type Reason } from "./cache/CacheError.ts"
export type { Options } from "./cache/options.ts"

/**
 * How long an entry lives.
 *
 * @category models
 * @since 0.1.0
 */
export interface SetOptions {
  /** Default: the view's, else `cache.ttl`, else for ever. Zero or less removes the entry. */
  readonly ttl?: Duration.Input | undefined
}

/**
 * The operations of a cache over values of type `A`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Typed<A> {
  /** `none` for an absent key. Counts a hit or a miss. */
  readonly get: (key: string) => Effect.Effect<Option.Option<A>, CacheError>
  readonly set: (key: string, value: A, options?: SetOptions) => Effect.Effect<void, CacheError>
  /** Whether there was an entry to remove. */
  readonly delete: (key: string) => Effect.Effect<boolean, CacheError>
  /** Whether there is an entry; counts neither hit nor miss. */
  readonly has: (key: string) => Effect.Effect<boolean, CacheError>
  /** In the order of the keys; one round trip. */
  readonly getMany: (keys: Iterable<string>) => Effect.Effect<ReadonlyArray<Option.Option<A>>, CacheError>
  /** One round trip; not atomic. */
  readonly setMany: (
    entries: Iterable<readonly [key: string, value: A]>,
    options?: SetOptions
  ) => Effect.Effect<void, CacheError>
  /** How many entries were removed. */
  readonly deleteMany: (keys: Iterable<string>) => Effect.Effect<number, CacheError>
  /** Removes all keys that begin with `prefix`, by default all of this view; gives how many entries were removed. */
  readonly clear: (prefix?: string) => Effect.Effect<number, CacheError>
}

/**
 * A store of texts under keys.
 *
 * @category services
 * @since 0.1.0
 */
export class CacheStore extends Context.Service<
  CacheStore,
  Typed<string> & {
    /** `memory`, `redis` or the name of another backend. */
    readonly driver: string
    /** What the status node shows; a view that cannot decode what it got corrects them. */
    readonly counters: { readonly hits: Counter; readonly misses: Counter; readonly undecodable: Counter }
  }
>()("seaworthy/CacheStore") {}

/**
 * A view of the cache in which values have a schema and keys a prefix. The codec is compiled once: make a view once and
 * keep it.
 *
 * Fails with `CacheError` (`Unencodable`) when a value does not fit the schema. Bytes that do not decode are a miss.
 *
 * @category constructors
 * @since 0.1.0
 */
export const typed = <A, I>(
  schema: Schema.Codec<A, I>,
  options?: {
    /** Put before every key. Default none. */
    readonly prefix?: string | undefined
    /** Default `cache.ttl`, else for ever. */
    readonly ttl?: Duration.Input | undefined
  }
): Effect.Effect<Typed<A>, never, CacheStore> => CacheStore.useSync((store) => TypedView.make(store, schema, options))

const makeLayer = <R>(validate: Effect.Effect<Settings.Shape, never, R>) =>
  ManagedResource.layerContext(
    {
      id: "cache",
      kind: "cache",
      validate,
      connect: ({ cache }) => Effect.sync(() => ({ lru: Lru.make<string>(cache.max_entries), ttl: cache.ttl })),
      verify: ({ lru }) => Memory.verify(lru),
      // Memory does not go away, and a probe could push out an entry.
      check: () => Effect.void,
      options: (all) => resourceOptions(all, {})
    },
    (handle) =>
      Effect.map(
        handle.connection,
        ({ lru, ttl }) => Context.make(CacheStore, Memory.make(lru, ttl, handle.node))
      ),
    { restartable: false }
  )

/**
 * A cache in this process's memory, with settings from environment and file.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<CacheStore, ResourceError | Settings.SettingsError, Status> = makeLayer(
  Settings.Settings
).pipe(Layer.provide(Settings.layer))

/**
 * A cache in this process's memory, with settings given in code.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemoryWith = (
  options: Options
): Layer.Layer<CacheStore, ResourceError | Settings.SettingsError, Status> =>
  Layer.unwrap(Effect.map(settings(options), (all) => makeLayer(Effect.succeed(all))))
