/**
 * The store that processes share behind `CacheAside`: what it has to promise. `seaworthy/redis` has one.
 *
 * Every operation is one step for all who share the store. Times to live run by the store's own clock, so that the clocks
 * of processes play no part.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { CacheError } from "../../resource/cache/CacheError.ts"
import type { Invalidation } from "./target.ts"

/** An entry as it was found. */
export interface Found {
  readonly payload: string
  /** Milliseconds that it will still be there; `Infinity` for ever. */
  readonly left: number
}

/** Where the invalidations of a cache stand. After a loss of data the epoch is another one. */
export interface Position {
  readonly epoch: string
  /** How many invalidations there were in this epoch. */
  readonly sequence: number
}

export type Acquired =
  /** There is an entry, and it is not the one that the caller has seen. */
  | { readonly _tag: "Found"; readonly found: Found }
  /** The caller is the one who loads. The position is that before the load. */
  | { readonly _tag: "Lease"; readonly position: Position }
  /** Somebody else loads. */
  | { readonly _tag: "Busy" }

/** - `lost`: the lease is not the caller's any more. - `invalidated`: an invalidation came since the position. */
export type Written = "written" | "lost" | "invalidated"

/** What travels on the bus: keys and versions, never values. `invalidation` is absent in a sign of life. */
export interface Message extends Position {
  readonly node: string
  readonly invalidation: Invalidation | undefined
}

/** The part of the store that belongs to one cache. */
export interface SharedEntries {
  /** One key; with `aged` false it may leave out what is left of its time (`NaN`), if that is cheaper. */
  readonly look: (key: string, aged: boolean) => Effect.Effect<Found | undefined, CacheError>
  /** The same without a fiber, which is cheaper: calls back once, unless it gives `false` and does nothing. */
  readonly lookUnsafe?: (
    key: string,
    aged: boolean,
    done: (exit: Exit.Exit<Found | undefined, CacheError>) => void
  ) => boolean
  /** In the order of the keys. */
  readonly read: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Found | undefined>, CacheError>
  /**
   * Gives the entry, or the lease to load it.
   *
   * @param seen `id` of the entry that the caller wants replaced; `undefined` replaces any.
   */
  readonly acquire: (request: {
    readonly key: string
    readonly seen: string | undefined
    readonly token: string
    /** Milliseconds. */
    readonly lease: number
  }) => Effect.Effect<Acquired, CacheError>
  /** Whether the lease was still the caller's. */
  readonly renew: (key: string, token: string, lease: number) => Effect.Effect<boolean, CacheError>
  /** Gives the lease back, if it is still the caller's. */
  readonly release: (key: string, token: string) => Effect.Effect<void, CacheError>
  /** Replaces the entry if the lease is still the caller's and nothing that concerns it was invalidated; ends the lease. */
  readonly write: (request: {
    readonly key: string
    readonly token: string
    readonly position: Position
    readonly payload: string
    /** Milliseconds; 0 removes the entry, `Infinity` keeps it for ever. */
    readonly ttl: number
    readonly tags: ReadonlyArray<string>
  }) => Effect.Effect<Written, CacheError>
  /** Replaces the entry whatever there is, ends the lease, refuses what is being loaded of the key, and tells all nodes. */
  readonly set: (request: {
    readonly key: string
    readonly node: string
    readonly payload: string
    /** Milliseconds; 0 removes the entry, `Infinity` keeps it for ever. */
    readonly ttl: number
    readonly tags: ReadonlyArray<string>
  }) => Effect.Effect<void, CacheError>
  /** Refuses what is being loaded from now on, tells all nodes, and for one key removes what is there. */
  readonly invalidate: (invalidation: Invalidation, node: string) => Effect.Effect<void, CacheError>
  /**
   * One step of removing what is there, for a tag, a prefix or all; after {@link invalidate}, so that what is written in the
   * meantime is newer. `cursor` is absent at first, then what the step before gave; absent again at the end.
   */
  readonly sweep: (
    invalidation: Invalidation,
    cursor: string | undefined
  ) => Effect.Effect<string | undefined, CacheError>
  /** Sends a sign of life through the bus. */
  readonly announce: (node: string) => Effect.Effect<void, CacheError>
  /** Hears the bus until the subscription fails. `onReady` is called when it has begun, and again after each gap it knows of. */
  readonly listen: (on: {
    readonly ready: () => void
    readonly message: (message: Message) => void
  }) => Effect.Effect<never, CacheError, Scope.Scope>
}

/**
 * Where `CacheAside` keeps what processes share: with `storage: "redis"` and `"two-level"`.
 *
 * @category services
 * @since 0.1.0
 */
export class CacheAsideStore extends Context.Service<CacheAsideStore, {
  /** The part that belongs to the cache of this name. */
  readonly open: (name: string) => SharedEntries
}>()("seaworthy/CacheAsideStore") {}
