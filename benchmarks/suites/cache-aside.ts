import { BentoCache, bentostore } from "bentocache"
import { memoryDriver } from "bentocache/drivers/memory"
import { redisBusDriver, redisDriver } from "bentocache/drivers/redis"
import { createCache } from "cache-manager"
import * as Cache from "effect/Cache"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { LRUCache } from "lru-cache"
import * as RedisCache from "../../src/backends/RedisCache.ts"
import * as RedisCacheAside from "../../src/backends/RedisCacheAside.ts"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"
import * as Floor from "../floors/cacheAside.ts"
import * as Keys from "../harness/keys.ts"
import { group } from "../harness/loops.ts"
import { startRedis } from "../harness/servers.ts"
import type { Case, LoopCase, Suite } from "../harness/Suite.ts"

const User = Schema.Struct({ id: Schema.String, name: Schema.String })
type User = typeof User.Type

const groups = {
  hit: "a hit in memory, 10,000 keys",
  two: "a hit in memory in front of Redis, 10,000 keys",
  many: "100 hits in memory, asked for together",
  miss: "a miss, and a load that ends at once",
  stampede: "1,000 concurrent misses of one key"
}

const names = {
  lru: "lru-cache with a ttl, a plain function call",
  inEffect: "lru-cache with a ttl, in an effect",
  cache: "effect Cache",
  bento: "bentocache",
  manager: "cache-manager"
}

const all = Keys.keys(10_000)
const capacity = all.length
const ttl = 3_600_000
const byHand = { max: capacity, ttl }

const user = (id: string): User => ({ id, name: `user ${id}` })
const load = (id: string) => Effect.sync(() => user(id))
const loadPromise = async (id: string) => user(id)

/** Ends in the next microtask, when all who ask at once have asked. */
const slowly = (id: string) => Effect.callback<User>((resume) => queueMicrotask(() => resume(Effect.succeed(user(id)))))
const slowlyPromise = async (id: string) => {
  await null
  return user(id)
}

const fill = (get: (key: string) => Effect.Effect<unknown, unknown>) => Effect.runPromise(Effect.forEach(all, get))

/** A loop that waits for nothing: what a synchronous cache costs. */
const calls = (group: string, name: string, role: LoopCase["role"], body: () => unknown): LoopCase => {
  let last: unknown
  const run = async (n: number) => {
    for (let i = 0; i < n; i++) last = body()
    return last
  }
  return { group, name, role, run }
}

/** Keys that are asked for once. */
const once = () => {
  let next = 0
  return () => `new:${next++}`
}

const makeCache = (scope: Scope.Scope, name: string, load: (id: string) => Effect.Effect<User>) =>
  Effect.runPromise(
    Scope.provide(CacheAside.make({ name, load, ttl, capacity }), scope).pipe(Effect.provide(Status.layer))
  )

const makeEffectCache = (lookup: (id: string) => Effect.Effect<User>) =>
  Effect.runPromise(Cache.make({ capacity, lookup, timeToLive: ttl }))

const makeBento = () =>
  new BentoCache({
    default: "memory",
    stores: { memory: bentostore().useL1Layer(memoryDriver({ maxItems: capacity, serialize: false })) }
  })

/** A body that asks for the next key of the common order. */
const each = <B>(body: (key: string) => B): () => B => {
  const next = Keys.shuffled(all)
  return () => body(next())
}

