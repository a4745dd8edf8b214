/** Keeps `docs/benchmarks.md` and its pictures: a section a suite, between markers, the rest as it was. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "../../scripts/lib/files.ts"

const head = `# Benchmarks

Every figure here was measured by \`npm run bench -- SUITE\`, which rewrites the section of that suite, its picture and,
with \`--json FILE\`, a file. \`npm run bench\` lists the suites.

How it is measured: the cases of a group run in turns (A B C A B C) in one process after a warm-up, as many calls a turn as
take 20 ms, in one running fiber or one promise loop. A figure is the median over the turns, a ratio the median over the
ratios of turns that stand side by side; the smallest and the largest turn show the noise. Bytes are what the heap grows by
a call, in a second process. Nothing here is asserted by a test: figures depend on the machine, ratios hardly do.

Roles: **ours**; the _floor_, the least code that does the job without features (\`benchmarks/floors\`); peers. "x floor" and
"x ours" say how many times the floor's, or our, figure that is. A goal that is missed says MISSED.
`

const file = join(root, "docs/benchmarks.md")

export const writePicture = (suite: string, svg: string): string => {
  mkdirSync(join(root, "docs/images"), { recursive: true })
  writeFileSync(join(root, `docs/images/bench-${suite}.svg`), svg)
  return `images/bench-${suite}.svg`
}

/** Sections stand in the order of `order`. */
export const writeSection = (suite: string, section: string, order: ReadonlyArray<string>): void => {
  mkdirSync(join(root, "docs"), { recursive: true })
  const old = existsSync(file) ? readFileSync(file, "utf8") : ""
  const sectionOf = (name: string) => {
    const from = `<!-- suite: ${name} -->`
    const to = `<!-- end: ${name} -->`
    if (name === suite) return `${from}\n\n${section.trim()}\n\n${to}\n`
    const start = old.indexOf(from)
    const end = old.indexOf(to)
    return start === -1 || end === -1 ? undefined : `${old.slice(start, end)}${to}\n`
  }
  const sections = order.map(sectionOf).filter((text) => text !== undefined)
  writeFileSync(file, [head, ...sections].join("\n"))
}
