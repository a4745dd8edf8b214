/**
 * The examples in doc comments and in Markdown, as programs that can be checked and run.
 *
 * A block fenced as `ts` is type-checked and run; one fenced as `ts no-run` is type-checked only. What
 * `console.log(x) // => value` prints is compared with the value behind the arrow.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { format, inspect, isDeepStrictEqual } from "node:util"
import { entries, list, read, root } from "./files.ts"
import * as Imports from "./imports.ts"

export interface Example {
  /** The file it stands in, relative to the repository. */
  readonly file: string
  /** 1-based line of its first line of code. */
  readonly line: number
  readonly code: string
  /** False for `ts no-run`. */
  readonly run: boolean
  /** Name of its temporary file, without the ending. */
  readonly name: string
}

/** One `// => value`, and the `console.log` that it judges. */
export interface Assertion {
  /** 1-based line within the example. */
  readonly line: number
  readonly expected: string
}

/** A program whose asserted `console.log`s report to the runner instead. Lines stay where they were. */
export interface Program {
  readonly code: string
  readonly assertions: ReadonlyArray<Assertion>
  /** Arrows that follow no `console.log`, as lines within the example. */
  readonly orphans: ReadonlyArray<number>
}

/** The fenced blocks of a text. In source files only those of doc comments count, without their leading stars. */
export const extract = (file: string, text: string): Array<Example> => {
  const found: Array<Example> = []
  const margin = file.endsWith(".md") ? /^\s*/ : /^\s*\* ?/
  let open: { readonly run: boolean; readonly line: number; readonly code: Array<string>; indent: number } | undefined
  let other = false
  text.split("\n").forEach((line, index) => {
    const prefix = margin.exec(line)?.[0]
    if (prefix === undefined) return
    const content = line.slice(prefix.length)
    const fence = /^```(.*)$/.exec(content.trimStart())?.[1]?.trim()
    if (open !== undefined) {
      if (fence === "") {
        const name = `${file.replace(/\.(ts|md)$/, "").replace(/[^\w]+/g, "-")}-${open.line}`
        found.push({ file, line: open.line, code: open.code.join("\n") + "\n", run: open.run, name })
        open = undefined
      } else {
        open.code.push(file.endsWith(".md") ? line.slice(Math.min(open.indent, prefix.length)) : content)
      }
    } else if (fence !== undefined) {
      if (other) other = false
      else if (fence === "ts" || fence === "ts no-run") {
        open = { run: fence === "ts", line: index + 2, code: [], indent: prefix.length }
      } else other = true
    }
  })
  return found
}

/** Every example of the repository, in the order of the files. */
export const collect = (base = root): Array<Example> =>
  [
    ...list("src", /\.ts$/, base),
    ...list("docs", /\.md$/, base),
    ...list(".", /^(README|CONTRIBUTING)\.md$/, base).filter((file) => !file.includes("/"))
  ].flatMap((file) => extract(file, read(file, base)))

/** Public modules, the namespaces that an entry point exports: name and file. */
export const publicModules = (base = root): Array<{ readonly name: string; readonly file: string }> =>
  Object.values(entries(base)).flatMap((entry) => {
    const found = list(entry.slice(0, entry.lastIndexOf("/")), /\.ts$/, base)
    if (!found.includes(entry)) return []
    const own = entry.slice(0, entry.lastIndexOf("/"))
    return Imports.read(read(entry, base)).flatMap(({ namespace, specifier }) =>
      namespace === undefined ? [] : [{ name: namespace, file: `${own}/${specifier.replace(/^\.\//, "")}` }]
    )
  })

/** Turns asserted `console.log(...)` calls into calls of `globalThis.exampleLog(n)(...)`. */
export const instrument = (code: string): Program => {
  const lines = code.split("\n")
  const assertions: Array<Assertion> = []
  const orphans: Array<number> = []
  let free = 0
  for (let index = 0; index < lines.length; index++) {
    const arrow = /^(.*?)\/\/ => ?(.*)$/.exec(lines[index]!)
    if (arrow === null) continue
    const expected = [arrow[2]!]
    const line = index + 1
    let site = index
    while (site >= free && !lines[site]!.includes("console.log(")) site--
    while (/^\s*\/\/ => ?/.test(lines[index + 1] ?? "")) {
      expected.push(lines[++index]!.replace(/^\s*\/\/ => ?/, ""))
    }
    if (site < free) {
      orphans.push(line)
      continue
    }
    const at = lines[site]!.lastIndexOf("console.log(")
    const call = `exampleLog(${assertions.length})(`
    lines[site] = lines[site]!.slice(0, at) + call + lines[site]!.slice(at + "console.log(".length)
    assertions.push({ line, expected: expected.join("\n") })
    free = index + 1
  }
  return { code: lines.join("\n"), assertions, orphans }
}

const squeeze = (text: string) => text.replace(/\s+/g, " ").trim()

/** The ways in which a printed value may be written behind the arrow. */
const forms = (args: ReadonlyArray<unknown>) => [
  format(...args),
  args.map((arg) => inspect(arg, { depth: 10 })).join(" "),
  args.map((arg) => typeof arg === "string" ? JSON.stringify(arg) : inspect(arg, { depth: 10 })).join(" "),
  args.map((arg) => inspect(arg, { breakLength: Infinity, compact: true, depth: 10 })).join(" ")
]

/** Whether what was printed is what stands behind the arrow: as text, or as a literal of the same value. */
export const matches = (args: ReadonlyArray<unknown>, expected: string): boolean => {
  if (forms(args).some((form) => squeeze(form) === squeeze(expected))) return true
  if (args.length !== 1) return false
  try {
    return isDeepStrictEqual(args[0], new Function(`return (${expected})`)())
  } catch {
    return false // not a literal
  }
}

/** What an example printed, for a message. */
export const shown = (args: ReadonlyArray<unknown>): string => forms(args)[1]!

/** The folder of the temporary files: inside the repository, so that packages resolve; git ignores it. */
export const folder = join(root, ".cache/examples")

/** The file to run for an example. */
export const runFile = (example: Example): string => join(folder, "run", `${example.name}.ts`)

/** Writes every example twice: as it stands, to be type-checked, and instrumented, to be run. */
export const write = (examples: ReadonlyArray<Example>): void => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, "run"), { recursive: true })
  for (const example of examples) {
    writeFileSync(join(folder, `${example.name}.ts`), example.code)
    if (example.run) writeFileSync(runFile(example), instrument(example.code).code)
  }
  const options = { noUnusedLocals: false, noUnusedParameters: false }
  const config = { extends: "../../tsconfig.json", compilerOptions: options, include: ["./*.ts"] }
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config))
}

