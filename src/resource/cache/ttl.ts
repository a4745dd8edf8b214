import * as Duration from "effect/Duration"

/**
 * Whole milliseconds that an entry lives: `Infinity` for ever, 0 when it is gone at once. `fallback` is the store's own
 * default, in the same unit. A fraction of a millisecond is rounded up, so that what should live does.
 */
export const millis = (ttl: Duration.Input | undefined, fallback: number): number => {
  if (ttl === undefined) return fallback
  const millis = Duration.toMillis(Duration.fromInputUnsafe(ttl))
  return millis > 0 ? Math.ceil(millis) : 0
}
