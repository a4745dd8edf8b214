import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Redis } from "effect/persistence/Redis"
import * as Schema from "effect/Schema"
import * as RedisCacheAside from "../../src/backends/internal/redisCacheAside.ts"
import { RedisCache } from "../../src/backends/redis.ts"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"
import { eventually } from "../support/Live.ts"
import * as Topology from "../support/RedisTopology.ts"
import * as Servers from "../support/Servers.ts"

const node = (
  nodes: Array<string>,
  name: string,
  load: (key: string) => Effect.Effect<string>,
  storage: "redis" | "two-level"
) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(Layer.fresh(
      RedisCacheAside.layer().pipe(
        Layer.provideMerge(
          RedisCache.layerWith({ mode: "cluster", nodes, prefix: "app:" }, { resource: { monitor: false } })
        ),
        Layer.provideMerge(Status.layer)
      )
    ))
    const cache = yield* CacheAside.make({
      name,
      storage,
      schema: Schema.String,
      load,
      ttl: "1 hour",
      storeTimeout: "5 seconds",
      tags: (key) => [key.split(":")[0]!]
    }).pipe(Effect.provideContext(context))
    return { cache, send: Context.get(context, Redis).send }
  })

Servers.describeWith(["redis"], "CacheAside on a Redis Cluster", () => {
  it.live(
    "everything of a cache is on one node, several caches are on several, and all of it works",
    () =>
      Effect.gen(function*() {
        const { addresses, nodes } = yield* Topology.cluster()
        const sizes = Effect.forEach(nodes, ({ port }) => Effect.map(Topology.tell(port, undefined, "DBSIZE"), Number))
        const all = Array.from({ length: 300 }, (_, index) => `a:${index}`)

        for (const [index, storage] of (["redis", "two-level"] as const).entries()) {
          // The second name has braces of its own.
          const name = ["orders", "odd}{name"][index]!
          let loads = 0
          const load = (key: string) => Effect.sync(() => (loads++, key))
          const [one, other] = [
            yield* node(addresses, name, load, storage),
            yield* node(addresses, name, load, storage)
          ]
          yield* one.cache.warm(all, { concurrency: 50 })
          assert.strictEqual((yield* sizes).filter((size) => size > 0).length, 1, "one slot")
          const found = yield* Effect.forEach(all, other.cache.get, { concurrency: "unbounded" })
          assert.deepStrictEqual(found, all.map(Option.some))
          assert.deepStrictEqual(yield* other.cache.getMany(all), found)
          assert.strictEqual(loads, 300)

          // By key, tag, prefix and all; the message reaches the other, whichever node it listens to.
          yield* one.cache.set("a:1", "set")
          yield* eventually(Effect.map(other.cache.get("a:1"), (value) => Option.getOrThrow(value) === "set"))
          yield* one.cache.invalidate("a:1")
          yield* eventually(Effect.map(other.cache.get("a:1"), (value) => Option.getOrThrow(value) === "a:1"))
          for (const target of [{ tag: "a" }, { prefix: "a:" }, { all: true }] as const) {
            const before = loads
            yield* one.cache.forget(target)
            const left = yield* Effect.forEach(nodes, ({ port }) => Topology.tell(port, undefined, "KEYS", "*:e:*"))
            assert.deepStrictEqual(left.flat(), [])
            assert.deepStrictEqual(yield* one.cache.get("a:5"), Option.some("a:5"))
            yield* eventually(Effect.map(other.cache.getMany(["a:5", "a:6"]), (values) => values.length === 2))
            assert.strictEqual(loads, before + 2)
          }
          yield* one.cache.invalidateAll
          yield* Effect.forEach(nodes, ({ port }) => Topology.tell(port, undefined, "FLUSHALL"))
        }

        // Which slot a cache is in follows from its name.
        const names = ["a", "b", "c", "d", "e", "f", "g", "h"]
        for (const name of names) {
          const { cache } = yield* node(addresses, name, Effect.succeed, "redis")
          yield* cache.get("k")
        }
        assert.isAbove((yield* sizes).filter((size) => size > 0).length, 1)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("an invalidation during a load wins, and one load is made by two processes", () =>
    Effect.gen(function*() {
      const { addresses } = yield* Topology.cluster()
      const gate = yield* Deferred.make<string>()
      let loads = 0
      const load = () => Effect.suspend(() => ++loads === 1 ? Deferred.await(gate) : Effect.succeed("new"))
      const [one, other] = [
        yield* node(addresses, "c", load, "two-level"),
        yield* node(addresses, "c", load, "two-level")
      ]
      const callers = yield* Effect.forkChild(
        Effect.forEach([one, other, one, other], ({ cache }) => cache.get("k"), { concurrency: "unbounded" })
      )
      yield* eventually(Effect.sync(() => loads === 1))
      const late = yield* Effect.forkChild(one.cache.get("late"), { startImmediately: true })
      assert.deepStrictEqual(yield* Fiber.join(late), Option.some("new"))
      yield* Deferred.succeed(gate, "first")
      assert.deepStrictEqual(new Set((yield* Fiber.join(callers)).map(Option.getOrThrow)), new Set(["first"]))
      assert.strictEqual(loads, 2)

      const second = yield* Deferred.make<string>()
      let waiting = 0
      const slow = yield* node(addresses, "c", () => Effect.suspend(() => (waiting++, Deferred.await(second))), "redis")
      yield* one.cache.invalidate("k")
      const before = yield* Effect.forkChild(slow.cache.get("k"), { startImmediately: true })
      yield* eventually(Effect.sync(() => waiting === 1))
      yield* one.cache.invalidate("k")
      yield* Deferred.succeed(second, "old")
      assert.deepStrictEqual(yield* Fiber.join(before), Option.some("old"))
      assert.strictEqual((yield* slow.cache.metrics).refusedWrites, 1)
      assert.deepStrictEqual(yield* other.cache.get("k"), Option.some("new"))
    }).pipe(Effect.scoped), 120_000)
})
