import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import type * as ConnectionPool from "../../src/resource/ConnectionPool.ts"
import { forkWith, interruptAt, type Step, steps, turns } from "../support/EveryStep.ts"
import { outputOf } from "../support/OwnProcess.ts"
import { type Fake, fakes, fork, poolOf } from "./poolSupport.ts"

type Pool = ConnectionPool.Pool<Fake, string>

const within = <A, E, R>(step: Step, effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, MaxOpsBeforeYield, step.ops)

/** Everyone has left: nothing is lent, nobody waits, and as many can come in as before. */
const isWhole = (pool: Pool, kind: ReturnType<typeof fakes>, max: number, what: string) =>
  Effect.gen(function*() {
    assert.deepInclude(yield* pool.stats, { active: 0, waiting: 0 }, what)
    const all = yield* Effect.forEach(
      Array.from({ length: max }),
      () => fork(pool.use(() => Effect.andThen(Effect.sleep("1 second"), Effect.void)))
    )
    yield* TestClock.adjust("10 seconds")
    for (const fiber of all) assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)), what)
    assert.isAtMost(kind.most(), max, what)
    assert.deepStrictEqual(yield* pool.leases, [], what)
  })

describe("A pool whose borrower is interrupted at any step", () => {
  const cases: Readonly<
    Record<string, (kind: ReturnType<typeof fakes>, pool: Pool) => Effect.Effect<unknown, string, Scope.Scope>>
  > = {
    "that opens a connection": (kind) =>
      Effect.sync(() => {
        kind.hook.opening = turns(3)
      }),
    "that finds one": (_, pool) => Effect.ignore(pool.use(() => Effect.void)),
    "that asks one which answers, or does not": (kind, pool) =>
      Effect.gen(function*() {
        yield* Effect.ignore(pool.use(() => Effect.void))
        kind.hook.asking = turns(3)
        kind.all[0]!.lives = kind.all.length % 2 === 0
        yield* TestClock.adjust("10 minutes")
      }),
    "that waits for one to come back": (_, pool) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Effect.ignore(Scope.provide(pool.reserve, scope))
        yield* fork(Effect.andThen(turns(6), Scope.close(scope, Exit.void)))
      })
  }
  const ways: Readonly<Record<string, (pool: Pool) => Effect.Effect<unknown, unknown>>> = {
    use: (pool) => pool.use(() => turns(2)),
    reserve: (pool) => Effect.scoped(Effect.andThen(pool.reserve, turns(2)))
  }
  for (const [what, prepare] of Object.entries(cases)) {
    for (const [way, borrow] of Object.entries(ways)) {
      it.effect(`${what}, by ${way}: loses neither place nor connection, and wakes the next`, () =>
        Effect.gen(function*() {
          for (const step of steps(9, 24)) {
            const kind = fakes()
            yield* Effect.scoped(Effect.gen(function*() {
              const pool = yield* within(step, poolOf(kind, { maxConnections: 1, isBroken: () => false }))
              yield* prepare(kind, pool)
              const interrupted = yield* fork(interruptAt(borrow(pool), step))
              const next = yield* forkWith(pool.use(({ id }) => Effect.succeed(id)), step.ops)
              yield* Fiber.join(interrupted)
              assert.isNumber(yield* Fiber.join(next))
              yield* isWhole(pool, kind, 1, JSON.stringify(step))
            }))
            assert.isTrue(kind.all.every(({ closed }) => closed === 1), JSON.stringify(step))
          }
        }))
    }
  }

  it.effect("or is closed at any step: everything is closed once, and everyone gets an answer", () =>
    Effect.gen(function*() {
      for (const step of steps(9, 24)) {
        const kind = fakes()
        kind.hook.opening = turns(3)
        const scope = yield* Scope.make()
        const pool = yield* within(step, Scope.provide(poolOf(kind, { minConnections: 1 }), scope))
        const callers = yield* Effect.forEach(
          [1, 2, 3, 4],
          () => forkWith(Effect.exit(pool.use(() => turns(3))), step.ops)
        )
        yield* turns(step.turns)
        yield* Scope.close(scope, Exit.void)
        for (const caller of callers) yield* Fiber.join(caller)
        assert.isTrue(kind.all.every(({ closed }) => closed === 1), JSON.stringify(step))
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 0, waiting: 0 }, JSON.stringify(step))
      }
    }))
})

