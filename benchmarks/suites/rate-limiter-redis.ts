import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Peer from "effect/persistence/RateLimiter"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { RateLimiterRedis } from "rate-limiter-flexible"
import * as RedisLimiter from "../../src/backends/internal/redisLimiter.ts"
import * as RedisCache from "../../src/backends/RedisCache.ts"
import * as Status from "../../src/observability/Status.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import { group } from "../harness/loops.ts"
import { startRedis } from "../harness/servers.ts"
import type { Case, Suite } from "../harness/Suite.ts"

const groups = { one: "one after the other", many: "64 at once" }

/** More than any run takes. */
const plenty = { limit: 100_000_000, window: "1 hour" } as const

export const suite: Suite = {
  about:
    "`consume` that is admitted, on a real Redis at the loopback address. rate-limiter-flexible counts in fixed windows; " +
    "ours takes the time of the server.",
  metric: "wall",
  goals: Object.values(groups).map((group) => ({ group, against: "rate-limiter-flexible", ratio: 1 })),
  make: async () => {
    const { close, redis: { host, port } } = await startRedis()
    const scope = Scope.makeUnsafe()
    const redis = RedisCache.layerWith({ host, port }).pipe(Layer.provide(Status.layer))
    const layer = Layer.merge(RedisLimiter.layer(), Peer.layer.pipe(Layer.provide(Peer.layerStoreRedis())))
      .pipe(Layer.provide(redis))
    const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
    const make = (algorithm: RateLimiter.Algorithm) =>
      Effect.runPromise(
        RateLimiter.distributed({ name: "bench", algorithm }).pipe(
          Effect.map(RateLimiter.forKey("key")),
          Effect.provideContext(context)
        )
      )
    const bucket = await make(RateLimiter.tokenBucket(plenty))
    const fixed = await make(RateLimiter.fixedWindow(plenty))
    const effects = await Effect.runPromise(Effect.provideContext(Peer.RateLimiter, context))
    const client = new Redis({ host, port })
    const flexible = new RateLimiterRedis({ storeClient: client, points: plenty.limit, duration: 3600 })

    const cases = (name: string, inFlight: number): Array<Case> => {
      const { effect, promise } = group(name, inFlight)
      return [
        effect("seaworthy fixedWindow", "ours", () => RateLimiter.consume(fixed)),
        effect("seaworthy tokenBucket", "ours", () => RateLimiter.consume(bucket)),
        effect(
          "effect token bucket",
          "peer",
          () => effects.consume({ ...plenty, algorithm: "token-bucket", key: "key" })
        ),
        promise("rate-limiter-flexible", "peer", () => flexible.consume("key"))
      ]
    }
    return {
      cases: [...cases(groups.one, 1), ...cases(groups.many, 64)],
      close: async () => {
        client.disconnect()
        await Effect.runPromise(Scope.close(scope, Exit.void))
        await close()
      }
    }
  }
}
