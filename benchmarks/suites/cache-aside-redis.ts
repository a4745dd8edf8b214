import { BentoCache, bentostore } from "bentocache"
import { redisDriver } from "bentocache/drivers/redis"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import * as RedisCache from "../../src/backends/RedisCache.ts"
import * as RedisCacheAside from "../../src/backends/RedisCacheAside.ts"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"
import { group } from "../harness/loops.ts"
import { Order, order } from "../harness/order.ts"
import { startRedis } from "../harness/servers.ts"
import type { Case, Suite } from "../harness/Suite.ts"

const groups = {
  one: "a hit in Redis, one after the other",
  many: "a hit in Redis, 64 keys at once",
  same: "a hit in Redis, one key, 64 callers at once"
}

const withSchema = "ioredis, JSON.parse and a schema"

export const suite: Suite = {
  about:
    "`get` of a key that is in Redis and not in memory (storage `redis`), on a real Redis at the loopback address. The " +
    "floor asks with bare ioredis and decodes with `JSON.parse`; ours decodes with a schema, bounds the question in time, " +
    "counts it, and serves stale values while it loads anew.",
  metric: "wall",
  goals: [
    { group: groups.one, ratio: 1.1 },
    { group: groups.one, against: withSchema, ratio: 1.1 },
    { group: groups.many, ratio: 1.1 },
    { group: groups.many, against: withSchema, ratio: 1.1 }
  ],
  make: async () => {
    const { close, redis: { host, port } } = await startRedis()
    const scope = Scope.makeUnsafe()
    const layer = RedisCacheAside.layer().pipe(
      Layer.provideMerge(RedisCache.layerWith({ host, port })),
      Layer.provideMerge(Status.layer)
    )
    const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
    const make = (name: string, options?: { readonly staleIfError: "1 hour" }) =>
      Effect.runPromise(
        CacheAside.make({
          name,
          storage: "redis",
          schema: Order,
          load: () => Effect.succeed(order),
          ttl: "1 hour",
          ...options
        }).pipe(Effect.provideContext(context), Scope.provide(scope))
      )
    const ours = await make("orders")
    const stale = await make("stale", { staleIfError: "1 hour" })
    const bare = new Redis({ host, port })
    const decode = Schema.decodeUnknownSync(Order)
    const bento = new BentoCache({
      default: "redis",
      stores: { redis: bentostore().useL2Layer(redisDriver({ connection: { host, port } })) }
    })
    const keys = Array.from({ length: 64 }, (_, index) => `order:${index}`)
    for (const key of keys) {
      await Effect.runPromise(Effect.andThen(ours.get(key), stale.get(key)))
      await bare.set(key, JSON.stringify(order))
      await bento.set({ key, value: order, ttl: "1h" })
    }

    const each = <B>(body: (key: string) => B, count = keys.length): () => B => {
      let next = 0
      return () => body(keys[next++ % count]!)
    }
    const cases = (name: string, inFlight: number, count: number): Array<Case> => {
      const { effect, promise } = group(name, inFlight)
      return [
        effect("seaworthy", "ours", each(ours.get, count)),
        promise(
          "ioredis and JSON.parse",
          "floor",
          each(async (key) => JSON.parse((await bare.get(key))!) as unknown, count)
        ),
        promise(withSchema, "peer", each(async (key) => decode(JSON.parse((await bare.get(key))!)), count)),
        effect("seaworthy, with staleIfError", "ours", each(stale.get, count)),
        promise(
          "bentocache",
          "peer",
          each((key) => bento.getOrSet({ key, factory: () => order, ttl: "1h" }), count)
        )
      ]
    }
    return {
      cases: [
        ...cases(groups.one, 1, 64),
        ...cases(groups.many, 64, 64),
        ...cases(groups.same, 64, 1)
      ],
      notes: [
        "What is asked for at the same time goes as one command, hence the figures below the floor. One after the other, " +
        "about a third of what is above the floor is decoding with the schema; the rest is an effect that waits, the bound " +
        "in time, counting, and what lets callers share a question.",
        "With `staleIfError` the age of an entry matters: it is read by a script together with what is left of its time."
      ],
      close: async () => {
        bare.disconnect()
        await bento.disconnectAll()
        await Effect.runPromise(Scope.close(scope, Exit.void))
        await close()
      }
    }
  }
}
