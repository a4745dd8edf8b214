// Advice that comes from the slow statements and their plans. Pure.
import * as Redaction from "../../security/Redaction.ts"
import type { Catalog, Index, Table } from "./catalog.ts"
import type { Column, SortColumn } from "./condition.ts"
import { duration, type Finding, plural, whole } from "./finding.ts"
import type { Scan } from "./plan.ts"
import type { Repeated } from "./request.ts"
import type { Entry } from "./slowLog.ts"

/** Past this share of the rows, reading the whole table is the faster way. */
const fewRows = 0.05
/** What the server supposes that a LIMIT of unknown size lets through. */
const fewSorted = 0.101
const maxColumns = 3
const maxStatements = 5

export const cautionOfBuild =
  "Building it takes time and space, and every write has one more index to keep. CONCURRENTLY lets others write meanwhile; it cannot run in a transaction, and leaves an invalid index behind if it fails."

const tableOf = (scan: Scan, catalog: Catalog): Table | undefined =>
  catalog.tables.find((table) => table.schema === scan.schema && table.name === scan.table)

const columnOf = (name: string, table: Table, catalog: Catalog) =>
  catalog.columns.find((one) => one.table === table.oid && one.name === name)

/** Whether an index on the bare column serves the comparison. */
const isIndexable = (column: Column, table: Table, catalog: Catalog): boolean => {
  const type = columnOf(column.name, table, catalog)?.type
  return type !== undefined && (column.cast === undefined || column.cast === "text" && type === "varchar")
}

const sorted = (order: ReadonlyArray<SortColumn>): ReadonlyArray<string> => {
  const [first] = order
  // An index is read in both directions: only a mixture has to be spelled out.
  const plain = order.every((column) => column.nulls === undefined && column.descending === first?.descending)
  return order.map(({ descending, name, nulls }) =>
    plain ? name : `${name}${descending ? " DESC" : ""}${nulls === undefined ? "" : ` NULLS ${nulls}`}`
  )
}

interface Wish {
  /** As CREATE INDEX has them. */
  readonly columns: ReadonlyArray<string>
  /** The bare columns one of which a serving index would begin with. */
  readonly first: ReadonlyArray<string>
  readonly forOrder: boolean
}

/** The share of the rows that an index on these columns leaves to read, as far as it is known. */
const shareOf = (names: ReadonlyArray<string>, table: Table, catalog: Catalog): number =>
  names.reduce((share, name) => share * (columnOf(name, table, catalog)?.share ?? 1), 1)

const wishOf = (scan: Scan, table: Table, catalog: Catalog): Wish | undefined => {
  const names = (columns: ReadonlyArray<Column>) =>
    Array.from(new Set(columns.filter((column) => isIndexable(column, table, catalog)).map(({ name }) => name)))
  const equal = names(scan.equal).slice(0, maxColumns)
  // What the plan wants counts all conditions: it is that of an index only when the index serves them all.
  const complete = scan.whole && equal.length === new Set(scan.equal.map(({ name }) => name)).size
  const wanted = scan.wanted / table.rows
  const order = scan.order.filter(({ name }) => !equal.includes(name))
  if (
    complete && wanted <= fewSorted && order.length > 0 && order.length <= maxColumns &&
    order.every(({ name }) => isIndexable({ name, cast: undefined }, table, catalog))
  ) {
    return {
      columns: [...equal, ...sorted(order)],
      first: equal.length > 0 ? equal : [order[0]!.name],
      forOrder: true
    }
  }
  const range = complete ? names(scan.range).filter((name) => !equal.includes(name)).slice(0, 1) : []
  const columns = [...equal, ...range]
  const share = complete && new Set(scan.range.map(({ name }) => name)).size <= 1
    ? wanted
    : shareOf(equal, table, catalog)
  if (columns.length === 0 || share > fewRows) return undefined
  return { columns, first: equal.length > 0 ? equal : range, forOrder: false }
}

const beginsWith = (index: Index, table: Table, columns: ReadonlyArray<string>): boolean =>
  index.table === table.oid && index.valid && !index.special && index.keys[0] !== null &&
  columns.includes(index.keys[0]!)

const build = (table: Table, what: string): string =>
  // Postgres does not build indexes of partitioned tables concurrently.
  `CREATE INDEX ${table.kind === "p" ? "" : "CONCURRENTLY "}ON ${table.quoted} ${what}`

export const createIndex = (table: Table, columns: ReadonlyArray<string>): string =>
  build(table, `(${columns.join(", ")})`)

interface Draft extends Omit<Finding, "seen" | "statements"> {
  readonly table: Table
  readonly wanted: number
  readonly how: string
  readonly entries: Array<Entry>
}

const wildcardSql = (table: Table, column: string, trigrams: Catalog["trigrams"]): ReadonlyArray<string> => {
  if (trigrams === undefined) return []
  const operators = trigrams.schema === null ? "gin_trgm_ops" : `${trigrams.schema}.gin_trgm_ops`
  return [
    ...(trigrams.schema === null ? ["CREATE EXTENSION IF NOT EXISTS pg_trgm"] : []),
    build(table, `USING gin (${column} ${operators})`)
  ]
}

