import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Logger, Ref } from "effect"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"
import * as Lifecycle from "../../src/resource/Lifecycle.ts"
import * as ManagedResource from "../../src/resource/ManagedResource.ts"

class Part extends Context.Service<Part, { readonly name: string }>()("test/Part") {}

const part = (log: (event: string) => Effect.Effect<void>, release: Effect.Effect<void> = Effect.void) =>
  Layer.effect(
    Part,
    Effect.acquireRelease(Effect.as(log("open"), { name: "part" }), () => Effect.andThen(log("close"), release))
  )

const events = Effect.gen(function*() {
  const ref = yield* Ref.make<ReadonlyArray<string>>([])
  return { all: Ref.get(ref), log: (event: string) => Ref.update(ref, (list) => [...list, event]) }
})

const logged = () => {
  const lines: Array<string> = []
  return {
    lines,
    layer: Logger.layer([Logger.make(({ message }) => {
      lines.push(String(message))
    })])
  }
}

describe("Lifecycle", () => {
  it.effect("builds, runs main with the services, then releases", () =>
    Effect.gen(function*() {
      const { all, log } = yield* events
      const result = yield* Lifecycle.run(part(log), {
        onReady: log("ready"),
        main: Effect.tap(Part.useSync((p) => p.name), (name) => log(`main ${name}`))
      })
      assert.strictEqual(result, "part")
      assert.deepStrictEqual(yield* all, ["open", "ready", "main part", "close"])
    }))

  it.effect("draining is announced while everything still serves, then work in flight ends, then finalizers run", () =>
    Effect.gen(function*() {
      const { all, log } = yield* events
      const started = yield* Deferred.make<Lifecycle.Lifecycle["Service"]>()
      const main = Effect.gen(function*() {
        const lifecycle = yield* Lifecycle.Lifecycle
        yield* Effect.forkDetach(lifecycle.track(Effect.andThen(Effect.sleep("4 seconds"), log("work done"))), {
          startImmediately: true
        })
        yield* Effect.forkDetach(Effect.andThen(lifecycle.draining, log("readiness fails")), { startImmediately: true })
        yield* Deferred.succeed(started, lifecycle)
        return yield* Effect.never
      })
      const fiber = yield* Effect.forkChild(Lifecycle.run(part(log), { main, drainDelay: "2 seconds" }))
      const lifecycle = yield* Deferred.await(started)
      assert.strictEqual(lifecycle.stage(), "running")
      const stopping = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(lifecycle.stage(), "draining")
      assert.deepStrictEqual(yield* all, ["open", "readiness fails"])
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(yield* all, ["open", "readiness fails", "work done", "close"])
      assert.strictEqual(lifecycle.stage(), "stopped")
    }))

  it.effect("work that does not end in time is cut off, and counted in the log", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const { all, log } = yield* events
      const main = Effect.gen(function*() {
        const lifecycle = yield* Lifecycle.Lifecycle
        yield* Effect.forkDetach(lifecycle.track(Effect.never), { startImmediately: true })
      })
      const fiber = yield* Effect.forkChild(Lifecycle.run(part(log), { main, drainTimeout: "3 seconds" }))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* all, ["open", "close"])
      assert.include(lines, "1 pieces of work did not end within 3s and are cut off")
    }).pipe(Effect.provide(layer))
  })

  it.effect("finalizers that hang are passed over within the budget", () => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const { log } = yield* events
      const fiber = yield* Effect.forkChild(Lifecycle.run(part(log, Effect.never), { main: Effect.void }))
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
      assert.include(lines, "some finalizers did not end within 30s and were passed over")
    }).pipe(Effect.provide(layer))
  })

  it.effect("a start that takes too long fails, names what it waited for, and releases", () =>
    Effect.gen(function*() {
      const { all, log } = yield* events
      const slow = ManagedResource.layer(Context.Service<"slow", 1>("slow"), {
        id: "slow",
        validate: Effect.void,
        connect: () => Effect.andThen(Part, Effect.never),
        verify: () => Effect.void,
        options: { phases: { connect: { timeout: "1 hour" } } }
      }).pipe(Layer.provideMerge(part(log)))
      const fiber = yield* Effect.forkChild(Effect.flip(Lifecycle.run(slow, { startupTimeout: "5 seconds" })))
      yield* TestClock.adjust("5 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "StartupTimeoutError")
      assert.strictEqual(error.message, "Not ready within 5s: waiting for slow (connecting)")
      assert.deepStrictEqual(yield* all, ["open", "close"])
    }).pipe(Effect.provide(Status.layer)))

  it.effect("interruption during the start releases what was acquired", () =>
    Effect.gen(function*() {
      const { all, log } = yield* events
      const stuck = Layer.effectDiscard(Effect.andThen(Part, Effect.never)).pipe(Layer.provideMerge(part(log)))
      const fiber = yield* Effect.forkChild(Lifecycle.run(stuck))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* all, ["open", "close"])
    }))

  it.effect("a failing layer releases what was acquired before it", () =>
    Effect.gen(function*() {
      const { all, log } = yield* events
      const failing = Layer.effectDiscard(Effect.andThen(Part, Effect.fail("no"))).pipe(Layer.provideMerge(part(log)))
      assert.strictEqual(yield* Effect.flip(Lifecycle.run(failing)), "no")
      assert.deepStrictEqual(yield* all, ["open", "close"])
    }))
})
