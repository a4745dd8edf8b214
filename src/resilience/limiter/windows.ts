/** Arithmetic of the windows that count. Times are whole microseconds. */
export interface Window {
  readonly limit: number
  readonly windowMicros: number
}

// ---------------------------------------------------------------------------------------------------------------------
// Fixed window: the count since `start`. A count of 0 means that no window has begun.
// ---------------------------------------------------------------------------------------------------------------------

/** The count that stands now: that of a window which has ended is gone. */
export const fixedCount = (w: Window, count: number, start: number, now: number): number =>
  now < start + w.windowMicros ? count : 0

export const fixedWait = (w: Window, count: number, start: number, now: number, cost: number): number =>
  cost > w.limit ? Infinity : count + cost > w.limit ? start + w.windowMicros - now : 0

// ---------------------------------------------------------------------------------------------------------------------
// Sliding window counter: the counts of the window that began at `start` and of the one before it. The first window
// begins at the first call; the next ones follow without a gap as long as anything is counted.
// ---------------------------------------------------------------------------------------------------------------------

export interface Counter {
  readonly start: number
  readonly current: number
  readonly previous: number
}

/** How many windows have passed since `start`: 0, 1, or 2 for all that is longer. */
export const windowsPassed = (w: Window, start: number, now: number): 0 | 1 | 2 =>
  now < start + w.windowMicros ? 0 : now < start + 2 * w.windowMicros ? 1 : 2

/** The share of the previous window's calls that is still in view, times the window. */
const inView = (w: Window, start: number, now: number): number => {
  const left = start + w.windowMicros - now
  return left < w.windowMicros ? left : w.windowMicros
}

/** The counter as it is now. */
export const slide = (w: Window, c: Counter, now: number): Counter => {
  const passed = windowsPassed(w, c.start, now)
  if (passed === 0) return c
  return passed === 1 && c.current > 0
    ? { start: c.start + w.windowMicros, current: 0, previous: c.current }
    : { start: now, current: 0, previous: 0 }
}

/** Microseconds until `cost` fits. Of a counter as it is now. */
export const counterWait = (w: Window, c: Counter, now: number, cost: number): number => {
  if (cost > w.limit) return Infinity
  const free = w.limit - cost
  const view = inView(w, c.start, now)
  if (c.previous * view + c.current * w.windowMicros <= free * w.windowMicros) return 0
  // Either enough of the previous window goes out of view, or this window becomes the previous one and then does.
  if (c.current <= free) return view - Math.floor((free - c.current) * w.windowMicros / c.previous)
  return view + Math.ceil((c.current - free) * w.windowMicros / c.current)
}

export const counterRemaining = (w: Window, c: Counter, now: number): number =>
  Math.max(0, Math.floor(w.limit - c.current - c.previous * inView(w, c.start, now) / w.windowMicros))

/** Microseconds until nothing counts any more. */
export const counterReset = (w: Window, c: Counter, now: number): number =>
  c.current > 0
    ? c.start + 2 * w.windowMicros - now
    : c.previous > 0
    ? c.start + w.windowMicros - now
    : 0

/** Takes back a cost that was counted at `takenAt`, from the window where it still counts. */
export const counterRefund = (w: Window, c: Counter, cost: number, takenAt: number): Counter => {
  if (takenAt >= c.start) return { ...c, current: Math.max(0, c.current - cost) }
  if (takenAt >= c.start - w.windowMicros) return { ...c, previous: Math.max(0, c.previous - cost) }
  return c
}
