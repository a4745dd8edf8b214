/** Writes the barrels from the modules that exist: `npm run barrel`. With `--check` it only says which are out of date. */
import { existsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { generate } from "./lib/barrels.ts"
import { read, root } from "./lib/files.ts"

const all = generate()
const stale = all.filter(({ file, text }) => !existsSync(join(root, file)) || read(file) !== text)

if (!process.argv.includes("--check")) {
  for (const { file, text } of stale) writeFileSync(join(root, file), text)
  console.log(stale.length === 0 ? "all current" : `written: ${stale.map(({ file }) => file).join(", ")}`)
} else if (stale.length > 0) {
  console.error(`not current: ${stale.map(({ file }) => file).join(", ")}. Run: npm run barrel`)
  process.exitCode = 1
} else {
  console.log(`${all.length} files`)
}
