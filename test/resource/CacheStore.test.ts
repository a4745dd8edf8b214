import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { inspect } from "node:util"
import * as Status from "../../src/observability/Status.ts"
import * as Lru from "../../src/resource/cache/lru.ts"
import * as CacheStore from "../../src/resource/CacheStore.ts"
import { cases } from "./cacheStoreSuite.ts"

const layer = (options: CacheStore.Options = {}) =>
  CacheStore.layerMemoryWith(options).pipe(Layer.provideMerge(Status.layer))

describe("CacheStore in memory", () => {
  describe("keeps what every cache store promises", () => {
    for (const [name, body] of cases(TestClock.adjust)) it.effect(name, () => Effect.provide(body, layer()))
  })

  it.effect("holds at most max_entries and forgets what was used least recently", () =>
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      for (const key of ["a", "b", "c"]) yield* store.set(key, key)
      yield* store.get("a")
      yield* store.has("b")
      yield* store.set("d", "d")
      assert.deepStrictEqual(
        yield* store.getMany(["a", "b", "c", "d"]),
        [Option.some("a"), Option.none(), Option.some("c"), Option.some("d")]
      )
      yield* store.set("c", "again")
      yield* store.set("e", "e")
      assert.deepStrictEqual(
        yield* store.getMany(["a", "c", "d", "e"]),
        [Option.none(), Option.some("again"), Option.some("d"), Option.some("e")]
      )
      const status = yield* Status.Status
      assert.strictEqual((yield* status.get("cache"))?.counters["evictions"], 2)
    }).pipe(Effect.provide(layer({ max_entries: 3 }))))

  it.effect("an entry lives until its last millisecond and not longer", () =>
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.set("k", "x", { ttl: "10 seconds" })
      yield* TestClock.adjust("9999 millis")
      assert.isTrue(yield* store.has("k"))
      yield* TestClock.adjust("1 millis")
      assert.isFalse(yield* store.has("k"))
    }).pipe(Effect.provide(layer())))

  it.effect("takes the time to live of the settings when nobody says another", () =>
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.set("default", "x")
      yield* store.set("own", "x", { ttl: "1 hour" })
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(yield* store.has("default"))
      assert.isTrue(yield* store.has("own"))
    }).pipe(Effect.provide(layer({ ttl: "5 seconds" }))))

  it.effect("reads its settings from the environment", () =>
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.setMany([["a", "1"], ["b", "2"]])
      assert.deepStrictEqual(yield* store.getMany(["a", "b"]), [Option.none(), Option.some("2")])
      assert.strictEqual(store.driver, "memory")
    }).pipe(
      Effect.provide(CacheStore.layerMemory.pipe(Layer.provideMerge(Status.layer))),
      Effect.provideService(
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromEnv({ env: { CACHE_MAX_ENTRIES: "1" } })
      )
    ))

  it.effect("refuses impossible settings by their name", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer({ max_entries: 0 }))))
      assert.strictEqual(error._tag, "SettingsError")
      assert.include(error.message, "cache.max_entries")
    }))

  it.effect("stays ready and keeps its entries over all checks of the monitor", () =>
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.setMany([["a", "1"], ["b", "2"]])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* store.getMany(["a", "b"]), [Option.some("1"), Option.some("2")])
      const status = yield* Status.Status
      assert.strictEqual((yield* status.get("cache"))?.state, "ready")
    }).pipe(Effect.provide(layer({ max_entries: 2 }))))

  it.effect("a mistaken time to live is a defect that names nothing private", () =>
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      const exit = yield* Effect.exit(store.set("k", "private", { ttl: "soon" as "1 second" }))
      assert.isTrue(Exit.hasDies(exit))
      assert.notInclude(inspect(exit, { depth: 9 }), "private")
    }).pipe(Effect.provide(layer())))

  it("an LRU map behaves like a list in the order of use", () => {
    const key = fc.constantFrom("a", "b", "c", "d", "ab")
    const step = fc.oneof(
      fc.record({ op: fc.constant("set" as const), key, ttl: fc.constantFrom(5, 20, Infinity) }),
      fc.record({ op: fc.constantFrom("get" as const, "has" as const, "remove" as const, "clear" as const), key }),
      fc.record({ op: fc.constant("wait" as const), millis: fc.integer({ min: 0, max: 12 }) })
    )
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 60 }), (max, steps) => {
        const lru = Lru.make<number>(max)
        // The model: youngest last; what has expired stays until it is touched or pushed out, as in the map.
        let model: Array<{ key: string; value: number; expires: number }> = []
        let now = 0
        for (const [i, step] of steps.entries()) {
          if (step.op === "wait") {
            now += step.millis
            continue
          }
          const known = model.find((entry) => entry.key === step.key)
          const alive = known !== undefined && known.expires > now
          const others = model.filter((entry) => entry !== known)
          switch (step.op) {
            case "set": {
              if (known === undefined && others.length >= max) others.shift()
              model = [...others, { key: step.key, value: i, expires: now + step.ttl }]
              Lru.set(lru, step.key, i, now + step.ttl)
              break
            }
            case "get": {
              model = alive ? [...others, known] : others
              assert.strictEqual(Lru.get(lru, step.key, () => now)?.value, alive ? known.value : undefined)
              break
            }
            case "has": {
              if (!alive) model = others
              assert.strictEqual(Lru.has(lru, step.key, () => now), alive)
              break
            }
            case "remove": {
              model = others
              assert.strictEqual(Lru.remove(lru, step.key, () => now), alive)
              break
            }
            case "clear": {
              const gone = model.filter((entry) => entry.key.startsWith(step.key))
              model = model.filter((entry) => !entry.key.startsWith(step.key))
              assert.strictEqual(Lru.clear(lru, step.key, now), gone.filter((entry) => entry.expires > now).length)
              break
            }
          }
          assert.deepStrictEqual(Lru.keys(lru), model.map((entry) => entry.key))
          assert.strictEqual(lru.entries.size, model.length)
          assert.isAtMost(lru.entries.size, max)
        }
      }),
      { numRuns: 300 }
    )
  })
})
