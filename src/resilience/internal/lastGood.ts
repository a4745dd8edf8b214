import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { monotonicMillis } from "./monotonic.ts"
import { integerAtLeast, positiveMillis } from "./options.ts"

/** Where the last good values are kept, by key. {@link makeStore} gives one in memory; your own may keep them elsewhere. */
export interface Store<in A, out B = A> {
  readonly get: (key: string) => Effect.Effect<Option.Option<B>>
  readonly set: (key: string, value: A) => Effect.Effect<void>
}

/** Options of {@link makeStore}. */
export interface StoreOptions {
  /** Most keys kept; the one written longest ago goes first. At least 1. Default 1000. */
  readonly capacity?: number | undefined
  /** A value older than this is not used any more: above zero. Default: no limit. */
  readonly maxAge?: Duration.Input | undefined
}

interface Entry<A> {
  readonly value: A
  readonly at: number
}

/**
 * Makes a bounded store of last good values in memory.
 *
 * An option that is out of range is a defect: a `RangeError` that names it.
 */
export const makeStore = <A>(options?: StoreOptions): Effect.Effect<Store<A>> =>
  Effect.sync(() => {
    const capacity = integerAtLeast("capacity", 1, options?.capacity ?? 1000)
    const maxAge = positiveMillis("maxAge", options?.maxAge ?? Infinity)
    // A Map keeps the order of insertion: with a key removed before it is written, that is the order of writing.
    const entries = new Map<string, Entry<A>>()
    return {
      get: (key) =>
        Effect.withFiber((fiber) => {
          const entry = entries.get(key)
          if (entry === undefined) return Effect.succeedNone
          if (monotonicMillis(fiber) - entry.at <= maxAge) return Effect.succeedSome(entry.value)
          entries.delete(key)
          return Effect.succeedNone
        }),
      set: (key, value) =>
        Effect.withFiber((fiber) => {
          entries.delete(key)
          if (entries.size >= capacity) {
            for (const oldest of entries.keys()) {
              entries.delete(oldest)
              break
            }
          }
          entries.set(key, { value, at: monotonicMillis(fiber) })
          return Effect.void
        })
    }
  })
