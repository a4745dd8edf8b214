/** `npm run check`: everything that needs nothing but Node, fast steps first; stops at the first that fails. */
import { runAll } from "./lib/steps.ts"
import { quick, statics } from "./lib/suites.ts"

await runAll("check", [...statics, ...quick], { keepGoing: false })
