/**
 * Windows over the last calls: how many there were, how many failed, how many were slow.
 *
 * **When to use**
 *
 * Use `countWindow` to judge the last `size` calls, `timeWindow` to judge the calls of the last `millis` milliseconds.
 *
 * **Details**
 *
 * - Pure arithmetic: the time is passed in as milliseconds of one clock, and nothing here knows Effect.
 * - `record` costs O(1) whatever the size of the window and allocates nothing.
 * - A count window stores one bit a call, and none until the first failure, so windows of healthy keys stay small.
 * - A time window is a ring of `buckets` buckets. It forgets a whole bucket at a time, so what it covers varies between
 *   `millis - millis / buckets` and `millis`.
 *
 * **Gotchas**
 *
 * - The time must not run backwards: use a monotonic clock. An earlier time is counted in the newest bucket.
 * - Call `advance` before reading a time window, or it still shows what has expired since the last record.
 *
 * **Example** (The failure rate of the last three calls)
 *
 * ```ts
 * import { Windows } from "seaworthy"
 *
 * const window = Windows.countWindow(3)
 * window.record(true, false, 0)
 * window.record(false, false, 0)
 * window.record(false, false, 0)
 * console.log(window.failures / window.calls) // => 0.3333333333333333
 * window.record(false, false, 0) // the failure leaves the window
 * console.log(window.failures) // => 0
 * ```
 */

/** A mutable window over the last calls. */
export interface Window {
  /** Calls in the window. */
  readonly calls: number
  /** Those of them that failed. */
  readonly failures: number
  /** Those of them that were slow, failed or not. */
  readonly slow: number
  /** Counts one call that ended at `now` (milliseconds). */
  readonly record: (failed: boolean, slow: boolean, now: number) => void
  /** Forgets what has left the window at `now`. */
  readonly advance: (now: number) => void
  /** A plain copy of the contents, ages relative to `now`. */
  readonly save: (now: number) => Saved
  /** Replaces the contents by a saved copy. What does not fit is left out, oldest first. */
  readonly load: (saved: Saved, now: number) => void
}

/**
 * Contents of a window as plain data.
 *
 * - `Count`: one digit a call, oldest first: `0` good, `1` failed, `2` slow, `3` failed and slow.
 * - `Time`: one row a bucket that has calls: age of its end in milliseconds (negative for the
 *   one in progress), calls, failures, slow.
 */
export type Saved =
  | { readonly _tag: "Count"; readonly calls: string }
  | { readonly _tag: "Time"; readonly buckets: ReadonlyArray<readonly [number, number, number, number]> }

const positiveInteger = (name: string, value: number): number => {
  if (!Number.isInteger(value) || value < 1) {
    throw new RangeError(`${name} must be an integer of at least 1, got ${value}`)
  }
  return value
}

// Plain arrays of 32-bit words, not typed arrays: a typed array costs some 200 bytes before its first element, which
// is what one window may cost when there are a hundred thousand of them.
const noBits: Array<number> = []

const getBit = (bits: Array<number>, index: number): number => ((bits[index >>> 5] ?? 0) >>> (index & 31)) & 1

class CountWindow implements Window {
  readonly size: number
  calls: number
  failures = 0
  slow = 0
  private next: number
  private failureBits = noBits
  private slowBits = noBits

  constructor(size: number, good: number) {
    this.size = size
    this.calls = good
    this.next = good === size ? 0 : good
  }

  record(failed: boolean, slow: boolean): void {
    const index = this.next
    const word = index >>> 5
    const bit = 1 << (index & 31)
    if (this.calls < this.size) this.calls++
    if (failed || this.failures > 0) {
      if (this.failureBits === noBits) this.failureBits = new Array<number>((this.size + 31) >>> 5).fill(0)
      const bits = this.failureBits[word]!
      this.failures += (failed ? 1 : 0) - ((bits & bit) === 0 ? 0 : 1)
      this.failureBits[word] = failed ? bits | bit : bits & ~bit
    }
    if (slow || this.slow > 0) {
      if (this.slowBits === noBits) this.slowBits = new Array<number>((this.size + 31) >>> 5).fill(0)
      const bits = this.slowBits[word]!
      this.slow += (slow ? 1 : 0) - ((bits & bit) === 0 ? 0 : 1)
      this.slowBits[word] = slow ? bits | bit : bits & ~bit
    }
    this.next = index + 1 === this.size ? 0 : index + 1
  }

  advance(): void {}

