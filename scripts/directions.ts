/** Checks import directions between folders, import cycles, and what each entry point loads: `npm run directions`. */
import { complaints } from "./lib/directions.ts"
import { entries, list, manifest, read } from "./lib/files.ts"

const { dependencies, peerDependencies } = manifest()
const sources = list("src", /\.ts$/).map((file) => ({ file, text: read(file) }))
const found = complaints({
  sources,
  entries: entries(),
  declared: Object.keys({ ...dependencies, ...peerDependencies })
})

if (found.length > 0) {
  console.error(found.join("\n"))
  process.exitCode = 1
} else {
  console.log(`${sources.length} files`)
}
