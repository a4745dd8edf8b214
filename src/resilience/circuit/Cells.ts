/**
 * Where circuits are kept: one in a `Ref`, or one a key in bounded memory.
 */
import * as MutableRef from "effect/MutableRef"
import * as Ref from "effect/Ref"
import type { Closed } from "./Circuit.ts"
import { type Circuit, fresh } from "./Circuit.ts"
import type { TripRule } from "./TripRule.ts"

/** Stands for a time that was not read: what is idle then stays a little longer. */
export const unknownTime = Number.NEGATIVE_INFINITY

/** Reads and writes the circuit of a key. */
export interface Cells {
  /** Stands for every key that is not stored. It is shared: a circuit has to be stored before it counts a call. */
  readonly unstored: Closed | undefined
  /** `now` may be `unknownTime`, because the clock costs as much as the rest of a call. */
  readonly get: (key: string, now: number) => Circuit
  /** Reads without counting as use. */
  readonly peek: (key: string, now: number) => Circuit
  readonly set: (key: string, circuit: Circuit, now: number) => void
  readonly size: number
  readonly entries: (now: number) => Iterable<readonly [string, Circuit]>
}

/** One circuit. */
export class SingleCell implements Cells {
  readonly unstored = undefined
  readonly size = 1
  private readonly ref: Ref.Ref<Circuit>

  constructor(rule: TripRule) {
    this.ref = Ref.makeUnsafe<Circuit>(fresh(rule, 0))
  }

  get(): Circuit {
    return this.ref.ref.current
  }

  peek(): Circuit {
    return this.ref.ref.current
  }

  set(_key: string, circuit: Circuit): void {
    MutableRef.set(this.ref.ref, circuit)
  }

  entries(): Iterable<readonly [string, Circuit]> {
    return [["", this.get()]]
  }
}

/**
 * One circuit a key, in two generations: a used key moves to the young one, and when that is full or an idle time has
 * passed, the young one becomes the old one and what was old is forgotten. A key is forgotten after one to two idle
 * times, with neither a timer nor a time stamp a key. What must not be forgotten yet (open, probed, or held by an
 * operator) is carried over. Algorithm: "hashlru" of Dominic Tarr.
 */
export class KeyedCells implements Cells {
  readonly unstored: Closed
  private readonly half: number
  private readonly idleMillis: number
  private young = new Map<string, Circuit>()
  private old = new Map<string, Circuit>()
  /** Keys whose circuit is not closed, in the order in which they came to be so. */
  private readonly notClosed = new Set<string>()
  /** When the generations last turned; NaN when that was at an unknown time. */
  private turnedAt = Number.NaN

  constructor(rule: TripRule, maxKeys: number, idleMillis: number) {
    this.unstored = fresh(rule, 0)
    this.half = Math.max(1, Math.floor(maxKeys / 2))
    this.idleMillis = idleMillis
  }

  get size(): number {
    return this.young.size + this.old.size
  }

  get(key: string, now: number): Circuit {
    this.turnWhenIdle(now)
    const young = this.young.get(key)
    if (young !== undefined) return young
    const old = this.old.get(key)
    if (old === undefined) return this.unstored
    this.old.delete(key)
    this.insert(key, old, now)
    return old
  }

  peek(key: string, now: number): Circuit {
    this.turnWhenIdle(now)
    return this.young.get(key) ?? this.old.get(key) ?? this.unstored
  }

  set(key: string, circuit: Circuit, now: number): void {
    this.turnWhenIdle(now)
    if (circuit._tag === "Closed") this.notClosed.delete(key)
    else this.notClosed.add(key)
    this.old.delete(key)
    this.insert(key, circuit, now)
  }

  *entries(now: number): Iterable<readonly [string, Circuit]> {
    this.turnWhenIdle(now)
    yield* this.old
    yield* this.young
  }

  private insert(key: string, circuit: Circuit, now: number): void {
    if (this.young.size >= this.half && !this.young.has(key)) this.turn(now)
    this.young.set(key, circuit)
  }

  private turnWhenIdle(now: number): void {
    if (now === unknownTime) return
    if (Number.isNaN(this.turnedAt)) this.turnedAt = now
    if (now - this.turnedAt < this.idleMillis) return
    const twice = now - this.turnedAt >= 2 * this.idleMillis
    this.turn(now)
    if (twice) this.turn(now)
  }

  private turn(now: number): void {
    const forgotten = this.old
    this.old = this.young
    this.young = new Map()
    this.turnedAt = now === unknownTime ? Number.NaN : now
    // At most half a generation is carried over, the latest ones, or every new key would make the generations turn.
    let surplus = this.notClosed.size - Math.floor(this.half / 2)
    for (const key of this.notClosed) {
      const circuit = forgotten.get(key)
      const mayGo = surplus-- > 0 && circuit?._tag !== "Manual"
      if (circuit !== undefined) {
        if (!mayGo && this.isNeeded(circuit, now)) this.young.set(key, circuit)
        else this.notClosed.delete(key)
      }
    }
  }

  private isNeeded(circuit: Circuit, now: number): boolean {
    switch (circuit._tag) {
      case "Manual":
        return true
      case "Open":
        return now < circuit.until + this.idleMillis
      case "HalfOpen":
        for (const probe of circuit.probes) if (now < probe.expires) return true
        return false
      case "Closed":
        return false
    }
  }
}
