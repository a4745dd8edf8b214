/**
 * Started by CacheAside.integration.test.ts: one of several processes that share a cache. It says "ready", waits for a line,
 * asks for one key many times at once, and prints what came of it. It says "loading" when it loads.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { once } from "node:events"
import * as RedisCacheAside from "../../src/backends/internal/redisCacheAside.ts"
import { RedisCache } from "../../src/backends/redis.ts"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"

const [port, callers, loadMillis, value] = process.argv.slice(2) as [string, string, string, string]

const program = Effect.gen(function*() {
  const cache = yield* CacheAside.make({
    name: "shared",
    storage: "two-level",
    schema: Schema.String,
    ttl: "1 hour",
    lease: "1 second",
    // A process that was stopped finds all its time-outs over.
    hardTimeout: "1 minute",
    storeTimeout: "20 seconds",
    load: () =>
      Effect.gen(function*() {
        console.log("loading")
        yield* Effect.sleep(Number(loadMillis))
        return value
      })
  })
  console.log("ready")
  yield* Effect.promise(() => once(process.stdin, "data"))
  const all = yield* Effect.forEach(Array.from({ length: Number(callers) }), () => cache.get("k"), {
    concurrency: "unbounded"
  })
  const { loads, refusedWrites } = yield* cache.metrics
  const values = [...new Set(all.map(Option.getOrElse(() => "absent")))]
  console.log(`result ${JSON.stringify({ values, loads, refusedWrites })}`)
  // What is in the store now, whatever was loaded.
  const then = yield* cache.get("k")
  console.log(`then ${Option.getOrElse(then, () => "absent")}`)
})

const layer = RedisCacheAside.layer().pipe(
  Layer.provide(
    RedisCache.layerWith({ host: "127.0.0.1", port: Number(port), command_timeout: "20 seconds" }, {
      resource: { monitor: false }
    })
  ),
  Layer.provideMerge(Status.layer)
)

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(layer)))
process.exit(0)
