// What one request asks for again and again. Pure, but for the reference that carries the tally.
import * as Context from "effect/Context"
import * as Redaction from "../../security/Redaction.ts"

/**
 * A query that requests run again and again: most often one for each row of another query (N+1).
 *
 * @category models
 * @since 0.1.0
 */
export interface Repeated {
  /** Name of the request. */
  readonly request: string
  /** The query without any value. */
  readonly text: string
  /** Requests that repeated it. */
  readonly requests: number
  /** Most runs within one request. */
  readonly most: number
  /** Runs in all these requests. */
  readonly runs: number
  /** Milliseconds that these runs took in all. */
  readonly total: number
  /** Unix milliseconds. */
  readonly lastAt: number
  /** Who ran it first, in the request that repeated it last: transaction, named functions and spans, innermost first. */
  readonly caller: string
}

interface Runs {
  count: number
  total: number
  readonly caller: string
}

/** Different queries that are counted within one request. */
export const maxShapes = 100
const maxName = 100

/** The queries of one request that is under way. */
export class Tally {
  readonly name: string
  readonly owner: Repeats
  readonly outer: Tally | undefined
  readonly runs = new Map<string, Runs>()
  ended = false

  constructor(name: string, owner: Repeats, outer: Tally | undefined) {
    this.name = name.slice(0, maxName)
    this.owner = owner
    this.outer = outer
  }

  /** This or the innermost around it that counts for `owner` and is under way. */
  of(owner: Repeats): Tally | undefined {
    return this.owner === owner && !this.ended ? this : this.outer?.of(owner)
  }

  /** `caller` is only asked for the first of a kind. */
  add(text: string, duration: number, caller: () => string): void {
    this.fold(text, 1, duration, caller)
  }

  private fold(text: string, count: number, total: number, caller: () => string): void {
    const known = this.runs.get(text)
    if (known !== undefined) {
      known.count += count
      known.total += total
    } else if (this.runs.size < maxShapes) {
      this.runs.set(text, { count, total, caller: caller() })
    } else {
      this.owner.dropped += count
    }
  }

  /**
   * What it repeated is written down. The rest counts for the request around it, so that a loop over small requests is
   * seen as well, and nothing is told twice.
   */
  end(at: number): void {
    if (this.ended) return
    this.ended = true
    this.owner.underWay--
    const outer = this.outer?.of(this.owner)
    for (const [text, runs] of this.runs) {
      if (runs.count >= this.owner.repeatedAt) this.owner.add(this.name, text, runs, at)
      else outer?.fold(text, runs.count, runs.total, () => runs.caller)
    }
    this.runs.clear()
  }
}

interface Entry {
  readonly request: string
  readonly text: string
  requests: number
  most: number
  runs: number
  total: number
  lastAt: number
  caller: string
}

/** What requests repeated; the one that was not repeated for longest goes first. */
export class Repeats {
  readonly repeatedAt: number
  private readonly capacity: number
  private readonly entries = new Map<string, Entry>()
  /** Told of each query that a request repeated. */
  onRepeated: ((repeated: Repeated) => void) | undefined
  /** Times that a request repeated a query. */
  found = 0
  /** Findings that were pushed out, and runs that were not counted. */
  dropped = 0
  /** Requests that have not ended. One too many, left by an interruption before its work began, costs only speed. */
  underWay = 0

  constructor(repeatedAt: number, capacity: number) {
    this.repeatedAt = repeatedAt
    this.capacity = capacity
  }

  open(name: string, outer: Tally | undefined): Tally {
    this.underWay++
    return new Tally(name, this, outer)
  }

  add(request: string, text: string, runs: { count: number; total: number; caller: string }, at: number): void {
    const key = `${request}\n${text}`
    const known = this.entries.get(key)
    const entry = known ?? { request, text, requests: 0, most: 0, runs: 0, total: 0, lastAt: at, caller: runs.caller }
    if (known !== undefined) this.entries.delete(key)
    else if (this.entries.size === this.capacity) {
      this.entries.delete(this.entries.keys().next().value!)
      this.dropped++
    }
    this.entries.set(key, entry)
    this.found++
    entry.requests++
    entry.most = Math.max(entry.most, runs.count)
    entry.runs += runs.count
    entry.total += runs.total
    entry.lastAt = at
    entry.caller = runs.caller
    this.onRepeated?.(show(entry))
  }

  /** Those with most runs in one request first. */
  read(): ReadonlyArray<Repeated> {
    return Array.from(this.entries.values(), show).sort((one, other) => other.most - one.most)
  }

  clear(): void {
    this.entries.clear()
  }
}

const show = (entry: Entry): Repeated => ({
  ...entry,
  request: Redaction.text(entry.request),
  text: Redaction.text(entry.text),
  caller: Redaction.text(entry.caller)
})

export const CurrentRequest: Context.Reference<Tally | undefined> = Context.Reference<Tally | undefined>(
  "seaworthy/QueryInsights/Request",
  { defaultValue: () => undefined }
)
