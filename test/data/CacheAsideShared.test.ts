import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"
import { SharedMemory } from "../support/CacheAsideStoreMemory.ts"
import { interruptAt, steps } from "../support/EveryStep.ts"

const source = <A>(first: Effect.Effect<A | Option.Option<A>, string>) => {
  const self = {
    next: first,
    loads: 0,
    load: (_key: string): Effect.Effect<A | Option.Option<A>, string> =>
      Effect.suspend(() => {
        self.loads++
        return self.next
      })
  }
  return self
}

type Source = ReturnType<typeof source<string>>

/** A process that shares the store. */
const node = (
  store: SharedMemory,
  from: Pick<Source, "load">,
  options?: Partial<CacheAside.SharedOptions<string, string, string, never>>
) =>
  CacheAside.make({
    name: "c",
    schema: Schema.String,
    load: from.load,
    ttl: "1 minute",
    jitter: 0,
    storage: "two-level",
    ...options
  }).pipe(Effect.provide(store.layer))

const got = (cache: CacheAside.CacheAside<string, string>, key = "k") =>
  Effect.map(
    Effect.exit(cache.get(key)),
    (exit) => Exit.isSuccess(exit) ? Option.getOrElse(exit.value, () => "absent") : "failed"
  )

/** As `got`, where the clock has to move for it. */
const gotAfter = (cache: CacheAside.CacheAside<string, string>, millis: number, key = "k") =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(got(cache, key), { startImmediately: true })
    yield* TestClock.adjust(millis)
    return yield* Fiber.join(fiber)
  })

const count = (store: SharedMemory, name: string) => store.asked.filter((asked) => asked === name).length