type Command =
  | { readonly type: "borrow"; readonly reserve: boolean }
  | { readonly type: "back"; readonly nth: number; readonly how: "well" | "failed" | "died" | "invalid" }
  | { readonly type: "interrupt"; readonly nth: number }
  | { readonly type: "wait"; readonly millis: number }
  | { readonly type: "dies"; readonly nth: number }
  | { readonly type: "opening" | "closing" | "asking"; readonly millis: number }
  | { readonly type: "refuse" }
  | { readonly type: "purge" }

const millis = fc.constantFrom(0, 0, 10, 40, 200)
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ type: fc.constant("borrow" as const), reserve: fc.boolean() }) },
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant("back" as const),
      nth: fc.nat(5),
      how: fc.constantFrom("well" as const, "well" as const, "failed" as const, "died" as const, "invalid" as const)
    })
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("interrupt" as const), nth: fc.nat(5) }) },
  {
    weight: 5,
    arbitrary: fc.record({ type: fc.constant("wait" as const), millis: fc.constantFrom(1, 10, 30, 100, 500) })
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("dies" as const), nth: fc.nat(5) }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constantFrom("opening" as const, "closing" as const, "asking" as const), millis })
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constantFrom("refuse" as const, "purge" as const) }) }
)

const limits: fc.Arbitrary<Partial<ConnectionPool.Options<Fake, string, Scope.Scope>>> = fc.record({
  maxConnections: fc.integer({ min: 1, max: 3 }),
  minConnections: fc.integer({ min: 0, max: 1 }),
  maxWaiting: fc.integer({ min: 0, max: 4 }),
  idleTimeout: fc.constantFrom(50, 300),
  maxLifetime: fc.constantFrom(150, 10_000),
  validationInterval: fc.constantFrom(0, 20, 1_000),
  validationTimeout: fc.constantFrom(20, 100)
})

interface Caller {
  readonly id: number
  readonly fiber: Fiber.Fiber<void, unknown>
  readonly leave: Deferred.Deferred<void, string>
}

