import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as SqlError from "effect/sql/SqlError"
import * as fc from "fast-check"
import * as Demand from "../../../src/data/transaction/demand.ts"
import * as Failure from "../../../src/data/transaction/failure.ts"
import { History, raw, shape } from "../../../src/data/transaction/history.ts"
import { PoolExhaustedError } from "../../../src/resource/database/errors.ts"
import { lostConnection, serverError } from "./fakeDatabase.ts"

const props = { message: "m", operation: "query" }

describe("the kind of a failure", () => {
  it("is told by its SQLSTATE, also where the driver leaves it unknown", () => {
    const kind = (code: string) => Failure.kindOf(serverError(code))
    assert.strictEqual(kind("40001"), "Serialization")
    assert.strictEqual(kind("40P01"), "Deadlock")
    for (
      const code of [
        "57P01",
        "57P02",
        "57P03",
        "57P05",
        "25P03",
        "25P04",
        "53300",
        "40003",
        "08000",
        "08003",
        "08006",
        "08P01"
      ]
    ) {
      assert.strictEqual(kind(code), "ConnectionLost", code)
    }
    for (const code of ["23505", "57014", "25P02", "40002", "42601", "55P03", "XX000", "0800", "080000"]) {
      assert.strictEqual(kind(code), "Other", code)
    }
  })

  it("is told by the driver's reason where there is no code", () => {
    const of = (reason: SqlError.SqlError["reason"]) => Failure.kindOf(new SqlError.SqlError({ reason }))
    const cause = new Error("c")
    assert.strictEqual(of(new SqlError.ConnectionError({ ...props, cause })), "ConnectionLost")
    assert.strictEqual(of(new SqlError.DeadlockError({ ...props, cause })), "Deadlock")
    assert.strictEqual(of(new SqlError.SerializationError({ ...props, cause })), "Serialization")
    assert.strictEqual(of(new SqlError.UnknownError({ ...props, cause })), "Other")
    assert.strictEqual(
      of(new SqlError.ConnectionError({ ...props, cause: Object.assign(new Error("c"), { code: "ECONNRESET" }) })),
      "ConnectionLost"
    )
  })

  it("of a pool that said no is not a lost connection", () => {
    const refused = new PoolExhaustedError({
      reason: "AcquireTimeout",
      inUse: 1,
      waiting: 1,
      maxConnections: 1,
      maxWaiting: 1,
      waited: 1
    })
    const error = new SqlError.SqlError({ reason: new SqlError.ConnectionError({ ...props, cause: refused }) })
    assert.strictEqual(Failure.kindOf(error), "Unavailable")
    assert.isFalse(Failure.isTransient(Failure.kindOf(error)))
  })

  it("is found in what the work made of it: wrapped up to five deep, or died of", () => {
    const error = serverError("40001")
    const wrapped = { _tag: "OrderError", cause: { cause: error } }
    assert.strictEqual(Failure.sqlErrorIn(Cause.fail(wrapped)), error)
    assert.strictEqual(Failure.sqlErrorIn(Cause.die(error)), error)
    assert.strictEqual(Failure.sqlErrorIn(Cause.combine(Cause.interrupt(1), Cause.fail(error))), error)
    assert.isUndefined(Failure.sqlErrorIn(Cause.fail("storm")))
    const circle: Record<string, unknown> = {}
    circle["cause"] = circle
    assert.isUndefined(Failure.sqlErrorIn(Cause.fail(circle)))
  })
})

describe("a COMMIT that failed", () => {
  it("was denied only if the server said so", () => {
    const unknown = (cause: unknown, operation = "query") =>
      new SqlError.SqlError({ reason: new SqlError.UnknownError({ cause, message: "m", operation }) })
    for (const code of ["40001", "40P01", "23505", "23503", "XX000", "57014"]) {
      assert.isTrue(Failure.deniesCommit(serverError(code)), code)
    }
    assert.isTrue(Failure.deniesCommit(unknown(new Error("COMMIT rolled back"), "commit")))
    assert.isFalse(Failure.deniesCommit(lostConnection))
    for (const code of ["57P01", "08006", "40003", "EPIPE"]) {
      assert.isFalse(Failure.deniesCommit(serverError(code)), code)
    }
    assert.isFalse(Failure.deniesCommit(unknown(new Error("an answer that is not understood"))))
  })
})

