/**
 * Every example in the documentation is type-checked, run, and held to what it claims to print.
 *
 * The examples run in this process, one after the other. The time-out is for embedded databases on a busy machine.
 */
import { afterAll, assert, beforeAll, describe, it, vi } from "@effect/vitest"
import * as Examples from "../../scripts/lib/examples.ts"

const examples = Examples.collect()
Examples.write(examples)

const home = process.cwd()
let complaints: ReadonlyMap<Examples.Example, ReadonlyArray<string>> = new Map()
let printed: Array<ReadonlyArray<ReadonlyArray<unknown>>> = []

const record = (assertion: number) => (...args: ReadonlyArray<unknown>) => {
  printed[assertion] = [...printed[assertion] ?? [], args]
}

beforeAll(() => {
  complaints = Examples.typeCheck(examples)
  process.chdir(Examples.folder) // what an example writes is ignored by git
  vi.spyOn(console, "log").mockImplementation(() => {})
  Object.assign(globalThis, { exampleLog: record })
}, 120_000)

afterAll(() => {
  vi.restoreAllMocks()
  process.chdir(home)
  Reflect.deleteProperty(globalThis, "exampleLog")
})

const run = async (example: Examples.Example) => {
  const at = (line: number) => `${example.file}:${example.line + line - 1}`
  const program = Examples.instrument(example.code)
  assert.deepStrictEqual(
    program.orphans.map((line) => `${at(line)}: "// =>" follows no console.log(...)`),
    []
  )
  printed = []
  try {
    await import(/* @vite-ignore */ Examples.runFile(example))
  } catch (error) {
    throw new Error(`${at(1)}: the example failed: ${String(error)}`, { cause: error })
  }
  const wrong = program.assertions.flatMap(({ expected, line }, index) => {
    const calls = printed[index] ?? []
    if (calls.length === 0) return [`${at(line)}: expected ${expected}, but nothing was printed`]
    return calls
      .filter((args) => !Examples.matches(args, expected))
      .map((args) => `${at(line)}: expected ${expected}, but it printed ${Examples.shown(args)}`)
  })
  assert.strictEqual(wrong.join("\n"), "")
}

describe("every example type-checks, runs, and prints what it says", () => {
  for (const example of examples) {
    it(`${example.file}:${example.line}${example.run ? "" : " (only type-checked)"}`, async () => {
      assert.strictEqual((complaints.get(example) ?? []).join("\n"), "")
      if (example.run) await run(example)
    }, 120_000)
  }
})

describe("every public module shows an example", () => {
  for (const { file, name } of Examples.publicModules()) {
    it(name, () => {
      assert.isTrue(
        examples.some((example) => example.file === file),
        `${file} is public and has no example: write a \`\`\`ts block in its header`
      )
    })
  }
})
