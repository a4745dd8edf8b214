/**
 * Started by RateLimiterRedis.integration.test.ts, twice at once: takes of shared limits as fast as it can, and prints
 * how many times each admitted it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EffectRedis from "effect/persistence/Redis"
import * as RedisLimiter from "../../src/backends/internal/redisLimiter.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import { algorithms } from "./RateLimiterAlgorithms.ts"
import * as RedisClient from "./RedisClient.ts"
import type { RedisServer } from "./Servers.ts"

const [url, limit, tries, skewMillis] = process.argv.slice(2) as [string, string, string, string]

const real = Clock.Clock.defaultValue()
const skew = BigInt(skewMillis) * 1_000_000n
const skewed: Clock.Clock = {
  ...real,
  sleep: (duration) => real.sleep(duration),
  currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() + Number(skewMillis),
  currentTimeNanosUnsafe: () => real.currentTimeNanosUnsafe() + skew,
  monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe() + skew
}

const program = Effect.gen(function*() {
  const admitted: Record<string, number> = {}
  for (const [name, algorithm] of Object.entries(algorithms)) {
    const limiter = yield* RateLimiter.distributed({
      name,
      algorithm: algorithm({ limit: Number(limit), burst: Number(limit), window: "1 day" }),
      storeTimeout: "20 seconds"
    })
    const one = RateLimiter.consume(RateLimiter.forKey(limiter, "all")).pipe(
      Effect.as(1),
      Effect.catchTag("RateLimitExceededError", () => Effect.succeed(0))
    )
    const all = yield* Effect.forEach(Array.from({ length: Number(tries) }), () => one, { concurrency: 16 })
    admitted[name] = all.reduce((sum: number, n) => sum + n, 0)
  }
  console.log(JSON.stringify(admitted))
}).pipe(
  Effect.provide(
    RedisLimiter.layer().pipe(
      Layer.provide(Layer.effect(EffectRedis.Redis, RedisClient.make({ url } as RedisServer)))
    )
  ),
  Effect.provideService(Clock.Clock, skewed)
)

await Effect.runPromise(Effect.scoped(program))
