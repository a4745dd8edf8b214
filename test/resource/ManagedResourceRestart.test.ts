import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"
import * as ManagedResource from "../../src/resource/ManagedResource.ts"
import * as Supervisor from "../../src/resource/Supervisor.ts"
import { interruptAt, steps, turns } from "../support/EveryStep.ts"

interface Connection {
  readonly n: number
  open: boolean
}
type Handle = ManagedResource.Handle<Connection>
class Box extends Context.Service<Box, Handle>()("test/Restart/Box") {}
class Top extends Context.Service<Top, Handle>()("test/Restart/Top") {}

/** Connections that are numbered and know whether they are open, and a definition that tests change. */
const resource = (id: string) => {
  const all: Array<Connection> = []
  const connect = Effect.acquireRelease(
    Effect.sync(() => {
      const connection: Connection = { n: all.length + 1, open: true }
      all.push(connection)
      return connection
    }),
    (connection) =>
      Effect.sync(() => {
        connection.open = false
      })
  )
  const definition = {
    id,
    validate: Effect.void,
    connect: () => connect,
    verify: (): Effect.Effect<void, string> => Effect.void,
    service: (handle: Handle) => handle
  }
  return { all, connect, definition }
}

const build = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layer, scope)
    return { context, close: Scope.close(scope, Exit.void) }
  })

const stateOf = (id: string) =>
  Effect.flatMap(Status.Status, (status) => Effect.map(status.get(id), (node) => node?.state))

const withStatus = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Status.layer)

const never = { phases: { connect: { retry: false as const }, verify: { retry: false as const } } }

const advance = (seconds: number) =>
  Effect.forEach(Array.from({ length: seconds }), () => TestClock.adjust("1 second"), { discard: true })

