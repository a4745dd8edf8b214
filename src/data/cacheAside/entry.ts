// What is to be done with a cached entry at a given time. Pure: times are monotonic milliseconds, and chance is an argument.
//
//   loaded      eager          fresh until       stale until        gone
//     |---serve---|---refresh---|---stale, refresh---|---load, or stale if that fails---|---load
//
// Stale-while-revalidate and stale-if-error are those of RFC 5861. The early refresh is "XFetch": Vattani, Chierichetti,
// Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, PVLDB 8(8), 2015.
import type * as Exit from "effect/Exit"
import type * as Option from "effect/Option"

export interface Policy {
  /** Share of the time to live after which a hit starts a refresh; 1 for never. */
  readonly eagerRefresh: number
  /** `beta` of XFetch; 0 for never. */
  readonly earlyExpiry: number
  /** Milliseconds after its time to live in which a value is served at once while it is loaded anew. */
  readonly staleWhileRevalidate: number
  /** Milliseconds after its time to live in which a value is served if loading it fails. */
  readonly staleIfError: number
}

export type Kind = "value" | "absent" | "failure"

export interface Entry<A, E> {
  /** What a caller gets. */
  readonly exit: Exit.Exit<Option.Option<A>, E>
  readonly kind: Kind
  /** Who wrote it, in the shared store; empty where there is none. */
  readonly id: string
  readonly tags: ReadonlyArray<string>
  /** How long the load took, in milliseconds. */
  readonly delta: number
  /** Before this, a hit is a hit and nothing else. */
  readonly quietUntil: number
  readonly eagerAt: number
  readonly freshUntil: number
  /** Until when it is served while it is loaded anew. */
  readonly staleUntil: number
  /** Until when it is served if loading fails. */
  readonly errorUntil: number
  /** The trust in the memory level that it was written under. */
  readonly generation: number
}

/** The chance that XFetch refreshes earlier than so many times `delta * beta` before the end is below 3e-9. */
const furthestDraw = 20

export const make = <A, E>(policy: Policy, given: {
  readonly exit: Exit.Exit<Option.Option<A>, E>
  readonly kind: Kind
  readonly id: string
  readonly tags: ReadonlyArray<string>
  readonly delta: number
  /** When its life began. */
  readonly at: number
  /** Milliseconds that it is fresh. */
  readonly fresh: number
  /** When it is gone in any case, because its original is. */
  readonly goneAt: number
  readonly generation: number
}): Entry<A, E> => {
  const { at, delta, exit, fresh, generation, goneAt, id, kind, tags } = given
  const kept = kind !== "failure"
  const freshUntil = Math.min(at + fresh, goneAt)
  const eagerAt = kept && policy.eagerRefresh < 1 ? at + fresh * policy.eagerRefresh : Infinity
  const drawFrom = kept && policy.earlyExpiry > 0 && delta > 0
    ? freshUntil - delta * policy.earlyExpiry * furthestDraw
    : Infinity
  return {
    exit,
    kind,
    id,
    tags,
    delta,
    generation,
    eagerAt,
    freshUntil,
    staleUntil: kept ? Math.min(freshUntil + policy.staleWhileRevalidate, goneAt) : freshUntil,
    errorUntil: kept ? Math.min(freshUntil + policy.staleIfError, goneAt) : freshUntil,
    quietUntil: Math.min(freshUntil, eagerAt, drawFrom)
  }
}

/**
 * - `serve`: it is fresh.
 * - `refresh`: it is fresh; load it anew in the background.
 * - `stale`: serve it although it is not fresh; the last load failed and it is too early for another.
 * - `revalidate`: serve it although it is not fresh, and load it anew in the background.
 * - `load`: a caller has to wait for a load.
 */
export type Action = "serve" | "refresh" | "stale" | "revalidate" | "load"

/**
 * @param retryAt before this no load is tried, because the last one failed, unless a caller can be given nothing else.
 * @param random gives a number from 0 to 1; only asked when it matters.
 */
export const decide = <A, E>(
  policy: Policy,
  entry: Entry<A, E>,
  now: number,
  retryAt: number,
  random: () => number
): Action => {
  if (now < entry.freshUntil) {
    if (now < entry.quietUntil || now < retryAt) return "serve"
    if (now >= entry.eagerAt) return "refresh"
    if (policy.earlyExpiry === 0) return "serve"
    return now - entry.delta * policy.earlyExpiry * Math.log(random()) >= entry.freshUntil ? "refresh" : "serve"
  }
  if (now < entry.staleUntil) return now < retryAt ? "stale" : "revalidate"
  return now < entry.errorUntil && now < retryAt ? "stale" : "load"
}

/** May it not be served to anybody any more, not even if a load fails? */
export const isGone = <A, E>(entry: Entry<A, E>, now: number): boolean =>
  now >= entry.freshUntil && now >= entry.staleUntil && now >= entry.errorUntil

/** Milliseconds from the end of the `failures`th failed load in a row to the next try. */
export const backoff = (base: number, max: number, failures: number): number =>
  Math.min(max, base * 2 ** Math.min(failures - 1, 30))

/** A time to live, shortened by chance by up to the share `jitter`, so that what was loaded together does not end together. */
export const jittered = (millis: number, jitter: number, random: number): number => millis * (1 - jitter * random)
