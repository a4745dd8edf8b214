/** The process that measures: `child.js SUITE_FILE time|bytes RESULT_FILE`, with `--expose-gc`. */
import { writeFileSync } from "node:fs"
import { pathToFileURL } from "node:url"
import { measureBytes, measureTime, type Options } from "./measure.ts"
import type { Measured } from "./statistics.ts"
import type { Suite } from "./Suite.ts"

/** What the process for times hands back. */
export interface Times {
  readonly suite: Omit<Suite, "make">
  readonly notes: ReadonlyArray<string>
  readonly measured: ReadonlyArray<Measured>
}

/** What the process for bytes hands back. */
export type Bytes = ReadonlyArray<Required<Pick<Measured, "group" | "name" | "bytes">>>

const [file, mode, resultFile] = process.argv.slice(2) as [string, "time" | "bytes", string]
const { suite } = await import(pathToFileURL(file).href) as { readonly suite: Suite }
const { make, ...described } = suite
const quick = process.env["BENCH_QUICK"] === "1"

const options: Options = {
  rounds: quick ? 5 : suite.rounds ?? 31,
  sampleMillis: 20,
  warmupMillis: mode === "time" && !quick ? 400 : 150,
  progress: (line) => process.send?.(line)
}

const { cases, close, notes } = await make()
try {
  const result: Times | Bytes = mode === "time"
    ? { suite: described, notes: notes ?? [], measured: await measureTime(cases, options) }
    : await measureBytes(cases, options)
  writeFileSync(resultFile, JSON.stringify(result))
} finally {
  await close?.()
}
// What a peer left running (timers of statistics) must not keep the process.
process.exit(0)
