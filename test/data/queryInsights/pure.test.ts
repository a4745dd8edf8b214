import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import { readCondition, readSortKeys } from "../../../src/data/queryInsights/condition.ts"
import { isExplainable } from "../../../src/data/queryInsights/explain.ts"
import { duration, plural, size, whole } from "../../../src/data/queryInsights/finding.ts"
import { IndexAges, Sampler } from "../../../src/data/queryInsights/pace.ts"
import { describe as kinds, skipsMany } from "../../../src/data/queryInsights/parameters.ts"
import { maxShapes, Repeats, type Tally } from "../../../src/data/queryInsights/request.ts"
import { show, SlowLog } from "../../../src/data/queryInsights/slowLog.ts"

describe("parameters", () => {
  it("are told by their kind, never by their value", () => {
    const values = [
      "hunter2hunter",
      "0b0b9a3e-1111-4222-8333-444455556666",
      7,
      7.5,
      7n,
      true,
      null,
      undefined,
      new Date(0),
      new Uint8Array(3),
      ["a", "b"],
      { password: "hunter2" },
      Redacted.make("hunter2")
    ]
    assert.deepStrictEqual(kinds(values), [
      "text(13)",
      "uuid",
      "int",
      "float",
      "bigint",
      "bool",
      "null",
      "null",
      "timestamp",
      "bytes(3)",
      "array(2)",
      "object",
      "redacted"
    ])
    assert.deepStrictEqual(kinds(Array.from({ length: 22 }, () => 1)).slice(-2), ["int", "and 2 more"])
  })

  it("tell of an OFFSET that skips many rows, whether it is a parameter or stands in the text", () => {
    assert.isTrue(skipsMany("", "SELECT a FROM t LIMIT $1 OFFSET $2", [10, 50_000]))
    assert.isFalse(skipsMany("", "SELECT a FROM t LIMIT $1 OFFSET $2", [50_000, 20]))
    assert.isTrue(skipsMany("SELECT a FROM t OFFSET 10000", "SELECT a FROM t OFFSET ?", []))
    assert.isFalse(skipsMany("SELECT a FROM t OFFSET 9999", "SELECT a FROM t OFFSET ?", []))
    assert.isFalse(skipsMany("SELECT a FROM t", "SELECT a FROM t", [50_000]))
  })
})

describe("the slow log", () => {
  const run = (text: string, more: Partial<Parameters<SlowLog["add"]>[0]> = {}) => ({
    text,
    duration: 100,
    failed: false,
    at: 0,
    caller: "unnamed",
    parameters: [],
    skips: false,
    ...more
  })

  it("keeps counts, latencies, the parameters of the slowest run and who asked most", () => {
    const log = new SlowLog(10)
    log.add(run("a", { duration: 100, at: 1, caller: "x", parameters: ["int"] }))
    log.add(run("a", { duration: 300, at: 2, caller: "y", parameters: ["text(3)"], failed: true }))
    log.add(run("a", { duration: 200, at: 3, caller: "y", parameters: ["null"] }))
    log.add(run("b", { duration: 1_000 }))
    const [first, second] = log.read().map(show)
    assert.strictEqual(first?.text, "b")
    assert.deepStrictEqual(second, {
      text: "a",
      count: 3,
      failures: 1,
      total: 600,
      mean: 200,
      max: 300,
      p95: second!.p95,
      firstAt: 1,
      lastAt: 3,
      parameters: ["text(3)"],
      callers: [{ by: "y", count: 2 }, { by: "x", count: 1 }],
      plan: undefined,
      explainedAt: undefined
    })
    assert.approximately(second.p95, 200, 20)
  })

  it("never holds more than it may, loses the one that was not slow for longest, and counts exactly", () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.record({ key: fc.integer({ min: 0, max: 7 }), failed: fc.boolean() }), { maxLength: 60 }),
        (capacity, runs) => {
          const log = new SlowLog(capacity)
          let model: Array<{ readonly text: string; count: number; failures: number }> = []
          let evicted = 0
          for (const { failed, key } of runs) {
            const text = `statement ${key}`
            log.add(run(text, { failed, caller: `caller ${key}` }))
            const known = model.find((entry) => entry.text === text) ?? { text, count: 0, failures: 0 }
            known.count++
            if (failed) known.failures++
            model = [...model.filter((entry) => entry !== known), known]
            if (model.length > capacity) {
              model.shift()
              evicted++
            }
          }
          const found = log.read().map(show).map(({ count, failures, text }) => ({ text, count, failures }))
          const byText = (one: { text: string }, other: { text: string }) => one.text < other.text ? -1 : 1
          assert.deepStrictEqual(found.toSorted(byText), model.toSorted(byText))
          assert.strictEqual(log.evicted, evicted)
        }
      )
    ))

  it("keeps five callers of a statement", () => {
    const log = new SlowLog(1)
    for (let i = 0; i < 20; i++) log.add(run("a", { caller: `caller ${i}` }))
    assert.strictEqual(show(log.read()[0]!).callers.length, 5)
  })
})

