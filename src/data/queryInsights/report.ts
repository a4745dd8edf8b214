// Puts a report together. Pure.
import type { Catalog, Index } from "./catalog.ts"
import type { Finding } from "./finding.ts"
import { fromPlans, fromRepeats, fromTexts } from "./planAdvice.ts"
import type { Repeated } from "./request.ts"
import { type Entry, show, type SlowStatement } from "./slowLog.ts"
import * as Statistics from "./statisticsAdvice.ts"

/**
 * What is known at one instant.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** Unix milliseconds. */
  readonly at: number
  /** As `Database.driver`. */
  readonly driver: string
  /** Version of the server, if it told. */
  readonly server: string | undefined
  /** It follows another server: what is to be changed has to be changed there. */
  readonly replica: boolean
  /** Unix milliseconds since which the server counts how tables and indexes are used, if it told. */
  readonly statisticsSince: number | undefined
  /** What to do, the most pressing first; at most 100. */
  readonly findings: ReadonlyArray<Finding>
  /** Findings that were left out. */
  readonly omitted: number
  /** Those that took most time in all come first. */
  readonly slow: ReadonlyArray<SlowStatement>
  readonly repeated: ReadonlyArray<Repeated>
  /** What could not be looked at, and why. Empty: everything was. */
  readonly unread: ReadonlyArray<string>
}

const maxFindings = 100

export interface Input {
  readonly at: number
  readonly driver: string
  readonly entries: ReadonlyArray<Entry>
  readonly repeated: ReadonlyArray<Repeated>
  readonly largeTable: number
  readonly statisticsAgeMillis: number
  readonly isKnown: (index: Index) => boolean
}

const columnsWanted = (entries: ReadonlyArray<Entry>, catalog: Catalog): Map<number, Set<string>> => {
  const wanted = new Map<number, Set<string>>()
  for (const entry of entries) {
    for (const scan of entry.plan?.facts.scans ?? []) {
      const table = catalog.tables.find(({ name, schema }) => schema === scan.schema && name === scan.table)
      if (table === undefined) continue
      const columns = wanted.get(table.oid) ?? new Set()
      for (const { name } of [...scan.equal, ...scan.range, ...scan.wildcard, ...scan.order]) columns.add(name)
      wanted.set(table.oid, columns)
    }
  }
  return wanted
}

const fromStatistics = (input: Input, catalog: Catalog, plans: ReadonlyArray<Finding>): ReadonlyArray<Finding> => {
  const duplicates = Statistics.duplicates(catalog)
  const context = { ...input, wanted: columnsWanted(input.entries, catalog), duplicates }
  const sql = new Set(plans.flatMap((finding) => finding.sql))
  const tables = new Set(plans.map(({ subject }) => subject))
  return [
    // One that a slow statement wants as well is told with the statement.
    ...Statistics.unindexedForeignKeys(catalog).filter((finding) => !sql.has(finding.sql[0]!)),
    ...fromTexts(input.entries),
    ...Statistics.sequentialScans(catalog, context).filter(({ subject }) => !tables.has(subject)),
    ...Statistics.deadRows(catalog, context),
    ...Statistics.staleStatistics(catalog, context),
    ...Statistics.duplicateIndexes(duplicates),
    ...Statistics.unusedIndexes(catalog, context)
  ]
}

/** `catalog` is a text where there is none: why. */
export const make = (input: Input, catalog: Catalog | string): Report => {
  const own = fromRepeats(input.repeated)
  const known = typeof catalog === "string" ? undefined : catalog
  const plans = known === undefined ? [] : fromPlans(input.entries, known)
  const findings = known === undefined
    ? [...own, ...fromTexts(input.entries)]
    : [...Statistics.invalidIndexes(known), ...plans, ...own, ...fromStatistics(input, known, plans)]
  return {
    at: input.at,
    driver: input.driver,
    server: known?.server?.version,
    replica: known?.server?.replica ?? false,
    statisticsSince: known?.server?.since,
    findings: findings.slice(0, maxFindings),
    omitted: Math.max(0, findings.length - maxFindings),
    slow: input.entries.map(show),
    repeated: input.repeated,
    unread: typeof catalog === "string" ? [catalog] : catalog.unread
  }
}
