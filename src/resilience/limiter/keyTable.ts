import type { Rows } from "./rows.ts"

const SAMPLE = 8

/**
 * Which key has which row: bounded, without timers, O(1) a call.
 *
 * A row that is as good as new need not be kept. Each new key looks at two rows and frees those, as a hand goes round.
 * When all `maxKeys` rows still count, the one that would be free soonest of a few is given up: that key starts afresh.
 */
export class KeyTable {
  readonly maxKeys: number
  private readonly rows: Rows
  private readonly rowOf = new Map<string, number>()
  // By row. A freed row has no key and stands in `free`.
  private readonly keys: Array<string | undefined> = []
  private readonly free: Array<number> = []
  private room: number
  private hand = 0

  constructor(rows: Rows, room: number, maxKeys: number) {
    this.rows = rows
    this.room = room
    this.maxKeys = maxKeys
  }

  get size(): number {
    return this.rowOf.size
  }

  find(key: string): number | undefined {
    return this.rowOf.get(key)
  }

  /** The row of a key, a new one if it has none. */
  use(key: string, now: number): number {
    return this.rowOf.get(key) ?? this.add(key, now)
  }

  private add(key: string, now: number): number {
    this.sweep(now)
    const row = this.free.pop() ?? (this.keys.length < this.maxKeys ? this.append() : this.giveUp(now))
    this.keys[row] = key
    this.rowOf.set(key, row)
    return row
  }

  private sweep(now: number): void {
    for (let n = 0; n < 2 && this.keys.length > 0; n++) {
      const row = this.nextRow()
      if (this.keys[row] !== undefined && this.rows.reset(row, now) <= 0) {
        this.drop(row)
        this.free.push(row)
      }
    }
  }

  private nextRow(): number {
    const row = this.hand < this.keys.length ? this.hand : 0
    this.hand = row + 1
    return row
  }

  private append(): number {
    const row = this.keys.length
    if (row === this.room) {
      this.room = Math.min(this.room * 2, this.maxKeys)
      this.rows.grow(this.room)
    }
    this.keys.push(undefined)
    return row
  }

  private giveUp(now: number): number {
    let chosen = this.nextRow()
    let soonest = this.rows.reset(chosen, now)
    for (let n = 1; n < SAMPLE; n++) {
      const row = this.nextRow()
      const reset = this.rows.reset(row, now)
      if (reset < soonest) {
        chosen = row
        soonest = reset
      }
    }
    this.drop(chosen)
    return chosen
  }

  private drop(row: number): void {
    this.rowOf.delete(this.keys[row]!)
    this.keys[row] = undefined
    this.rows.clear(row)
  }
}
