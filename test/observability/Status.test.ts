import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"

const withStatus = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Status.layer)

describe("Status", () => {
  it.effect("a node is unknown until it was ready once; after that a state that is not ready is down", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      const node = yield* status.register({ id: "a", kind: "resource" })
      const health = Effect.map(node.snapshot, (n) => n.health)
      assert.strictEqual(yield* health, "unknown")
      yield* node.set("connecting")
      assert.strictEqual(yield* health, "unknown")
      yield* node.set("ready")
      assert.strictEqual(yield* health, "up")
      yield* node.set("degraded")
      assert.strictEqual(yield* health, "degraded")
      yield* node.set("connecting")
      assert.strictEqual(yield* health, "down")
    })))

  it.effect("the tree is as well as its worst node; unknown is better than degraded", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      const health = Effect.map(status.snapshot, (s) => s.health)
      assert.strictEqual(yield* health, "up")
      const a = yield* status.register({ id: "a", kind: "resource" })
      assert.strictEqual(yield* health, "unknown")
      yield* a.set("ready")
      const b = yield* status.register({ id: "b", kind: "resource" })
      yield* b.set("degraded")
      assert.strictEqual(yield* health, "degraded")
      yield* a.set("down")
      assert.strictEqual(yield* health, "down")
    })))

  it.effect("an id is unique among live nodes and free again after release", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      const scope = yield* Scope.make()
      yield* Scope.provide(status.register({ id: "a", kind: "resource", keep: true }), scope)
      const error = yield* Effect.flip(status.register({ id: "a", kind: "resource" }))
      assert.strictEqual(error._tag, "DuplicateIdError")
      yield* Scope.close(scope, Exit.void)
      yield* status.register({ id: "a", kind: "other" })
      assert.strictEqual((yield* status.get("a"))?.kind, "other")
    })))

  it.effect("a node leaves the tree with its scope unless it is kept", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      yield* Effect.scoped(Effect.andThen(
        status.register({ id: "gone", kind: "strategy" }),
        status.register({ id: "kept", kind: "resource", keep: true })
      ))
      assert.deepStrictEqual((yield* status.snapshot).nodes.map((n) => n.id), ["kept"])
    })))

  it.effect("an expected node is pending until it registers", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      yield* status.expect({ id: "later", kind: "resource" })
      assert.strictEqual((yield* status.get("later"))?.state, "pending")
      yield* status.register({ id: "later", kind: "resource", state: "validating" })
      assert.strictEqual((yield* status.get("later"))?.state, "validating")
    })))

  it.effect("phases carry start, duration, attempts and outcome", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      yield* TestClock.adjust(5)
      const node = yield* status.register({ id: "a", kind: "resource" })
      const phase = yield* node.phase("connect")
      yield* TestClock.adjust(30)
      yield* phase.attempt(2, "refused")
      yield* TestClock.adjust(10)
      yield* phase.end("ok")
      const record = (yield* node.snapshot).phases[0]
      assert.deepStrictEqual(record, {
        phase: "connect",
        start: 5,
        duration: 40,
        attempts: 2,
        outcome: "ok",
        message: undefined
      })
    })))

  it.effect("operations count outcome and latency; an interrupted caller counts as neither", () =>
    withStatus(
      Effect.gen(function*() {
        const status = yield* Status.Status
        const node = yield* status.register({ id: "a", kind: "resource" })
        const get = node.operation("get")
        yield* Status.track(Effect.sleep(20), get)
        yield* Effect.exit(Status.track(Effect.fail("no"), get))
        yield* Effect.exit(Status.track(Effect.die("bug"), get))
        const fiber = yield* Effect.forkChild(Status.track(Effect.never, get), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        const counted = (yield* node.snapshot).operations["get"]
        assert.deepStrictEqual(
          [counted?.attempts, counted?.successes, counted?.failures, counted?.max],
          [3, 1, 2, 20]
        )
      }).pipe((effect) => effect, (effect) =>
        Effect.andThen(
          Effect.forkChild(Effect.forever(Effect.andThen(TestClock.adjust(20), Effect.yieldNow))),
          effect
        ))
    ))

  it.effect("names made from user input cannot grow a node without bound", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      const node = yield* status.register({ id: "a", kind: "resource" })
      for (let i = 0; i < 1000; i++) node.counter(`key-${i}`).value++
      const counters = (yield* node.snapshot).counters
      assert.strictEqual(Object.keys(counters).length, 65)
      assert.strictEqual(counters["other"], 1000 - 64)
    })))

  it.effect("counts that cannot be read take nothing else along", () =>
    withStatus(
      Effect.gen(function*() {
        const status = yield* Status.Status
        const counters = () => {
          throw new Error("closed")
        }
        const node = yield* status.register({ id: "a", kind: "resource", counters })
        node.counter("own").value++
        yield* status.register({ id: "b", kind: "resource", counters: () => ({ open: 2 }) })
        const { nodes } = yield* status.snapshot
        assert.deepStrictEqual(nodes.map((one) => one.counters), [{ own: 1 }, { open: 2 }])
      }).pipe(Effect.scoped)
    ))

  it.effect("changes are a stream; a reader that does not read delays nobody", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      const reader = yield* Effect.forkChild(
        Stream.runCollect(Stream.take(Stream.map(status.changes, (c) => `${c.type} ${c.node.state}`), 3)),
        { startImmediately: true }
      )
      const idle = yield* Effect.forkChild(Stream.runForEach(status.changes, () => Effect.never), {
        startImmediately: true
      })
      yield* Effect.yieldNow
      const node = yield* status.register({ id: "a", kind: "resource" })
      yield* node.set("connecting")
      yield* node.set("ready")
      for (let i = 0; i < 5000; i++) yield* node.set("ready")
      assert.deepStrictEqual(yield* Fiber.join(reader), ["registered pending", "state connecting", "state ready"])
      yield* Fiber.interrupt(idle)
    })))

  it.effect("the last error stays until a newer one", () =>
    withStatus(Effect.gen(function*() {
      const status = yield* Status.Status
      const node = yield* status.register({ id: "a", kind: "resource" })
      yield* TestClock.adjust(7)
      yield* node.set("down", { error: "refused" })
      yield* node.set("ready")
      assert.deepStrictEqual((yield* node.snapshot).lastError, { message: "refused", at: 7 })
    })))
})
