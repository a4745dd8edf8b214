import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { fingerprint, isQuery, shape, withoutValues } from "../../../src/data/internal/sqlText.ts"

describe("a statement without values", () => {
  it("has no comment either, also where comments nest", () => {
    assert.strictEqual(withoutValues("SELECT a /* one /* two */ secret */ FROM t"), "SELECT a FROM t")
    assert.strictEqual(withoutValues("SELECT a /* never closed, secret"), "SELECT a")
    assert.strictEqual(withoutValues("SELECT '/*', secret_column, '*/' FROM t"), "SELECT ?, secret_column, ? FROM t")
    assert.strictEqual(withoutValues("SELECT \"/*\" FROM t -- secret"), "SELECT \"/*\" FROM t")
  })

  it("has no number, however it is written", () => {
    assert.strictEqual(withoutValues("SELECT .5, 0.5e-7, -12, a1, t.b2, $3"), "SELECT ?, ?-?, -?, a1, t.b2, $3")
  })
})

describe("a fingerprint", () => {
  it("is the same for lists of any length", () => {
    const of = (count: number) =>
      fingerprint(
        `SELECT * FROM t WHERE id IN (${Array.from({ length: count }, (_, i) => `$${i + 1}`).join(", ")}) AND name = $${
          count + 1
        }`
      )
    assert.strictEqual(of(1), "SELECT * FROM t WHERE id IN (...) AND name = $1")
    for (const count of [2, 9, 50]) assert.strictEqual(of(count), of(1))
    assert.strictEqual(fingerprint("SELECT a FROM t WHERE b IN ('x', 'y')"), "SELECT a FROM t WHERE b IN (...)")
  })

  it("is the same for any number of rows to insert", () => {
    assert.strictEqual(
      fingerprint("INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4), ($5, $6) RETURNING a"),
      "INSERT INTO t (a, b) VALUES ($1, $2), ... RETURNING a"
    )
    const many = `INSERT INTO t (a, b) VALUES ${Array.from({ length: 2_000 }, () => "($1, $2)").join(", ")}`
    assert.strictEqual(fingerprint(many), "INSERT INTO t (a, b) VALUES ($1, $2), ...")
  })

  it("leaves other statements as they are, and apart", () => {
    assert.strictEqual(fingerprint("SELECT f($1, $2) FROM t WHERE a = $3"), "SELECT f($1, $2) FROM t WHERE a = $3")
    assert.notStrictEqual(fingerprint("SELECT a FROM t"), fingerprint("SELECT b FROM t"))
  })

  it("is short and has nothing of what was quoted, whatever was", () =>
    fc.assert(
      fc.property(
        fc.array(fc.string({ maxLength: 30 }), { maxLength: 5 }),
        fc.constantFrom("plain", "escaped", "dollar"),
        (texts, how) => {
          const quote = (text: string) => {
            const secret = `KEEP${text}KEEP`
            if (how === "dollar") return `$q$${secret.replaceAll("$", "")}$q$`
            return how === "plain"
              ? `'${secret.replaceAll("'", "''")}'`
              : `E'${secret.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`
          }
          const sql = `SELECT * FROM t WHERE a IN (${texts.map(quote).join(", ")}) AND b = ${quote("")}`
          for (const text of [shape(sql), fingerprint(sql), withoutValues(sql)]) assert.notInclude(text, "KEEP")
          assert.isAtMost(fingerprint(sql).length, 500)
        }
      )
    ))
})

describe("a query", () => {
  it("is told from what writes by its words", () => {
    for (const sql of ["SELECT 1", "(SELECT 1) UNION SELECT 2", "with a as (select 1) select * from a", "VALUES (1)"]) {
      assert.isTrue(isQuery(fingerprint(sql)), sql)
    }
    const others = [
      "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
      "SELECT * INTO new FROM t",
      "SELECT a FROM t FOR UPDATE",
      "INSERT INTO t VALUES (1)",
      "BEGIN",
      "EXPLAIN ANALYZE SELECT 1"
    ]
    for (const sql of others) assert.isFalse(isQuery(fingerprint(sql)), sql)
    assert.isTrue(isQuery("SELECT \"delete\" FROM t"))
  })
})
