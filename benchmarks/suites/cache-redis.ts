import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import * as RedisCache from "../../src/backends/RedisCache.ts"
import * as Status from "../../src/observability/Status.ts"
import * as CacheStore from "../../src/resource/CacheStore.ts"
import { group } from "../harness/loops.ts"
import { Order, order } from "../harness/order.ts"
import { startRedis } from "../harness/servers.ts"
import type { Case, Suite } from "../harness/Suite.ts"

const text = "x".repeat(100)

const groups = {
  raw: "a text, one after the other",
  raw64: "a text, 64 at once",
  typed: "a value with a schema, one after the other",
  typed64: "a value with a schema, 64 at once"
}

export const suite: Suite = {
  about:
    "`get` of a key that is there, on a real Redis at the loopback address. Beside ours, which times out, counts and " +
    "records each command: bare ioredis, with `JSON.parse` where ours decodes with a schema.",
  metric: "wall",
  goals: Object.values(groups).map((group) => ({ group, ratio: 1.1 })),
  make: async () => {
    const { close, redis: { host, port } } = await startRedis()
    const scope = Scope.makeUnsafe()
    const layer = RedisCache.layerWith({ host, port }).pipe(Layer.provide(Status.layer))
    const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
    const run = <A, E>(effect: Effect.Effect<A, E, CacheStore.CacheStore>) =>
      Effect.runPromise(Effect.provideContext(effect, context))
    const cache = await run(CacheStore.CacheStore)
    const orders = await run(CacheStore.typed(Order, { prefix: "order:" }))
    const bare = new Redis({ host, port })
    const careful = new Redis({ host, port, commandTimeout: 500 })
    await run(cache.set("text", text))
    await run(orders.set("1", order))

    const cases = (names: { readonly raw: string; readonly typed: string }, inFlight: number): Array<Case> => {
      const raw = group(names.raw, inFlight)
      const typed = group(names.typed, inFlight)
      return [
        raw.effect("seaworthy", "ours", () => cache.get("text")),
        raw.promise("ioredis", "floor", () => bare.get("text")),
        raw.promise("ioredis, with a time-out", "peer", () => careful.get("text")),
        raw.effect("ioredis in Effect.promise", "peer", () => Effect.promise(() => bare.get("text"))),
        typed.effect("seaworthy", "ours", () => orders.get("1")),
        typed.promise(
          "ioredis and JSON.parse",
          "floor",
          async () => JSON.parse((await bare.get("order:1"))!) as unknown
        )
      ]
    }
    return {
      cases: [
        ...cases({ raw: groups.raw, typed: groups.typed }, 1),
        ...cases({ raw: groups.raw64, typed: groups.typed64 }, 64)
      ],
      close: async () => {
        bare.disconnect()
        careful.disconnect()
        await Effect.runPromise(Scope.close(scope, Exit.void))
        await close()
      }
    }
  }
}
