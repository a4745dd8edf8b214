import type { Window } from "./windows.ts"

/**
 * What was admitted and when, for as long as it counts: a ring that grows with use, at most `limit` entries.
 *
 * Each entry is written and removed once, so a call costs O(1) however long the log is. Only a call that costs more than
 * one walks over as many entries as have to go out of the window for it.
 */
export interface Log {
  wait(w: Window, now: number, cost: number): number
  take(w: Window, now: number, cost: number): void
  refund(cost: number, takenAt: number): void
  used(w: Window, now: number): number
  reset(w: Window, now: number): number
}

class Ring implements Log {
  private times = new Float64Array(4)
  private costs = new Float64Array(4)
  private head = 0
  private length = 0
  private sum = 0

  private index(nth: number): number {
    return (this.head + nth) & (this.times.length - 1)
  }

  // What has gone out of the window counts for nobody: to drop it is no change of state that a caller could see.
  private drop(w: Window, now: number): void {
    while (this.length > 0 && this.times[this.head]! + w.windowMicros <= now) {
      this.sum -= this.costs[this.head]!
      this.head = this.index(1)
      this.length--
    }
  }

  wait(w: Window, now: number, cost: number): number {
    this.drop(w, now)
    let missing = this.sum + cost - w.limit
    if (missing <= 0) return 0
    let nth = 0
    while ((missing -= this.costs[this.index(nth)]!) > 0) nth++
    return this.times[this.index(nth)]! + w.windowMicros - now
  }

  take(w: Window, now: number, cost: number): void {
    this.drop(w, now)
    this.sum += cost
    const last = this.index(this.length - 1)
    // One entry a moment; and a clock that went back must not put the log out of order.
    if (this.length > 0 && this.times[last]! >= now) {
      this.costs[last] = this.costs[last]! + cost
      return
    }
    if (this.length === this.times.length) this.double()
    const next = this.index(this.length++)
    this.times[next] = now
    this.costs[next] = cost
  }

  refund(cost: number, takenAt: number): void {
    let low = 0
    let high = this.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.times[this.index(middle)]! < takenAt) low = middle + 1
      else high = middle
    }
    const at = this.index(low)
    if (low === this.length || this.times[at] !== takenAt) return
    const returned = Math.min(cost, this.costs[at]!)
    this.costs[at] = this.costs[at]! - returned
    this.sum -= returned
    // The last entry tells when all is there again: it has to be one that counts.
    while (this.length > 0 && this.costs[this.index(this.length - 1)] === 0) this.length--
  }

  used(w: Window, now: number): number {
    this.drop(w, now)
    return this.sum
  }

  reset(w: Window, now: number): number {
    this.drop(w, now)
    return this.length === 0 ? 0 : this.times[this.index(this.length - 1)]! + w.windowMicros - now
  }

  private double(): void {
    const size = this.times.length
    const times = new Float64Array(size * 2)
    const costs = new Float64Array(size * 2)
    for (let nth = 0; nth < size; nth++) {
      times[nth] = this.times[this.index(nth)]!
      costs[nth] = this.costs[this.index(nth)]!
    }
    this.times = times
    this.costs = costs
    this.head = 0
  }
}

export const makeLog = (): Log => new Ring()
