/** Runs checks one after the other and tells each in one line: a tick, a name, the time, and what it counted. */
import { spawn } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { manifest, root } from "./files.ts"

export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

export interface Step {
  readonly name: string
  /** Program and arguments. `node` is the Node that runs this. */
  readonly command: ReadonlyArray<string>
  /** Where a test run leaves vitest's JSON report; absent for a step without tests. */
  readonly report?: string
}

interface Ended {
  readonly code: number
  readonly output: string
}

const reports = join(root, ".cache/reports")

/** A script of this repository. */
export const script = (name: string, file: string, ...args: ReadonlyArray<string>): Step => ({
  name,
  command: ["node", "node_modules/tsx/dist/cli.mjs", `scripts/${file}`, ...args]
})

/** A run of vitest over a part of the tests. */
export const tests = (name: string, ...args: ReadonlyArray<string>): Step => {
  const report = join(reports, `${name.replaceAll(" ", "-")}.json`)
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`]
  return { name, report, command: ["node", "node_modules/vitest/vitest.mjs", "run", ...reporters, ...args] }
}

const colour = process.stdout.isTTY === true && process.env["NO_COLOR"] === undefined
const paint = (code: number, text: string) => colour ? `\u001B[${code}m${text}\u001B[0m` : text

const seconds = (millis: number) =>
  millis < 60_000
    ? `${(millis / 1000).toFixed(1)} s`
    : `${Math.floor(millis / 60_000)} min ${Math.round(millis % 60_000 / 1000)} s`

const run = (step: Step): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const [program, ...args] = step.command
    const child = spawn(program === "node" ? process.execPath : program!, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...(colour ? { FORCE_COLOR: "1" } : { NO_COLOR: "1", FORCE_COLOR: undefined }) }
    })
    const chunks: Array<Buffer> = []
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk))
    child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk))
    child.on("error", reject)
    child.on("close", (code) => resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString("utf8") }))
  })

interface Report {
  readonly numPassedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly testResults: ReadonlyArray<{
    readonly status: string
    readonly assertionResults: ReadonlyArray<{ readonly status: string }>
  }>
}

/** A file that does not even load counts as one failure, and so does a run that fails without a failed test. */
const count = (step: Step, ended: Ended): Counts => {
  const fallback = { passed: 0, failed: ended.code === 0 ? 0 : 1, skipped: 0 }
  if (step.report === undefined) return fallback
  try {
    const report = JSON.parse(readFileSync(step.report, "utf8")) as Report
    const failed = report.testResults.reduce((sum, { assertionResults, status }) => {
      const own = assertionResults.filter((result) => result.status === "failed").length
      return sum + (own === 0 && status === "failed" ? 1 : own)
    }, 0)
    return {
      passed: report.numPassedTests,
      failed: Math.max(failed, fallback.failed),
      skipped: report.numPendingTests + report.numTodoTests
    }
  } catch {
    return fallback // no report: the run broke before it could write one
  }
}

const summary = (step: Step, counts: Counts, output: string) => {
  if (step.report === undefined) return /^(\d+ files)$/m.exec(output)?.[1] ?? ""
  const parts = [`${counts.passed} passed`]
  if (counts.failed > 0) parts.push(paint(31, `${counts.failed} failed`))
  if (counts.skipped > 0) parts.push(paint(33, `${counts.skipped} skipped`))
  return parts.join(", ")
}

/** Runs the steps; the first broken one ends it, unless `keepGoing`. Sets the exit code. */
export const runAll = async (
  title: string,
  steps: ReadonlyArray<Step>,
  { keepGoing }: { readonly keepGoing: boolean }
): Promise<void> => {
  rmSync(reports, { recursive: true, force: true })
  mkdirSync(reports, { recursive: true })
  console.log(`${paint(1, `seaworthy ${manifest().version}`)}: ${title}, Node ${process.versions.node}\n`)
  const width = Math.max(...steps.map(({ name }) => name.length))
  const started = performance.now()
  const totals = { passed: 0, failed: 0, skipped: 0 }
  for (const step of steps) {
    const label = step.name.padEnd(width)
    if (colour) process.stdout.write(`  … ${label}`)
    const before = performance.now()
    const ended = await run(step)
    const counts = count(step, ended)
    const good = ended.code === 0 && counts.failed === 0
    const took = seconds(performance.now() - before).padStart(11)
    const line = `  ${good ? paint(32, "✓") : paint(31, "✗")} ${label} ${paint(2, took)}   ${
      summary(step, counts, ended.output)
    }`
    console.log((colour ? "\r" : "") + line.trimEnd())
    totals.passed += counts.passed
    totals.failed += counts.failed
    totals.skipped += counts.skipped
    if (good) continue
    console.log(`\n${ended.output.trimEnd()}\n`)
    if (!keepGoing) break
  }
  if (totals.failed > 0) process.exitCode = 1
  writeFileSync(join(reports, "summary.json"), JSON.stringify(totals))
  const verdict = totals.failed === 0 ? paint(32, "All well") : paint(31, "Not well")
  const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : ""
  const took = seconds(performance.now() - started)
  console.log(`\n${verdict}: ${totals.passed} tests passed, ${totals.failed} failed${skipped}, in ${took}.`)
}