describe("requests", () => {
  const asked = () => "caller"

  it("tell what they ran often enough, once, when they end", () => {
    const repeats = new Repeats(3, 10)
    const tally = repeats.open("GET /orders", undefined)
    for (let i = 0; i < 3; i++) tally.add("many", 2, asked)
    tally.add("few", 2, asked)
    assert.deepStrictEqual(repeats.read(), [])
    tally.end(7)
    tally.end(8)
    assert.deepStrictEqual(repeats.read(), [{
      request: "GET /orders",
      text: "many",
      requests: 1,
      most: 3,
      runs: 3,
      total: 6,
      lastAt: 7,
      caller: "caller"
    }])
  })

  it("inside another: what repeats is told for the inner, the rest counts for the outer", () => {
    const repeats = new Repeats(3, 10)
    const outer = repeats.open("outer", undefined)
    for (let i = 0; i < 3; i++) {
      const inner = repeats.open("inner", outer)
      inner.add("one each", 1, asked)
      if (i === 0) { for (let n = 0; n < 5; n++) inner.add("many in one", 1, asked) }
      inner.end(0)
    }
    outer.end(0)
    assert.deepStrictEqual(
      repeats.read().map(({ request, runs, text }) => [request, text, runs]),
      [["inner", "many in one", 5], ["outer", "one each", 3]]
    )
  })

  it("of another database do not count here, and are looked through", () => {
    const here = new Repeats(2, 10)
    const there = new Repeats(2, 10)
    const outer = here.open("outer", undefined)
    const inner = there.open("inner", outer)
    assert.strictEqual(inner.of(here), outer)
    assert.strictEqual(inner.of(there), inner)
    inner.end(0)
    assert.isUndefined(inner.of(there))
    outer.end(0)
    assert.isUndefined(inner.of(here))
  })

  it("are bounded, and count exactly up to the bound", () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        // A plan of one fiber's requests: open, run a query, end the innermost.
        fc.array(
          fc.oneof(
            fc.record({ kind: fc.constant("open" as const), name: fc.integer({ min: 0, max: 2 }) }),
            fc.record({ kind: fc.constant("run" as const), query: fc.integer({ min: 0, max: 3 }) }),
            fc.record({ kind: fc.constant("end" as const) })
          ),
          { maxLength: 80 }
        ),
        (repeatedAt, capacity, steps) => {
          const repeats = new Repeats(repeatedAt, capacity)
          const stack: Array<{ readonly tally: Tally; readonly name: string; readonly counts: Map<string, number> }> =
            []
          const told: Array<string> = []
          const end = () => {
            const ended = stack.pop()
            if (ended === undefined) return
            ended.tally.end(0)
            for (const [query, count] of ended.counts) {
              const outer = stack.at(-1)
              if (count >= repeatedAt) told.push(`${ended.name} ${query} ${count}`)
              else outer?.counts.set(query, (outer.counts.get(query) ?? 0) + count)
            }
          }
          const heard: Array<string> = []
          let runs = 0
          repeats.onRepeated = ({ request, runs: all, text }) => {
            heard.push(`${request} ${text}`)
            runs = all
          }
          for (const step of steps) {
            if (step.kind === "open") {
              const name = `request ${step.name}`
              stack.push({ name, tally: repeats.open(name, stack.at(-1)?.tally), counts: new Map() })
            } else if (step.kind === "run") {
              const top = stack.at(-1)
              const query = `query ${step.query}`
              top?.tally.add(query, 1, asked)
              top?.counts.set(query, (top.counts.get(query) ?? 0) + 1)
            } else end()
          }
          while (stack.length > 0) end()
          assert.deepStrictEqual(heard, told.map((line) => line.replace(/ \d+$/, "")))
          assert.strictEqual(repeats.found, told.length)
          assert.isAtMost(repeats.read().length, capacity)
          if (told.length > 0) assert.isAtLeast(runs, repeatedAt)
          // With room for all of them nothing was pushed out: then every run is accounted for.
          if (repeats.dropped === 0) {
            const sum = told.reduce((all, line) => all + Number(/\d+$/.exec(line)![0]), 0)
            assert.strictEqual(repeats.read().reduce((all, one) => all + one.runs, 0), sum)
          }
        }
      )
    ))

  it("count a hundred different queries each, and drop the rest", () => {
    const repeats = new Repeats(2, 1_000)
    const tally = repeats.open("wide", undefined)
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < maxShapes + 5; i++) tally.add(`query ${i}`, 1, asked)
    }
    tally.end(0)
    assert.strictEqual(repeats.read().length, maxShapes)
    assert.strictEqual(repeats.dropped, 10)
  })
})

