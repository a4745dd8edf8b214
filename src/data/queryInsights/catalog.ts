// What the server knows of its tables, indexes and foreign keys, and how they were used. Each part is read on its own, so
// that a role that may not see one still sees the others.
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { kindOf, label } from "../transaction/failure.ts"
import type { Scan } from "./plan.ts"
import { type Ask, readOnly } from "./session.ts"

export interface Server {
  /** As `server_version` says. */
  readonly version: string
  /** Unix milliseconds since which usage is counted, as far as the server tells. */
  readonly since: number | undefined
  /** Milliseconds of the server's clock since then; since its start where it tells no more. */
  readonly age: number
  /** It follows another server and cannot be written to. */
  readonly replica: boolean
}

export interface Table {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** With its schema, as SQL has it. */
  readonly quoted: string
  /** `r` table, `p` partitioned table, `m` materialized view. */
  readonly kind: string
  readonly rows: number
}

export interface Activity {
  readonly oid: number
  readonly quoted: string
  readonly live: number
  readonly dead: number
  readonly changed: number
  readonly scans: number
  readonly scanned: number
  readonly byIndex: number
  /** Unix milliseconds. */
  readonly vacuumed: number | null
  /** Unix milliseconds. */
  readonly analyzed: number | null
}

export interface Index {
  readonly oid: number
  readonly table: number
  readonly tableQuoted: string
  readonly quoted: string
  readonly name: string
  readonly method: string
  readonly bytes: number
  readonly unique: boolean
  readonly valid: boolean
  /** Of a partitioned table: it has no entries of its own. */
  readonly partitioned: boolean
  /** A constraint, the replica identity, CLUSTER, an extension or a partitioned index needs it. */
  readonly needed: boolean
  /** It has a WHERE or an expression: then it is not compared with others. */
  readonly special: boolean
  /** The key columns, quoted where SQL needs it; `null` is an expression. */
  readonly keys: ReadonlyArray<string | null>
  /** Operator class, collation and options of each key column. */
  readonly traits: ReadonlyArray<string>
  /** Further columns (INCLUDE). */
  readonly included: ReadonlyArray<string>
}

export interface ForeignKey {
  readonly name: string
  readonly table: number
  readonly referenced: string
  readonly columns: ReadonlyArray<string>
}

export interface TableColumn {
  readonly table: number
  readonly name: string
  readonly type: string
  /** Share of the rows that have one value of it, on average; `null` when the server does not know or tell. */
  readonly share: number | null
}

export interface Trigrams {
  /** Quoted where SQL needs it; `null` when the extension is not installed yet. */
  readonly schema: string | null
}