const hit = async (scope: Scope.Scope): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.hit)
  const ours = await makeCache(scope, "hit", load)
  const floor = Floor.promised(loadPromise, byHand)
  const floorEffects = Floor.effects(load, byHand)
  const plain = new LRUCache<string, User>({ max: capacity })
  const theirs = await makeEffectCache(load)
  const bento = makeBento()
  const manager = createCache({ ttl })
  const map = new Map(all.map((key) => [key, { until: Infinity, exit: Exit.succeed(user(key)) }]))
  await fill(ours.get)
  await fill(floorEffects.get)
  await fill((key) => Cache.get(theirs, key))
  for (const key of all) {
    await floor.get(key)
    plain.set(key, user(key))
    await bento.getOrSet({ key, factory: () => user(key), ttl })
    await manager.set(key, user(key))
  }
  return [
    effect("seaworthy", "ours", each(ours.get)),
    calls(groups.hit, names.lru, "floor", each(floor.get)),
    effect(names.inEffect, "peer", each(floorEffects.get)),
    calls(groups.hit, "lru-cache without a ttl, a plain function call", "peer", each((key) => plain.get(key))),
    effect(names.cache, "peer", each((key) => Cache.get(theirs, key))),
    promise(names.bento, "peer", each((key) => bento.getOrSet({ key, factory: () => user(key), ttl }))),
    promise(names.manager, "peer", each((key) => manager.wrap(key, () => user(key)))),
    effect("an effect that does nothing", "bare", () => Effect.void),
    effect("an effect that looks into a Map", "bare", each((key) => Effect.suspend(() => map.get(key)!.exit))),
    effect(
      "an effect that looks into a Map and asks the clock",
      "bare",
      each((key) =>
        Effect.withFiber((fiber) => {
          const entry = map.get(key)!
          const now = Number(fiber.getRef(Clock.Clock).monotonicTimeNanosUnsafe()) / 1e6
          return now < entry.until ? entry.exit : Effect.void
        })
      )
    )
  ]
}

const many = async (scope: Scope.Scope): Promise<Array<Case>> => {
  const { effect } = group(groups.many)
  const ours = await makeCache(scope, "many", load)
  const byEffects = Floor.effects(load, byHand)
  const theirs = await makeEffectCache(load)
  await fill(ours.get)
  await fill(byEffects.get)
  await fill((key) => Cache.get(theirs, key))
  const hundred = <B>(body: (keys: ReadonlyArray<string>) => B): () => B => {
    const next = Keys.shuffled(all)
    return () => body(Array.from({ length: 100 }, next))
  }
  return [
    effect("seaworthy", "ours", hundred((keys) => ours.getMany(keys))),
    effect("seaworthy, one by one", "ours", hundred((keys) => Effect.forEach(keys, ours.get))),
    effect(names.inEffect, "floor", hundred((keys) => Effect.forEach(keys, byEffects.get))),
    effect(names.cache, "peer", hundred((keys) => Effect.forEach(keys, (key) => Cache.get(theirs, key))))
  ]
}

const twoLevel = async (scope: Scope.Scope, at: { host: string; port: number }): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.two)
  const layer = RedisCacheAside.layer().pipe(
    Layer.provideMerge(RedisCache.layerWith(at)),
    Layer.provideMerge(Status.layer)
  )
  const ours = await Effect.runPromise(
    Effect.flatMap(
      Layer.buildWithScope(layer, scope),
      (context) =>
        CacheAside.make({ name: "two", storage: "two-level", schema: User, load, ttl, capacity }).pipe(
          Effect.provideContext(context),
          Scope.provide(scope)
        )
    )
  )
  const bento = new BentoCache({
    default: "two",
    stores: {
      two: bentostore()
        .useL1Layer(memoryDriver({ maxItems: capacity, serialize: false }))
        .useL2Layer(redisDriver({ connection: at }))
        .useBus(redisBusDriver({ connection: at }))
    }
  })
  const fromOurs = each(ours.get)
  const fromBento = each((key) => bento.getOrSet({ key, factory: () => user(key), ttl }))
  for (const key of all) {
    await Effect.runPromise(ours.get(key))
    await bento.getOrSet({ key, factory: () => user(key), ttl })
  }
  await Effect.runPromise(Scope.addFinalizer(scope, Effect.promise(() => bento.disconnectAll())))
  return [
    effect("seaworthy", "ours", fromOurs),
    promise(names.bento, "peer", fromBento)
  ]
}

