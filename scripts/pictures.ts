// Draws docs/images/strategy-*.svg from runs of the real strategies in virtual time. A test fails when one is not current.
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./lib/files.ts"
import { pictures } from "./pictures/all.ts"

const only = process.argv.slice(2)

for (const [name, draw] of Object.entries(pictures)) {
  if (only.length > 0 && !only.includes(name)) continue
  const file = `docs/images/strategy-${name}.svg`
  writeFileSync(join(root, file), await Effect.runPromise(draw))
  console.log(`wrote ${file}`)
}
