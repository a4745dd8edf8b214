// The version of the package, from the one place that has it.
import { createRequire } from "node:module"

export const version: string = (createRequire(import.meta.url)("seaworthy/package.json") as { version: string }).version