describe("A pool under any sequence of borrowing, giving back, leaving, dying, purging and slowness", () => {
  it(
    "keeps its limits, serves in order, answers everyone, and closes everything once",
    { timeout: 60_000 },
    () =>
      fc.assert(
        fc.asyncProperty(limits, fc.array(command, { maxLength: 50 }), (options, commands) =>
          Effect.runPromise(
            Effect.gen(function*() {
              const kind = fakes()
              const scope = yield* Scope.make()
              const max = options.maxConnections!
              const pool = yield* Scope.provide(
                poolOf(kind, { ...options, acquireTimeout: "1 second", connectTimeout: 150, closeTimeout: 100 }),
                scope
              )
              const callers: Array<Caller> = []
              /** Who has which connection. */
              const holding = new Map<number, Fake>()
              /** Who waits, in order of arrival. */
              const waiting: Array<number> = []
              const complaints: Array<string> = []
              let slowClose = false
              const forget = (id: number) => {
                const index = waiting.indexOf(id)
                if (index >= 0) waiting.splice(index, 1)
              }

              for (const c of commands) {
                switch (c.type) {
                  case "borrow": {
                    const id = callers.length
                    const leave = yield* Deferred.make<void, string>()
                    const work = (fake: Fake) =>
                      Effect.suspend(() => {
                        if ([...holding.values()].includes(fake)) complaints.push("lent twice at once")
                        if (fake.closed > 0) complaints.push("lent although closed")
                        // A failure of opening is one's own; nobody is served before one who came earlier.
                        if (waiting[0] !== id) complaints.push(`${id} was served before ${waiting[0]}`)
                        forget(id)
                        holding.set(id, fake)
                        return Deferred.await(leave)
                      }).pipe(Effect.ensuring(Effect.sync(() => holding.delete(id))))
                    waiting.push(id)
                    const borrow = c.reserve
                      ? Effect.scoped(Effect.flatMap(pool.reserve, work))
                      : pool.use(work)
                    const fiber = yield* fork(Effect.ensuring(borrow, Effect.sync(() => forget(id))))
                    callers.push({ id, fiber, leave })
                    break
                  }
                  case "back": {
                    const held = [...holding]
                    const one = held[c.nth % Math.max(1, held.length)]
                    if (one === undefined) break
                    const [id, fake] = one
                    if (c.how === "invalid") yield* pool.invalidate(fake)
                    yield* Deferred.done(
                      callers[id]!.leave,
                      c.how === "failed" ? Exit.fail("no") : c.how === "died" ? Exit.die("bug") : Exit.void
                    )
                    break
                  }
                  case "interrupt": {
                    const alive = callers.filter(({ fiber }) => fiber.pollUnsafe() === undefined)
                    const one = alive[c.nth % Math.max(1, alive.length)]
                    if (one !== undefined) yield* Fiber.interrupt(one.fiber)
                    break
                  }
                  case "dies": {
                    const open = [...kind.open]
                    const one = open[c.nth % Math.max(1, open.length)]
                    if (one !== undefined) one.lives = false
                    break
                  }
                  case "wait":
                    yield* TestClock.adjust(c.millis)
                    break
                  case "opening":
                    kind.hook.opening = c.millis === 0 ? Effect.void : Effect.sleep(c.millis)
                    break
                  case "asking":
                    kind.hook.asking = c.millis === 0 ? Effect.void : Effect.sleep(c.millis)
                    break
                  case "closing":
                    // A close that is passed over goes on beside its successor.
                    slowClose = slowClose || c.millis >= 100
                    kind.hook.closing = c.millis === 0 ? Effect.void : Effect.sleep(c.millis)
                    break
                  case "refuse":
                    kind.hook.opening = Effect.fail("refused")
                    break
                  case "purge":
                    yield* fork(pool.purge)
                    break
                }
                yield* turns(4)
                const stats = yield* pool.stats
                assert.isAtMost(stats.active + stats.idle, max)
                assert.isAtLeast(stats.active, holding.size)
                assert.isAtMost(stats.waiting, options.maxWaiting!)
                if (!slowClose) assert.isAtMost(kind.open.size, max)
                assert.deepStrictEqual(complaints, [])
                assert.strictEqual((yield* pool.leases).length, holding.size)
              }

              // Everyone gives back; the rest is served, or told that it was too late.
              kind.hook.opening = Effect.void
              kind.hook.asking = Effect.void
              kind.hook.closing = Effect.void
              for (let i = 0; i < callers.length + 1; i++) {
                for (const { leave } of callers) yield* Deferred.succeed(leave, undefined)
                yield* TestClock.adjust("300 millis")
              }
              for (const { fiber } of callers) assert.isDefined(fiber.pollUnsafe(), "everyone has an answer")
              assert.deepStrictEqual(complaints, [])
              assert.deepInclude(yield* pool.stats, { active: 0, waiting: 0 })
              // All places are there, and what was idle for too long is not.
              const again = yield* Effect.forEach(
                Array.from({ length: max }),
                () => fork(pool.use(() => Effect.sleep("100 millis")))
              )
              yield* TestClock.adjust("200 millis")
              for (const fiber of again) assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
              yield* TestClock.adjust("1 minute")
              assert.isAtMost(kind.open.size, options.minConnections!)
              if (!slowClose) assert.isAtMost(kind.most(), max)

              yield* Scope.close(scope, Exit.void)
              assert.isTrue(kind.all.every(({ closed }) => closed === 1), "everything is closed, once")
            }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
          )),
        { numRuns: 300 }
      )
  )
})

describe("A process with an idle pool", () => {
  const program = (src: string) => `
    import * as Effect from "effect/Effect"
    import * as Scope from "effect/Scope"
    import * as ConnectionPool from "${src}/resource/ConnectionPool.ts"

    const options = { acquire: Effect.succeed({}), idleTimeout: 100, leakAfter: 100, acquireTimeout: "1 hour" }
    const used = Effect.gen(function*() {
      const pool = yield* ConnectionPool.make(options)
      yield* pool.use(() => Effect.void)
      yield* Effect.scoped(pool.reserve)
    })
    // One is closed at once, the other one never.
    await Effect.runPromise(Effect.scoped(used))
    await Effect.runPromise(Scope.provide(used, Scope.makeUnsafe()))
    console.log("done")
  `
  it("ends by itself: nothing of the pool runs once its idle connections are closed", { timeout: 60_000 }, async () => {
    const output = await outputOf(program, 50_000)
    assert.strictEqual(output, "done")
  })
})
