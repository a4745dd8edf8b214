// A bounded map that forgets what was used least recently and what has expired. Plain functions; the time is an argument
// (monotonic milliseconds) and may be a number or, where reading the clock costs, a function asked only when it matters.
//
// A JavaScript `Map` remembers the order of insertion, so "delete and set again" makes an entry the youngest in O(1).

export interface Entry<A> {
  readonly value: A
  /** Monotonic milliseconds at which the entry is gone; `Infinity` for never. */
  readonly expires: number
}

export interface Lru<A> {
  readonly max: number
  readonly entries: Map<string, Entry<A>>
  /** How many entries had to go although they had not expired. */
  evicted: number
}

export const make = <A>(max: number): Lru<A> => ({ max, entries: new Map(), evicted: 0 })

/** The living entry, now the most recently used. */
export const get = <A>(self: Lru<A>, key: string, now: () => number): Entry<A> | undefined => {
  const entry = self.entries.get(key)
  if (entry === undefined) return undefined
  self.entries.delete(key)
  if (entry.expires !== Infinity && entry.expires <= now()) return undefined
  self.entries.set(key, entry)
  return entry
}

/** Whether there is a living entry; does not count as use. */
export const has = <A>(self: Lru<A>, key: string, now: () => number): boolean => {
  const entry = self.entries.get(key)
  if (entry === undefined) return false
  if (entry.expires === Infinity || entry.expires > now()) return true
  self.entries.delete(key)
  return false
}

/** Puts an entry in; when there are too many, the least recently used goes, expired or not. */
export const set = <A>(self: Lru<A>, key: string, value: A, expires: number): void => {
  if (!self.entries.delete(key) && self.entries.size >= self.max) {
    for (const oldest of self.entries.keys()) {
      self.entries.delete(oldest)
      break
    }
    self.evicted++
  }
  self.entries.set(key, { value, expires })
}

/** Whether a living entry was removed. */
export const remove = <A>(self: Lru<A>, key: string, now: () => number): boolean => {
  const entry = self.entries.get(key)
  if (entry === undefined) return false
  self.entries.delete(key)
  return entry.expires === Infinity || entry.expires > now()
}

/** Removes all keys that start with `prefix`; gives how many were alive. O(entries), unless the prefix is empty. */
export const clear = <A>(self: Lru<A>, prefix: string, now: number): number => {
  let removed = 0
  for (const [key, entry] of self.entries) {
    if (!key.startsWith(prefix)) continue
    self.entries.delete(key)
    if (entry.expires > now) removed++
  }
  return removed
}
