import { Effect } from "effect"
import { Settings } from "seaworthy"

const settings = await Effect.runPromise(Settings.decode({ cache: { driver: "redis", timeout: "2 seconds" } }))
console.log(settings.cache.port) // => 6379

const error = await Effect.runPromise(Effect.flip(Settings.decode({ cache: { prot: 1, driver: "redsi" } })))
console.log(error.issues.map((issue) => `${issue.path}: ${issue.hint}`))
// => ["cache.prot: did you mean cache.port?", "cache.driver: did you mean redis?"]
