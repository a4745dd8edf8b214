import { assert, describe, it } from "@effect/vitest"
import { complaints } from "../../scripts/lib/directions.ts"
import * as Imports from "../../scripts/lib/imports.ts"

const check = (files: Record<string, string>) =>
  complaints({
    sources: Object.entries(files).map(([file, text]) => ({ file, text })),
    entries: Object.fromEntries(
      Object.entries({ ".": "src/index.ts", "./redis": "src/backends/redis.ts" }).filter(([, file]) => file in files)
    ),
    declared: ["effect", "ioredis", "yaml"]
  })

describe("import statements", () => {
  const read = (text: string) => Imports.read(text).map(({ kind, line, specifier }) => [line, kind, specifier])

  it("are read over several lines, with their kind and line", () => {
    assert.deepStrictEqual(
      read([
        "import * as Effect from \"effect/Effect\"",
        "import type { A } from \"./A.ts\"",
        "import {",
        "  type B,",
        "  C",
        "} from \"./B.ts\"",
        "import \"./sideEffect.ts\"",
        "export * as D from \"./D.ts\"",
        "export type { E } from \"./E.ts\""
      ].join("\n")),
      [
        [1, "value", "effect/Effect"],
        [2, "type", "./A.ts"],
        [3, "value", "./B.ts"],
        [7, "value", "./sideEffect.ts"],
        [8, "value", "./D.ts"],
        [9, "type", "./E.ts"]
      ]
    )
  })

  it("include what is loaded on demand, and the types of it", () => {
    assert.deepStrictEqual(
      read("const load = () => import(\"yaml\")\nlet lib: typeof import(\"ioredis\")\n"),
      [[1, "dynamic", "yaml"], [2, "type", "ioredis"]]
    )
  })

  it("in doc comments and strings do not count", () => {
    assert.deepStrictEqual(
      read(
        "/**\n * import { A } from \"./A.ts\"\n * import(\"yaml\")\n */\nexport const a = \"x\"\nconst from = \"y\"\n"
      ),
      []
    )
  })

  it("do not swallow an export without `from`", () => {
    assert.deepStrictEqual(
      read("export const a = 1\nexport { a as b }\nimport { C } from \"./C.ts\"\n"),
      [[3, "value", "./C.ts"]]
    )
  })
})

describe("folder directions", () => {
  it("allow a folder itself and the folders of its row", () => {
    assert.deepStrictEqual(
      check({
        "src/observability/Status.ts": "import * as Effect from \"effect/Effect\"\n",
        "src/resilience/Retry.ts":
          "import * as Status from \"../observability/Status.ts\"\nimport \"./internal/a.ts\"\n",
        "src/resilience/internal/a.ts": "import { inspect } from \"node:util\"\n"
      }),
      []
    )
  })

  it("name the file, the line and what would be allowed", () => {
    assert.deepStrictEqual(
      check({
        "src/observability/Status.ts": "\nimport type { A } from \"../resource/Database.ts\"\n",
        "src/resource/Database.ts": ""
      }),
      ["src/observability/Status.ts:2: src/observability may not import src/resource (only nothing of ours)"]
    )
  })

  it("keep the root entry away from backends", () => {
    const [first] = check({
      "src/index.ts": "export * as redis from \"./backends/redis.ts\"\n",
      "src/backends/redis.ts": ""
    })
    assert.include(first, "src/index.ts:1: src/index.ts may not import src/backends")
  })

  it("refuse an unknown folder, a missing file and an undeclared package", () => {
    assert.deepStrictEqual(
      check({ "src/misc/A.ts": "", "src/resource/B.ts": "import \"./C.ts\"\nimport \"lodash/map\"\n" }),
      [
        "src/misc/A.ts: a folder \"misc\" is not in the table of scripts/lib/directions.ts",
        "src/resource/B.ts:1: imports src/resource/C.ts, which does not exist",
        "src/resource/B.ts:2: imports \"lodash\", which package.json does not name as a (peer) dependency"
      ]
    )
  })
})

describe("file names", () => {
  it("differ in more than case", () => {
    assert.deepStrictEqual(check({ "src/operations/Main.ts": "", "src/operations/main.ts": "" }), [
      "src/operations/Main.ts and src/operations/main.ts differ only in case: some file systems keep one of them"
    ])
  })
})

describe("import cycles", () => {
  const cycle = (kind: string) => ({
    "src/resource/A.ts": "import * as B from \"./B.ts\"\n",
    "src/resource/B.ts": "import * as C from \"./C.ts\"\n",
    "src/resource/C.ts": `import ${kind}{ B } from "./B.ts"\n`
  })

  it("are reported with their path", () => {
    assert.deepStrictEqual(check(cycle("")), [
      "import cycle: src/resource/B.ts -> src/resource/C.ts -> src/resource/B.ts"
    ])
  })

  it("of types only are allowed", () => {
    assert.deepStrictEqual(check(cycle("type ")), [])
  })
})

describe("what an entry point loads", () => {
  const withRoot = (text: string) => ({
    "src/index.ts": "export * as Settings from \"./resource/Settings.ts\"\n",
    "src/resource/Settings.ts": text
  })

  it("is effect alone for the root, types included", () => {
    assert.deepStrictEqual(check(withRoot("import type { Redis } from \"ioredis\"\n")), [
      "src/resource/Settings.ts:1: entry point \".\" would load \"ioredis\", by src/index.ts -> src/resource/Settings.ts"
    ])
  })

  it("does not count what is loaded on demand", () => {
    assert.deepStrictEqual(check(withRoot("export const load = () => import(\"yaml\")\n")), [])
  })

  it("is its own client for a backend", () => {
    assert.deepStrictEqual(check({ "src/backends/redis.ts": "import { Redis } from \"ioredis\"\n" }), [])
  })
})
