// What a report says, and the words and numbers that all of it shares. Pure.

/**
 * What was found.
 *
 * - `InvalidIndex`: its build failed; it costs on every write and serves no query.
 * - `MissingIndex`: a slow statement reads a large table to find few rows.
 * - `RepeatedQuery`: one request runs one query again and again.
 * - `UnindexedForeignKey`: a large table refers to another without an index on what refers.
 * - `LeadingWildcard`: a slow statement looks for a LIKE pattern that begins with a wildcard.
 * - `LargeOffset`: a slow statement skips many rows with OFFSET.
 * - `SequentialScans`: a large table is mostly read as a whole.
 * - `DeadRows`: a table has more dead rows than VACUUM should leave.
 * - `StaleStatistics`: the planner guesses with old figures.
 * - `DuplicateIndex`: another index does the same and more.
 * - `UnusedIndex`: no query used it.
 *
 * @category models
 * @since 0.1.0
 */
export type Kind =
  | "InvalidIndex"
  | "MissingIndex"
  | "RepeatedQuery"
  | "UnindexedForeignKey"
  | "LeadingWildcard"
  | "LargeOffset"
  | "SequentialScans"
  | "DeadRows"
  | "StaleStatistics"
  | "DuplicateIndex"
  | "UnusedIndex"

/**
 * One finding, in plain words.
 *
 * @category models
 * @since 0.1.0
 */
export interface Finding {
  readonly kind: Kind
  /** The table or index, quoted as SQL needs it and with its schema; else the request or statement. */
  readonly subject: string
  /** What was seen, with the numbers. */
  readonly seen: string
  /** Why it matters. */
  readonly why: string
  /** What would help. */
  readonly advice: string
  /** The SQL that would help, to be run one by one by somebody who may; empty when there is none to copy. */
  readonly sql: ReadonlyArray<string>
  /** What to mind before. */
  readonly caution: string | undefined
  /** The statements that it is about, without values. At most 5. */
  readonly statements: ReadonlyArray<string>
}

export const plural = (count: number, word: string): string => {
  const many = word.endsWith("y") ? `${word.slice(0, -1)}ies` : word.endsWith("x") ? `${word}es` : `${word}s`
  return `${whole(count)} ${count === 1 ? word : many}`
}

/** With thousands separated. */
export const whole = (value: number): string => String(Math.round(value)).replace(/\B(?=(?:\d{3})+$)/g, ",")

export const size = (bytes: number): string => {
  const units = ["bytes", "kB", "MB", "GB", "TB"]
  let value = bytes
  let unit = 0
  for (; value >= 1_000 && unit < units.length - 1; unit++) value /= 1_000
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

export const duration = (millis: number): string =>
  millis < 1_000 ? `${millis < 10 ? millis.toFixed(1) : Math.round(millis)} ms` : `${(millis / 1_000).toFixed(1)} s`

export const time = (millis: number): string => new Date(millis).toISOString().replace(/\.\d+Z$/, "Z")

export const percent = (share: number): string => `${Math.round(share * 100)} %`
