import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"
import * as StartupReport from "../../src/resource/StartupReport.ts"

/** Three resources in a row, the last of which failed to connect after three attempts. */
const started = Effect.gen(function*() {
  const status = yield* Status.Status
  const phase = (node: Status.StatusNode, name: string, millis: number) =>
    Effect.gen(function*() {
      const record = yield* node.phase(name)
      yield* TestClock.adjust(millis)
      yield* record.end("ok")
    })
  const disk = yield* status.register({ id: "filesystem", kind: "filesystem" })
  yield* phase(disk, "validate", 2)
  yield* phase(disk, "connect", 8)
  yield* disk.set("ready")
  const cache = yield* status.register({ id: "cache", kind: "cache", after: ["filesystem"] })
  yield* phase(cache, "connect", 1240)
  yield* cache.set("degraded", { detail: "the last check took 1500 ms" })
  const database = yield* status.register({
    id: "database",
    kind: "database",
    needs: ["cache"],
    after: ["filesystem", "cache"]
  })
  const connect = yield* database.phase("connect")
  yield* connect.attempt(3)
  yield* TestClock.adjust(500)
  yield* connect.end("failed", "refused")
  yield* database.set("failed", { error: "database did not connect: refused <here>\n  remedy: start it" })
  return yield* status.snapshot
})

const report = <A>(f: (snapshot: Status.Snapshot) => A) => Effect.provide(Effect.map(started, f), Status.layer)

describe("StartupReport", () => {
  it.effect("draws a tree in the order of composition, with phases, attempts and reasons", () =>
    Effect.map(
      report(StartupReport.tree),
      (text) =>
        assert.deepStrictEqual(text.split("\n").map((line) => line.trimEnd()), [
          "✔ filesystem     ready           10 ms   validate 2 ms · connect 8 ms",
          "└─ ▲ cache       degraded       1.24 s   connect 1.24 s",
          "     the last check took 1500 ms",
          "   └─ ✖ database failed         500 ms   connect ×3 500 ms",
          "        database did not connect: refused <here>",
          "          remedy: start it"
        ])
    ))

  it.effect("leaves out edges that follow from others, and tells needs from order", () =>
    Effect.map(report(StartupReport.edges), (edges) =>
      assert.deepStrictEqual(edges, [
        { from: "filesystem", to: "cache", type: "order" },
        { from: "cache", to: "database", type: "needs" }
      ])))

  it.effect("draws a timeline on one axis", () =>
    Effect.map(report((s) => StartupReport.timeline(s, { width: 60 })), (text) => {
      const lines = text.split("\n")
      assert.match(lines[0] ?? "", /^filesystem │.* {10}│ 10 ms$/)
      assert.match(lines[1] ?? "", /^cache {6}│c{20,}.*│ 1\.24 s$/)
      assert.match(lines[2] ?? "", /^database {3}│ +×+│ 500 ms$/)
      assert.include(lines[4], "1.75 s")
    }))

  it.effect("draws a picture that stands alone and escapes what it shows", () =>
    Effect.map(report(StartupReport.timelineSvg), (svg) => {
      assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/)
      assert.strictEqual(svg.match(/<rect /g)?.length, 4 + 5)
      assert.include(svg, "database connect: 500 ms, 3 attempts")
      assert.notMatch(svg, /<script|href=/)
    }))

  it.effect("is plain data as JSON", () =>
    Effect.map(report(StartupReport.json), (data) => {
      assert.deepStrictEqual(JSON.parse(JSON.stringify(data)), data)
      assert.deepStrictEqual(data.resources.map((r) => [r.id, r.state, r.startMillis]), [
        ["filesystem", "ready", 10],
        ["cache", "degraded", 1240],
        ["database", "failed", 500]
      ])
    }))

  it.effect("is a Mermaid graph", () =>
    Effect.map(report(StartupReport.mermaid), (text) =>
      assert.deepStrictEqual(text.split("\n"), [
        "graph TD",
        "  n0[\"filesystem<br/>ready\"]",
        "  n1[\"cache<br/>degraded\"]",
        "  n2[\"database<br/>failed\"]",
        "  n0 --> n1",
        "  n1 ==> n2"
      ])))

  it.effect("an empty tree renders as nothing, not as an error", () =>
    Effect.provide(
      Effect.gen(function*() {
        const snapshot = yield* (yield* Status.Status).snapshot
        assert.strictEqual(StartupReport.tree(snapshot), "")
        assert.strictEqual(StartupReport.timeline(snapshot), "")
        assert.include(StartupReport.timelineSvg(snapshot), "</svg>")
      }),
      Status.layer
    ))
})
