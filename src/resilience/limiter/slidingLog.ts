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
  // Time and cost of each entry, in turn: one plain array takes a third of the memory of two typed ones.
  private cells: Array<number> = [0, 0, 0, 0]
  private head = 0
  private length = 0
  private sum = 0

  // Where the nth entry after the oldest is. The number of entries that fit is a power of two.
  private cell(nth: number): number {
    return ((this.head + nth) * 2) & (this.cells.length - 1)
  }

  private time(nth: number): number {
    return this.cells[this.cell(nth)]!
  }

  private cost(nth: number): number {
    return this.cells[this.cell(nth) + 1]!
  }

  private set(nth: number, time: number, cost: number): void {
    const cell = this.cell(nth)
    this.cells[cell] = time
    this.cells[cell + 1] = cost
  }

  // What has gone out of the window counts for nobody: to drop it is no change of state that a caller could see.
  private drop(w: Window, now: number): void {
    while (this.length > 0 && this.time(0) + w.windowMicros <= now) {
      this.sum -= this.cost(0)
      this.head = (this.head + 1) & (this.cells.length / 2 - 1)
      this.length--
    }
  }

  wait(w: Window, now: number, cost: number): number {
    this.drop(w, now)
    let missing = this.sum + cost - w.limit
    if (missing <= 0) return 0
    let nth = 0
    while ((missing -= this.cost(nth)) > 0) nth++
    return this.time(nth) + w.windowMicros - now
  }

  take(w: Window, now: number, cost: number): void {
    this.drop(w, now)
    this.sum += cost
    const last = this.length - 1
    // One entry a moment; and a clock that went back must not put the log out of order.
    if (last >= 0 && this.time(last) >= now) return this.set(last, this.time(last), this.cost(last) + cost)
    if (this.length * 2 === this.cells.length) this.double()
    this.set(this.length++, now, cost)
  }

  refund(cost: number, takenAt: number): void {
    let low = 0
    let high = this.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.time(middle) < takenAt) low = middle + 1
      else high = middle
    }
    if (low === this.length || this.time(low) !== takenAt) return
    const returned = Math.min(cost, this.cost(low))
    this.set(low, takenAt, this.cost(low) - returned)
    this.sum -= returned
    // The last entry tells when all is there again: it has to be one that counts.
    while (this.length > 0 && this.cost(this.length - 1) === 0) this.length--
  }

  used(w: Window, now: number): number {
    this.drop(w, now)
    return this.sum
  }

  reset(w: Window, now: number): number {
    this.drop(w, now)
    return this.length === 0 ? 0 : this.time(this.length - 1) + w.windowMicros - now
  }

  private double(): void {
    const cells: Array<number> = []
    for (let nth = 0; nth < this.length; nth++) cells.push(this.time(nth), this.cost(nth))
    for (let nth = 0; nth < this.length; nth++) cells.push(0, 0)
    this.cells = cells
    this.head = 0
  }
}

export const makeLog = (): Log => new Ring()
