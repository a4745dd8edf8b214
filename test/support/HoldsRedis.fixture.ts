/** Started by Servers.integration.test.ts and then killed: holds a Redis and says where it is. */
import * as Effect from "effect/Effect"
import * as Servers from "./Servers.ts"

const program = Effect.gen(function*() {
  const redis = yield* Servers.redis()
  console.log(`redis on ${redis.port}`)
  return yield* Effect.never
})

await Effect.runPromise(Effect.scoped(program))
