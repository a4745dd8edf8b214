// A bounded table of entries with an index of their tags.
//
// What a hit looks at lies in arrays of its own, so that it touches little memory: with many keys, waiting for memory is
// most of what a hit costs.
//
// What goes when it is full is chosen by CLOCK (Corbató, *A Paging Experiment with the Multics System*, 1968): close to
// least-recently-used, and a hit sets one bit instead of moving the entry.
import type * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import type { Entry } from "./entry.ts"

/** It was read since the hand last passed. */
export const used = 1
/** It says that there is no value, or is a failure. */
export const negative = 2

const firstRoom = 64

export class Memory<A, E> {
  readonly capacity: number
  readonly slots = new Map<string, number>()
  /** By slot: before this, in monotonic milliseconds, a hit is a hit and nothing else. */
  quiet: Float64Array
  /** By slot: `used` and `negative`. */
  flags: Uint8Array
  /** By slot: what a caller gets. */
  readonly exits: Array<Exit.Exit<Option.Option<A>, E> | undefined> = []
  evicted = 0
  readonly #entries: Array<Entry<A, E> | undefined> = []
  readonly #keys: Array<string | undefined> = []
  readonly #free: Array<number> = []
  readonly tagged = new Map<string, Set<string>>()
  #hand = 0

  constructor(capacity: number) {
    this.capacity = capacity
    this.quiet = new Float64Array(Math.min(capacity, firstRoom))
    this.flags = new Uint8Array(Math.min(capacity, firstRoom))
  }

  get size(): number {
    return this.slots.size
  }

  get(key: string): Entry<A, E> | undefined {
    const slot = this.slots.get(key)
    return slot === undefined ? undefined : this.#entries[slot]
  }

  /** It was read. */
  touch(key: string): void {
    const slot = this.slots.get(key)
    if (slot !== undefined) this.flags[slot]! |= used
  }

  put(key: string, entry: Entry<A, E>): void {
    const known = this.slots.get(key)
    const slot = known ?? this.#room()
    if (known === undefined) this.slots.set(key, slot)
    else this.#unindex(key, this.#entries[slot]!)
    this.quiet[slot] = entry.quietUntil
    this.flags[slot] = (known === undefined ? 0 : this.flags[slot]! & used) | (entry.kind === "value" ? 0 : negative)
    this.exits[slot] = entry.exit
    this.#entries[slot] = entry
    this.#keys[slot] = key
    for (const tag of entry.tags) {
      const keys = this.tagged.get(tag)
      if (keys === undefined) this.tagged.set(tag, new Set([key]))
      else keys.add(key)
    }
  }

  remove(key: string): void {
    const slot = this.slots.get(key)
    if (slot === undefined) return
    this.#empty(key, slot)
    this.#free.push(slot)
  }

  removeTag(tag: string): void {
    for (const key of [...this.tagged.get(tag) ?? []]) this.remove(key)
  }

  /** O(entries). */
  removePrefix(prefix: string): void {
    for (const key of this.slots.keys()) if (key.startsWith(prefix)) this.remove(key)
  }

  clear(): void {
    this.slots.clear()
    this.tagged.clear()
    for (const all of [this.exits, this.#entries, this.#keys, this.#free]) all.length = 0
    this.#hand = 0
  }

  /** No hit is only a hit any more: each entry is looked at before it is served. O(entries). */
  disturb(): void {
    this.quiet.fill(-Infinity)
  }

  /** A slot that nobody uses: one given back, a new one, or that of an entry that has to go. */
  #room(): number {
    const free = this.#free.pop()
    if (free !== undefined) return free
    const next = this.exits.length
    if (next >= this.capacity) return this.#evict()
    if (next === this.quiet.length) this.#grow(Math.min(this.capacity, 2 * next))
    // The lists grow without holes.
    this.exits.push(undefined)
    this.#entries.push(undefined)
    this.#keys.push(undefined)
    return next
  }

  #grow(room: number): void {
    const { flags, quiet } = this
    this.quiet = new Float64Array(room)
    this.quiet.set(quiet)
    this.flags = new Uint8Array(room)
    this.flags.set(flags)
  }

  #evict(): number {
    for (;;) {
      const slot = this.#hand
      this.#hand = (slot + 1) % this.capacity
      if ((this.flags[slot]! & used) !== 0) {
        this.flags[slot]! &= ~used
        continue
      }
      this.#empty(this.#keys[slot]!, slot)
      this.evicted++
      return slot
    }
  }

  #empty(key: string, slot: number): void {
    this.slots.delete(key)
    this.#unindex(key, this.#entries[slot]!)
    this.exits[slot] = undefined
    this.#entries[slot] = undefined
    this.#keys[slot] = undefined
  }

  #unindex(key: string, entry: Entry<A, E>): void {
    for (const tag of entry.tags) {
      const keys = this.tagged.get(tag)
      if (keys === undefined) continue
      keys.delete(key)
      if (keys.size === 0) this.tagged.delete(tag)
    }
  }
}
