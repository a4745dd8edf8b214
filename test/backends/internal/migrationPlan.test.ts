import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { lineOf, type MigrationFile, misnamed, parseName, plan } from "../../../src/backends/internal/migrationPlan.ts"

const file = (id: number, checksum = `sum ${id}`): MigrationFile => ({
  id,
  name: `step_${id}`,
  file: `${String(id).padStart(4, "0")}_step_${id}.sql`,
  checksum
})
const problemOf = (outcome: ReturnType<typeof plan>) =>
  outcome.ok ? undefined : [outcome.problem.reason, outcome.problem.detail]

describe("The name of a migration", () => {
  it("is a number, a name and a kind", () => {
    assert.deepStrictEqual(parseName("0001_create_users.sql"), { id: 1, name: "create_users", kind: "sql" })
    assert.deepStrictEqual(parseName("20261121-add.dots.mts"), { id: 20261121, name: "add.dots", kind: "module" })
    for (
      const name of ["README.md", "0001.sql", "users.sql", "0001_x.d.ts", "0001_x.js.map", "_1_x.sql", "0001_x.sql.bak"]
    ) {
      assert.isUndefined(parseName(name), name)
    }
  })

  it("is missed in a SQL file, not in others", () => {
    assert.strictEqual(misnamed(["0001_a.sql", "users.sql", "README.md"]), "users.sql")
    assert.isUndefined(misnamed(["0001_a.sql", "README.md"]))
  })
})

describe("The plan of migrations", () => {
  it("holds what is not applied, in the order of the numbers", () => {
    const outcome = plan([file(10), file(2), file(1)], [file(1)])
    assert.deepStrictEqual(outcome, { ok: true, pending: [file(2), file(10)], newer: [] })
  })

  it("refuses two files with one number", () => {
    assert.deepStrictEqual(problemOf(plan([file(1), { ...file(1), file: "01_other.sql" }], [])), [
      "Conflict",
      "migrations 0001_step_1.sql and 01_other.sql have the same number"
    ])
  })

  it("refuses a file that was changed after it had been applied", () => {
    assert.deepStrictEqual(problemOf(plan([file(1, "new")], [file(1)])), [
      "Conflict",
      "migration 0001_step_1.sql was changed after it had been applied"
    ])
  })

  it("refuses an applied migration whose file is gone, but not those of a newer version", () => {
    assert.deepStrictEqual(problemOf(plan([file(2)], [file(1), file(2)])), [
      "Conflict",
      "migration 0001_step_1.sql was applied, but its file is gone"
    ])
    assert.deepStrictEqual(plan([file(1)], [file(1), file(2)]), { ok: true, pending: [], newer: [file(2)] })
  })

  it("refuses a new file below one that is applied, which other databases would run in another order", () => {
    assert.deepStrictEqual(problemOf(plan([file(1), file(2), file(3)], [file(1), file(3)])), [
      "Conflict",
      "migration 0002_step_2.sql is new, but a later one (number 3) was applied already"
    ])
  })

  it("ends with everything applied, wherever a run was broken off, and then has nothing to do", () => {
    fc.assert(fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 99 }), { maxLength: 8 }), fc.nat(8), (ids, done) => {
      const files = ids.map((id) => file(id))
      const sorted = [...files].sort((one, other) => one.id - other.id)
      const applied = sorted.slice(0, done)
      const outcome = plan(files, applied)
      assert.isTrue(outcome.ok)
      if (!outcome.ok) return
      assert.deepStrictEqual([...applied, ...outcome.pending], sorted)
      assert.deepStrictEqual(plan(files, sorted), { ok: true, pending: [], newer: [] })
    }))
  })
})

describe("A position in a file", () => {
  it("is a line and a column, both from 1", () => {
    assert.deepStrictEqual(lineOf("ab\ncd", 1), { line: 1, column: 1 })
    assert.deepStrictEqual(lineOf("ab\ncd", 5), { line: 2, column: 2 })
    assert.deepStrictEqual(lineOf("", 1), { line: 1, column: 1 })
  })
})