const ofScan = (scan: Scan, entry: Entry, catalog: Catalog): Draft | undefined => {
  const table = tableOf(scan, catalog)
  if (table === undefined) return undefined
  const common = { table, wanted: scan.wanted, subject: table.quoted, entries: [entry] }
  const wish = wishOf(scan, table, catalog)
  if (wish !== undefined) {
    if (catalog.indexes.some((index) => beginsWith(index, table, wish.first))) return undefined
    const columns = wish.columns.join(", ")
    return {
      ...common,
      kind: "MissingIndex",
      how: wish.forOrder ? `, the first by ${columns}` : ` by ${columns}`,
      why: "Reading the whole table takes longer the more it grows, and pushes other data out of memory.",
      advice: `An index on (${columns}) leads straight to these rows.`,
      sql: [createIndex(table, wish.columns)],
      caution: `${cautionOfBuild} The plan is one for any values: for some, reading the whole table may be right.`
    }
  }
  const pattern = scan.wildcard.find(({ cast, name }) => {
    const type = columnOf(name, table, catalog)?.type
    return (cast === undefined || cast === "text") && (type === "text" || type === "varchar")
  })
  if (pattern === undefined || scan.wanted > fewRows * table.rows) return undefined
  const indexed = catalog.indexes.some((index) =>
    beginsWith(index, table, [pattern.name]) && (index.method === "gin" || index.method === "gist")
  )
  return indexed ? undefined : {
    ...common,
    kind: "LeadingWildcard",
    how: ` by a pattern in ${pattern.name} that begins with a wildcard`,
    why: "An ordinary index is sorted from the first letter on, so it cannot serve such a pattern: every row is read.",
    advice:
      "An index of groups of three letters (the extension pg_trgm) finds them. If only beginnings are looked for, drop the leading wildcard.",
    sql: wildcardSql(table, pattern.name, catalog.trigrams),
    caution: `${cautionOfBuild} It is large and slow to update, and patterns of fewer than three letters do not use it.`
  }
}

const finish = ({ entries, how, table, wanted, ...finding }: Draft): Finding => {
  const runs = entries.reduce((sum, { latency }) => sum + latency.count, 0)
  const slowest = Math.max(...entries.map(({ latency }) => latency.max))
  return {
    ...finding,
    seen: `${table.quoted} (about ${whole(table.rows)} rows) is read as a whole to find about ${
      plural(wanted, "row")
    }${how}: ${plural(runs, "slow run")}, the longest ${duration(slowest)}.`,
    statements: entries.slice(0, maxStatements).map(({ text }) => Redaction.text(text))
  }
}

/** From the plans of slow statements. One finding for all statements that the same SQL would help. */
export const fromPlans = (entries: ReadonlyArray<Entry>, catalog: Catalog): ReadonlyArray<Finding> => {
  const drafts = new Map<string, Draft>()
  for (const entry of entries) {
    for (const scan of entry.plan?.facts.scans ?? []) {
      const draft = ofScan(scan, entry, catalog)
      if (draft === undefined) continue
      const key = `${draft.kind} ${draft.subject} ${draft.how}`
      const known = drafts.get(key)
      if (known === undefined) drafts.set(key, draft)
      else if (!known.entries.includes(entry)) known.entries.push(entry)
    }
  }
  return Array.from(drafts.values(), finish)
}

/** From the texts of slow statements. */
export const fromTexts = (entries: ReadonlyArray<Entry>): ReadonlyArray<Finding> =>
  entries.filter(({ skips }) => skips).map((entry): Finding => ({
    kind: "LargeOffset",
    subject: Redaction.text(entry.text),
    seen: `The statement skips 10,000 rows or more with OFFSET: ${
      plural(entry.latency.count, "slow run")
    }, the longest ${duration(entry.latency.max)}.`,
    why: "Rows that are skipped are read all the same, so every page costs more than the one before.",
    advice:
      "Ask for what comes after the last row of the page before: WHERE (sort column, key) > (its values) ORDER BY sort column, key LIMIT n.",
    sql: [],
    caution: "It needs an order without ties and an index on it, and cannot jump to a page by its number.",
    statements: [Redaction.text(entry.text)]
  }))

/** From what requests repeated. */
export const fromRepeats = (repeats: ReadonlyArray<Repeated>): ReadonlyArray<Finding> =>
  repeats.map((repeated): Finding => ({
    kind: "RepeatedQuery",
    subject: repeated.request,
    seen: `${plural(repeated.requests, "request")} "${repeated.request}" ran one query up to ${
      whole(repeated.most)
    } times each: ${plural(repeated.runs, "run")}, ${duration(repeated.total)} in all, by ${repeated.caller}.`,
    why: "Each run is a round trip and a place in the pool; with more rows there are more of them (N+1).",
    advice:
      "Ask once for all: WHERE column = ANY($1) with the values as one array, or let SqlResolver of effect/sql collect them. If the values are the same each time, ask once and pass the result on.",
    sql: [],
    caution: undefined,
    statements: [repeated.text]
  }))
