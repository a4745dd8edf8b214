import * as Quantile from "../../observability/Quantile.ts"

/**
 * A quantile of the recent past, in milliseconds; time is passed in. Two histograms take turns: the figures are those of
 * the last half to whole window.
 */
export interface SlidingQuantile {
  readonly q: number
  readonly halfMillis: number
  current: Quantile.Histogram
  previous: Quantile.Histogram
  readonly merged: Quantile.Histogram
  half: number
  /** Values recorded since `merged` was last computed. */
  stale: number
  value: number | undefined
}

// A quantile moves little in this many values, and merging costs about a microsecond.
const refreshAfter = 32

export const make = (q: number, windowMillis: number): SlidingQuantile => ({
  q,
  halfMillis: windowMillis / 2,
  current: Quantile.make(),
  previous: Quantile.make(),
  merged: Quantile.make(),
  half: -Infinity,
  stale: 0,
  value: undefined
})

const rotate = (self: SlidingQuantile, now: number): void => {
  const half = Math.floor(now / self.halfMillis)
  if (half <= self.half) return
  const next = self.previous
  Quantile.reset(next)
  if (half - self.half > 1) Quantile.reset(self.current)
  self.previous = self.current
  self.current = next
  self.half = half
  self.stale = Infinity
}

export const record = (self: SlidingQuantile, now: number, millis: number): void => {
  rotate(self, now)
  Quantile.record(self.current, millis)
  self.stale++
}

/** How many values the figures rest on. */
export const count = (self: SlidingQuantile, now: number): number => {
  rotate(self, now)
  return self.current.count + self.previous.count
}

/** The quantile; `undefined` when nothing was recorded lately. At most 32 values old. */
export const value = (self: SlidingQuantile, now: number): number | undefined => {
  rotate(self, now)
  if (self.stale >= refreshAfter || self.value === undefined) {
    Quantile.reset(self.merged)
    Quantile.merge(self.merged, self.previous)
    Quantile.merge(self.merged, self.current)
    self.value = Quantile.quantile(self.merged, self.q)
    self.stale = 0
  }
  return self.value
}
