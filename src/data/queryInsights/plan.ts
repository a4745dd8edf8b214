// What is kept of a plan: an outline without values, and the sequential scans with the columns that they look for.
// Pure.
import { withoutValues } from "../internal/sqlText.ts"
import { type Column, readCondition, readSortKeys, type SortColumn } from "./condition.ts"

/** A table read as a whole, though the statement wants few of its rows. */
export interface Scan {
  readonly schema: string
  readonly table: string
  /** Rows that the server expects the statement to want of it. */
  readonly wanted: number
  readonly equal: ReadonlyArray<Column>
  readonly range: ReadonlyArray<Column>
  readonly wildcard: ReadonlyArray<Column>
  /** Whether these are all that the rows are looked for by. */
  readonly whole: boolean
  /** The columns that it is sorted by only to keep the first rows. Empty: it is not. */
  readonly order: ReadonlyArray<SortColumn>
}

export interface PlanFacts {
  readonly outline: ReadonlyArray<string>
  readonly scans: ReadonlyArray<Scan>
}

interface Node {
  readonly [field: string]: unknown
}

const maxLines = 40
const maxLine = 200
const maxScans = 20
const maxDepth = 100

const text = (node: Node, field: string): string | undefined => {
  const value = node[field]
  return typeof value === "string" ? value : undefined
}
const number = (node: Node, field: string): number => {
  const value = node[field]
  return typeof value === "number" ? value : 0
}
const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && !Array.isArray(value)
const childrenOf = (node: Node): ReadonlyArray<Node> => {
  const plans = node["Plans"]
  return Array.isArray(plans) ? plans.filter(isNode) : []
}

const conditions = ["Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter"]

const lineOf = (node: Node, depth: number): string => {
  const parts = [`${"  ".repeat(Math.min(depth, 10))}${text(node, "Node Type") ?? "?"}`]
  const table = text(node, "Relation Name")
  if (table !== undefined) parts.push(`on ${text(node, "Schema") ?? "?"}.${table}`)
  const index = text(node, "Index Name")
  if (index !== undefined) parts.push(`by ${index}`)
  parts.push(`(${number(node, "Plan Rows")} rows)`)
  const keys = node["Sort Key"]
  if (Array.isArray(keys)) parts.push(`sorted by ${withoutValues(keys.join(", "))}`)
  for (const field of conditions) {
    const condition = text(node, field)
    if (condition !== undefined) parts.push(`${field.toLowerCase()} ${withoutValues(condition)}`)
  }
  const line = parts.join(" ")
  return line.length <= maxLine ? line : `${line.slice(0, maxLine - 1)}…`
}

/** How a sequential scan is used by what stands above it. */
interface Above {
  /** Processes that share the scan: its rows are counted for one. */
  readonly processes: number
  /** Rows that a LIMIT above lets through. */
  readonly limit: number | undefined
  /** What is sorted right above, for that LIMIT alone. */
  readonly order: ReadonlyArray<SortColumn>
}

const nothing: Above = { processes: 1, limit: undefined, order: [] }

const scanOf = (node: Node, above: Above): Scan | undefined => {
  const table = text(node, "Relation Name")
  const schema = text(node, "Schema")
  if (table === undefined || schema === undefined) return undefined
  const filter = text(node, "Filter")
  const condition = filter === undefined ? undefined : readCondition(filter)
  const found = condition ?? { equal: [], range: [], wildcard: [], whole: true }
  // An index in the order of the rows serves when what is left to filter is looked for in the index too.
  const order = found.whole && found.range.length === 0 ? above.order : []
  const rows = number(node, "Plan Rows") * above.processes
  return {
    schema,
    table,
    wanted: order.length > 0 && above.limit !== undefined ? Math.min(rows, above.limit) : rows,
    equal: found.equal,
    range: found.range,
    wildcard: found.wildcard,
    whole: found.whole,
    order
  }
}

const below = (node: Node, above: Above): Above => {
  switch (text(node, "Node Type")) {
    case "Limit":
      return { ...nothing, processes: above.processes, limit: number(node, "Plan Rows") }
    case "Gather":
    case "Gather Merge":
      return { ...above, processes: number(node, "Workers Planned") + 1 }
    case "Sort": {
      const keys = node["Sort Key"]
      const order = above.limit === undefined || !Array.isArray(keys) ? undefined : readSortKeys(keys)
      return { ...above, order: order ?? [], limit: order === undefined ? undefined : above.limit }
    }
    default:
      // Anything else changes rows or their order.
      return { ...nothing, processes: above.processes }
  }
}

/** Reads what `EXPLAIN (FORMAT JSON, VERBOSE)` gave; `undefined` when it is not understood. */
export const readPlan = (json: unknown): PlanFacts | undefined => {
  const first: unknown = Array.isArray(json) ? json[0] : undefined
  const root = isNode(first) ? first["Plan"] : undefined
  if (!isNode(root)) return undefined
  const outline: Array<string> = []
  const scans: Array<Scan> = []
  const walk = (node: Node, above: Above, depth: number) => {
    if (depth > maxDepth) return
    if (outline.length < maxLines) outline.push(lineOf(node, depth))
    if (text(node, "Node Type") === "Seq Scan" && scans.length < maxScans) {
      const scan = scanOf(node, above)
      if (scan !== undefined) scans.push(scan)
    }
    const next = below(node, above)
    for (const child of childrenOf(node)) walk(child, next, depth + 1)
  }
  walk(root, nothing, 0)
  return { outline, scans }
}
