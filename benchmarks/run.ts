/**
 * `npm run bench -- SUITE... [--json FILE] [--quick]`: measures a suite, prints it, and keeps `docs/benchmarks.md` and its
 * pictures. Without a suite it lists them; `all` runs every one. `--quick` measures few rounds and keeps nothing.
 *
 * Suites are bundled by esbuild first, so that what runs is what a user runs: plain JavaScript, without the helper calls
 * that loaders put around functions. They run in processes of their own, with `--expose-gc`.
 */
import { build } from "esbuild"
import { fork, spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { root } from "../scripts/lib/files.ts"
import { chart } from "./harness/chart.ts"
import type { Bytes, Times } from "./harness/child.ts"
import { writePicture, writeSection } from "./harness/docs.ts"
import { goalLine, machine, metricName, resultTable } from "./harness/format.ts"
import { type GoalResult, goals, type Measured, type Result, results } from "./harness/statistics.ts"
import { isSuiteName, type SuiteName, suites } from "./suites.ts"

const names = Object.keys(suites) as Array<SuiteName>

const usage = () => {
  const width = Math.max(...names.map((name) => name.length))
  console.log("npm run bench -- SUITE... [--json FILE] [--quick]\n")
  for (const name of names) console.log(`  ${name.padEnd(width)}  ${suites[name]}`)
  console.log(`  ${"all".padEnd(width)}  Every suite, one after the other.`)
}

const bundle = async (
  name: SuiteName
): Promise<{ readonly child: string; readonly suite: string; readonly folder: string }> => {
  const folder = join(root, ".cache/bench", name)
  rmSync(folder, { recursive: true, force: true })
  await build({
    absWorkingDir: root,
    entryPoints: { child: "benchmarks/harness/child.ts", suite: `benchmarks/suites/${name}.ts` },
    outdir: folder,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    logLevel: "warning"
  })
  return { folder, child: join(folder, "child.js"), suite: join(folder, "suite.js") }
}

const flags = {
  time: ["--expose-gc"],
  // New space as large as all that the measured calls leave behind: no collection falls between.
  bytes: ["--expose-gc", "--min-semi-space-size=256", "--max-semi-space-size=256"]
}

const progress = (name: string) => {
  if (process.stderr.isTTY !== true) return { show: () => {}, end: () => {} }
  return {
    show: (line: string) => process.stderr.write(`\r\u001B[K${name}: ${line}`),
    end: () => process.stderr.write("\r\u001B[K")
  }
}

const measure = <A>(name: SuiteName, files: { child: string; suite: string; folder: string }, mode: "time" | "bytes") =>
  new Promise<A>((resolve, reject) => {
    const out = join(files.folder, `${mode}.json`)
    const { end, show } = progress(name)
    const child = fork(files.child, [files.suite, mode, out], {
      cwd: root,
      execArgv: flags[mode],
      env: { ...process.env, BENCH_QUICK: quick ? "1" : "" }
    })
    child.on("message", (line) => show(String(line)))
    child.on("error", reject)
    child.on("exit", (code) => {
      end()
      if (code === 0) resolve(JSON.parse(readFileSync(out, "utf8")) as A)
      else reject(new Error(`suite ${name} ended with ${code}`))
    })
  })

interface Outcome {
  readonly results: ReadonlyArray<Result>
  readonly goals: ReadonlyArray<GoalResult>
}

const runSuite = async (name: SuiteName): Promise<Outcome> => {
  const files = await bundle(name)
  const { measured, notes, suite } = await measure<Times>(name, files, "time")
  const bytes = suite.withoutBytes === true ? [] : await measure<Bytes>(name, files, "bytes")
  const bytesOf = (one: Measured) =>
    one.bytes ?? bytes.find(({ group, name }) => group === one.group && name === one.name)?.bytes
  const all = measured.map((one) => ({ ...one, bytes: bytesOf(one) }))
  const found = results(name, suite.metric, all)
  const judged = goals(name, suite.metric, suite.goals, all)

  const text = resultTable(suite.metric, found, suite.bytesTitle ?? "bytes a call")
  const rounds = Math.max(...measured.map(({ wall }) => wall.length))
  const where = `${machine()}; ${rounds} rounds, ratios of ${metricName[suite.metric]}.`
  console.log(`\n${name}: ${suites[name]}\n${where}\n\n${text.replace(/\*\*(.*?)\*\*/g, "$1    ")}\n`)
  for (const line of [...judged.map(goalLine), ...notes]) console.log(`- ${line}`)

  if (!quick) {
    const picture = writePicture(name, chart(`${name}: ${metricName[suite.metric]}`, suite.metric, where, found))
    const lists = [judged.map(goalLine), notes].filter((lines) => lines.length > 0)
      .map((lines) => lines.map((line) => `- ${line}`).join("\n"))
    const section = [`## ${name}`, suites[name], suite.about, where, text, ...lists, `![${name}](${picture})`]
    writeSection(name, section.join("\n\n"), names)
  }
  return { results: found, goals: judged }
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "string" }, quick: { type: "boolean", default: false } }
})
const { quick } = values
const wanted = positionals.includes("all") ? names : positionals.filter(isSuiteName)
const unknown = positionals.filter((name) => name !== "all" && !isSuiteName(name))

if (unknown.length > 0) {
  console.error(`unknown suite: ${unknown.join(", ")}\n`)
  process.exitCode = 2
}
if (positionals.length === 0 || unknown.length > 0) usage()
else {
  mkdirSync(join(root, ".cache/bench"), { recursive: true })
  const outcomes: Array<Outcome> = []
  for (const name of wanted) {
    try {
      outcomes.push(await runSuite(name))
    } catch (error) {
      // The other suites are still worth having.
      console.error(`\n${name}: ${error instanceof Error ? error.message : String(error)}`)
      process.exitCode = 1
    }
  }
  if (values.json !== undefined) {
    const document = {
      machine: machine(),
      results: outcomes.flatMap((outcome) => outcome.results),
      goals: outcomes.flatMap((outcome) => outcome.goals)
    }
    writeFileSync(values.json, `${JSON.stringify(document, null, 2)}\n`)
  }
  if (!quick) {
    spawnSync(process.execPath, ["node_modules/dprint/bin.cjs", "fmt", "docs/benchmarks.md"], { cwd: root })
  }
}
