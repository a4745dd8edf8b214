// Reads the conditions and sort keys that Postgres writes into a plan. Whatever is not understood is left out: advice
// that is missing is better than advice that is wrong. Pure.

/** A column as a condition has it. */
export interface Column {
  /** Quoted where SQL needs it. */
  readonly name: string
  /** The type it is cast to within the condition. */
  readonly cast: string | undefined
}

export interface Condition {
  /** Compared with one value each: the columns that an index should begin with. */
  readonly equal: ReadonlyArray<Column>
  /** Compared with `<`, `>`, `<=`, `>=`. */
  readonly range: ReadonlyArray<Column>
  /** Compared with a LIKE pattern that begins with a wildcard, which no ordinary index can serve. */
  readonly wildcard: ReadonlyArray<Column>
  /** Whether all of it was understood. */
  readonly whole: boolean
}

const name = String.raw`(?:[\p{L}_][\p{L}\d_$]*|"(?:[^"]|"")+")`
const column = new RegExp(
  String.raw`^(?:(${name})\.(${name})|\((${name})\.(${name})\)::([a-z][\w ]*(?:\(\?\))?)) (.*)$`,
  "u"
)
const anyColumn = new RegExp(String.raw`${name}\.${name}`, "u")

/** Strings as `?`, or `?%` where they begin with a wildcard of LIKE; numbers as `?`. */
const blank = (condition: string): string =>
  condition.replace(
    /"(?:[^"]|"")*"|E?'(?:[^'\\]|\\[\s\S]|'')*'|(?<![\w$".])-?[0-9][\w.]*/g,
    (text) => text.startsWith("\"") ? text : /^E?'[%_]/.test(text) ? "?%" : "?"
  )

/** Where the parenthesis at `from` closes. Names may hold parentheses too. */
const closing = (text: string, from: number): number => {
  let depth = 0
  let quoted = false
  for (let i = from; i < text.length; i++) {
    const c = text[i]
    if (c === "\"") quoted = !quoted
    else if (quoted) continue
    else if (c === "(") depth++
    else if (c === ")" && --depth === 0) return i
  }
  return -1
}

const unwrapped = (text: string): string => {
  let inner = text.trim()
  while (inner.startsWith("(") && closing(inner, 0) === inner.length - 1) inner = inner.slice(1, -1).trim()
  return inner
}

/** `(a) AND (b)` as its parts. */
const conjuncts = (text: string): ReadonlyArray<string> => {
  const parts: Array<string> = []
  let rest = unwrapped(text)
  while (rest.startsWith("(")) {
    const end = closing(rest, 0)
    if (end === -1 || !rest.startsWith(" AND ", end + 1)) break
    parts.push(rest.slice(0, end + 1))
    rest = rest.slice(end + 6)
  }
  parts.push(rest)
  return parts
}

export const readCondition = (condition: string): Condition => {
  const equal: Array<Column> = []
  const range: Array<Column> = []
  const wildcard: Array<Column> = []
  let whole = true
  for (const part of conjuncts(blank(condition))) {
    const found = column.exec(unwrapped(part))
    const rest = found?.[6] ?? ""
    const comparison = /^(= ANY|~~\*?|[<>]=?|=(?! ALL)|IS NULL$)(?: (.*)|$)/.exec(rest)
    // Compared with another column, or more than one comparison: no index on this one alone helps.
    if (found === null || comparison === null || anyColumn.test(comparison[2] ?? "") || / (?:AND|OR) /.test(rest)) {
      whole = false
      continue
    }
    const it: Column = { name: (found[2] ?? found[4])!, cast: found[5] }
    const operator = comparison[1]!
    if (operator.startsWith("~~")) {
      whole = false
      if (comparison[2]?.startsWith("?%") === true) wildcard.push(it)
    } else if (operator === "=" || operator === "= ANY" || operator === "IS NULL") equal.push(it)
    else range.push(it)
  }
  return { equal, range, wildcard, whole }
}

const sortKey = new RegExp(String.raw`^(?:${name}\.)?(${name})( DESC)?(?: NULLS (FIRST|LAST))?$`, "u")

/** One column to sort by. */
export interface SortColumn {
  readonly name: string
  readonly descending: boolean
  /** Where it is not that of the direction. */
  readonly nulls: "FIRST" | "LAST" | undefined
}

/** `undefined` when something other than columns is sorted by. */
export const readSortKeys = (keys: ReadonlyArray<unknown>): ReadonlyArray<SortColumn> | undefined => {
  const columns: Array<SortColumn> = []
  for (const key of keys) {
    const found = typeof key === "string" ? sortKey.exec(key) : null
    if (found === null) return undefined
    columns.push({
      name: found[1]!,
      descending: found[2] !== undefined,
      nulls: found[3] as SortColumn["nulls"]
    })
  }
  return columns
}
