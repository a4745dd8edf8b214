/** House rules that the linter has no rule for: `tsx scripts/rules.ts`. */
import { existsSync } from "node:fs"
import { dirname, join } from "node:path"
import { list, read, root } from "./lib/files.ts"

interface Rule {
  readonly where: RegExp
  readonly what: RegExp
  readonly why: string
}

const rules: ReadonlyArray<Rule> = [
  { where: /^src\//, what: /\bnew Date\(\)/, why: "time comes from effect/Clock" },
  {
    where: /^(src|test|scripts|benchmarks)\//,
    what: /(oxlint|eslint)-disable(?!.* -- \S)/,
    why: "a disabled rule needs its reason: `// oxlint-disable-next-line RULE -- why`"
  },
  { where: /^(src|test|scripts|benchmarks)\//, what: /@ts-(ignore|nocheck)/, why: "fix the type instead" },
  {
    where: /^(src|scripts|benchmarks)\//,
    what: /@ts-expect-error/,
    why: "only a test may show that something does not compile"
  },
  { where: /^src\//, what: /\b(TODO|FIXME|XXX)\b/, why: "open an issue instead" },
  { where: /^src\//, what: /\bas any\b/, why: "say which type it is" },
  {
    where: /^test\//,
    what: /\b(it|test|describe)(\.\w+)*\.(skip|only|todo|fails)\b/,
    why: "a test runs or does not exist"
  }
]

/** This file names what it forbids. */
const files = ["src", "test", "scripts", "benchmarks"]
  .flatMap((folder) => list(folder, /\.[cm]?ts$/))
  .filter((file) => file !== "scripts/rules.ts")

const found = files.flatMap((file) => {
  const own = rules.filter(({ where }) => where.test(file))
  return read(file).split("\n").flatMap((line, index) =>
    own.filter(({ what }) => what.test(line)).map(({ why }) => `${file}:${index + 1}: ${line.trim()}\n    ${why}`)
  )
})

/** Links of Markdown files to other files of the repository. */
const documents = [
  ...list("docs", /\.md$/),
  ...list(".", /^[A-Z]+\.md$/).filter((file) => !file.includes("/"))
]
for (const file of documents) {
  read(file).split("\n").forEach((line, index) => {
    for (const [, target] of line.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)) {
      if (/^[a-z]+:/.test(target!) || existsSync(join(root, dirname(file), target!))) continue
      found.push(`${file}:${index + 1}: links to ${target}, which does not exist`)
    }
  })
}

if (found.length > 0) {
  console.error(found.join("\n"))
  process.exitCode = 1
} else {
  console.log(`${files.length + documents.length} files`)
}
