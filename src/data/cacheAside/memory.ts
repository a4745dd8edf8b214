// A bounded map of entries with an index of their tags. Plain functions.
//
// What goes when it is full is chosen by "second chance" (the one-bit form of CLOCK: Corbató, *A Paging Experiment with
// the Multics System*, 1968): close to least-recently-used, and a hit sets one bit instead of moving the entry.
import type { Entry } from "./entry.ts"

export interface Memory<A, E> {
  readonly capacity: number
  /** Oldest first. */
  readonly entries: Map<string, Entry<A, E>>
  readonly tagged: Map<string, Set<string>>
  evicted: number
}

export const make = <A, E>(capacity: number): Memory<A, E> => ({
  capacity,
  entries: new Map(),
  tagged: new Map(),
  evicted: 0
})

const unindex = <A, E>(self: Memory<A, E>, key: string, entry: Entry<A, E>): void => {
  for (const tag of entry.tags) {
    const keys = self.tagged.get(tag)
    if (keys === undefined) continue
    keys.delete(key)
    if (keys.size === 0) self.tagged.delete(tag)
  }
}

export const remove = <A, E>(self: Memory<A, E>, key: string): void => {
  const entry = self.entries.get(key)
  if (entry === undefined) return
  self.entries.delete(key)
  unindex(self, key, entry)
}

const evictOne = <A, E>(self: Memory<A, E>): void => {
  for (const [key, entry] of self.entries) {
    if (entry.used) {
      entry.used = false
      self.entries.delete(key)
      self.entries.set(key, entry)
      continue
    }
    remove(self, key)
    self.evicted++
    return
  }
}

export const put = <A, E>(self: Memory<A, E>, key: string, entry: Entry<A, E>): void => {
  remove(self, key)
  if (self.entries.size >= self.capacity) evictOne(self)
  self.entries.set(key, entry)
  for (const tag of entry.tags) {
    const keys = self.tagged.get(tag)
    if (keys === undefined) self.tagged.set(tag, new Set([key]))
    else keys.add(key)
  }
}

export const removeTag = <A, E>(self: Memory<A, E>, tag: string): void => {
  for (const key of [...self.tagged.get(tag) ?? []]) remove(self, key)
}

/** O(entries). */
export const removePrefix = <A, E>(self: Memory<A, E>, prefix: string): void => {
  for (const key of self.entries.keys()) if (key.startsWith(prefix)) remove(self, key)
}

export const clear = <A, E>(self: Memory<A, E>): void => {
  self.entries.clear()
  self.tagged.clear()
}
