import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { MinimumLogLevel } from "effect/References"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Status from "../../src/observability/Status.ts"
import * as ManagedResource from "../../src/resource/ManagedResource.ts"
import * as Supervisor from "../../src/resource/Supervisor.ts"

interface Connection {
  readonly id: string
  open: boolean
  closed: number
}
class Bottom extends Context.Service<Bottom, ManagedResource.Handle<Connection>>()("test/Model/Bottom") {}
class Top extends Context.Service<Top, ManagedResource.Handle<Connection>>()("test/Model/Top") {}

/** What the world does to two resources, of which the top one needs the bottom one. */
interface World {
  sick: boolean
  refusing: boolean
  /** Milliseconds that a check of the bottom one and a connect of either take, and cannot be interrupted. */
  checking: number
  connecting: number
}

const changes: ReadonlyArray<Partial<World>> = [
  { sick: true },
  { sick: false },
  { refusing: true },
  { refusing: false },
  { checking: 7_000 },
  { checking: 0 },
  { connecting: 30_000 },
  { connecting: 0 }
]

const command = fc.oneof(
  fc.record({ type: fc.constant("change" as const), to: fc.constantFrom(...changes) }),
  fc.record({ type: fc.constant("advance" as const), millis: fc.integer({ min: 1, max: 20_000 }) }),
  fc.record({
    type: fc.constant("restart" as const),
    top: fc.boolean(),
    interruptAfter: fc.option(fc.nat(4_000), { nil: undefined })
  }),
  fc.record({ type: fc.constant("use" as const), top: fc.boolean(), millis: fc.nat(2_500) })
)

const run = (commands: ReadonlyArray<typeof command extends fc.Arbitrary<infer A> ? A : never>, lazy: boolean) =>
  Effect.gen(function*() {
    const world: World = { sick: false, refusing: false, checking: 0, connecting: 0 }
    const all: Array<Connection> = []
    const broken: Array<unknown> = []
    const definition = (id: string, needs: ReadonlyArray<string>) => ({
      id,
      needs,
      validate: Effect.void,
      connect: () =>
        Effect.acquireRelease(
          Effect.suspend(() =>
            world.refusing ?
              Effect.fail("refused") :
              Effect.sleep(world.connecting).pipe(Effect.andThen(Effect.sync(() => {
                const connection: Connection = { id, open: true, closed: 0 }
                all.push(connection)
                return connection
              })))
          ),
          (connection) =>
            Effect.sync(() => {
              connection.open = false
              connection.closed++
            })
        ),
      verify: () => Effect.void,
      check: () =>
        Effect.suspend((): Effect.Effect<void, string> =>
          id === "top"
            ? Effect.void
            : world.checking > 0
            ? Effect.uninterruptible(Effect.sleep(world.checking))
            : world.sick
            ? Effect.fail("sick")
            : Effect.void
        ),
      service: (handle: ManagedResource.Handle<Connection>) => handle,
      options: {
        monitor: { interval: 1_000, timeout: 500, failureThreshold: 2 },
        phases: { connect: { retry: false as const } },
        drainTimeout: 3_000
      }
    })
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(
      ManagedResource.layer(Top, { ...definition("top", ["bottom"]), lazy }).pipe(
        Layer.provideMerge(ManagedResource.layer(Bottom, definition("bottom", []))),
        Layer.provideMerge(Supervisor.layer({ maxRestarts: 1_000 }))
      ),
      scope
    )
    const handle = (top: boolean) => top ? Context.get(context, Top) : Context.get(context, Bottom)
    for (const one of commands) {
      switch (one.type) {
        case "change":
          Object.assign(world, one.to)
          break
        case "advance":
          yield* TestClock.adjust(one.millis)
          break
        case "restart": {
          const restart = yield* Effect.forkDetach(handle(one.top).restart)
          if (one.interruptAfter !== undefined) {
            yield* TestClock.adjust(one.interruptAfter)
            yield* Effect.forkDetach(Fiber.interrupt(restart))
          }
          break
        }
        case "use":
          yield* Effect.forkDetach(
            handle(one.top).use((connection) =>
              Effect.sleep(one.millis).pipe(
                Effect.andThen(Effect.sync(() => assert.isTrue(connection.open, "released while in use")))
              )
            ).pipe(Effect.tapDefect((defect) => Effect.sync(() => broken.push(defect))))
          )
      }
      yield* TestClock.adjust(1)
    }
    Object.assign(world, { sick: false, refusing: false, checking: 0, connecting: 0 })
    for (let i = 0; i < 50; i++) yield* TestClock.adjust("3 seconds")
    const status = yield* Status.Status
    assert.strictEqual((yield* status.get("bottom"))?.state, "ready")
    const top = (yield* status.get("top"))?.state
    assert.isTrue(top === "ready" || (lazy && (top === "pending" || top === "failed")), top)
    for (const id of ["bottom", "top"]) {
      assert.isAtMost(all.filter((connection) => connection.id === id && connection.open).length, 1, id)
    }
    const closing = yield* Effect.forkDetach(Scope.close(scope, Exit.void))
    for (let i = 0; i < 20; i++) yield* TestClock.adjust("3 seconds")
    yield* Fiber.join(closing)
    assert.deepStrictEqual(all.filter((connection) => connection.closed !== 1), [])
    assert.deepStrictEqual(broken, [])
  })

describe("ManagedResource against a model of the world", () => {
  it(
    "whatever happened, once the world is well all are ready; each connection was released once, and none while in use",
    () =>
      fc.assert(
        fc.asyncProperty(fc.array(command, { maxLength: 15 }), fc.boolean(), (commands, lazy) =>
          Effect.runPromise(
            Effect.scoped(run(commands, lazy)).pipe(
              Effect.provide([Status.layer, TestClock.layer()]),
              Effect.provideService(MinimumLogLevel, "None")
            )
          )),
        { numRuns: 25 }
      ),
    120_000
  )
})