/** Type-checks all written examples in one run. Answers the complaints of each, with the lines of the documentation. */
export const typeCheck = (examples: ReadonlyArray<Example>): Map<Example, Array<string>> => {
  const found = new Map<Example, Array<string>>(examples.map((example) => [example, []]))
  const byName = new Map(examples.map((example) => [example.name, example]))
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  const { stderr, stdout, error } = spawnSync(
    process.execPath,
    [tsc, "-p", join(folder, "tsconfig.json"), "--noEmit", "--pretty", "false"],
    { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 }
  )
  if (error !== undefined) throw error
  if (stderr !== "") throw new Error(stderr)
  let current: Array<string> | undefined
  for (const line of stdout.split("\n")) {
    const match = /^(.+?)\((\d+),(\d+)\): (error .*)$/.exec(line)
    if (match === null) {
      if (line.startsWith(" ")) current?.push(line)
      else if (line.startsWith("error ")) throw new Error(line)
      continue
    }
    const example = byName.get(/([^/\\]+)\.ts$/.exec(match[1]!)?.[1] ?? "")
    const inside = match[1]!.includes(".cache/examples/") || !/[/\\]/.test(match[1]!)
    current = example !== undefined && inside ? found.get(example) : undefined
    if (example !== undefined) current?.push(`${example.file}:${example.line + Number(match[2]) - 1}: ${match[4]}`)
  }
  return found
}
