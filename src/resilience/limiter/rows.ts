import type { Algorithm } from "./Algorithm.ts"
import * as B from "./bucket.ts"
import { type Log, makeLog } from "./slidingLog.ts"
import * as W from "./windows.ts"

/**
 * The states of many keys under one algorithm, a row each. Numbers stand in typed arrays: an object with boxed numbers
 * for each key would need some 70 bytes more.
 *
 * Time comes in as an argument, in whole microseconds of any origin.
 */
export interface Rows {
  /** Microseconds until `cost` is admitted: 0 is now, Infinity is never. Changes nothing. */
  wait(row: number, now: number, cost: number): number
  /** Admits what `wait` allowed at the same time. */
  take(row: number, now: number, cost: number): void
  /** Undoes a `take` of `takenAt`, as far as it still counts. */
  refund(row: number, now: number, cost: number, takenAt: number): void
  /** Units of cost that would be admitted now. */
  remaining(row: number, now: number): number
  /** Microseconds until the row is as good as new. */
  reset(row: number, now: number): number
  /** Makes the row as good as new. */
  clear(row: number): void
  /** Makes room for as many rows. */
  grow(rows: number): void
}

const grown = (from: Float64Array, length: number): Float64Array => {
  const to = new Float64Array(length)
  to.set(from)
  return to
}

class BucketRows implements Rows {
  private readonly bucket: B.Bucket
  private debt: Float64Array
  private at: Float64Array

  constructor(algorithm: Algorithm, rows: number) {
    this.bucket = B.bucket(algorithm)
    this.debt = new Float64Array(rows)
    this.at = new Float64Array(rows)
  }

  private now(row: number, now: number): number {
    return B.debtNow(this.bucket, this.debt[row]!, this.at[row]!, now)
  }

  private set(row: number, now: number, debt: number): void {
    this.debt[row] = debt
    // A clock that went back must not make the debt that has been paid count twice.
    if (now > this.at[row]!) this.at[row] = now
  }

  wait(row: number, now: number, cost: number): number {
    return B.wait(this.bucket, this.now(row, now), cost)
  }

  take(row: number, now: number, cost: number): void {
    this.set(row, now, B.take(this.bucket, this.now(row, now), cost))
  }

  refund(row: number, now: number, cost: number): void {
    this.set(row, now, B.refund(this.bucket, this.now(row, now), cost))
  }

  remaining(row: number, now: number): number {
    return B.remaining(this.bucket, this.now(row, now))
  }

  reset(row: number, now: number): number {
    return B.reset(this.bucket, this.now(row, now))
  }

  clear(row: number): void {
    this.debt[row] = 0
    this.at[row] = 0
  }

  grow(rows: number): void {
    this.debt = grown(this.debt, rows)
    this.at = grown(this.at, rows)
  }
}

class FixedRows implements Rows {
  private readonly window: W.Window
  private count: Float64Array
  private start: Float64Array

  constructor(algorithm: Algorithm, rows: number) {
    this.window = algorithm
    this.count = new Float64Array(rows)
    this.start = new Float64Array(rows)
  }

  private now(row: number, now: number): number {
    return W.fixedCount(this.window, this.count[row]!, this.start[row]!, now)
  }

  wait(row: number, now: number, cost: number): number {
    return W.fixedWait(this.window, this.now(row, now), this.start[row]!, now, cost)
  }

  take(row: number, now: number, cost: number): void {
    const count = this.now(row, now)
    if (count === 0) this.start[row] = now
    this.count[row] = count + cost
  }

  refund(row: number, now: number, cost: number, takenAt: number): void {
    if (takenAt >= this.start[row]!) this.count[row] = Math.max(0, this.now(row, now) - cost)
  }

  remaining(row: number, now: number): number {
    return this.window.limit - this.now(row, now)
  }

  reset(row: number, now: number): number {
    return this.now(row, now) === 0 ? 0 : this.start[row]! + this.window.windowMicros - now
  }

  clear(row: number): void {
    this.count[row] = 0
    this.start[row] = 0
  }

  grow(rows: number): void {
    this.count = grown(this.count, rows)
    this.start = grown(this.start, rows)
  }
}

class CounterRows implements Rows {
  private readonly window: W.Window
  private start: Float64Array
  private current: Float64Array
  private previous: Float64Array

  constructor(algorithm: Algorithm, rows: number) {
    this.window = algorithm
    this.start = new Float64Array(rows)
    this.current = new Float64Array(rows)
    this.previous = new Float64Array(rows)
  }

  private now(row: number, now: number): W.Counter {
    const counter = { start: this.start[row]!, current: this.current[row]!, previous: this.previous[row]! }
    return W.slide(this.window, counter, now)
  }

  private set(row: number, counter: W.Counter): void {
    this.start[row] = counter.start
    this.current[row] = counter.current
    this.previous[row] = counter.previous
  }

  wait(row: number, now: number, cost: number): number {
    return W.counterWait(this.window, this.now(row, now), now, cost)
  }

  take(row: number, now: number, cost: number): void {
    const counter = this.now(row, now)
    const fresh = counter.current === 0 && counter.previous === 0
    this.set(row, { ...counter, start: fresh ? now : counter.start, current: counter.current + cost })
  }

  refund(row: number, now: number, cost: number, takenAt: number): void {
    this.set(row, W.counterRefund(this.window, this.now(row, now), cost, takenAt))
  }

  remaining(row: number, now: number): number {
    return W.counterRemaining(this.window, this.now(row, now), now)
  }

  reset(row: number, now: number): number {
    return W.counterReset(this.window, this.now(row, now), now)
  }

  clear(row: number): void {
    this.set(row, { start: 0, current: 0, previous: 0 })
  }

  grow(rows: number): void {
    this.start = grown(this.start, rows)
    this.current = grown(this.current, rows)
    this.previous = grown(this.previous, rows)
  }
}

class LogRows implements Rows {
  private readonly window: W.Window
  // A log is made with the first call of its row.
  private readonly logs: Array<Log | undefined> = []

  constructor(algorithm: Algorithm) {
    this.window = algorithm
  }

  wait(row: number, now: number, cost: number): number {
    const log = this.logs[row]
    if (cost > this.window.limit) return Infinity
    return log === undefined ? 0 : log.wait(this.window, now, cost)
  }

  take(row: number, now: number, cost: number): void {
    const log = this.logs[row] ??= makeLog()
    log.take(this.window, now, cost)
  }

  refund(row: number, _now: number, cost: number, takenAt: number): void {
    this.logs[row]?.refund(cost, takenAt)
  }

  remaining(row: number, now: number): number {
    return this.window.limit - (this.logs[row]?.used(this.window, now) ?? 0)
  }

  reset(row: number, now: number): number {
    return this.logs[row]?.reset(this.window, now) ?? 0
  }

  clear(row: number): void {
    this.logs[row] = undefined
  }

  grow(): void {}
}

/** The states of `rows` keys under an algorithm, all as good as new. */
export const makeRows = (algorithm: Algorithm, rows: number): Rows => {
  switch (algorithm._tag) {
    case "tokenBucket":
    case "gcra":
      return new BucketRows(algorithm, rows)
    case "fixedWindow":
      return new FixedRows(algorithm, rows)
    case "slidingWindowCounter":
      return new CounterRows(algorithm, rows)
    case "slidingWindowLog":
      return new LogRows(algorithm)
  }
}
