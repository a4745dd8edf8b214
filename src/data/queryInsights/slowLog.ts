// The slow statements: grouped by their text without values, bounded, the one that was not slow for longest goes first.
// Pure.
import * as Quantile from "../../observability/Quantile.ts"
import * as Redaction from "../../security/Redaction.ts"
import type { PlanFacts } from "./plan.ts"

/**
 * A statement that was slow, over all the times that it was slow.
 *
 * @category models
 * @since 0.1.0
 */
export interface SlowStatement {
  /** The statement without any value: literals read `?`, lists `(...)`. At most 500 characters. */
  readonly text: string
  /** How many times it was slow. */
  readonly count: number
  /** Of these: how many failed or were interrupted. */
  readonly failures: number
  /** Milliseconds, as all that follow. Waiting for a connection is not included. */
  readonly total: number
  readonly mean: number
  readonly max: number
  /** Within 10 %. */
  readonly p95: number
  /** Unix milliseconds. */
  readonly firstAt: number
  /** Unix milliseconds. */
  readonly lastAt: number
  /** What kind of thing each parameter of the slowest run was: `text(12)`, `int`, `uuid`, `null`. The first 20. */
  readonly parameters: ReadonlyArray<string>
  /** Who asked, most often first: transaction, named functions and spans around it, innermost first. At most 5. */
  readonly callers: ReadonlyArray<Caller>
  /** Its plan in short, without any value, when it was explained. At most 40 lines. */
  readonly plan: ReadonlyArray<string> | undefined
  /** Unix milliseconds. */
  readonly explainedAt: number | undefined
}

/**
 * Who ran a statement.
 *
 * @category models
 * @since 0.1.0
 */
export interface Caller {
  readonly by: string
  readonly count: number
}

/** What is known of one slow statement. */
export interface Entry {
  readonly text: string
  readonly firstAt: number
  readonly latency: Quantile.Histogram
  readonly callers: Map<string, number>
  failures: number
  lastAt: number
  parameters: ReadonlyArray<string>
  /** It skipped many rows with OFFSET. */
  skips: boolean
  /** Monotonic milliseconds until which it is not explained again. */
  explainAfter: number
  plan: { readonly facts: PlanFacts; readonly at: number } | undefined
}

export interface Run {
  readonly text: string
  readonly duration: number
  readonly failed: boolean
  /** Unix milliseconds. */
  readonly at: number
  readonly caller: string
  readonly parameters: ReadonlyArray<string>
  readonly skips: boolean
}

const maxCallers = 5
// 600 bytes: a few buckets a decade are enough to tell a second from a minute.
const buckets = { relativeError: 0.1, min: 1, max: 3_600_000 }

export class SlowLog {
  private readonly capacity: number
  private readonly entries = new Map<string, Entry>()
  /** Statements that were pushed out. */
  evicted = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  add(run: Run): Entry {
    const known = this.entries.get(run.text)
    const entry: Entry = known ?? {
      text: run.text,
      firstAt: run.at,
      latency: Quantile.make(buckets),
      callers: new Map(),
      failures: 0,
      lastAt: run.at,
      parameters: run.parameters,
      skips: false,
      explainAfter: -Infinity,
      plan: undefined
    }
    // A Map keeps the order of insertion: the last one is the one that was slow last.
    if (known !== undefined) this.entries.delete(run.text)
    else if (this.entries.size === this.capacity) {
      this.entries.delete(this.entries.keys().next().value!)
      this.evicted++
    }
    this.entries.set(run.text, entry)
    if (run.duration > entry.latency.max) entry.parameters = run.parameters
    Quantile.record(entry.latency, run.duration)
    entry.lastAt = run.at
    if (run.failed) entry.failures++
    if (run.skips) entry.skips = true
    const times = entry.callers.get(run.caller)
    if (times !== undefined || entry.callers.size < maxCallers) entry.callers.set(run.caller, (times ?? 0) + 1)
    return entry
  }

  /** Those that took most time in all come first. */
  read(): ReadonlyArray<Entry> {
    return Array.from(this.entries.values()).sort((one, other) => other.latency.sum - one.latency.sum)
  }

  has(entry: Entry): boolean {
    return this.entries.get(entry.text) === entry
  }

  clear(): void {
    this.entries.clear()
  }
}

/** As it may be shown. Secrets that are known by now are taken out. */
export const show = (entry: Entry): SlowStatement => ({
  text: Redaction.text(entry.text),
  count: entry.latency.count,
  failures: entry.failures,
  total: entry.latency.sum,
  mean: Quantile.mean(entry.latency) ?? 0,
  max: entry.latency.max,
  p95: Quantile.quantile(entry.latency, 0.95) ?? 0,
  firstAt: entry.firstAt,
  lastAt: entry.lastAt,
  parameters: entry.parameters,
  callers: Array.from(entry.callers, ([by, count]) => ({ by: Redaction.text(by), count }))
    .sort((one, other) => other.count - one.count),
  plan: entry.plan?.facts.outline.map(Redaction.text),
  explainedAt: entry.plan?.at
})