const misses = async (scope: Scope.Scope): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.miss)
  const ours = await makeCache(scope, "miss", load)
  const byPromises = Floor.promised(loadPromise, byHand)
  const byEffects = Floor.effects(load, byHand)
  const theirs = await makeEffectCache(load)
  const bento = makeBento()
  const manager = createCache({ ttl })
  const [a, b, c, d, e, f] = [once(), once(), once(), once(), once(), once()]
  return [
    effect("seaworthy", "ours", () => ours.get(a())),
    effect(names.inEffect, "floor", () => byEffects.get(b())),
    promise("lru-cache with a ttl, in promises", "peer", () => byPromises.get(c())),
    effect(names.cache, "peer", () => Cache.get(theirs, d())),
    promise(names.bento, "peer", () => {
      const key = e()
      return bento.getOrSet({ key, factory: () => user(key), ttl })
    }),
    promise(names.manager, "peer", async () => {
      const key = f()
      await manager.wrap(key, () => user(key))
      // It has no bound of its own.
      await manager.del(key)
    })
  ]
}

const stampedes = async (scope: Scope.Scope): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.stampede)
  const ours = await makeCache(scope, "stampede", slowly)
  const byPromises = Floor.promised(slowlyPromise, byHand)
  const byEffects = Floor.effects(slowly, byHand)
  const theirs = await makeEffectCache(slowly)
  const bento = makeBento()
  const manager = createCache({ ttl })
  const callers = Array.from({ length: 1_000 })
  const inEffects = (get: (key: string) => Effect.Effect<unknown, unknown>) => {
    const next = once()
    return () => {
      const key = next()
      return Effect.forEach(callers, () => get(key), { concurrency: "unbounded", discard: true })
    }
  }
  const inPromises = (get: (key: string) => unknown) => {
    const next = once()
    return () => {
      const key = next()
      return Promise.all(callers.map(() => get(key)))
    }
  }
  return [
    effect("seaworthy", "ours", inEffects(ours.get)),
    effect(names.inEffect, "floor", inEffects(byEffects.get)),
    promise("lru-cache with a ttl, in promises", "peer", inPromises(byPromises.get)),
    effect(names.cache, "peer", inEffects((key) => Cache.get(theirs, key))),
    promise(names.bento, "peer", inPromises((key) => bento.getOrSet({ key, factory: () => slowlyPromise(key), ttl }))),
    promise(names.manager, "peer", inPromises((key) => manager.wrap(key, () => slowlyPromise(key))))
  ]
}

export const suite: Suite = {
  about:
    "`get` by itself: keys come in an order that looks random and is the same for all. By hand is what one writes " +
    "around `lru-cache`: a map of the loads that run, no stale value, no time-out, no invalidation of what is being " +
    "loaded, no count. Values are objects, which nobody copies.",
  metric: "cpu",
  goals: [
    { group: groups.hit, ratio: 3 },
    { group: groups.hit, against: names.inEffect, ratio: 3 },
    { group: groups.hit, against: names.cache, ratio: 0.2 },
    { group: groups.hit, against: names.bento, ratio: 0.2 },
    { group: groups.two, against: names.bento, ratio: 0.2 },
    { group: groups.many, against: names.cache, ratio: 0.2 }
  ],
  make: async () => {
    const { close, redis: { host, port } } = await startRedis()
    const scope = Scope.makeUnsafe()
    return {
      cases: [
        ...await hit(scope),
        ...await twoLevel(scope, { host, port }),
        ...await many(scope),
        ...await misses(scope),
        ...await stampedes(scope)
      ],
      notes: [
        "`lru-cache` with a ttl keeps the time for a millisecond or for as long as the thread does not come to its timers; " +
        "ours and Effect's `Cache` ask the clock at each hit.",
        "The last three of the first group are what a hit is made of at least: an effect, a look into a map, a clock. That " +
        "alone is more than a fifth of Effect's `Cache`, and more than three plain calls of `lru-cache`; `getMany`, which is " +
        "one effect and asks the clock once, reaches both a key."
      ],
      close: async () => {
        await Effect.runPromise(Scope.close(scope, Exit.void))
        await close()
      }
    }
  }
}
