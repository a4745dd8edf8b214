// The bounded, redacted memory of what transactions did. Pure.
import * as Redaction from "../../security/Redaction.ts"
import { shape } from "../internal/sqlText.ts"
import type { Isolation } from "./demand.ts"

export { shape }

/**
 * One statement of a transaction.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operation {
  /** The statement without any value: parameters are left out, literals read `?`. At most 500 characters. */
  readonly text: string
  /** Milliseconds. */
  readonly duration: number
  /** SQLSTATE, or tag of the error, when it failed; `interrupted` when it was given up on. */
  readonly failure: string | undefined
}

/**
 * One transaction that has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  /** Counts from 1, over the life of the log. */
  readonly id: number
  readonly name: string
  /** Unix milliseconds. */
  readonly startedAt: number
  /** Milliseconds from the call to the outcome: waiting for connections and between tries included. */
  readonly duration: number
  readonly outcome: "committed" | "rolledBack" | "unknown"
  /** Tries, the first included. */
  readonly attempts: number
  readonly isolation: Isolation
  readonly readOnly: boolean
  /** SQLSTATE or tag of what it failed with; never a message. */
  readonly failure: string | undefined
  /** SQLSTATE or tag of what each repeated try failed with; the last 16. */
  readonly retried: ReadonlyArray<string>
  /** True when `verify` settled the outcome of the last try. */
  readonly verified: boolean
  /** The statements of the last try, begin and end included; the first 50. */
  readonly operations: ReadonlyArray<Operation>
  /** Statements that were left out. */
  readonly omitted: number
}

export const maxOperations = 50
const maxRaw = 2_000

/** What is kept of a statement until somebody reads it: few entries are, so the work of taking values out waits. */
export const raw = (sql: string): string => sql.length <= maxRaw ? sql : shape(sql)

export class History {
  private readonly capacity: number
  private entries: Array<Omit<Entry, "id">> = []
  private oldest = 0
  private added = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }
  /** The texts of operations as they are: values are taken out when they are read. */
  add(entry: Omit<Entry, "id">): void {
    this.added++
    if (this.entries.length < this.capacity) this.entries.push(entry)
    else if (this.capacity > 0) {
      this.entries[this.oldest] = entry
      this.oldest = (this.oldest + 1) % this.capacity
    }
  }
  /** Oldest first. Values, and secrets that are known by now, are taken out. */
  read(): ReadonlyArray<Entry> {
    const { added, entries, oldest } = this
    const kept = entries.length
    return entries.map((_, index) => {
      const entry = entries[(oldest + index) % kept]!
      return {
        id: added - kept + index + 1,
        ...entry,
        operations: entry.operations.map((operation) => ({ ...operation, text: Redaction.text(shape(operation.text)) }))
      }
    })
  }
  clear(): void {
    this.entries = []
    this.oldest = 0
  }
}
