// Advice that comes from the server's catalog and statistics. Pure.
import type { Activity, Catalog, ForeignKey, Index, Table } from "./catalog.ts"
import { type Finding, percent, plural, size, time, whole } from "./finding.ts"
import { cautionOfBuild, createIndex } from "./planAdvice.ts"

export interface Context {
  readonly largeTable: number
  readonly statisticsAgeMillis: number
  /** Whether an index was there long enough to say that it is not used. */
  readonly isKnown: (index: Index) => boolean
  /** Columns that slow statements look for, by `oid` of the table: an index on them may be new. */
  readonly wanted: ReadonlyMap<number, ReadonlySet<string>>
  readonly duplicates: ReadonlyArray<Duplicate>
}

const noStatements: ReadonlyArray<string> = []

/** Since when usage is counted, in words. */
const since = (catalog: Catalog): string =>
  catalog.server?.since === undefined ? "since the statistics began" : `since ${time(catalog.server.since)}`

// ---------------------------------------------------------------------------------------------------------------------
// Indexes
// ---------------------------------------------------------------------------------------------------------------------

export const invalidIndexes = ({ building, indexes }: Catalog): ReadonlyArray<Finding> => {
  // One that is being built by somebody whom this role may not watch could be any.
  if (building === undefined || building.includes(null)) return []
  return indexes.filter((index) => !index.valid && !index.partitioned && !building.includes(index.oid)).map(
    (index): Finding => {
      // What REINDEX CONCURRENTLY leaves behind when it fails: the index itself is there beside it.
      const remainder = /_cc(?:new|old)\d*$/.test(index.name)
      return {
        kind: "InvalidIndex",
        subject: index.quoted,
        seen: `The index ${index.quoted} on ${index.tableQuoted} is invalid: building it failed or was broken off.`,
        why: "No query uses it, and every write still has to keep it.",
        advice: remainder ? "It is what a failed REINDEX left behind: drop it." : "Build it again, or drop it.",
        sql: [
          remainder ? `DROP INDEX CONCURRENTLY ${index.quoted}` : `REINDEX INDEX CONCURRENTLY ${index.quoted}`
        ],
        caution: index.unique
          ? "It is to be unique: as long as there are duplicates, building it fails again."
          : "It cannot run in a transaction.",
        statements: noStatements
      }
    }
  )
}

const begins = (longer: Index, shorter: Index): boolean =>
  shorter.keys.every((key, i) => key !== null && longer.keys[i] === key && longer.traits[i] === shorter.traits[i])

/** Whether `other` does all that `index` does. */
const replaces = (other: Index, index: Index): boolean => {
  if (other.oid === index.oid || other.table !== index.table || !other.valid || other.special) return false
  if (other.method !== index.method || !begins(other, index)) return false
  if (index.keys.length < other.keys.length && index.method !== "btree") return false
  const columns = [...other.keys, ...other.included]
  if (!index.included.every((column) => columns.includes(column))) return false
  // Of two that are alike, the one to go is the one that nothing needs, else the younger.
  const alike = begins(index, other) && other.included.every((column) => index.included.includes(column))
  return !alike || other.unique || other.needed || other.oid < index.oid
}

/** An index, and another that does all that it does. */
export interface Duplicate {
  readonly index: Index
  readonly other: Index
}

export const duplicates = ({ indexes }: Catalog): ReadonlyArray<Duplicate> => {
  const byTable = new Map<number, Array<Index>>()
  for (const index of indexes) {
    const others = byTable.get(index.table)
    if (others === undefined) byTable.set(index.table, [index])
    else others.push(index)
  }
  return indexes.flatMap((index): ReadonlyArray<Duplicate> => {
    // A unique index also keeps duplicates out.
    if (index.needed || index.unique || index.special || !index.valid) return []
    const other = byTable.get(index.table)?.find((one) => replaces(one, index))
    return other === undefined ? [] : [{ index, other }]
  })
}

export const duplicateIndexes = (all: ReadonlyArray<Duplicate>): ReadonlyArray<Finding> =>
  all.map(({ index, other }): Finding => ({
    kind: "DuplicateIndex",
    subject: index.quoted,
    seen: `${index.quoted} (${index.keys.join(", ")}; ${size(index.bytes)}) on ${index.tableQuoted}: ${other.quoted} (${
      other.keys.join(", ")
    }) begins with the same columns.`,
    why: "What it can do the other does as well, and every write has to keep both.",
    advice: `Drop ${index.quoted}.`,
    sql: [`DROP INDEX CONCURRENTLY ${index.quoted}`],
    caution: other.keys.length > index.keys.length
      ? "The other is larger, so that queries on these columns alone may take slightly longer. It cannot run in a transaction."
      : "It cannot run in a transaction.",
    statements: noStatements
  }))

/** Whether the index finds all rows with given values in these columns. */
const covers = (index: Index, table: number, columns: ReadonlyArray<string>): boolean =>
  index.table === table && index.valid && !index.special && index.keys.length >= columns.length &&
  index.keys.slice(0, columns.length).every((key) => key !== null && columns.includes(key))

