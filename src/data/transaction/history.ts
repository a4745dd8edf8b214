// The bounded, redacted memory of what transactions did. Pure.
import * as Redaction from "../../security/Redaction.ts"
import type { Isolation } from "./demand.ts"

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
const maxText = 500
const maxRead = 4_000

// Quoted names, which stay; strings (also unfinished ones), escaped strings, dollar quotes, comments, numbers that are not part of a name or `$1`.
const literals =
  /"(?:[^"]|"")*"|[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|\$([A-Za-z_]\w*)?\$[\s\S]*?(?:\$\1\$|$)|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|(?<![\w$."])[0-9][\w.]*/g

const strip = (sql: string): string => {
  const bare = sql.slice(0, maxRead).replace(literals, (found) => {
    if (found.startsWith("\"")) return found
    return /^(?:--|\/\*)/.test(found) ? "" : "?"
  }).replace(/\s+/g, " ").trim()
  return bare.length <= maxText ? bare : `${bare.slice(0, maxText - 1)}…`
}

// Programs have few statements and run them often.
const maxKnown = 1_000
const known = new Map<string, string>()

/** A statement as it may be shown: its shape, without values. */
export const shape = (sql: string): string => {
  const found = known.get(sql)
  if (found !== undefined) return found
  const text = strip(sql)
  // A text with values in it is hardly seen twice, and a long one is not worth its memory.
  if (sql.length <= maxRead) {
    if (known.size === maxKnown) known.clear()
    known.set(sql, text)
  }
  return text
}

export class History {
  private readonly capacity: number
  private readonly entries: Array<Entry> = []
  private next = 1

  constructor(capacity: number) {
    this.capacity = capacity
  }
  add(entry: Omit<Entry, "id">): void {
    const id = this.next++
    if (this.capacity === 0) return
    if (this.entries.length === this.capacity) this.entries.shift()
    this.entries.push({ id, ...entry })
  }
  /** Oldest first. Secrets that are known by now are taken out. */
  read(): ReadonlyArray<Entry> {
    return this.entries.map((entry) => ({
      ...entry,
      operations: entry.operations.map((operation) => ({ ...operation, text: Redaction.text(operation.text) }))
    }))
  }
  clear(): void {
    this.entries.length = 0
  }
}
