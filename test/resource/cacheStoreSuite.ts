/**
 * What every cache store promises. The tests of each backend run it on their own layer and their own time.
 */
import { assert } from "@effect/vitest"
import { type Duration, Effect, Option, Schema } from "effect"
import * as Status from "../../src/observability/Status.ts"
import * as CacheStore from "../../src/resource/CacheStore.ts"

type Case = readonly [
  name: string,
  body: Effect.Effect<void, unknown, CacheStore.CacheStore | Status.Status>
]

/** The counters and operations of the node `cache`. */
const node = Effect.gen(function*() {
  const status = yield* Status.Status
  const snapshot = yield* status.get("cache")
  if (snapshot === undefined) return yield* Effect.die(new Error("there is no node `cache`"))
  return snapshot
})

const User = Schema.Struct({ name: Schema.NonEmptyString, born: Schema.Date })

/** @param pass lets so much time pass that an entry with this time to live is gone. */
export const cases = (pass: (ttl: Duration.Input) => Effect.Effect<void>): ReadonlyArray<Case> => [
  [
    "gives back what was set, byte for byte",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      const values = ["", "0", "plain", "größe ✓ 🚢", "line\r\nline\0null", "x".repeat(200_000)]
      for (const [i, value] of values.entries()) {
        yield* store.set(`key ${i}`, value)
        assert.deepStrictEqual(yield* store.get(`key ${i}`), Option.some(value))
      }
      yield* store.set("", "the empty key")
      assert.deepStrictEqual(yield* store.get(""), Option.some("the empty key"))
      yield* store.set("key 1", "replaced")
      assert.deepStrictEqual(yield* store.get("key 1"), Option.some("replaced"))
    })
  ],
  [
    "absent is none, and has no entry to delete",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      assert.deepStrictEqual(yield* store.get("nothing"), Option.none())
      assert.isFalse(yield* store.has("nothing"))
      assert.isFalse(yield* store.delete("nothing"))
      yield* store.set("something", "x")
      assert.isTrue(yield* store.has("something"))
      assert.isTrue(yield* store.delete("something"))
      assert.isFalse(yield* store.delete("something"))
      assert.deepStrictEqual(yield* store.get("something"), Option.none())
    })
  ],
  [
    "0, the empty text, false and null are hits",
    Effect.gen(function*() {
      const values = yield* CacheStore.typed(
        Schema.NullOr(Schema.Union([Schema.Number, Schema.String, Schema.Boolean]))
      )
      for (const value of [0, "", false, null]) {
        yield* values.set("k", value)
        assert.deepStrictEqual(yield* values.get("k"), Option.some(value))
      }
      assert.deepInclude((yield* node).counters, { hits: 4, misses: 0, undecodable: 0 })
    })
  ],
  [
    "typed values keep their types",
    Effect.gen(function*() {
      const users = yield* CacheStore.typed(User, { prefix: "user:" })
      const ada = { name: "Ada", born: new Date("1815-12-10") }
      yield* users.set("ada", ada)
      assert.deepStrictEqual(yield* users.get("ada"), Option.some(ada))
      assert.isTrue(yield* users.has("ada"))
      const store = yield* CacheStore.CacheStore
      assert.isTrue(yield* store.has("user:ada"))
      assert.isTrue(yield* users.delete("ada"))
      assert.isFalse(yield* store.has("user:ada"))
    })
  ],
  [
    "bytes that do not decode are a counted miss, not a failure",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      const users = yield* CacheStore.typed(User)
      for (const bytes of ["", "{", "null", "{\"name\":1}", "{\"name\":\"\",\"born\":\"2000-01-01T00:00:00.000Z\"}"]) {
        yield* store.set("k", bytes)
        assert.deepStrictEqual(yield* users.get("k"), Option.none())
      }
      assert.deepInclude((yield* node).counters, { hits: 0, misses: 5, undecodable: 5 })
      assert.deepStrictEqual(yield* users.getMany(["k", "absent"]), [Option.none(), Option.none()])
      assert.deepInclude((yield* node).counters, { hits: 0, misses: 7, undecodable: 6 })
    })
  ],
  [
    "a value that does not fit its schema is refused and changes nothing",
    Effect.gen(function*() {
      const users = yield* CacheStore.typed(User)
      const good = { name: "Ada", born: new Date(0) }
      yield* users.set("k", good)
      const error = yield* Effect.flip(users.set("k", { name: "", born: new Date(0) }))
      assert.strictEqual(error._tag, "CacheError")
      assert.strictEqual(error.reason, "Unencodable")
      assert.isFalse(error.retryable)
      assert.include(error.message, "name")
      const many = yield* Effect.flip(users.setMany([["a", good], ["b", { name: "", born: new Date(0) }]]))
      assert.strictEqual(many.reason, "Unencodable")
      assert.isFalse(yield* users.has("a"))
      assert.deepStrictEqual(yield* users.get("k"), Option.some(good))
    })
  ],
  [
    "an entry is gone when its time is over, and a new write gives it new time",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.set("short", "x", { ttl: "60 millis" })
      yield* store.set("long", "x", { ttl: "1 hour" })
      yield* store.set("ever", "x")
      yield* store.set("renewed", "x", { ttl: "60 millis" })
      yield* store.set("renewed", "y")
      yield* pass("60 millis")
      assert.isFalse(yield* store.has("short"))
      assert.deepStrictEqual(yield* store.get("short"), Option.none())
      assert.isFalse(yield* store.delete("short"))
      assert.deepStrictEqual(yield* store.get("long"), Option.some("x"))
      assert.deepStrictEqual(yield* store.get("ever"), Option.some("x"))
      assert.deepStrictEqual(yield* store.get("renewed"), Option.some("y"))
    })
  ],
  [
    "a view has a time to live of its own, and a write may differ from it",
    Effect.gen(function*() {
      const view = yield* CacheStore.typed(Schema.Number, { ttl: "60 millis" })
      yield* view.set("short", 1)
      yield* view.setMany([["short 2", 2]])
      yield* view.set("long", 3, { ttl: "1 hour" })
      yield* pass("60 millis")
      assert.deepStrictEqual(
        yield* view.getMany(["short", "short 2", "long"]),
        [Option.none(), Option.none(), Option.some(3)]
      )
    })
  ],
  [
    "a time to live of zero or less removes the entry; a fraction of a millisecond does not",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      for (const ttl of [0, -5]) {
        yield* store.set("k", "old")
        yield* store.set("k", "new", { ttl })
        assert.isFalse(yield* store.has("k"))
        yield* store.set("k", "old")
        yield* store.setMany([["k", "new"]], { ttl })
        assert.isFalse(yield* store.has("k"))
      }
      yield* store.set("k", "new", { ttl: "3600000.4 millis" })
      assert.isTrue(yield* store.has("k"))
    })
  ],
  [
    "many keys at once, in order, absent ones and repeated ones included",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.setMany([["a", "1"], ["b", "2"], ["c", ""]])
      assert.deepStrictEqual(
        yield* store.getMany(["c", "nothing", "a", "a"]),
        [Option.some(""), Option.none(), Option.some("1"), Option.some("1")]
      )
      assert.deepInclude((yield* node).counters, { hits: 3, misses: 1 })
      assert.deepStrictEqual(yield* store.getMany([]), [])
      yield* store.setMany([])
      assert.strictEqual(yield* store.deleteMany(["a", "nothing", "b"]), 2)
      assert.strictEqual(yield* store.deleteMany([]), 0)
      assert.deepStrictEqual(yield* store.getMany(["a", "b", "c"]), [Option.none(), Option.none(), Option.some("")])
    })
  ],
  [
    "thousands of keys at once",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      const entries = Array.from({ length: 2_500 }, (_, i) => [`many:${i}`, String(i)] as const)
      yield* store.setMany(entries, { ttl: "1 minute" })
      const found = yield* store.getMany(entries.map(([key]) => key))
      assert.deepStrictEqual(found, entries.map(([, value]) => Option.some(value)))
      assert.strictEqual(yield* store.clear("many:"), 2_500)
      assert.isFalse(yield* store.has("many:2499"))
    })
  ],
  [
    "clear removes what begins with the prefix, read literally, and nothing else",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.setMany(
        ["a", "a*", "a*b", "ab", "a?c", "[a]", "[a]x", "a\\b", "b", ""].map((key) => [key, "x"] as const)
      )
      assert.strictEqual(yield* store.clear("a*"), 2)
      assert.strictEqual(yield* store.clear("[a]"), 2)
      assert.strictEqual(yield* store.clear("a\\"), 1)
      assert.strictEqual(yield* store.clear("nothing"), 0)
      assert.isTrue(yield* store.has("ab"))
      assert.strictEqual(yield* store.clear("a"), 3)
      assert.isTrue(yield* store.has("b"))
      assert.strictEqual(yield* store.clear(), 2)
    })
  ],
  [
    "clearing a view leaves other views alone",
    Effect.gen(function*() {
      const one = yield* CacheStore.typed(Schema.Number, { prefix: "one:" })
      const two = yield* CacheStore.typed(Schema.Number, { prefix: "two:" })
      yield* one.setMany([["a", 1], ["b", 2]])
      yield* two.set("a", 3)
      assert.strictEqual(yield* one.clear("b"), 1)
      assert.strictEqual(yield* one.clear(), 1)
      assert.deepStrictEqual(yield* two.get("a"), Option.some(3))
      assert.strictEqual(yield* two.deleteMany(["a", "b"]), 1)
    })
  ],
  [
    "counts hits, misses and operations in the status tree",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* store.set("k", "x")
      yield* store.get("k")
      yield* store.get("k")
      yield* store.get("nothing")
      yield* store.has("k")
      yield* store.delete("k")
      const { counters, health, kind, operations, state } = yield* node
      assert.deepStrictEqual([kind, state, health], ["cache", "ready", "up"])
      assert.deepInclude(counters, { hits: 2, misses: 1, undecodable: 0 })
      assert.deepInclude(operations["get"], { attempts: 3, successes: 3, failures: 0 })
      assert.deepInclude(operations["set"], { attempts: 1, successes: 1, failures: 0 })
      assert.deepInclude(operations["has"], { attempts: 1 })
      assert.deepInclude(operations["delete"], { attempts: 1 })
    })
  ],
  [
    "many fibers at once see each their own value",
    Effect.gen(function*() {
      const store = yield* CacheStore.CacheStore
      yield* Effect.forEach(
        Array.from({ length: 300 }, (_, i) => String(i)),
        (i) =>
          Effect.gen(function*() {
            yield* store.set(`fiber:${i}`, i)
            yield* Effect.yieldNow
            assert.deepStrictEqual(yield* store.get(`fiber:${i}`), Option.some(i))
          }),
        { concurrency: "unbounded", discard: true }
      )
    })
  ]
]