describe("ManagedResource: restart", () => {
  it.effect("interrupted while the old connection drains, it leaves no user waiting for a start that never comes", () =>
    withStatus(Effect.gen(function*() {
      const r = resource("box")
      const { close, context } = yield* build(ManagedResource.layer(Box, r.definition))
      const box = Context.get(context, Box)
      const borrower = yield* Effect.forkChild(box.use(() => Effect.sleep("2 seconds")))
      yield* TestClock.adjust(1)
      const restart = yield* Effect.forkChild(box.restart)
      yield* TestClock.adjust(1)
      const interruption = yield* Effect.forkChild(Fiber.interrupt(restart))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(borrower)
      yield* Fiber.join(interruption)
      assert.strictEqual(yield* stateOf("box"), "down")
      const error = yield* Effect.flip(box.connection)
      assert.strictEqual(error.detail, "it is down and not being restarted")
      yield* box.restart
      assert.strictEqual((yield* box.connection).n, 2)
      yield* close
    })))

  it.effect("interrupted at any step, it ends ready or down, and the next one succeeds", () =>
    withStatus(Effect.gen(function*() {
      for (const step of steps(5, 60)) {
        const r = resource("box")
        const { close, context } = yield* build(
          ManagedResource.layer(Box, { ...r.definition, options: { monitor: false } })
        )
        const box = Context.get(context, Box)
        yield* interruptAt(box.restart, step)
        const state = yield* stateOf("box")
        const found = yield* Effect.exit(
          Effect.timeout(box.connection, 1).pipe(Effect.raceFirst(
            Effect.andThen(turns(50), Effect.die(`waits for ever after ${JSON.stringify(step)}, ${state}`))
          ))
        )
        assert.notInclude(String(found), "waits for ever")
        assert.strictEqual(state, Exit.isSuccess(found) ? "ready" : "down", JSON.stringify(step))
        yield* box.restart
        assert.isTrue((yield* box.connection).open)
        yield* close
        assert.deepStrictEqual(r.all.filter((one) => one.open), [], JSON.stringify(step))
      }
    })))

  it.effect("a first use of a lazy resource, interrupted at any step, starts it or leaves it to the next user", () =>
    withStatus(Effect.gen(function*() {
      for (const step of steps(5, 40)) {
        const r = resource("box")
        const { close, context } = yield* build(
          ManagedResource.layer(Box, { ...r.definition, lazy: true, options: { monitor: false } })
        )
        const box = Context.get(context, Box)
        yield* interruptAt(box.connection, step)
        const found = yield* Effect.raceFirst(
          box.connection,
          Effect.andThen(turns(2_000), Effect.die(`waits for ever after ${JSON.stringify(step)}`))
        )
        assert.isTrue(found.open)
        assert.strictEqual(r.all.length, 1)
        yield* close
      }
    })))

  it.effect("a user never gets a connection that was released meanwhile, whenever the restart comes", () =>
    withStatus(Effect.gen(function*() {
      for (const step of steps(6, 40)) {
        const r = resource("box")
        const { close, context } = yield* build(
          ManagedResource.layer(Box, { ...r.definition, options: { monitor: false } })
        )
        const box = Context.get(context, Box)
        const seen = (kind: string) => (connection: Connection) =>
          Effect.sync(() => assert.isTrue(connection.open, `${kind} ${JSON.stringify(step)}`))
        const users = yield* Effect.forkChild(
          Effect.all([
            box.use(seen("use")),
            Effect.scoped(Effect.flatMap(box.lease, seen("lease")))
          ], { concurrency: 2 }).pipe(Effect.provideService(MaxOpsBeforeYield, step.ops)),
          { startImmediately: true }
        )
        yield* turns(step.turns)
        yield* box.restart
        yield* Fiber.join(users)
        yield* close
      }
    })))

  it.effect("a restart of the user's own that fails is the supervisor's from then on", () =>
    withStatus(Effect.gen(function*() {
      const r = resource("box")
      let refuses = false
      const { close, context } = yield* build(
        ManagedResource.layer(Box, {
          ...r.definition,
          connect: () => Effect.suspend(() => refuses ? Effect.fail("refused") : r.connect),
          options: never
        }).pipe(Layer.provideMerge(Supervisor.layer()))
      )
      const box = Context.get(context, Box)
      refuses = true
      yield* Effect.flip(box.restart)
      assert.strictEqual(yield* stateOf("box"), "down")
      refuses = false
      yield* advance(2)
      assert.strictEqual(yield* stateOf("box"), "ready")
      yield* close
    })))

  it.effect("a dependant whose restart fails is tried again until it is ready", () =>
    withStatus(Effect.gen(function*() {
      const bottom = resource("box")
      const top = resource("top")
      let refuses = false
      const { close } = yield* build(
        ManagedResource.layer(Top, {
          ...top.definition,
          needs: ["box"],
          connect: () => Effect.suspend(() => refuses ? Effect.fail("refused") : top.connect),
          options: never
        }).pipe(
          Layer.provideMerge(ManagedResource.layer(Box, {
            ...bottom.definition,
            check: (connection) => connection.n === 1 ? Effect.fail("sick") : Effect.void,
            options: { monitor: { interval: 1000, failureThreshold: 1 } }
          })),
          Layer.provideMerge(Supervisor.layer())
        )
      )
      refuses = true
      yield* advance(4)
      assert.strictEqual(yield* stateOf("box"), "ready")
      assert.strictEqual(yield* stateOf("top"), "down")
      refuses = false
      yield* advance(10)
      assert.strictEqual(yield* stateOf("top"), "ready")
      yield* close
    })))

  it.effect("a resource that goes down again while its dependants restart is restarted again", () =>
    withStatus(Effect.gen(function*() {
      const bottom = resource("box")
      const top = resource("top")
      const { close } = yield* build(
        ManagedResource.layer(Top, {
          ...top.definition,
          needs: ["box"],
          initialize: (connection) => connection.n === 1 ? Effect.void : Effect.sleep("20 seconds"),
          options: { phases: { initialize: { timeout: "1 minute" } } }
        }).pipe(
          Layer.provideMerge(ManagedResource.layer(Box, {
            ...bottom.definition,
            check: (connection) => connection.n < 3 ? Effect.fail("sick") : Effect.void,
            options: { monitor: { interval: 1000, failureThreshold: 1 } }
          })),
          Layer.provideMerge(Supervisor.layer())
        )
      )
      yield* advance(60)
      assert.strictEqual(bottom.all.length, 3)
      assert.strictEqual(yield* stateOf("box"), "ready")
      yield* close
    })))

  it.effect("a lazy dependant that nobody has used is not started by it", () =>
    withStatus(Effect.gen(function*() {
      const bottom = resource("box")
      const top = resource("top")
      const { close } = yield* build(
        ManagedResource.layer(Top, { ...top.definition, needs: ["box"], lazy: true }).pipe(
          Layer.provideMerge(ManagedResource.layer(Box, {
            ...bottom.definition,
            check: (connection) => connection.n === 1 ? Effect.fail("sick") : Effect.void,
            options: { monitor: { interval: 1000, failureThreshold: 1 } }
          })),
          Layer.provideMerge(Supervisor.layer())
        )
      )
      yield* advance(5)
      assert.strictEqual(bottom.all.length, 2)
      assert.strictEqual(yield* stateOf("top"), "pending")
      assert.deepStrictEqual(top.all, [])
      yield* close
    })))

  it.effect("a lazy resource that was restarted before its first use is watched", () =>
    withStatus(Effect.gen(function*() {
      const r = resource("box")
      const { close, context } = yield* build(ManagedResource.layer(Box, {
        ...r.definition,
        lazy: true,
        check: () => Effect.fail("sick"),
        options: { monitor: { interval: 1000, failureThreshold: 1 } }
      }))
      yield* Context.get(context, Box).restart
      assert.strictEqual(yield* stateOf("box"), "ready")
      yield* advance(2)
      assert.strictEqual(yield* stateOf("box"), "down")
      yield* close
    })))

  it.effect("a check of the old connection that hangs for ever says nothing about the new one", () =>
    withStatus(Effect.gen(function*() {
      const r = resource("box")
      const { close, context } = yield* build(
        ManagedResource.layer(Box, {
          ...r.definition,
          check: (connection) => connection.n === 1 ? Effect.uninterruptible(Effect.never) : Effect.void,
          options: { monitor: { interval: 1000, timeout: 500 } }
        }).pipe(Layer.provideMerge(Supervisor.layer()))
      )
      yield* advance(20)
      assert.strictEqual(yield* stateOf("box"), "ready")
      assert.strictEqual((yield* Context.get(context, Box).connection).n, 2)
      yield* close
    })))

  it.effect("users who wait for a lazy start are told when the resource is stopped", () =>
    withStatus(Effect.gen(function*() {
      const r = resource("box")
      const going = yield* Deferred.make<void>()
      const { close, context } = yield* build(ManagedResource.layer(Box, {
        ...r.definition,
        lazy: true,
        initialize: () => Effect.andThen(Deferred.succeed(going, undefined), Effect.never),
        options: { phases: { initialize: { timeout: "1 hour" } }, awaitTimeout: "1 hour" }
      }))
      const user = yield* Effect.forkChild(Effect.flip(Context.get(context, Box).connection))
      yield* Deferred.await(going)
      yield* close
      assert.notStrictEqual((yield* Fiber.join(user)).reason, "TimedOut")
      assert.deepStrictEqual(r.all.map((one) => one.open), [false])
    })))
})