describe("a demand", () => {
  it("is told to the server in its own words", () => {
    assert.strictEqual(
      Demand.begin({ isolation: "READ_COMMITTED", readOnly: false, deferrable: false }),
      "BEGIN ISOLATION LEVEL READ COMMITTED"
    )
    assert.strictEqual(
      Demand.begin({ isolation: "SERIALIZABLE", readOnly: true, deferrable: true }),
      "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE"
    )
  })

  it("is met by an open transaction that is at least as isolated and has the same access", () =>
    fc.assert(
      fc.property(
        fc.record({ isolation: fc.constantFrom(...Demand.levels), readOnly: fc.boolean(), deferrable: fc.boolean() }),
        fc.record({
          isolation: fc.option(fc.constantFrom(...Demand.levels), { nil: undefined }),
          readOnly: fc.option(fc.boolean(), { nil: undefined }),
          deferrable: fc.option(fc.boolean(), { nil: undefined })
        }),
        (open, demand) => {
          const met = (demand.isolation === undefined ||
            Demand.levels.indexOf(open.isolation) >= Demand.levels.indexOf(demand.isolation)) &&
            (demand.readOnly ?? open.readOnly) === open.readOnly &&
            (demand.deferrable !== true || open.deferrable)
          assert.strictEqual(Demand.conflict("x", demand, open) === undefined, met)
          // Asking for what is there is always met.
          assert.isUndefined(Demand.conflict("x", open, open))
        }
      )
    ))
})

describe("the shape of a statement", () => {
  it("has no value in it", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["SELECT * FROM t WHERE a = 'x' AND b = 12.5e3", "SELECT * FROM t WHERE a = ? AND b = ?"],
      ["SELECT 'it''s', E'it\\'s', 'open", "SELECT ?, ?, ?"],
      ["SELECT $1, $2::int FROM table_1 t2", "SELECT $1, $2::int FROM table_1 t2"],
      ["DO $$ secret $$; DO $tag$ more $tag$", "DO ?; DO ?"],
      ["SELECT 1 -- secret\n, /* secret */ 2", "SELECT ? , ?"],
      ["  INSERT\n  INTO  \"t 1\" ", "INSERT INTO \"t 1\""]
    ]
    for (const [sql, expected] of cases) assert.strictEqual(shape(sql), expected)
    assert.isAtMost(shape(`SELECT ${"a, ".repeat(10_000)}`).length, 500)
  })

  it("never lets a quoted text through, whatever is in it", () =>
    fc.assert(
      fc.property(fc.string({ minLength: 4, maxLength: 40 }), fc.boolean(), (text, escaped) => {
        const secret = `KEEP${text}KEEP`
        const quoted = escaped
          ? `E'${secret.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`
          : `'${secret.replaceAll("'", "''")}'`
        assert.notInclude(shape(`SELECT ${quoted}, a FROM t`), "KEEP")
      })
    ))
})

describe("the log", () => {
  const entry = (name: string) => ({
    name,
    startedAt: 0,
    duration: 0,
    outcome: "committed" as const,
    attempts: 1,
    isolation: "SERIALIZABLE" as const,
    readOnly: false,
    failure: undefined,
    retried: [],
    verified: false,
    operations: [],
    omitted: 0
  })

  it("takes values out of statements when it is read, however long they are", () => {
    const log = new History(1)
    const long = `SELECT ${Array.from({ length: 2_000 }, (_, n) => n).join(", ")}`
    const operations = ["SELECT 'secret', 42", long].map((sql) => ({
      text: raw(sql),
      duration: 1,
      failure: undefined
    }))
    log.add({ ...entry("values"), operations })
    const [first, second] = log.read()[0]!.operations
    assert.strictEqual(first?.text, "SELECT ?, ?")
    assert.match(second!.text, /^SELECT \?, \?, .*…$/)
    // What is kept until then is bounded too.
    assert.isAtMost(operations[1]!.text.length, 500)
  })

  it("keeps the last ones, numbered through, also over a clear", () => {
    const log = new History(2)
    for (const name of ["a", "b", "c"]) log.add(entry(name))
    const before = log.read()
    assert.deepStrictEqual(before.map(({ id, name }) => [id, name]), [[2, "b"], [3, "c"]])
    log.clear()
    log.add(entry("d"))
    assert.deepStrictEqual(log.read().map(({ id }) => id), [4])
    for (const name of ["e", "f"]) log.add(entry(name))
    assert.deepStrictEqual(log.read().map(({ id, name }) => [id, name]), [[5, "e"], [6, "f"]])
    assert.strictEqual(before.length, 2)
  })
})
