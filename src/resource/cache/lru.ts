// A bounded map that forgets what was used least recently and what has expired. Plain functions; the time is an argument,
// as a function of monotonic milliseconds where reading the clock costs and is most often not needed.
//
// Entries form a ring in the order of use. The usual trick, to delete a key from a `Map` and set it again, is not O(1) in
// V8: the holes that it leaves stay in the key's bucket, and a key that is read often becomes slow to find.

interface Links<A> {
  older: Links<A>
  newer: Links<A>
}

export interface Entry<A> extends Links<A> {
  readonly key: string
  value: A
  /** Monotonic milliseconds at which the entry is gone; `Infinity` for never. */
  expires: number
}

export interface Lru<A> {
  readonly max: number
  readonly entries: Map<string, Entry<A>>
  /** Where the ring begins and ends: the newest entry is older than it, the oldest newer. */
  readonly ends: Links<A>
  /** How many entries had to go for want of room. */
  evicted: number
}

const ring = <A>(): Links<A> => {
  const self = {} as Links<A>
  self.older = self
  self.newer = self
  return self
}

export const make = <A>(max: number): Lru<A> => ({ max, entries: new Map(), ends: ring(), evicted: 0 })

const unlink = <A>(entry: Links<A>): void => {
  entry.older.newer = entry.newer
  entry.newer.older = entry.older
}

const makeNewest = <A>(self: Lru<A>, entry: Links<A>): void => {
  entry.older = self.ends.older
  entry.newer = self.ends
  entry.older.newer = entry
  self.ends.older = entry
}

const drop = <A>(self: Lru<A>, entry: Entry<A>): void => {
  unlink(entry)
  self.entries.delete(entry.key)
}

const isOver = <A>(entry: Entry<A>, now: () => number): boolean => entry.expires !== Infinity && entry.expires <= now()

/** The living entry, now the most recently used. */
export const get = <A>(self: Lru<A>, key: string, now: () => number): Entry<A> | undefined => {
  const entry = self.entries.get(key)
  if (entry === undefined) return undefined
  if (isOver(entry, now)) {
    drop(self, entry)
    return undefined
  }
  if (self.ends.older !== entry) {
    unlink(entry)
    makeNewest(self, entry)
  }
  return entry
}

/** Whether there is a living entry; does not count as use. */
export const has = <A>(self: Lru<A>, key: string, now: () => number): boolean => {
  const entry = self.entries.get(key)
  if (entry === undefined) return false
  if (!isOver(entry, now)) return true
  drop(self, entry)
  return false
}

/** Puts an entry in; when there are too many, the least recently used goes, expired or not. */
export const set = <A>(self: Lru<A>, key: string, value: A, expires: number): void => {
  const known = self.entries.get(key)
  if (known !== undefined) {
    known.value = value
    known.expires = expires
    unlink(known)
    makeNewest(self, known)
    return
  }
  if (self.entries.size >= self.max) {
    // There is at least one, so the end of the ring is an entry.
    drop(self, self.ends.newer as Entry<A>)
    self.evicted++
  }
  const entry: Entry<A> = { key, value, expires, older: self.ends, newer: self.ends }
  self.entries.set(key, entry)
  makeNewest(self, entry)
}

/** Whether a living entry was removed. */
export const remove = <A>(self: Lru<A>, key: string, now: () => number): boolean => {
  const entry = self.entries.get(key)
  if (entry === undefined) return false
  drop(self, entry)
  return !isOver(entry, now)
}

/** Removes all keys that start with `prefix`; gives how many were alive. O(entries). */
export const clear = <A>(self: Lru<A>, prefix: string, now: number): number => {
  let removed = 0
  for (const [key, entry] of self.entries) {
    if (!key.startsWith(prefix)) continue
    drop(self, entry)
    if (entry.expires > now) removed++
  }
  return removed
}

/** All keys, the least recently used first. O(entries). */
export const keys = <A>(self: Lru<A>): ReadonlyArray<string> => {
  const out: Array<string> = []
  for (let at = self.ends.newer; at !== self.ends; at = at.newer) out.push((at as Entry<A>).key)
  return out
}