  save(): Saved {
    let calls = ""
    const first = this.calls < this.size ? 0 : this.next
    for (let i = 0; i < this.calls; i++) {
      const index = (first + i) % this.size
      calls += getBit(this.failureBits, index) + 2 * getBit(this.slowBits, index)
    }
    return { _tag: "Count", calls }
  }

  load(saved: Saved): void {
    this.calls = 0
    this.failures = 0
    this.slow = 0
    this.next = 0
    this.failureBits = noBits
    this.slowBits = noBits
    if (saved._tag !== "Count") return
    for (const call of saved.calls.slice(-this.size)) {
      this.record(call === "1" || call === "3", call === "2" || call === "3")
    }
  }
}

/**
 * A window over the last `size` calls. With `good`, it starts with so many good calls in it.
 *
 * Throws a `RangeError` when `size` is not an integer of at least 1, or `good` not one from 0 to `size`.
 */
export const countWindow = (size: number, good = 0): Window => {
  if (!Number.isInteger(good) || good < 0 || good > size) {
    throw new RangeError(`good must be an integer from 0 to ${size}, got ${good}`)
  }
  return new CountWindow(positiveInteger("size", size), good)
}

class TimeWindow implements Window {
  calls = 0
  failures = 0
  slow = 0
  /** Milliseconds that one bucket covers. */
  readonly width: number
  readonly buckets: number
  /** Number of the newest bucket, counted from time 0. */
  private newest = Number.NEGATIVE_INFINITY
  /** Three cells a bucket: calls, failures, slow. */
  private readonly cells: Array<number>

  constructor(millis: number, buckets: number) {
    this.width = millis / buckets
    this.buckets = buckets
    this.cells = new Array<number>(3 * buckets).fill(0)
  }

  record(failed: boolean, slow: boolean, now: number): void {
    this.advance(now)
    const cell = this.cell(this.newest)
    this.calls++
    this.cells[cell]! += 1
    if (failed) {
      this.failures++
      this.cells[cell + 1]! += 1
    }
    if (slow) {
      this.slow++
      this.cells[cell + 2]! += 1
    }
  }

  advance(now: number): void {
    const bucket = Math.floor(now / this.width)
    if (bucket <= this.newest) return
    if (bucket - this.newest >= this.buckets) {
      if (this.calls > 0) this.clear()
    } else {
      for (let expired = this.newest + 1; expired <= bucket; expired++) {
        const cell = this.cell(expired)
        this.calls -= this.cells[cell]!
        this.failures -= this.cells[cell + 1]!
        this.slow -= this.cells[cell + 2]!
        this.cells.fill(0, cell, cell + 3)
      }
    }
    this.newest = bucket
  }

  save(now: number): Saved {
    this.advance(now)
    const buckets: Array<readonly [number, number, number, number]> = []
    for (let age = this.buckets - 1; age >= 0; age--) {
      const cell = this.cell(this.newest - age)
      const [calls, failures, slow] = [this.cells[cell]!, this.cells[cell + 1]!, this.cells[cell + 2]!]
      if (calls > 0) buckets.push([now - (this.newest - age + 1) * this.width, calls, failures, slow])
    }
    return { _tag: "Time", buckets }
  }

  load(saved: Saved, now: number): void {
    this.clear()
    this.newest = Math.floor(now / this.width)
    if (saved._tag !== "Time") return
    for (const [age, calls, failures, slow] of saved.buckets) {
      const bucket = Math.min(this.newest, Math.round((now - age) / this.width) - 1)
      if (!(this.newest - bucket < this.buckets)) continue
      const cell = this.cell(bucket)
      this.calls += calls
      this.failures += failures
      this.slow += slow
      this.cells[cell]! += calls
      this.cells[cell + 1]! += failures
      this.cells[cell + 2]! += slow
    }
  }

  private cell(bucket: number): number {
    return 3 * (((bucket % this.buckets) + this.buckets) % this.buckets)
  }

  private clear(): void {
    this.calls = 0
    this.failures = 0
    this.slow = 0
    this.cells.fill(0)
  }
}

/**
 * A window over the calls of the last `millis` milliseconds, in `buckets` buckets (default 10).
 *
 * Throws a `RangeError` when `millis` is not a finite number above 0 or `buckets` not an integer of at least 1.
 */
export const timeWindow = (millis: number, buckets = 10): Window => {
  if (!(millis > 0 && Number.isFinite(millis))) {
    throw new RangeError(`millis must be a finite number above 0, got ${millis}`)
  }
  return new TimeWindow(millis, positiveInteger("buckets", buckets))
}
