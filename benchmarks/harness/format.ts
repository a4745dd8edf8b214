/** Figures and tables as text. */
import { cpus } from "node:os"
import type { GoalResult, Result, Spread } from "./statistics.ts"
import type { Metric } from "./Suite.ts"

const threeDigits = (value: number): string =>
  value >= 100 || value === 0 ? String(Math.round(value)) : value.toPrecision(value >= 10 ? 3 : 2)

/** `431 ns`, `12.4 us`, `3.1 ms`, `2.4 s` */
export const nanos = (value: number): string => {
  if (value < 1e3) return `${threeDigits(value)} ns`
  if (value < 1e6) return `${threeDigits(value / 1e3)} us`
  if (value < 1e9) return `${threeDigits(value / 1e6)} ms`
  return `${threeDigits(value / 1e9)} s`
}

/** `96 B`, `1.4 kB`, `2.1 MB` */
export const bytes = (value: number): string => {
  if (value < 1000) return `${Math.round(value)} B`
  if (value < 1e6) return `${threeDigits(value / 1e3)} kB`
  return `${threeDigits(value / 1e6)} MB`
}

export const figure = (metric: Metric, value: number): string => metric === "bytes" ? bytes(value) : nanos(value)

export const times = (value: number | null): string => value === null ? "" : `${threeDigits(value)} x`

export const machine = (): string => {
  const all = cpus()
  return `${
    all[0]?.model.trim() ?? "unknown processor"
  }, ${all.length} cores; Node ${process.versions.node}, ${process.platform}; ${new Date().toISOString().slice(0, 10)}`
}

export const metricName: Record<Metric, string> = { cpu: "CPU time", wall: "wall time", bytes: "bytes" }

/** Rows of equal width, as dprint wants a Markdown table. All columns but the first two are right-aligned. */
const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>, left = 2): string => {
  const widths = head.map((title, column) => Math.max(3, title.length, ...rows.map((row) => row[column]!.length)))
  const line = (row: ReadonlyArray<string>) =>
    `| ${
      row.map((cell, column) => column < left ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)).join(
        " | "
      )
    } |`
  const rule = widths.map((width, column) => column < left ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)
  return [line(head), line(rule), ...rows.map(line)].join("\n")
}

/** One table for all groups of a suite. The smallest and largest round are those of the suite's own metric. */
export const resultTable = (metric: Metric, results: ReadonlyArray<Result>, bytesTitle: string): string => {
  const withBytes = results.some(({ bytesPerCall }) => bytesPerCall !== null)
  const minMax = (shown: Metric, spread: Spread) =>
    shown === metric ? ` (${nanos(spread.min)} - ${nanos(spread.max)})` : ""
  const head = ["what", "", "CPU time", "wall time", "x floor", "x ours"]
  const rows = results.map((result, index) => {
    const { bytesPerCall, cpuNanos, group, ratioToFloor, ratioToOurs, role, wallNanos } = result
    const cells = [
      results[index - 1]?.group === group ? "" : group,
      role === "ours" ? `**${result.case}**` : result.case,
      nanos(cpuNanos.median) + minMax("cpu", cpuNanos),
      nanos(wallNanos.median) + minMax("wall", wallNanos),
      times(ratioToFloor),
      times(ratioToOurs)
    ]
    return withBytes ? [...cells, bytesPerCall === null ? "" : bytes(bytesPerCall)] : cells
  })
  return table(withBytes ? [...head, bytesTitle] : head, rows)
}

export const goalLine = (goal: GoalResult): string => {
  const { against, atMost, group, is, metric, reached } = goal
  const what = against === undefined
    ? `at most ${figure(metric, atMost)}, is ${figure(metric, is)}`
    : `at most ${atMost} x "${against}", is ${is.toFixed(2)} x`
  return `${reached ? "reached" : "MISSED"}: ${group}, ${goal.case}: ${what} (${metricName[metric]})`
}
