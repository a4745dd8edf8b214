import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Ref, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"
import * as ManagedResource from "../../src/resource/ManagedResource.ts"
import { ResourceError } from "../../src/resource/ResourceError.ts"
import * as Supervisor from "../../src/resource/Supervisor.ts"

class Box extends Context.Service<Box, { readonly value: Effect.Effect<number, ResourceError> }>()("test/Box") {}
class Plain extends Context.Service<Plain, { readonly n: number }>()("test/Plain") {}

/** A resource under test: counts what is opened and closed, and fails where told. */
const probe = Effect.fnUntraced(function*() {
  const events = yield* Ref.make<ReadonlyArray<string>>([])
  const healthy = yield* Ref.make(true)
  const log = (event: string) => Ref.update(events, (all) => [...all, event])
  let n = 0
  const definition = {
    id: "box",
    validate: Effect.succeed({ base: 10 }),
    connect: (settings: { readonly base: number }) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          n++
          const connection = { n: settings.base + n }
          return Effect.as(log(`open ${connection.n}`), connection)
        }),
        (connection) => log(`close ${connection.n}`)
      ),
    verify: () => Effect.flatMap(Ref.get(healthy), (ok) => ok ? Effect.void : Effect.fail("sick" as const)),
    service: (handle: ManagedResource.Handle<{ readonly n: number }>) => ({
      value: Effect.map(handle.connection, (connection) => connection.n)
    })
  }
  return { events: Ref.get(events), log, healthy, definition }
})

const build = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Effect.exit(Layer.buildWithScope(layer, scope))
    return { context, close: Scope.close(scope, Exit.void) }
  })

const stateOf = (id: string) =>
  Effect.flatMap(Status.Status, (status) => Effect.map(status.get(id), (node) => node?.state))

const failure = <A, E>(exit: Exit.Exit<A, E>): E => {
  if (Exit.isSuccess(exit)) throw new Error("expected a failure")
  const error = exit.cause.reasons.find(Cause.isFailReason)
  if (error === undefined) throw new Error(`expected a typed failure, got ${Cause.pretty(exit.cause)}`)
  return error.error
}

const withStatus = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Status.layer)