describe("explaining", () => {
  it("happens once a statement in a while, and so often a minute in all", () => {
    const sampler = new Sampler({ everyMillis: 1_000, perMinute: 3 })
    const entry = () => ({ explainAfter: -Infinity })
    const one = entry()
    assert.isTrue(sampler.admit(one, 0))
    assert.isFalse(sampler.admit(one, 999))
    assert.isTrue(sampler.admit(one, 1_000))
    assert.isTrue(sampler.admit(entry(), 1_001))
    assert.isFalse(sampler.admit(entry(), 1_002))
    assert.isFalse(sampler.admit(entry(), 59_999))
    assert.isTrue(sampler.admit(entry(), 60_000))
    assert.isFalse(sampler.admit(entry(), 60_001))
  })

  it("is for one query or change of rows, not for commands, several statements or huge texts", () => {
    for (
      const sql of ["SELECT 1", " with a as (select 1) select 1 ;", "(SELECT 1)", "update t set a = ';'", "VALUES (1)"]
    ) {
      assert.isTrue(isExplainable(sql, []), sql)
    }
    const others = [
      "SELECT 1; DROP TABLE t",
      "VACUUM t",
      "BEGIN",
      "DO $$ $$",
      "EXPLAIN ANALYZE SELECT 1",
      "CALL p()",
      ""
    ]
    for (const sql of others) assert.isFalse(isExplainable(sql, []), sql)
    assert.isFalse(isExplainable(`SELECT ${"a, ".repeat(10_000)} 1`, []))
    assert.isFalse(isExplainable("SELECT 1", Array.from({ length: 1_001 }, () => 1)))
  })
})

describe("an index", () => {
  it("of the first look may be of any age; a later one is as old as it was seen", () => {
    const ages = new IndexAges()
    ages.see([1], 100)
    assert.strictEqual(ages.of(1, 100), Infinity)
    ages.see([1, 2], 200)
    assert.strictEqual(ages.of(1, 250), Infinity)
    assert.strictEqual(ages.of(2, 250), 50)
    assert.strictEqual(ages.of(3, 250), 0)
    ages.see([1], 300)
    ages.see([1, 2], 400)
    assert.strictEqual(ages.of(2, 450), 50)
  })
})

