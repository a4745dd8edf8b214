/** One key's state, and its place among the idle ones. */
export interface Entry<S> {
  readonly key: string
  readonly state: S
  idleSince: number
  previous: Entry<S> | undefined
  next: Entry<S> | undefined
}

/**
 * One state a key, for states that are in use for a while: bounded, and without timers.
 *
 * Idle keys stand in a list, longest idle first. One that was idle for too long is dropped when any key is used; when
 * all places are taken, the longest idle one makes room. All in O(1). A key in use is never dropped.
 */
export class IdleKeys<S> {
  readonly maxKeys: number
  readonly idleMillis: number
  private readonly make: (key: string, onIdle: () => void) => S
  private readonly now: () => number
  private readonly entries = new Map<string, Entry<S>>()
  private head: Entry<S> | undefined = undefined
  private tail: Entry<S> | undefined = undefined

  constructor(options: {
    readonly maxKeys: number
    readonly idleMillis: number
    /** Makes the state of a key; it calls `onIdle` whenever it is no longer in use. */
    readonly make: (key: string, onIdle: () => void) => S
    readonly now: () => number
  }) {
    this.maxKeys = options.maxKeys
    this.idleMillis = options.idleMillis
    this.make = options.make
    this.now = options.now
  }

  get size(): number {
    return this.entries.size
  }

  states(): Iterable<Entry<S>> {
    return this.entries.values()
  }

  /** The state as it is, without using it. */
  peek(key: string): S | undefined {
    return this.entries.get(key)?.state
  }

  /** The state of a key, which the caller uses at once; `undefined` when every place is taken by a key in use. */
  use(key: string): S | undefined {
    const now = this.now()
    const found = this.entries.get(key)
    if (found !== undefined) {
      const expired = found.idleSince >= 0 && now - found.idleSince >= this.idleMillis
      this.unlink(found)
      if (!expired) {
        this.dropExpired(now)
        return found.state
      }
      this.entries.delete(key)
    }
    this.dropExpired(now)
    if (this.entries.size >= this.maxKeys) {
      if (this.head === undefined) return undefined
      this.drop(this.head)
    }
    const state = this.make(key, () => this.becameIdle(entry))
    const entry: Entry<S> = { key, state, idleSince: -1, previous: undefined, next: undefined }
    this.entries.set(key, entry)
    return state
  }

  private dropExpired(now: number): void {
    // Two for each use: the list shrinks while it is used, and no use pays for all that expired before.
    for (let n = 0; n < 2; n++) {
      const head = this.head
      if (head === undefined || now - head.idleSince < this.idleMillis) return
      this.drop(head)
    }
  }

  private drop(entry: Entry<S>): void {
    this.unlink(entry)
    this.entries.delete(entry.key)
  }

  private becameIdle(entry: Entry<S>): void {
    entry.idleSince = this.now()
    entry.previous = this.tail
    if (this.tail === undefined) this.head = entry
    else this.tail.next = entry
    this.tail = entry
  }

  private unlink(entry: Entry<S>): void {
    if (entry.idleSince < 0) return
    if (entry.previous === undefined) this.head = entry.next
    else entry.previous.next = entry.next
    if (entry.next === undefined) this.tail = entry.previous
    else entry.next.previous = entry.previous
    entry.idleSince = -1
    entry.previous = undefined
    entry.next = undefined
  }
}
