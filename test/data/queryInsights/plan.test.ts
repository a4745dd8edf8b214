import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { readPlan } from "../../../src/data/queryInsights/plan.ts"

const explained = (plan: object) => [{ Plan: plan }]

const scan = (more: object = {}) => ({
  "Node Type": "Seq Scan",
  "Schema": "public",
  "Relation Name": "orders",
  "Alias": "o",
  "Plan Rows": 100,
  ...more
})

describe("a plan", () => {
  it("of several processes counts the rows of all of them", () => {
    const facts = readPlan(explained({
      "Node Type": "Gather",
      "Workers Planned": 2,
      "Plan Rows": 300,
      "Plans": [scan({ "Parallel Aware": true, "Filter": "(o.customer = $1)" })]
    }))
    assert.strictEqual(facts?.scans[0]?.wanted, 300)
    assert.deepStrictEqual(facts?.scans[0]?.equal, [{ name: "customer", cast: undefined }])
  })

  it("sorted for its first rows tells the order, also when several processes sort", () => {
    const sorted = {
      "Node Type": "Sort",
      "Plan Rows": 100,
      "Sort Key": ["o.day DESC"],
      "Plans": [scan({ Filter: "(o.customer = $1)" })]
    }
    const gathered = { "Node Type": "Gather Merge", "Workers Planned": 1, "Plan Rows": 200, "Plans": [sorted] }
    for (const below of [sorted, gathered]) {
      const facts = readPlan(explained({ "Node Type": "Limit", "Plan Rows": 10, "Plans": [below] }))
      assert.deepStrictEqual(facts?.scans[0]?.order, [{ name: "day", descending: true, nulls: undefined }])
      assert.strictEqual(facts?.scans[0]?.wanted, 10)
    }
  })

  it("tells no order that an index of the table could not serve", () => {
    const limit = (below: object) => explained({ "Node Type": "Limit", "Plan Rows": 10, "Plans": [below] })
    const sort = (below: object, key = "o.day") => ({ "Node Type": "Sort", "Sort Key": [key], "Plans": [below] })
    const plans = [
      // All rows are wanted; of a join; of groups; by an expression; with a range before it.
      explained(sort(scan())),
      limit(sort({ "Node Type": "Hash Join", "Plans": [scan()] })),
      limit(sort({ "Node Type": "Aggregate", "Plans": [scan()] })),
      limit(sort(scan(), "lower(o.name)")),
      limit(sort(scan({ Filter: "(o.id > $1)" }))),
      limit(sort(scan({ Filter: "(lower(o.name) = $1)" })))
    ]
    for (const plan of plans) assert.deepStrictEqual(readPlan(plan)?.scans[0]?.order, [], JSON.stringify(plan))
  })

  it("is kept as a bounded outline without values", () => {
    const deep = (depth: number): object =>
      depth === 0
        ? scan({ Filter: "(o.word = 'hunter2'::text)" })
        : { "Node Type": "Nested Loop", "Join Filter": "(o.a > 4242)", "Plans": [deep(depth - 1), scan()] }
    const facts = readPlan(explained(deep(5_000)))
    assert.lengthOf(facts!.outline, 40)
    assert.isTrue(facts!.outline.every((line) => line.length <= 200))
    assert.isAtMost(facts!.scans.length, 20)
    const small = readPlan(explained(deep(2)))!.outline.join("\n")
    assert.include(small, "join filter (o.a > ?)")
    assert.notMatch(small, /hunter2|4242/)
  })

  it("that is not understood is no plan, and nothing throws", () => {
    for (const json of [undefined, null, 7, "x", [], [null], [{}], [{ Plan: [] }]]) assert.isUndefined(readPlan(json))
    fc.assert(fc.property(fc.jsonValue(), (json) => {
      readPlan(json)
      readPlan(explained({ "Node Type": "Seq Scan", "Filter": json, "Plans": json, "Sort Key": json }))
    }))
  })
})