describe("CacheAside in a shared store", () => {
  describe("one load a key over all nodes", () => {
    it.effect("500 callers on each of two nodes make one load", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.delay(Effect.succeed("v"), "1 second"))
        const nodes = [yield* node(store, from), yield* node(store, from)]
        const fiber = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 1_000 }), (_, index) => got(nodes[index % 2]!), {
            concurrency: "unbounded"
          })
        )
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(new Set(yield* Fiber.join(fiber)), new Set(["v"]))
        assert.strictEqual(from.loads, 1)
        // Where there is no other node in the way, one question gets the lease and one gives the value.
        assert.deepStrictEqual([count(store, "write"), store.entries.size, store.leases.size], [1, 1, 0])
      }))

    it.effect("a node that stops saying that it is alive is replaced, and its late value is refused", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const slow = source(Effect.delay(Effect.succeed("late"), "8 seconds"))
        const fast = source(Effect.succeed("timely"))
        const one = yield* node(store, slow)
        const other = yield* node(store, fast)
        const first = yield* Effect.forkChild(got(one), { startImmediately: true })
        // Alive, it keeps its lease for longer than 3 seconds.
        const second = yield* Effect.forkChild(got(other), { startImmediately: true })
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(fast.loads, 0)
        // It is not heard any more.
        store.leases.delete("k")
        yield* TestClock.adjust("200 millis")
        assert.strictEqual(yield* Fiber.join(second), "timely")
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(yield* Fiber.join(first), "late")
        assert.strictEqual((yield* one.metrics).refusedWrites, 1)
        assert.strictEqual(yield* got(one), "timely")
        assert.strictEqual(slow.loads, 1)
      }))

    it.effect("a node whose load fails gives the lease to the next", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const bad = source<string>(Effect.delay(Effect.fail("down"), "1 second"))
        const good = source(Effect.succeed("v"))
        const first = yield* Effect.forkChild(got(yield* node(store, bad)), { startImmediately: true })
        const second = yield* Effect.forkChild(got(yield* node(store, good)), { startImmediately: true })
        yield* TestClock.adjust("1200 millis")
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], ["failed", "v"])
      }))

    it.effect("whatever step a caller is interrupted at, no lease stays behind", () =>
      Effect.gen(function*() {
        for (const step of steps(8, 14)) {
          const store = new SharedMemory()
          const from = source(Effect.andThen(Effect.yieldNow, Effect.succeed("v")))
          const began = yield* Clock.currentTimeMillis
          yield* Effect.scoped(Effect.gen(function*() {
            const cache = yield* Effect.provideService(node(store, from), MaxOpsBeforeYield, step.ops)
            yield* interruptAt(got(cache), step)
            const next = yield* Effect.forkChild(got(cache))
            // A fiber that yields all the time may reach its sleep after the clock has moved.
            while (next.pollUnsafe() === undefined) yield* TestClock.adjust(10)
            assert.strictEqual(yield* Fiber.join(next), "v")
            assert.strictEqual(store.leases.size, 0)
            assert.isBelow(yield* Clock.currentTimeMillis, began + 1_000)
          }))
        }
      }))
  })

  describe("two levels", () => {
    it.effect("what one node has loaded another reads from the store, and then from its memory", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("v"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* got(one)
        assert.strictEqual(yield* got(other), "v")
        const before = count(store, "acquire")
        assert.strictEqual(yield* got(other), "v")
        assert.strictEqual(count(store, "acquire"), before)
        assert.strictEqual(from.loads, 1)
        const { hits, misses, storeHits } = yield* other.metrics
        assert.deepStrictEqual({ hits, misses, storeHits }, { hits: 2, misses: 0, storeHits: 1 })
      }))

    it.effect("with storage `redis` nothing is kept in memory", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("v"))
        const cache = yield* node(store, from, { storage: "redis" })
        yield* got(cache)
        yield* got(cache)
        assert.deepStrictEqual([yield* cache.size, from.loads, (yield* cache.metrics).storeHits], [0, 1, 1])
      }))

    it.effect("a copy in memory ends when its original does, not a time to live after it was read", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* got(one)
        yield* TestClock.adjust("59 seconds")
        yield* got(other)
        from.next = Effect.succeed("new")
        yield* TestClock.adjust(999)
        assert.strictEqual(yield* got(other), "old")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* got(other), "new")
      }))

    it.effect("absence is shared too, and a stale value is served by any node while one loads anew", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source<string>(Effect.succeed(Option.none()))
        const options = { staleWhileRevalidate: "1 minute", staleIfError: "10 minutes" } as const
        const [one, other] = [yield* node(store, from, options), yield* node(store, from, options)]
        yield* got(one)
        assert.strictEqual(yield* got(other), "absent")
        yield* TestClock.adjust("31 seconds")
        from.next = Effect.delay(Effect.succeed("v"), "1 second")
        assert.deepStrictEqual([yield* got(other), yield* got(one)], ["absent", "absent"])
        yield* TestClock.adjust("1 second")
        yield* got(one)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([yield* got(other), yield* got(one)], ["v", "v"])
        assert.strictEqual(from.loads, 2)
        // Long after, the loader is down.
        yield* TestClock.adjust("5 minutes")
        from.next = Effect.fail("down")
        const third = yield* node(store, from, options)
        assert.strictEqual(yield* got(third), "v")
        yield* TestClock.adjust("6 minutes")
        assert.strictEqual(yield* got(third), "failed")
      }))

    it.effect("undecodable bytes are a counted miss, and are replaced", () =>
      Effect.gen(function*() {
        for (
          const payload of ["", "garbage", "1|x|60000|60000|1|v||{\"not\":\"text\"}", "1|x|60000|60000|1|v|%|\"v\""]
        ) {
          const store = new SharedMemory()
          store.entries.set("k", { key: "k", payload, tags: [], expires: 1e9 })
          const cache = yield* node(store, source(Effect.succeed("v")))
          assert.strictEqual(yield* got(cache), "v")
          assert.strictEqual((yield* cache.metrics).undecodable, 1)
          assert.strictEqual(yield* got(yield* node(store, source(Effect.succeed("other")))), "v")
        }
      }))

    it.effect("a value that its schema cannot encode is served and not shared", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const cache = yield* CacheAside.make({
          name: "c",
          schema: Schema.String.check(Schema.isMaxLength(3)),
          load: () => Effect.succeed("too long"),
          ttl: "1 minute",
          storage: "two-level"
        }).pipe(Effect.provide(store.layer))
        assert.deepStrictEqual(yield* cache.get("k"), Option.some("too long"))
        assert.strictEqual((yield* cache.metrics).unencodable, 1)
        assert.deepStrictEqual([store.entries.size, store.leases.size], [0, 0])
      }))

    it.effect("getMany reads the store once, and loads what is missing", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = { load: (key: string) => Effect.succeed(key.toUpperCase()) }
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* one.warm(["a", "b", "c"])
        store.asked.length = 0
        const found = yield* other.getMany(["c", "a", "d", "b"])
        assert.deepStrictEqual(found, ["C", "A", "D", "B"].map(Option.some))
        assert.strictEqual(count(store, "read"), 1)
        assert.strictEqual(count(store, "acquire"), 1)
      }))

    it.effect("a refresh loads although the store has a fresh value", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const cache = yield* node(store, from)
        yield* got(cache)
        from.next = Effect.succeed("new")
        assert.deepStrictEqual(yield* cache.refresh("k"), Option.some("new"))
        assert.strictEqual(yield* got(cache), "new")
        assert.strictEqual(yield* got(yield* node(store, from)), "new")
      }))
  })

  describe("reading without a load", () => {
    for (const options of [{ storage: "redis" }, { storage: "redis", staleIfError: "1 minute" }, {}] as const) {
      it.effect(`callers at once share one question, and a hit takes no lease (${JSON.stringify(options)})`, () =>
        Effect.gen(function*() {
          const store = new SharedMemory()
          const from = source(Effect.succeed<string | Option.Option<string>>("v"))
          yield* got(yield* node(store, from))
          const cache = yield* node(store, from, options)
          store.asked.length = 0
          store.latency = { there: 5, back: 5 }
          const all = yield* Effect.forkChild(
            Effect.forEach(Array.from({ length: 100 }), () => got(cache), { concurrency: "unbounded" }),
            { startImmediately: true }
          )
          yield* TestClock.adjust(10)
          assert.deepStrictEqual(new Set(yield* Fiber.join(all)), new Set(["v"]))
          assert.deepStrictEqual(store.asked.filter((name) => name !== "announce"), ["look"])
          const { hits, loads, misses, storeHits } = yield* cache.metrics
          assert.deepStrictEqual({ hits, loads, misses, storeHits }, { hits: 100, loads: 0, misses: 0, storeHits: 100 })
        }))

      it.effect(`who comes after an invalidation does not get what was read before (${JSON.stringify(options)})`, () =>
        Effect.gen(function*() {
          const store = new SharedMemory()
          const from = source(Effect.succeed("old"))
          const cache = yield* node(store, from, options)
          yield* got(yield* node(store, from))
          store.latency = { there: 0, back: 20 }
          const before = yield* Effect.forkChild(got(cache), { startImmediately: true })
          store.latency = { there: 0, back: 0 }
          from.next = Effect.succeed("new")
          yield* cache.invalidate("k")
          assert.strictEqual(yield* got(cache), "new")
          yield* TestClock.adjust(20)
          assert.strictEqual(yield* Fiber.join(before), "old")
          assert.strictEqual(yield* got(cache), "new")
          assert.strictEqual(from.loads, 2)
        }))
    }

    it.effect("what is read is kept in memory unless it was itself invalidated meanwhile", () =>
      Effect.gen(function*() {
        const cases: ReadonlyArray<readonly [CacheAside.Target, boolean]> = [
          [{ key: "other" }, true],
          [{ tag: "other" }, true],
          [{ prefix: "other" }, true],
          [{ key: "k" }, false],
          [{ tag: "people" }, false],
          [{ prefix: "k" }, false],
          [{ all: true }, false]
        ]
        for (const [target, kept] of cases) {
          const store = new SharedMemory()
          const from = source(Effect.succeed("v"))
          const options = { tags: () => ["people"] }
          const [one, other] = [yield* node(store, from, options), yield* node(store, from, options)]
          yield* got(one)
          store.latency = { there: 0, back: 20 }
          const reader = yield* Effect.forkChild(got(other), { startImmediately: true })
          store.latency = { there: 0, back: 0 }
          yield* one.forget(target)
          yield* TestClock.adjust(20)
          assert.strictEqual(yield* Fiber.join(reader), "v")
          assert.strictEqual(yield* other.size, kept ? 1 : 0, JSON.stringify(target))
        }
      }))

    it.effect("who leaves does not end the question of the others, and the last one does", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("v"))
        yield* got(yield* node(store, from))
        const cache = yield* node(store, from, { storage: "redis" })
        store.latency = { there: 20, back: 0 }
        const [leaves, stays] = [
          yield* Effect.forkChild(got(cache), { startImmediately: true }),
          yield* Effect.forkChild(got(cache), { startImmediately: true })
        ]
        yield* Fiber.interrupt(leaves)
        yield* TestClock.adjust(20)
        assert.strictEqual(yield* Fiber.join(stays), "v")
        yield* Fiber.interrupt(yield* Effect.forkChild(got(cache), { startImmediately: true }))
        store.latency = { there: 0, back: 0 }
        assert.strictEqual(yield* got(cache), "v")
      }))

    it.effect("an entry that another wrote to be served when it is old is not taken for fresh", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const lenient = yield* node(store, from, { staleIfError: "1 hour" })
        const strict = yield* node(store, from, { storage: "redis" })
        yield* got(lenient)
        assert.strictEqual(yield* got(strict), "old")
        yield* TestClock.adjust("1 minute")
        from.next = Effect.succeed("new")
        assert.strictEqual(yield* got(strict), "new")
      }))

    it.effect("absence that is found in the store is counted as such", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source<string>(Effect.succeed(Option.none()))
        yield* got(yield* node(store, from))
        const cache = yield* node(store, from, { storage: "redis" })
        assert.strictEqual(yield* got(cache), "absent")
        const { hits, negativeHits, storeHits } = yield* cache.metrics
        assert.deepStrictEqual({ hits, negativeHits, storeHits }, { hits: 1, negativeHits: 1, storeHits: 1 })
      }))
  })

  describe("a value that the application sets", () => {
    for (const storage of ["redis", "two-level"] as const) {
      it.effect(`is what all nodes get, and refuses loads that had begun before (${storage})`, () =>
        Effect.gen(function*() {
          const store = new SharedMemory()
          const from = source(Effect.succeed("old"))
          const [one, other] = [yield* node(store, from, { storage }), yield* node(store, from, { storage })]
          yield* got(one)
          yield* got(other)
          yield* one.set("k", "set")
          assert.deepStrictEqual([yield* got(other), yield* got(one)], ["set", "set"])
          assert.strictEqual(from.loads, 1)
          from.next = Effect.delay(Effect.succeed("late"), "1 second")
          const before = yield* Effect.forkChild(other.get("other"), { startImmediately: true })
          // Even if the message is lost: the version in the store decides.
          store.deaf = true
          yield* one.set("other", "set")
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* Fiber.join(before), Option.some("late"))
          assert.strictEqual((yield* other.metrics).refusedWrites, 1)
          assert.deepStrictEqual([yield* got(one, "other"), yield* got(other, "other")], ["set", "set"])
        }))
    }

    it.effect("is not kept in memory if another node has set a newer one before the answer came", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("loaded"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        store.latency = { there: 0, back: 20 }
        const first = yield* Effect.forkChild(one.set("k", "older"), { startImmediately: true })
        store.latency = { there: 0, back: 0 }
        yield* other.set("k", "newer")
        yield* TestClock.adjust(20)
        yield* Fiber.join(first)
        assert.deepStrictEqual([yield* got(one), yield* got(other)], ["newer", "newer"])
      }))

    it.effect("ends with its original, with its tags", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("loaded"))
        const options = { tags: () => ["people"] }
        const [one, other] = [yield* node(store, from, options), yield* node(store, from, options)]
        yield* one.set("k", "set")
        yield* other.invalidateTag("people")
        assert.strictEqual(yield* got(one), "loaded")
        yield* one.set("k", "set")
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual([yield* got(one), yield* got(other)], ["loaded", "loaded"])
      }))

    it.effect("while the store is away it is served here, and the others load it anew afterwards", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* got(one)
        yield* got(other)
        store.mode = "down"
        from.next = Effect.succeed("new")
        yield* one.set("k", "new")
        assert.strictEqual(yield* got(one), "new")
        assert.strictEqual(from.loads, 1)
        store.mode = "up"
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([yield* got(other), yield* got(one)], ["new", "new"])
      }))

    it.effect("that its schema cannot encode forgets the key", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const cache = yield* CacheAside.make({
          name: "c",
          schema: Schema.String.check(Schema.isMaxLength(3)),
          load: () => Effect.succeed("v"),
          ttl: "1 minute",
          storage: "two-level"
        }).pipe(Effect.provide(store.layer))
        yield* cache.set("k", "old")
        yield* cache.set("k", "too long")
        assert.deepStrictEqual(yield* cache.get("k"), Option.some("v"))
        assert.strictEqual((yield* cache.metrics).unencodable, 1)
      }))

    it.effect("is set although its caller leaves", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const cache = yield* node(store, source(Effect.succeed("loaded")))
        store.latency = { there: 20, back: 0 }
        yield* Fiber.interrupt(yield* Effect.forkChild(cache.set("k", "set"), { startImmediately: true }))
        yield* TestClock.adjust(20)
        store.latency = { there: 0, back: 0 }
        assert.strictEqual(yield* got(cache), "set")
      }))
  })

  describe("loads made together", () => {
    it.effect("each key has a lease of its own: what another node loads is waited for and holds up nobody else", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const calls: Array<ReadonlyArray<string>> = []
        const loadMany = (keys: ReadonlyArray<string>) => {
          calls.push(keys)
          return Effect.delay(Effect.succeed(keys.map((key) => [key, key.toUpperCase()] as const)), "100 millis")
        }
        const from = source(Effect.delay(Effect.succeed("elsewhere"), "1 second"))
        const other = yield* node(store, from)
        const cache = yield* node(store, from, { loadMany })
        const single = yield* Effect.forkChild(got(other, "b"), { startImmediately: true })
        const many = yield* Effect.forkChild(cache.getMany(["a", "b", "c"]), { startImmediately: true })
        yield* TestClock.adjust("200 millis")
        assert.deepStrictEqual([...store.entries.keys()].sort(), ["a", "c"])
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(single), "elsewhere")
        assert.deepStrictEqual(yield* Fiber.join(many), ["A", "elsewhere", "C"].map(Option.some))
        assert.deepStrictEqual(calls, [["a", "c"]])
        assert.strictEqual(store.leases.size, 0)
      }))

    it.effect("a key whose holder has died is loaded alone when its lease is over", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const calls: Array<ReadonlyArray<string>> = []
        const cache = yield* node(store, source(Effect.never), {
          loadMany: (keys) => {
            calls.push(keys)
            return Effect.succeed(keys.map((key) => [key, "v"] as const))
          }
        })
        store.leases.set("b", { token: "dead", expires: 3_000 })
        const many = yield* Effect.forkChild(cache.getMany(["a", "b"]), { startImmediately: true })
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual(yield* Fiber.join(many), ["v", "v"].map(Option.some))
        assert.deepStrictEqual(calls, [["a"], ["b"]])
      }))

    it.effect("while the store is away it is one call too", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        let calls = 0
        const cache = yield* node(store, source(Effect.never), {
          loadMany: (keys) => Effect.sync(() => (calls++, keys.map((key) => [key, "v"] as const)))
        })
        store.mode = "down"
        assert.deepStrictEqual(yield* cache.getMany(["a", "b", "c"]), ["v", "v", "v"].map(Option.some))
        assert.strictEqual(calls, 1)
      }))
  })

  describe("invalidation", () => {
    const targets: ReadonlyArray<readonly [string, CacheAside.Target]> = [
      ["key", { key: "user:1" }],
      ["tag", { tag: "people" }],
      ["prefix", { prefix: "user:" }],
      ["all", { all: true }]
    ]
    const tagged = { tags: () => ["people"] }

    for (const storage of ["redis", "two-level"] as const) {
      for (const [name, target] of targets) {
        it.effect(`by ${name} on one node forgets the value on all (${storage})`, () =>
          Effect.gen(function*() {
            const store = new SharedMemory()
            const from = source(Effect.succeed("old"))
            const options = { ...tagged, storage }
            const [one, other] = [yield* node(store, from, options), yield* node(store, from, options)]
            yield* got(one, "user:1")
            yield* got(other, "user:1")
            from.next = Effect.succeed("new")
            yield* one.forget(target)
            assert.deepStrictEqual([yield* got(other, "user:1"), yield* got(one, "user:1")], ["new", "new"])
            assert.strictEqual(from.loads, 2)
          }))

        it.effect(`by ${name} during a load on another node wins (${storage})`, () =>
          Effect.gen(function*() {
            const store = new SharedMemory()
            const from = source(Effect.delay(Effect.succeed("old"), "1 second"))
            const options = { ...tagged, storage }
            const [one, other] = [yield* node(store, from, options), yield* node(store, from, options)]
            const before = yield* Effect.forkChild(got(one, "user:1"), { startImmediately: true })
            // Even if the message is lost: the version in the store decides.
            store.deaf = true
            yield* other.forget(target)
            from.next = Effect.succeed("new")
            const after = yield* Effect.forkChild(got(other, "user:1"), { startImmediately: true })
            yield* TestClock.adjust("2 seconds")
            assert.deepStrictEqual([yield* Fiber.join(before), yield* Fiber.join(after)], ["old", "new"])
            assert.deepStrictEqual([yield* got(one, "user:1"), yield* got(other, "user:1")], ["new", "new"])
            assert.strictEqual((yield* one.metrics).refusedWrites, 1)
          }))
      }
    }

    it.effect("a read that overtakes the invalidation on its way to the store is not kept", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const cache = yield* node(store, from)
        yield* got(cache)
        from.next = Effect.succeed("new")
        store.latency = { there: 20, back: 0 }
        const invalidation = yield* Effect.forkChild(cache.invalidate("k"), { startImmediately: true })
        store.latency = { there: 0, back: 0 }
        assert.strictEqual(yield* got(cache), "old")
        yield* TestClock.adjust(20)
        yield* Fiber.join(invalidation)
        assert.strictEqual(yield* got(cache), "new")
      }))

    it.effect("an invalidation whose caller is interrupted is carried out all the same", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* got(one)
        yield* got(other)
        from.next = Effect.succeed("new")
        store.latency = { there: 20, back: 0 }
        const invalidation = yield* Effect.forkChild(one.invalidate("k"), { startImmediately: true })
        yield* Fiber.interrupt(invalidation)
        yield* TestClock.adjust(20)
        store.latency = { there: 0, back: 0 }
        assert.deepStrictEqual([yield* got(one), yield* got(other)], ["new", "new"])
      }))

    it.effect("an invalidation between the load and the write is not overtaken by the write", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        store.beforeWrite = Effect.suspend(() => {
          store.beforeWrite = Effect.void
          from.next = Effect.succeed("new")
          return other.invalidate("k")
        })
        yield* got(one)
        assert.strictEqual(yield* got(one), "new")
      }))
  })

  describe("the bus", () => {
    it.effect("after a gap memory is distrusted: a lost message is noticed with the next, or with a sign of life", () =>
      Effect.gen(function*() {
        for (const next of ["message", "sign of life"]) {
          const store = new SharedMemory()
          const from = source(Effect.succeed("old"))
          const [one, other] = [yield* node(store, from), yield* node(store, from)]
          yield* got(one)
          store.deaf = true
          yield* other.invalidate("k")
          store.deaf = false
          from.next = Effect.succeed("new")
          assert.strictEqual(yield* got(one), "old")
          if (next === "message") yield* other.invalidate("another")
          else {
            yield* TestClock.adjust("1 second")
            // It is heard before the sign of life comes back.
            yield* got(one)
          }
          assert.strictEqual(yield* got(one), "new")
          assert.strictEqual((yield* one.metrics).gaps, 1)
        }
      }))

    it.effect("a bus that is silent although it was asked is a gap, after the bound", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* got(one)
        store.deaf = true
        yield* other.invalidate("k")
        from.next = Effect.succeed("new")
        yield* TestClock.adjust(1_999)
        assert.strictEqual(yield* got(one), "old")
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* got(one), "new")
      }))

    it.effect("a store that has lost its data is noticed: no copy outlives its original by more than the bound", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const cache = yield* node(store, from)
        yield* got(cache)
        store.flush()
        from.next = Effect.succeed("new")
        yield* TestClock.adjust("2 seconds")
        yield* got(cache)
        assert.strictEqual(yield* got(cache), "new")
      }))

    it.effect("nothing is sent while nobody asks", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const cache = yield* node(store, source(Effect.succeed("v")))
        yield* got(cache)
        const before = store.asked.length
        yield* TestClock.adjust("30 seconds")
        assert.strictEqual(store.asked.length, before)
      }))
  })

  describe("while the store is away", () => {
    it.effect("memory and loads serve, the node is degraded, and it comes back by itself", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("v"))
        const cache = yield* node(store, from)
        const state = Effect.flatMap(
          Status.Status,
          (status) => Effect.map(status.get("cache-aside:c"), (one) => one?.state)
        )
        yield* got(cache)
        store.mode = "down"
        assert.strictEqual(yield* got(cache, "other"), "v")
        assert.strictEqual(yield* state, "degraded")
        assert.strictEqual(yield* got(cache), "v")
        assert.strictEqual(yield* got(cache, "other"), "v")
        assert.strictEqual(from.loads, 2)
        store.mode = "up"
        yield* TestClock.adjust("1 second")
        yield* got(cache)
        assert.strictEqual(yield* state, "ready")
        yield* got(cache, "third")
        assert.isTrue(store.entries.has("third"))
      }).pipe(Effect.scoped, Effect.provide(Status.layer)))

    it.effect("a frozen store costs one time-out, and then nothing until it is tried again in the background", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("v"))
        const cache = yield* node(store, from)
        store.mode = "frozen"
        assert.strictEqual(yield* gotAfter(cache, 500), "v")
        for (let index = 0; index < 50; index++) {
          assert.strictEqual(yield* got(cache, `k${index}`), "v")
          yield* TestClock.adjust(100)
        }
        assert.strictEqual(from.loads, 51)
        store.mode = "up"
        yield* TestClock.adjust("2 seconds")
        yield* got(cache)
        yield* TestClock.adjust("1 second")
        yield* got(cache, "again")
        assert.isTrue(store.entries.has("again"))
      }))

    it.effect("an invalidation is not lost: this node never serves what it has forgotten, and others hear of it later", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.succeed("old"))
        const [one, other] = [yield* node(store, from), yield* node(store, from)]
        yield* got(one)
        yield* got(other)
        store.mode = "down"
        yield* one.invalidate("k")
        from.next = Effect.succeed("new")
        assert.strictEqual(yield* got(one), "new")
        assert.strictEqual(yield* got(other), "old")
        store.mode = "up"
        // Nobody asks: it is told by itself.
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* got(other), "new")
        assert.strictEqual(yield* got(one), "new")
      }))

    it.effect("a load that takes longer than the pause between two tries is kept, and shared by callers of one node", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        store.mode = "down"
        const from = source(Effect.delay(Effect.succeed("v"), "3 seconds"))
        const cache = yield* node(store, from)
        const callers = yield* Effect.forEach(
          [1, 2, 3],
          () => Effect.andThen(TestClock.adjust(900), Effect.forkChild(got(cache), { startImmediately: true }))
        )
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(yield* Effect.forEach(callers, Fiber.join), ["v", "v", "v"])
        assert.strictEqual(yield* got(cache), "v")
        assert.strictEqual(from.loads, 1)
      }))

    it.effect("with storage `redis` callers of one node still share a load", () =>
      Effect.gen(function*() {
        const store = new SharedMemory()
        const from = source(Effect.delay(Effect.succeed("v"), "1 second"))
        const cache = yield* node(store, from, { storage: "redis" })
        store.mode = "down"
        const fiber = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 100 }), () => got(cache), { concurrency: "unbounded" })
        )
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(new Set(yield* Fiber.join(fiber)), new Set(["v"]))
        assert.strictEqual(from.loads, 1)
        assert.strictEqual(yield* cache.size, 0)
      }))
  })
})