export interface Catalog {
  readonly server: Server | undefined
  readonly tables: ReadonlyArray<Table>
  readonly activity: ReadonlyArray<Activity>
  readonly indexes: ReadonlyArray<Index>
  /** Oids of indexes that were never used since the statistics began. */
  readonly unused: ReadonlySet<number> | undefined
  /** Oids of indexes that are being built now. */
  readonly building: ReadonlyArray<number | null> | undefined
  readonly foreignKeys: ReadonlyArray<ForeignKey>
  readonly columns: ReadonlyArray<TableColumn>
  /** Whether an index of parts of words can be had, and the schema that has its operators. */
  readonly trigrams: Trigrams | undefined
  /** What could not be read, and why. */
  readonly unread: ReadonlyArray<string>
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions
// ---------------------------------------------------------------------------------------------------------------------

const maxTables = 1_000
const maxIndexes = 3_000

// Numbers as float8 and lists as JSON in a text: every driver reads these alike. Sizes come from relpages, since the
// functions that measure files wait for locks.
const mine = `n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'`
// What ANALYZE counted; before the first time, what was written since.
const rows = `CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_stat_get_live_tuples(c.oid) END`
const millis = (time: string) => `(extract(epoch FROM ${time}) * 1000)::float8`
const columnsOf = (relation: string, numbers: string) =>
  `(SELECT json_agg(quote_ident(a.attname) ORDER BY u.n) FROM unnest(${numbers}) WITH ORDINALITY AS u (number, n)
    LEFT JOIN pg_attribute a ON a.attrelid = ${relation} AND a.attnum = u.number)`

const ofServer = `SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS replica,
  ${millis("d.stats_reset")} AS since,
  ${millis("clock_timestamp() - coalesce(d.stats_reset, pg_postmaster_start_time())")} AS age
FROM pg_stat_database d WHERE d.datname = current_database()`

const ofTables = `SELECT c.oid::int8::float8 AS oid, n.nspname::text AS schema, c.relname::text AS name,
  format('%I.%I', n.nspname, c.relname) AS quoted, c.relkind::text AS kind, (${rows})::float8 AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND ${mine} AND ${rows} >= $1::float8
ORDER BY 6 DESC LIMIT ${maxTables}`

const ofActivity = `SELECT s.relid::int8::float8 AS oid, format('%I.%I', s.schemaname, s.relname) AS quoted,
  s.n_live_tup::float8 AS live, s.n_dead_tup::float8 AS dead, s.n_mod_since_analyze::float8 AS changed,
  s.seq_scan::float8 AS scans, s.seq_tup_read::float8 AS scanned, coalesce(s.idx_scan, 0)::float8 AS "byIndex",
  ${millis("greatest(s.last_vacuum, s.last_autovacuum)")} AS vacuumed,
  ${millis("greatest(s.last_analyze, s.last_autoanalyze)")} AS analyzed
FROM pg_stat_user_tables s WHERE greatest(s.n_live_tup, s.n_dead_tup) >= $1::float8
ORDER BY greatest(s.n_live_tup, s.n_dead_tup) DESC LIMIT ${maxTables}`

const ofIndexes = `SELECT x.indexrelid::int8::float8 AS oid, x.indrelid::int8::float8 AS "table",
  format('%I.%I', n.nspname, c.relname) AS "tableQuoted", format('%I.%I', n.nspname, i.relname) AS quoted,
  i.relname::text AS name, am.amname::text AS method,
  i.relpages * current_setting('block_size')::float8 AS bytes, x.indisunique AS "unique", x.indisvalid AS valid,
  i.relkind = 'I' AS partitioned, (i.relkind = 'I' OR x.indisprimary OR x.indisexclusion OR x.indisreplident OR x.indisclustered OR i.relispartition
    OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid)
    OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid
      AND d.deptype = 'e')) AS needed,
  (x.indpred IS NOT NULL OR x.indexprs IS NOT NULL) AS special, x.indnkeyatts::int AS keyed,
  x.indclass::text AS classes, x.indcollation::text AS collations, x.indoption::text AS options,
  ${columnsOf("x.indrelid", "x.indkey::int2[]")}::text AS columns
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am am ON am.oid = i.relam
WHERE ${mine} AND (NOT x.indisvalid OR ${rows} >= $1::float8)
ORDER BY i.relpages DESC, x.indexrelid LIMIT ${maxIndexes}`

const ofUnused = `SELECT indexrelid::int8::float8 AS oid FROM pg_stat_user_indexes WHERE idx_scan = 0 LIMIT 10000`

const ofBuilding = `SELECT p.index_relid::int8::float8 AS oid FROM pg_stat_progress_create_index p
WHERE p.datname = current_database()`

const ofForeignKeys = `SELECT quote_ident(k.conname) AS name, k.conrelid::int8::float8 AS "table",
  (SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
    WHERE r.oid = k.confrelid) AS referenced,
  ${columnsOf("k.conrelid", "k.conkey")}::text AS columns
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND ${mine} AND ${rows} >= $1::float8
ORDER BY ${rows} DESC, k.oid LIMIT ${maxIndexes}`

// Negative: a share of the rows. Positive: a number of values.
const ofColumns = `SELECT c.oid::int8::float8 AS "table", quote_ident(a.attname) AS name, t.typname::text AS type,
  (SELECT max(CASE WHEN s.n_distinct < 0 THEN 1 / greatest(1, -s.n_distinct * ${rows})
    WHEN s.n_distinct > 0 THEN 1 / s.n_distinct END)::float8
    FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname) AS share
FROM json_to_recordset($1::json) AS w (schema text, "table" text)
  JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w."table"
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid`

const ofTrigrams =
  `SELECT (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
  WHERE e.extname = 'pg_trgm') AS schema
FROM pg_available_extensions WHERE name = 'pg_trgm'`

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

interface IndexRow extends Omit<Index, "keys" | "traits" | "included"> {
  readonly keyed: number
  readonly classes: string
  readonly collations: string
  readonly options: string
  readonly columns: string
}

const list = (json: string): ReadonlyArray<string> => JSON.parse(json) as ReadonlyArray<string>

const toIndex = ({ classes, collations, columns, keyed, options, ...index }: IndexRow): Index => {
  const all = list(columns)
  const [ofClass, ofCollation, ofOption] = [classes, collations, options].map((vector) => vector.split(" "))
  return {
    ...index,
    keys: all.slice(0, keyed),
    included: all.slice(keyed),
    traits: Array.from({ length: keyed }, (_, i) => `${ofClass![i]} ${ofCollation![i]} ${ofOption![i]}`)
  }
}

const bounds = { statementMillis: 5_000, lockMillis: 100, impatient: false }

/**
 * Reads it all. Fails when the server cannot be reached; what it refuses to tell is named in `unread`.
 *
 * `impatient`: do not wait for a connection.
 */
export const read = (
  sql: SqlClient,
  largeTable: number,
  scans: ReadonlyArray<Scan>,
  impatient: boolean
): Effect.Effect<Catalog, SqlError> =>
  Effect.gen(function*() {
    const unread: Array<string> = []
    const part = <A>(what: string, work: (ask: Ask) => Effect.Effect<A, SqlError>) =>
      readOnly(sql, { ...bounds, impatient }, work).pipe(
        Effect.catch((error) => {
          const kind = kindOf(error)
          if (kind === "ConnectionLost" || kind === "Unavailable") return Effect.fail(error)
          unread.push(`${what}: the server refused (${label(error)})`)
          return Effect.succeed(undefined)
        })
      )
    const limited = <A>(what: string, limit: number, found: ReadonlyArray<A> = []) => {
      if (found.length === limit) unread.push(`${what}: only the ${limit} largest were read`)
      return found
    }
    const named = new Map(scans.map(({ schema, table }) => [JSON.stringify([schema, table]), { schema, table }]))
    const wanted = JSON.stringify(Array.from(named.values()))
    const large = [largeTable]

    const server = yield* part("the server's version and the age of its statistics", (ask) =>
      Effect.map(
        ask<Omit<Server, "since"> & { readonly since: number | null }>(ofServer),
        ([row]) => row === undefined ? undefined : { ...row, since: row.since ?? undefined }
      ))
    const tables = yield* part("tables", (ask) => ask<Table>(ofTables, large))
    const activity = yield* part("how tables are used (pg_stat_user_tables)", (ask) => ask<Activity>(ofActivity, large))
    const indexes = yield* part("indexes", (ask) =>
      Effect.map(ask<IndexRow>(ofIndexes, large), (all) => all.map(toIndex)))
    const unused = yield* part("how indexes are used (pg_stat_user_indexes)", (ask) =>
      ask<{ readonly oid: number }>(ofUnused))
    const building = yield* part("indexes that are being built (pg_stat_progress_create_index)", (ask) =>
      ask<{ readonly oid: number | null }>(ofBuilding))
    const foreignKeys = yield* part("foreign keys", (ask) =>
      Effect.map(
        ask<Omit<ForeignKey, "columns"> & { readonly columns: string }>(ofForeignKeys, large),
        (all) =>
          all.map((key) => ({ ...key, columns: list(key.columns) }))
      ))
    const columns = scans.length === 0
      ? []
      : yield* part("columns of the tables in slow plans", (ask) =>
        ask<TableColumn>(ofColumns, [wanted]))
    const trigrams = scans.every(({ wildcard }) =>
        wildcard.length === 0
      )
      ? []
      : yield* part("extensions", (ask) =>
        ask<Trigrams>(ofTrigrams))

    return {
      server,
      tables: limited("tables", maxTables, tables),
      activity: limited("how tables are used", maxTables, activity),
      indexes: limited("indexes", maxIndexes, indexes),
      unused: unused === undefined ? undefined : new Set(unused.map((row) => row.oid)),
      building: building?.map((row) => row.oid),
      foreignKeys: limited("foreign keys", maxIndexes, foreignKeys),
      columns: columns ?? [],
      trigrams: trigrams?.[0],
      unread
    }
  })
