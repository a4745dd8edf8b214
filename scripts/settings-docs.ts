// Writes docs/reference/settings.md from the schemas. A test fails when the page is not current.
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Settings from "../src/resource/Settings.ts"

const page = fileURLToPath(new URL("../docs/reference/settings.md", import.meta.url))
writeFileSync(page, Settings.docs())
console.log(`wrote ${page}`)