describe("ManagedResource", () => {
  it.effect("runs the phases in order and ends ready; the release is counted once", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const { close, context } = yield* build(ManagedResource.layer(Box, {
        ...p.definition,
        initialize: () => p.log("initialize"),
        verify: () => p.log("verify")
      }))
      assert.isTrue(Exit.isSuccess(context))
      const status = yield* Status.Status
      const node = yield* status.get("box")
      assert.strictEqual(node?.state, "ready")
      assert.strictEqual(node?.health, "up")
      assert.deepStrictEqual(node?.phases.map((r) => [r.phase, r.outcome, r.attempts]), [
        ["validate", "ok", 1],
        ["connect", "ok", 1],
        ["initialize", "ok", 1],
        ["verify", "ok", 1]
      ])
      yield* close
      assert.deepStrictEqual(yield* p.events, ["open 11", "initialize", "verify", "close 11"])
      assert.strictEqual(yield* stateOf("box"), "stopped")
    })))

  it.effect("health is unknown, not bad, until ready was reached once", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const go = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(build(ManagedResource.layer(Box, {
        ...p.definition,
        initialize: () => Deferred.await(go)
      })))
      yield* TestClock.adjust(1)
      const status = yield* Status.Status
      const before = yield* status.get("box")
      assert.deepStrictEqual([before?.state, before?.health], ["initializing", "unknown"])
      yield* Deferred.succeed(go, undefined)
      const { close } = yield* Fiber.join(fiber)
      assert.strictEqual((yield* status.get("box"))?.health, "up")
      yield* close
    })))

  it.effect("retries connect by its schedule and says how often and how long", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const fiber = yield* Effect.forkChild(build(ManagedResource.layer(Box, {
        ...p.definition,
        connect: () => Effect.fail("refused" as const),
        explain: () => ({
          reason: "ConnectionFailed" as const,
          detail: "refused",
          option: "box.port",
          remedy: "start the box"
        }),
        options: { phases: { connect: { retry: Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 })) } } }
      })))
      yield* TestClock.adjust("5 seconds")
      const { context } = yield* Fiber.join(fiber)
      const error = failure(context)
      assert.instanceOf(error, ResourceError)
      assert.strictEqual(error.attempts, 3)
      assert.strictEqual(error.elapsed, 2000)
      assert.strictEqual(
        error.message,
        "box did not connect: refused (3 attempts in 2.00 s)\n  option: box.port\n  remedy: start the box"
      )
      assert.strictEqual(yield* stateOf("box"), "failed")
    })))

  it.effect("does not retry what waiting cannot mend", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const { context } = yield* build(ManagedResource.layer(Box, {
        ...p.definition,
        connect: () => Effect.fail("denied" as const),
        explain: () => ({ reason: "PermissionDenied" as const, detail: "wrong password" })
      }))
      assert.strictEqual(failure(context).attempts, 1)
    })))

  it.effect("a connect that is uninterruptible and hangs still times out, and its late connection is released once", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const fiber = yield* Effect.forkChild(build(ManagedResource.layer(Box, {
        ...p.definition,
        connect: () =>
          Effect.acquireRelease(
            Effect.as(Effect.andThen(Effect.sleep("30 seconds"), p.log("open late")), { n: 1 }),
            () => p.log("close late")
          ),
        options: { phases: { connect: { timeout: "2 seconds", retry: false } } }
      })))
      yield* TestClock.adjust("2 seconds")
      const { close, context } = yield* Fiber.join(fiber)
      const error = failure(context)
      assert.strictEqual(error.reason, "TimedOut")
      assert.strictEqual(error.detail, "no answer within 2s")
      yield* close
      assert.deepStrictEqual(yield* p.events, [])
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(yield* p.events, ["open late", "close late"])
    })))

  it.effect("interruption during a hung connect ends at once", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const fiber = yield* Effect.forkChild(build(ManagedResource.layer(Box, {
        ...p.definition,
        connect: () => Effect.uninterruptible(Effect.as(Effect.sleep("1 hour"), { n: 1 }))
      })))
      yield* TestClock.adjust(1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* stateOf("box"), "failed")
    })))

  it.effect("a failing verify releases what connect opened", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      yield* Ref.set(p.healthy, false)
      const { close, context } = yield* build(ManagedResource.layer(Box, {
        ...p.definition,
        options: { phases: { verify: { retry: false } } }
      }))
      assert.strictEqual(failure(context).phase, "verify")
      yield* close
      assert.deepStrictEqual(yield* p.events, ["open 11", "close 11"])
    })))

  it.effect("a defect in a phase is reported as one, without retry", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const { context } = yield* build(ManagedResource.layer(Box, {
        ...p.definition,
        connect: () => Effect.die(new Error("bug in the driver"))
      }))
      const error = failure(context)
      assert.strictEqual(error.attempts, 1)
      assert.include(error.detail, "bug in the driver")
    })))

  it.effect("the same id twice is a conflict", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const { context } = yield* build(Layer.mergeAll(
        ManagedResource.layer(Box, p.definition),
        ManagedResource.layer(Plain, { ...p.definition, service: undefined, connect: () => Effect.succeed({ n: 1 }) })
      ))
      const error = failure(context)
      assert.strictEqual(error.reason, "Conflict")
      assert.include(error.detail, "\"box\" is already registered")
    })))

  it.effect("the second of three fails: the first is released once, the third never starts", () =>
    withStatus(Effect.gen(function*() {
      const events: Array<string> = []
      class A extends Context.Service<A, { readonly a: 1 }>()("test/A") {}
      class B extends Context.Service<B, { readonly b: 1 }>()("test/B") {}
      class C extends Context.Service<C, { readonly c: 1 }>()("test/C") {}
      const open = (id: string) =>
        Effect.acquireRelease(
          Effect.sync(() => events.push(`open ${id}`)),
          () => Effect.sync(() => events.push(`close ${id}`))
        )
      const a = ManagedResource.layer(A, {
        id: "a",
        validate: Effect.void,
        connect: () => Effect.as(open("a"), { a: 1 as const }),
        verify: () => Effect.void
      })
      const b = ManagedResource.layer(B, {
        id: "b",
        validate: Effect.void,
        connect: () => Effect.andThen(A, Effect.fail("nobody there")),
        verify: () => Effect.void,
        options: { phases: { connect: { retry: false } } }
      })
      const c = ManagedResource.layer(C, {
        id: "c",
        validate: Effect.void,
        connect: () => Effect.andThen(B, Effect.as(open("c"), { c: 1 as const })),
        verify: () => Effect.void
      })
      const { close, context } = yield* build(c.pipe(Layer.provideMerge(b), Layer.provideMerge(a)))
      assert.strictEqual(failure(context).resource, "b")
      yield* close
      assert.deepStrictEqual(events, ["open a", "close a"])
    })))

  it.effect("composition is the order: the node knows what was built before it", () =>
    withStatus(Effect.gen(function*() {
      class A extends Context.Service<A, { readonly a: 1 }>()("test/A") {}
      const a = ManagedResource.layer(A, {
        id: "a",
        validate: Effect.void,
        connect: () => Effect.succeed({ a: 1 as const }),
        verify: () => Effect.void
      })
      const p = yield* probe()
      const { close } = yield* build(ManagedResource.layer(Box, p.definition).pipe(Layer.provideMerge(a)))
      const status = yield* Status.Status
      assert.deepStrictEqual((yield* status.get("box"))?.after, ["a"])
      yield* close
    })))

  it.effect("a need that composition does not meet is refused, and named", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const { context } = yield* build(ManagedResource.layer(Box, { ...p.definition, needs: ["disk"] }))
      assert.include(failure(context).message, "it needs disk, which is not built before it")
    })))

  it.effect("a wanted resource that fails leaves its dependant degraded", () =>
    withStatus(Effect.gen(function*() {
      const p = yield* probe()
      const absent = ManagedResource.wanted(ManagedResource.layer(Plain, {
        id: "plain",
        validate: Effect.void,
        connect: () => Effect.fail("away"),
        verify: () => Effect.void,
        options: { phases: { connect: { retry: false } } }
      }))
      const { close, context } = yield* build(
        ManagedResource.layer(Box, { ...p.definition, wants: ["plain"] }).pipe(Layer.provideMerge(absent))
      )
      assert.isTrue(Exit.isSuccess(context))
      const status = yield* Status.Status
      const node = yield* status.get("box")
      assert.deepStrictEqual([node?.state, node?.detail], ["degraded", "wanted and absent: plain"])
      yield* close
    })))

  describe("monitor", () => {
    it.effect("one failure degrades, three in a row are down, one success recovers", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close } = yield* build(
          ManagedResource.layer(Box, { ...p.definition, options: { monitor: { interval: 1000 } } })
        )
        yield* Ref.set(p.healthy, false)
        yield* TestClock.adjust(1100)
        assert.strictEqual(yield* stateOf("box"), "degraded")
        yield* TestClock.adjust(2200)
        assert.strictEqual(yield* stateOf("box"), "down")
        const status = yield* Status.Status
        assert.strictEqual((yield* status.get("box"))?.lastError?.message, "sick")
        yield* Ref.set(p.healthy, true)
        yield* TestClock.adjust(1100)
        assert.strictEqual(yield* stateOf("box"), "ready")
        yield* close
      })))

    it.effect("a check that hangs and ignores interruption is a failure within its time-out, and no second one runs beside it", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        let checks = 0
        const { close } = yield* build(ManagedResource.layer(Box, {
          ...p.definition,
          check: () =>
            Effect.suspend(() => {
              checks++
              return Effect.uninterruptible(Effect.sleep("1 hour"))
            }),
          options: { monitor: { interval: 1000, timeout: 500 } }
        }))
        for (let i = 0; i < 12; i++) yield* TestClock.adjust(550)
        assert.strictEqual(yield* stateOf("box"), "down")
        assert.strictEqual(checks, 1)
        yield* close
        assert.strictEqual(yield* stateOf("box"), "stopped")
      })))

    it.effect("a slow check degrades", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close } = yield* build(ManagedResource.layer(Box, {
          ...p.definition,
          check: () => Effect.sleep(300),
          options: { monitor: { interval: 1000, slow: 200 } }
        }))
        yield* TestClock.adjust(1100)
        yield* TestClock.adjust(300)
        assert.strictEqual(yield* stateOf("box"), "degraded")
        yield* close
      })))
  })

  describe("release", () => {
    it.effect("waits for borrowers, then releases", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        class Use extends Context.Service<Use, ManagedResource.Handle<{ readonly n: number }>>()("test/Use") {}
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(
          ManagedResource.layer(Use, { ...p.definition, service: (handle) => handle }),
          scope
        )
        const handle = Context.get(context, Use)
        const borrower = yield* Effect.forkChild(
          handle.use(() => Effect.andThen(Effect.sleep("3 seconds"), p.log("work done")))
        )
        yield* TestClock.adjust(1)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* stateOf("box"), "draining")
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(closing)
        yield* Fiber.join(borrower)
        assert.deepStrictEqual(yield* p.events, ["open 11", "work done", "close 11"])
      })))

    it.effect("waits for a lease, and not for one that was given back", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        class Use extends Context.Service<Use, ManagedResource.Handle<{ readonly n: number }>>()("test/Use") {}
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(
          ManagedResource.layer(Use, { ...p.definition, service: (handle) => handle }),
          scope
        )
        const handle = Context.get(context, Use)
        assert.strictEqual((yield* Effect.scoped(handle.lease)).n, 11)
        const holder = yield* Scope.make()
        yield* Scope.provide(handle.lease, holder)
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* p.events, ["open 11"])
        yield* Scope.close(holder, Exit.void)
        yield* Fiber.join(closing)
        assert.deepStrictEqual(yield* p.events, ["open 11", "close 11"])
      })))

    it.effect("a finalizer that hangs is given up on within its budget, and named", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close } = yield* build(ManagedResource.layer(Box, {
          ...p.definition,
          connect: () => Effect.acquireRelease(Effect.succeed({ n: 1 }), () => Effect.never),
          options: { releaseTimeout: "5 seconds" }
        }))
        const closing = yield* Effect.forkChild(close)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(closing)
        const status = yield* Status.Status
        const node = yield* status.get("box")
        assert.strictEqual(node?.state, "stopped")
        assert.strictEqual(node?.detail, "its release did not end within 5s and was passed over")
      })))
  })

  describe("lazy", () => {
    it.effect("starts on first use, once, however many ask", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close, context } = yield* build(ManagedResource.layer(Box, { ...p.definition, lazy: true }))
        assert.strictEqual(yield* stateOf("box"), "pending")
        assert.deepStrictEqual(yield* p.events, [])
        const box = Context.get(yield* context, Box)
        const values = yield* Effect.all(Array.from({ length: 5 }, () => box.value), { concurrency: "unbounded" })
        assert.deepStrictEqual(values, [11, 11, 11, 11, 11])
        assert.deepStrictEqual(yield* p.events, ["open 11"])
        yield* close
      })))

    it.effect("reports wrong settings at acquisition all the same", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { context } = yield* build(ManagedResource.layer(Box, {
          ...p.definition,
          lazy: true,
          validate: Effect.fail("bad"),
          explain: () => ({ reason: "ConfigurationInvalid" as const, detail: "bad" })
        }))
        assert.strictEqual(failure(context).phase, "validate")
      })))

    it.effect("a user who waits too long is told who blocks", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close, context } = yield* build(ManagedResource.layer(Box, {
          ...p.definition,
          lazy: true,
          initialize: () => Effect.never,
          options: { awaitTimeout: "1 second", phases: { initialize: { timeout: "1 minute" } } }
        }))
        const box = Context.get(yield* context, Box)
        const fiber = yield* Effect.forkChild(Effect.flip(box.value))
        yield* TestClock.adjust("1 second")
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error.reason, "TimedOut")
        assert.include(error.detail, "waiting for box (initializing)")
        yield* close
      })))
  })

  describe("restart", () => {
    const supervised = <A, E, R>(layer: Layer.Layer<A, E, R>, options?: Supervisor.Options) =>
      layer.pipe(Layer.provideMerge(Supervisor.layer(options)))

    it.effect("a resource that stays down is released and acquired again; users get the living connection", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close, context } = yield* build(supervised(ManagedResource.layer(Box, {
          ...p.definition,
          check: (connection) => connection.n === 11 ? Effect.fail("sick" as const) : Effect.void,
          options: { monitor: { interval: 1000 } }
        })))
        const box = Context.get(yield* context, Box)
        assert.strictEqual(yield* box.value, 11)
        for (let i = 0; i < 4; i++) yield* TestClock.adjust(1100)
        assert.strictEqual(yield* box.value, 12)
        assert.strictEqual(yield* stateOf("box"), "ready")
        assert.deepStrictEqual(yield* p.events, ["open 11", "close 11", "open 12"])
        yield* close
      })))

    it.effect("dependants restart after it", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const q = yield* probe()
        class Top
          extends Context.Service<Top, { readonly value: Effect.Effect<number, ResourceError> }>()("test/Top")
        {}
        const top = ManagedResource.layer(Top, { ...q.definition, id: "top", needs: ["box"] })
        const bottom = ManagedResource.layer(Box, {
          ...p.definition,
          check: (connection) => connection.n === 11 ? Effect.fail("sick" as const) : Effect.void,
          options: { monitor: { interval: 1000 } }
        })
        const { close } = yield* build(supervised(top.pipe(Layer.provideMerge(bottom))))
        for (let i = 0; i < 5; i++) yield* TestClock.adjust(1100)
        assert.deepStrictEqual(yield* p.events, ["open 11", "close 11", "open 12"])
        assert.deepStrictEqual(yield* q.events, ["open 11", "close 11", "open 12"])
        yield* close
      })))

    it.effect("flapping beyond the restart intensity ends supervision; a start that fails does not", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        const { close } = yield* build(supervised(
          ManagedResource.layer(Box, {
            ...p.definition,
            check: () => Effect.fail("sick" as const),
            options: { monitor: { interval: 1000, failureThreshold: 1 } }
          }),
          { maxRestarts: 2, coolDown: 500 }
        ))
        for (let i = 0; i < 30; i++) yield* TestClock.adjust(600)
        const opened = (yield* p.events).filter((e) => e.startsWith("open"))
        assert.deepStrictEqual(opened, ["open 11", "open 12", "open 13"])
        assert.strictEqual(yield* stateOf("box"), "down")
        yield* close
      })))

    it.effect("a stop during a restart ends it and leaves nothing open", () =>
      withStatus(Effect.gen(function*() {
        const p = yield* probe()
        let hang = false
        const { close } = yield* build(supervised(ManagedResource.layer(Box, {
          ...p.definition,
          initialize: () => Effect.suspend(() => hang ? Effect.never : Effect.void),
          check: () => Effect.fail("sick" as const),
          options: { monitor: { interval: 1000, failureThreshold: 1 }, phases: { initialize: { timeout: "1 hour" } } }
        })))
        hang = true
        for (let i = 0; i < 4; i++) yield* TestClock.adjust(1100)
        assert.strictEqual(yield* stateOf("box"), "initializing")
        yield* close
        assert.deepStrictEqual(yield* p.events, ["open 11", "close 11", "open 12", "close 12"])
      })))
  })
})
