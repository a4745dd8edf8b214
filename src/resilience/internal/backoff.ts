/** Pure arithmetic of backoff delays, in milliseconds. `attempt` counts retries from 1; `draw` is in [0, 1]. */

// Anything that is not a number above zero is no delay; the cap holds even for an infinite delay.
const capped = (delay: number, max: number): number => delay > 0 ? Math.min(delay, max) : 0

/** `base`, `base + step`, `base + 2 step`, ... */
export const linear = (base: number, step: number, max: number, attempt: number): number =>
  capped(base + step * (attempt - 1), max)

/** `base`, `base * factor`, `base * factor^2`, ... */
export const exponential = (base: number, factor: number, max: number, attempt: number): number =>
  base === 0 ? 0 : capped(base * Math.pow(factor, attempt - 1), max)

/** Anywhere between nothing and the exponential delay. */
export const fullJitter = (base: number, factor: number, max: number, attempt: number, draw: number): number =>
  capped(draw * exponential(base, factor, max, attempt), max)

/** Anywhere between `base` and three times the delay before. */
export const decorrelated = (base: number, max: number, previous: number, draw: number): number =>
  capped(base + draw * Math.max(0, previous * 3 - base), max)
