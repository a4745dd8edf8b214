import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { SqlClient } from "effect/sql/SqlClient"
import * as PgliteDatabase from "../../src/backends/PgliteDatabase.ts"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Transaction from "../../src/data/Transaction.ts"
import * as Status from "../../src/observability/Status.ts"

const database = PgliteDatabase.layerWith({ data_dir: "memory://" }).pipe(Layer.provide(Status.layer))

/** A table with one price, a cache over it, and a change of both. */
const setup = Effect.gen(function*() {
  const sql = yield* SqlClient
  yield* sql`DROP TABLE IF EXISTS prices`
  yield* sql`CREATE TABLE prices (item text PRIMARY KEY, price int)`
  yield* sql`INSERT INTO prices VALUES ('tea', 3)`
  const cache = yield* CacheAside.make({
    name: "prices",
    load: (item) =>
      Effect.map(
        sql<{ price: number }>`SELECT price FROM prices WHERE item = ${item}`,
        ([row]) => Option.map(Option.fromUndefinedOr(row), ({ price }) => price)
      ),
    ttl: "1 hour"
  })
  yield* cache.get("tea")
  const change = (price: number) =>
    Effect.andThen(
      sql`UPDATE prices SET price = ${price} WHERE item = 'tea'`,
      cache.invalidateOn(Transaction.afterCommit, { key: "tea" })
    )
  return { cache, change, sql }
})

layer(database, { excludeTestServices: true, timeout: "60 seconds" })("CacheAside and a transaction", (it) => {
  it.effect("a commit invalidates, after it is visible to the loader", () =>
    Effect.gen(function*() {
      const { cache, change } = yield* setup
      yield* Transaction.run(change(4))
      assert.deepStrictEqual(yield* cache.get("tea"), Option.some(4))
      assert.strictEqual((yield* cache.metrics).loads, 2)
    }))

  it.effect("a rollback, of all or of a savepoint, does not", () =>
    Effect.gen(function*() {
      const { cache, change } = yield* setup
      const failing = Effect.andThen(change(5), Effect.fail("no"))
      yield* Effect.ignore(Transaction.run(failing))
      yield* Transaction.run(Effect.ignore(Transaction.run(failing, { propagation: "nested" })))
      assert.deepStrictEqual(yield* cache.get("tea"), Option.some(3))
      assert.strictEqual((yield* cache.metrics).loads, 1)
    }))

  it.effect("Effect's own `SqlClient` has the hook too; outside of a transaction it is done at once", () =>
    Effect.gen(function*() {
      const { cache, change, sql } = yield* setup
      yield* sql.withTransaction(
        Effect.andThen(sql`UPDATE prices SET price = 6`, cache.invalidateOn(sql.afterCommit, { prefix: "te" }))
      )
      assert.deepStrictEqual(yield* cache.get("tea"), Option.some(6))
      yield* change(7)
      assert.deepStrictEqual(yield* cache.get("tea"), Option.some(7))
    }))
})
