/** The steps of `npm run check` and `npm test`, fast ones first. */
import { script, type Step, tests } from "./steps.ts"

const integration = "test/**/*.integration.test.ts"
const examples = "test/docs/examples.test.ts"

/** Everything that needs no test runner. */
export const statics: ReadonlyArray<Step> = [
  { name: "format", command: ["node", "node_modules/dprint/bin.cjs", "check"] },
  { name: "lint", command: ["node", "node_modules/oxlint/bin/oxlint"] },
  script("house rules", "rules.ts"),
  script("folder directions", "directions.ts"),
  script("barrels", "barrel.ts", "--check"),
  { name: "types", command: ["node", "node_modules/typescript/bin/tsc", "-p", "tsconfig.json", "--noEmit"] },
  {
    name: "Effect's diagnostics",
    command: [
      "node",
      "node_modules/@effect/tsgo/dist/effect-tsgo.cjs",
      "diagnostics",
      ...["--project", "tsconfig.json", "--format", "text", "--severity", "error,warning", "--strict"]
    ]
  }
]

/** Tests that need nothing but Node. */
export const quick: ReadonlyArray<Step> = [
  tests("doc examples", examples),
  tests("unit tests", "--exclude", integration, "--exclude", examples)
]

/** Tests that start real servers, and the packed package. */
export const slow: ReadonlyArray<Step> = [
  tests("integration tests", "--passWithNoTests", ".integration.test.ts")
]
