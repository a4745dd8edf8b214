// When a statement may be explained, and since when an index is known. Pure: times are monotonic milliseconds.

const minute = 60_000

/** At most one plan of a statement in a while, and so many a minute in all. */
export class Sampler {
  private readonly everyMillis: number
  private readonly perMinute: number
  /** Of the last admissions, oldest first. */
  private readonly admitted: Array<number> = []

  constructor(options: { readonly everyMillis: number; readonly perMinute: number }) {
    this.everyMillis = options.everyMillis
    this.perMinute = options.perMinute
  }

  admit(entry: { explainAfter: number }, now: number): boolean {
    if (now < entry.explainAfter) return false
    while (this.admitted.length > 0 && this.admitted[0]! <= now - minute) this.admitted.shift()
    if (this.admitted.length >= this.perMinute) return false
    this.admitted.push(now)
    entry.explainAfter = now + this.everyMillis
    return true
  }
}

/**
 * Since when each index is known to be there: one that was made a minute ago has not been used by many. Those of the first
 * look may be of any age.
 */
export class IndexAges {
  private seen: Map<number, number> | undefined

  /** All that there are now; others are forgotten. */
  see(oids: ReadonlyArray<number>, now: number): void {
    const before = this.seen
    this.seen = new Map(oids.map((oid) => [oid, before === undefined ? -Infinity : before.get(oid) ?? now]))
  }

  of(oid: number, now: number): number {
    const since = this.seen?.get(oid)
    return since === undefined ? 0 : now - since
  }
}