export const unusedIndexes = (catalog: Catalog, context: Context): ReadonlyArray<Finding> => {
  const { foreignKeys, indexes, server, unused } = catalog
  // Of a pair, one is told already, and the other is to take its place.
  const paired = new Set(context.duplicates.flatMap(({ index, other }) => [index.oid, other.oid]))
  if (server === undefined || unused === undefined || server.age < context.statisticsAgeMillis) return []
  return indexes
    .filter((index) =>
      index.valid && !index.unique && !index.needed && unused.has(index.oid) && !paired.has(index.oid) &&
      context.isKnown(index) &&
      !foreignKeys.some(({ columns, table }) => covers(index, table, columns)) &&
      !(index.keys[0] !== null && context.wanted.get(index.table)?.has(index.keys[0]!) === true)
    )
    .map((index): Finding => ({
      kind: "UnusedIndex",
      subject: index.quoted,
      seen: `No query has used ${index.quoted} (${size(index.bytes)}) on ${index.tableQuoted} ${since(catalog)}.`,
      why: "Every write has to keep it, and it takes space in memory and backups.",
      advice: "Drop it, if nobody knows a use that comes up rarely.",
      sql: [`DROP INDEX CONCURRENTLY ${index.quoted}`],
      caution: server.replica
        ? "This server is a replica: its counts are its own. Look at the primary and the other replicas first, and run the SQL on the primary."
        : "Queries on replicas, and those that run once a month, are not in these counts; neither is anything before an index was made. Keep its definition (pg_get_indexdef) to be able to make it again.",
      statements: noStatements
    }))
}

export const unindexedForeignKeys = (catalog: Catalog): ReadonlyArray<Finding> => {
  const tables = new Map(catalog.tables.map((table) => [table.oid, table]))
  const isUncovered = ({ columns, table }: ForeignKey) =>
    !catalog.indexes.some((index) => index.method === "btree" && covers(index, table, columns))
  // Without the list of indexes nobody knows.
  if (catalog.indexes.length === 0 && catalog.unread.some((what) => what.startsWith("indexes"))) return []
  return catalog.foreignKeys.filter(isUncovered).flatMap((key): ReadonlyArray<Finding> => {
    const table: Table | undefined = tables.get(key.table)
    if (table === undefined) return []
    const columns = key.columns.join(", ")
    return [{
      kind: "UnindexedForeignKey",
      subject: table.quoted,
      seen: `${table.quoted} (about ${
        whole(table.rows)
      } rows) refers to ${key.referenced} by ${columns} (${key.name}), and no index begins with that.`,
      why:
        `Each DELETE and each change of a key in ${key.referenced} reads all of ${table.quoted}, with locks held; so does a join from there.`,
      advice: `An index on (${columns}) leads straight to the rows that refer.`,
      sql: [createIndex(table, key.columns)],
      caution: `${cautionOfBuild} It is not needed where ${key.referenced} never loses rows and is never joined from.`,
      statements: noStatements
    }]
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables
// ---------------------------------------------------------------------------------------------------------------------

const enoughScans = 50

export const sequentialScans = (catalog: Catalog, { largeTable }: Context): ReadonlyArray<Finding> =>
  catalog.activity
    .filter(({ byIndex, live, scanned, scans }) =>
      // Most of the rows each time: what a LIMIT breaks off early is no harm.
      live >= largeTable && scans >= enoughScans && scans > byIndex && scanned / scans >= live / 2
    )
    .map((table): Finding => ({
      kind: "SequentialScans",
      subject: table.quoted,
      seen: `${table.quoted} (about ${whole(table.live)} rows) was read as a whole ${
        plural(table.scans, "time")
      } and by an index ${plural(table.byIndex, "time")} ${since(catalog)}: ${
        whole(table.scanned / table.scans)
      } rows each time.`,
      why: "Reading the whole table takes longer the more it grows, and pushes other data out of memory.",
      advice:
        "If queries want few of its rows, they lack an index on the columns of their WHERE. Lower slowerThan until they show up here with their plan.",
      sql: [],
      caution: "Statistics and exports rightly read all. Counts stay after an index was made: compare two reports.",
      statements: noStatements
    }))

const manyDead = 0.4
const manyChanged = 0.3

const last = (when: number | null, what: string): string =>
  when === null ? `it has not been ${what} since the statistics began` : `it was last ${what} at ${time(when)}`

const hasDead = (table: Activity, { largeTable }: Context) =>
  table.dead >= largeTable && table.dead > manyDead * table.live

export const deadRows = ({ activity }: Catalog, context: Context): ReadonlyArray<Finding> =>
  activity.filter((table) => hasDead(table, context)).map((table): Finding => ({
    kind: "DeadRows",
    subject: table.quoted,
    seen: `${table.quoted} has about ${whole(table.dead)} dead rows beside ${whole(table.live)} live ones (${
      percent(table.dead / (table.dead + table.live))
    }); ${last(table.vacuumed, "vacuumed")}.`,
    why:
      "Queries read past dead rows, and indexes grow with them. Autovacuum begins at 20 % by default: it is off, too slow, or something keeps it from removing them.",
    advice:
      "Vacuum it now. If it comes back, look for transactions that stay open for long, and let autovacuum come earlier (autovacuum_vacuum_scale_factor of the table).",
    sql: [`VACUUM (ANALYZE) ${table.quoted}`],
    caution:
      "It reads and writes much of the table; others can read and write meanwhile. It cannot run in a transaction, and does not give the space back to the file system.",
    statements: noStatements
  }))

export const staleStatistics = ({ activity }: Catalog, context: Context): ReadonlyArray<Finding> =>
  activity
    .filter((table) =>
      table.live >= context.largeTable && table.changed >= context.largeTable &&
      table.changed > manyChanged * table.live && !hasDead(table, context)
    )
    .map((table): Finding => ({
      kind: "StaleStatistics",
      subject: table.quoted,
      seen: `About ${whole(table.changed)} rows of ${table.quoted} (${
        whole(table.live)
      } live) changed since its figures for the planner were taken; ${last(table.analyzed, "analyzed")}.`,
      why: "The planner chooses by these figures: with old ones it takes bad plans.",
      advice: "Analyze it now. Autovacuum does so by itself after a while, if it is on.",
      sql: [`ANALYZE ${table.quoted}`],
      caution: undefined,
      statements: noStatements
    }))
