// Statements as they may be kept and shown: without values. Pure, but for a memory of texts seen before.

const maxText = 500
const maxRead = 4_000

// Quoted names, which stay; strings (also unfinished ones), escaped strings, dollar quotes, comments, numbers that are
// not part of a name or `$1`.
const literals =
  /"(?:[^"]|"")*"|[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|\$([A-Za-z_]\w*)?\$[\s\S]*?(?:\$\1\$|$)|--[^\n]*|\/\*|(?<![\w$"])\.?[0-9][\w.]*/g

/** Where the comment that begins before `from` ends. Comments nest in Postgres. */
const endOfComment = (sql: string, from: number): number => {
  const marks = /\/\*|\*\//g
  marks.lastIndex = from
  for (let depth = 1; depth > 0;) {
    const mark = marks.exec(sql)
    if (mark === null) return sql.length
    depth += mark[0] === "/*" ? 1 : -1
  }
  return marks.lastIndex
}

/** Every value replaced by `?`, comments left out, white space made one blank. Of any length. */
export const withoutValues = (sql: string): string => {
  let out = ""
  let at = 0
  literals.lastIndex = 0
  for (let found = literals.exec(sql); found !== null; found = literals.exec(sql)) {
    const text = found[0]
    out += sql.slice(at, found.index)
    at = literals.lastIndex
    if (text === "/*") {
      at = literals.lastIndex = endOfComment(sql, at)
      out += " "
    } else if (!text.startsWith("--")) {
      out += text.startsWith("\"") ? text : "?"
    }
  }
  return (out + sql.slice(at)).replace(/\s+/g, " ").trim()
}

const cut = (text: string): string => text.length <= maxText ? text : `${text.slice(0, maxText - 1)}…`

// Programs have few statements and run them often.
const maxKnown = 1_000

const quoted = /'|\$(?:[A-Za-z_]\w*)?\$/

const remembered = <A>(f: (sql: string) => A): (sql: string) => A => {
  const known = new Map<string, A>()
  return (sql) => {
    const found = known.get(sql)
    if (found !== undefined) return found
    const result = f(sql.length <= maxRead ? sql : sql.slice(0, maxRead))
    // A text with strings in it may hold secrets and is hardly seen twice; a long one is not worth its memory.
    if (sql.length <= maxRead && !quoted.test(sql)) {
      if (known.size === maxKnown) known.clear()
      known.set(sql, result)
    }
    return result
  }
}

/** A statement as it may be shown: its shape, without values. At most 500 characters. */
export const shape: (sql: string) => string = remembered((sql) => cut(withoutValues(sql)))

const value = String.raw`(?:\$\d+|\?)(?:::[\w ]+(?:\[\])?)?`
const list = String.raw`${value}(?: ?, ?${value})*`
// The end of the text may be within the list, when it was cut.
const inList = new RegExp(String.raw`\bIN \(${list} ?(?:\)|,? ?\$?\d*$)`, "gi")
const moreRows = new RegExp(String.raw`(\(${list} ?\))(?: ?, ?\(${list} ?\))+(?: ?, ?\([^)]*$)?`, "g")

/** The same for statements that differ only in how many values a list has: what they are grouped by. */
export const fingerprint: (sql: string) => string = remembered((sql) => {
  const text = withoutValues(sql)
  const short = text.replace(inList, "IN (...)").replace(moreRows, "$1, ...")
  if (short === text) return cut(text)
  // What follows a list has other numbers each time.
  const numbers = new Map<string, string>()
  return cut(short.replace(/\$\d+/g, (name) => {
    const known = numbers.get(name) ?? `$${numbers.size + 1}`
    numbers.set(name, known)
    return known
  }))
})

const writes = /\b(?:insert|update|delete|merge|into)\b/i

/** Whether a text without values is a query that by its words changes nothing. */
export const isQuery: (text: string) => boolean = remembered((text) =>
  /^[(\s]*(?:select|values|table|with)\b/i.test(text) && !writes.test(text.replace(/"(?:[^"]|"")*"/g, ""))
)
