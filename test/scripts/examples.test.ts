import { assert, describe, it } from "@effect/vitest"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import * as Barrels from "../../scripts/lib/barrels.ts"
import * as Examples from "../../scripts/lib/examples.ts"

const fence = "```"

describe("an example", () => {
  it("is a ts block of a doc comment, with the line it stands on", () => {
    const text = [
      "/**",
      " * Text.",
      " *",
      ` * ${fence}ts`,
      " * const a = 1",
      " *",
      " * if (a)",
      ` * ${fence}`,
      " */",
      ""
    ]
    assert.deepStrictEqual(Examples.extract("src/a/B.ts", text.join("\n")), [
      { file: "src/a/B.ts", line: 5, code: "const a = 1\n\nif (a)\n", run: true, name: "src-a-B-5" }
    ])
  })

  it("is a ts block of a Markdown file, also inside a list", () => {
    const text = ["- text", "", `  ${fence}ts no-run`, "  if (a) {", "    b", "  }", `  ${fence}`, ""]
    assert.deepStrictEqual(Examples.extract("docs/a.md", text.join("\n")), [
      { file: "docs/a.md", line: 4, code: "if (a) {\n  b\n}\n", run: false, name: "docs-a-4" }
    ])
  })

  it("is no block of another language, and none inside one", () => {
    const text = ["~~~", `${fence}sh`, "npm test", fence, `${fence}text`, `${fence}ts`, fence, fence, ""]
    assert.deepStrictEqual(Examples.extract("README.md", text.slice(1, 4).join("\n")), [])
    assert.deepStrictEqual(Examples.extract("README.md", text.slice(4, 7).join("\n")), [])
  })
})

describe("an assertion", () => {
  const expectations = (code: string) => {
    const { assertions, code: instrumented, orphans } = Examples.instrument(code)
    return { assertions, orphans, lines: instrumented.split("\n") }
  }

  it("belongs to the console.log on its line, and lines stay where they were", () => {
    assert.deepStrictEqual(expectations("console.log(1) // => 1\nconsole.log(2)\nconsole.log(3) // => 3"), {
      assertions: [{ line: 1, expected: "1" }, { line: 3, expected: "3" }],
      orphans: [],
      lines: ["exampleLog(0)(1) // => 1", "console.log(2)", "exampleLog(1)(3) // => 3"]
    })
  })

  it("may follow a call of several lines, and span several lines itself", () => {
    assert.deepStrictEqual(expectations("console.log(\n  x\n)\n// => {\n// =>   a: 1\n// => }"), {
      assertions: [{ line: 4, expected: "{\n  a: 1\n}" }],
      orphans: [],
      lines: ["exampleLog(0)(", "  x", ")", "// => {", "// =>   a: 1", "// => }"]
    })
  })

  it("without a console.log of its own is an orphan", () => {
    assert.deepStrictEqual(expectations("const a = 1 // => 1").orphans, [1])
    assert.deepStrictEqual(expectations("console.log(1) // => 1\nf() // => 2").orphans, [2])
  })

  it("holds for the printed text, the inspected value, or a literal of the same value", () => {
    assert.isTrue(Examples.matches(["open"], "open"))
    assert.isTrue(Examples.matches(["open"], "'open'"))
    assert.isTrue(Examples.matches(["open"], "\"open\""))
    assert.isTrue(Examples.matches([{ a: [1, "x"] }], "{ a: [1, \"x\"] }"))
    assert.isTrue(Examples.matches([{ a: 1 }], "{\n  a: 1\n}"))
    assert.isTrue(Examples.matches(["a", 1], "a 1"))
    assert.isTrue(Examples.matches(["a", 1], "\"a\" 1"))
  })

  it("does not hold for anything else", () => {
    assert.isFalse(Examples.matches(["open"], "closed"))
    assert.isFalse(Examples.matches([1], "2"))
    assert.isFalse(Examples.matches([1], "\"1\""))
    assert.isFalse(Examples.matches([{ a: 1 }], "{ a: 1, b: 2 }"))
    assert.isFalse(Examples.matches([undefined], ""))
  })
})

describe("barrels and public modules", () => {
  const project = (files: Record<string, string>, use: (base: string) => void) => {
    const base = mkdtempSync(join(tmpdir(), "seaworthy-scripts-"))
    try {
      for (const [file, text] of Object.entries(files)) {
        mkdirSync(dirname(join(base, file)), { recursive: true })
        writeFileSync(join(base, file), text)
      }
      use(base)
    } finally {
      rmSync(base, { recursive: true })
    }
  }
  const files = {
    "src/resource/Database.ts": "",
    "src/resource/helper.ts": "",
    "src/resource/internal/Private.ts": "",
    "src/observability/Status.ts": "",
    "src/backends/redis.ts": "",
    "src/testing/Chaos.ts": "",
    "package.json": JSON.stringify({ exports: { ".": { types: "", default: "./dist/index.js" } } })
  }

  it("export the capitalized modules that sit directly in a folder", () => {
    project(files, (base) => {
      assert.deepStrictEqual(Barrels.generate(base).map(({ file, text }) => [file, text.split("\n").slice(1, -1)]), [
        ["src/index.ts", [
          "export * as Status from \"./observability/Status.ts\"",
          "export * as Database from \"./resource/Database.ts\""
        ]],
        ["src/operations/index.ts", ["export {}"]],
        ["src/testing/index.ts", ["export * as Chaos from \"./Chaos.ts\""]]
      ])
    })
  })

  it("refuse two modules of one name", () => {
    project({ ...files, "src/data/Database.ts": "" }, (base) => {
      assert.throws(() => Barrels.generate(base), /two modules are called Database/)
    })
  })

  it("make a module public", () => {
    project({ ...files, "src/index.ts": "export * as Database from \"./resource/Database.ts\"\n" }, (base) => {
      assert.deepStrictEqual(Examples.publicModules(base), [{ name: "Database", file: "src/resource/Database.ts" }])
    })
  })
})
