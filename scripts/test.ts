/**
 * `npm test`: everything that this machine can run, to the end even when something fails.
 *
 * `npm test -- test/resilience` runs only those tests.
 */
import { runAll, tests } from "./lib/steps.ts"
import { quick, slow, statics } from "./lib/suites.ts"

const chosen = process.argv.slice(2)
const steps = chosen.length > 0 ? [tests("chosen tests", ...chosen)] : [...statics, ...quick, ...slow]

await runAll("test", steps, { keepGoing: true })
