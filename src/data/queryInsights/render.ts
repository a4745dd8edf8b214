// A report as Markdown, for people. Pure.
import { duration, type Finding, plural, time, whole } from "./finding.ts"
import type { Report } from "./report.ts"
import type { SlowStatement } from "./slowLog.ts"

const titles: Record<Finding["kind"], string> = {
  InvalidIndex: "Invalid index",
  MissingIndex: "Missing index",
  RepeatedQuery: "Query repeated within one request",
  UnindexedForeignKey: "Foreign key without an index",
  LeadingWildcard: "LIKE with a leading wildcard",
  LargeOffset: "Large OFFSET",
  SequentialScans: "Large table read as a whole",
  DeadRows: "Dead rows",
  StaleStatistics: "Old figures for the planner",
  DuplicateIndex: "Duplicate index",
  UnusedIndex: "Unused index"
}

/** Of statements and names that may hold anything: fences and lines must not be theirs to end. */
const oneLine = (text: string): string => text.replace(/\s+/g, " ").replaceAll("`", "'")

const fence = (lines: ReadonlyArray<string>): ReadonlyArray<string> => ["```sql", ...lines.map(fenced), "```"]
// Names with line ends are legal in SQL, and have to stay as they are.
const fenced = (line: string): string => line.replaceAll("```", "'''")

const finding = (one: Finding, number: number): ReadonlyArray<string> => [
  `### ${number}. ${titles[one.kind]}`,
  "",
  oneLine(`${one.seen} ${one.why}`),
  "",
  oneLine(one.advice),
  ...(one.sql.length === 0 ? [] : ["", ...fence(one.sql.map((sql) => `${sql};`))]),
  ...(one.caution === undefined ? [] : ["", `Mind: ${oneLine(one.caution)}`]),
  ...(one.statements.length === 0 ? [] : ["", "Of:", ...one.statements.map((text) => `- \`${oneLine(text)}\``)]),
  ""
]

const statement = (one: SlowStatement, number: number): ReadonlyArray<string> => [
  `${number}. \`${oneLine(one.text)}\``,
  `   ${plural(one.count, "time")}${one.failures === 0 ? "" : ` (${whole(one.failures)} failed)`}, mean ${
    duration(one.mean)
  }, p95 ${duration(one.p95)}, longest ${duration(one.max)}, in all ${duration(one.total)}; last at ${
    time(one.lastAt)
  }`,
  ...(one.parameters.length === 0 ? [] : [`   parameters: ${one.parameters.join(", ")}`]),
  `   by: ${one.callers.map(({ by, count }) => `${oneLine(by)} (${whole(count)})`).join("; ")}`,
  ...(one.plan === undefined ? [] : [
    "",
    "   ```text",
    ...one.plan.map((line) => `   ${line.replace(/[\r\n]+/g, " ").replaceAll("```", "'''")}`),
    "   ```"
  ])
]

export const render = (report: Report): string => {
  const server = report.server === undefined ? "" : `, server ${report.server}${report.replica ? " (a replica)" : ""}`
  const counted = report.statisticsSince === undefined ? "" : `, statistics since ${time(report.statisticsSince)}`
  return [
    "# Query insights",
    "",
    oneLine(`${time(report.at)}, driver ${report.driver}${server}${counted}.`),
    ...(report.unread.length === 0 ? [] : ["", "Not looked at:", ...report.unread.map((what) => `- ${oneLine(what)}`)]),
    "",
    `## Findings (${whole(report.findings.length + report.omitted)})`,
    "",
    ...(report.findings.length === 0 ? ["Nothing found.", ""] : []),
    ...report.findings.flatMap((one, i) => finding(one, i + 1)),
    ...(report.omitted === 0 ? [] : [`${plural(report.omitted, "more finding")} left out.`, ""]),
    `## Slow statements (${whole(report.slow.length)})`,
    "",
    ...(report.slow.length === 0 ? ["None."] : report.slow.flatMap((one, i) => statement(one, i + 1))),
    ""
  ].join("\n")
}