describe("the conditions of a plan", () => {
  const names = (columns: ReadonlyArray<{ readonly name: string }>) => columns.map(({ name }) => name)
  const read = (text: string) => {
    const { equal, range, whole: all, wildcard } = readCondition(text)
    return [names(equal), names(range), names(wildcard), all]
  }

  it("name the columns that an index can serve", () => {
    assert.deepStrictEqual(read("(o.customer = $1)"), [["customer"], [], [], true])
    assert.deepStrictEqual(read("((o.a = $1) AND (o.b > 5) AND (o.c IS NULL))"), [["a", "c"], ["b"], [], true])
    assert.deepStrictEqual(read("(o.\"Mixed (\"\" Case\" = 'x) AND (o.b = 1'::text)"), [
      ["\"Mixed (\"\" Case\""],
      [],
      [],
      true
    ])
    assert.deepStrictEqual(read("(o.a = ANY ($1))"), [["a"], [], [], true])
    assert.deepStrictEqual(read("(o.day >= (now() - '7 days'::interval))"), [[], ["day"], [], true])
    assert.deepStrictEqual(readCondition("((o.name)::text = $1)").equal, [{ name: "name", cast: "text" }])
  })

  it("leave out what one index on the column would not serve", () => {
    for (
      const text of [
        "((o.a = 1) OR (o.b = 2))",
        "(o.a <> $1)",
        "(o.a = o.b)",
        "(lower(o.a) = $1)",
        "(NOT o.flag)",
        "(o.a = ALL ($1))",
        "((o.a + 1) = 5)",
        "(hashed SubPlan 1)"
      ]
    ) {
      assert.deepStrictEqual(read(text), [[], [], [], false], text)
    }
    assert.deepStrictEqual(read("((o.a = $1) AND (o.b <> $2))"), [["a"], [], [], false])
  })

  it("tell a pattern that begins with a wildcard from others, but only where it stands in the text", () => {
    assert.deepStrictEqual(read("((o.a)::text ~~ '%x'::text)"), [[], [], ["a"], false])
    assert.deepStrictEqual(read("(o.a ~~* E'_\\\\x'::text)"), [[], [], ["a"], false])
    assert.deepStrictEqual(read("(o.a ~~ 'x%'::text)"), [[], [], [], false])
    assert.deepStrictEqual(read("(o.a ~~ $1)"), [[], [], [], false])
  })

  it("never throw, and never give a part of a value as a column", () =>
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), fc.boolean(), (text, wrapped) => {
        const condition = wrapped ? `((o.a = '${text.replaceAll("'", "''")}'::text) AND (o.b = $1))` : text
        const found = readCondition(condition)
        if (wrapped && !text.includes("\\")) assert.deepStrictEqual(names(found.equal), ["a", "b"])
      })
    ))

  it("and its sort keys are read when they are columns", () => {
    assert.deepStrictEqual(readSortKeys(["t.a", "t.\"B\" DESC", "c DESC NULLS LAST"]), [
      { name: "a", descending: false, nulls: undefined },
      { name: "\"B\"", descending: true, nulls: undefined },
      { name: "c", descending: true, nulls: "LAST" }
    ])
    assert.isUndefined(readSortKeys(["lower(t.a)"]))
    assert.isUndefined(readSortKeys(["t.a COLLATE \"C\""]))
    assert.isUndefined(readSortKeys([1]))
  })
})

describe("numbers", () => {
  it("read well", () => {
    assert.deepStrictEqual([0, 999, 1_000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"])
    assert.deepStrictEqual([1, 2].map((count) => plural(count, "query")), ["1 query", "2 queries"])
    assert.deepStrictEqual([512, 1_500, 123_456_789].map(size), ["512 bytes", "1.5 kB", "123 MB"])
    assert.deepStrictEqual([0.25, 12.3, 1_500].map(duration), ["0.3 ms", "12 ms", "1.5 s"])
  })
})
