import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import { forkWith, turns } from "../support/EveryStep.ts"

const MAX_QUEUE = 3
const MAX_WAIT = 50

type Outcome = "ran" | "failed" | "died" | "interrupted" | Bulkhead.BulkheadFullError["reason"]

type Command =
  | { readonly type: "call"; readonly priority: number }
  | { readonly type: "end"; readonly nth: number; readonly how: "ran" | "failed" | "died" }
  | { readonly type: "interrupt"; readonly nth: number }
  | { readonly type: "wait"; readonly millis: number }
  | { readonly type: "resize"; readonly limit: number }

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ type: fc.constant("call" as const), priority: fc.integer({ min: 0, max: 2 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("end" as const),
      nth: fc.nat(9),
      how: fc.constantFrom("ran" as const, "failed" as const, "died" as const)
    })
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("interrupt" as const), nth: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("wait" as const), millis: fc.integer({ min: 1, max: 30 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("resize" as const), limit: fc.integer({ min: 1, max: 3 }) }) }
)

/** The promises, as plainly as they can be written: a list of who runs and a list of who waits. */
class Model {
  limit: number
  now = 0
  running: Array<number> = []
  queue: Array<{ readonly id: number; readonly priority: number; readonly until: number }> = []
  outcomes = new Map<number, Outcome>()

  constructor(limit: number) {
    this.limit = limit
  }

  call(id: number, priority: number) {
    if (this.running.length < this.limit) this.running.push(id)
    else if (this.queue.length >= MAX_QUEUE) this.outcomes.set(id, "queue-full")
    else this.queue.push({ id, priority, until: this.now + MAX_WAIT })
  }

  private start() {
    while (this.running.length < this.limit && this.queue.length > 0) {
      const highest = Math.max(...this.queue.map((w) => w.priority))
      const next = this.queue.find((w) => w.priority === highest)!
      this.queue = this.queue.filter((w) => w !== next)
      this.running.push(next.id)
    }
  }

  end(id: number, outcome: Outcome) {
    this.outcomes.set(id, outcome)
    this.running = this.running.filter((other) => other !== id)
    this.queue = this.queue.filter((other) => other.id !== id)
    this.start()
  }

  wait(millis: number) {
    this.now += millis
    for (const { id, until } of this.queue) {
      if (until <= this.now) this.outcomes.set(id, "waited-too-long")
    }
    this.queue = this.queue.filter(({ until }) => until > this.now)
  }

  resize(limit: number) {
    this.limit = limit
    this.start()
  }
}

const outcome = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (Exit.isSuccess(exit)) return "ran"
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  if (Cause.hasDies(exit.cause)) return "died"
  const error = Cause.squash(exit.cause)
  return error instanceof Bulkhead.BulkheadFullError ? error.reason : "failed"
}

const inVirtualTime = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.runPromise(Effect.provide(effect, TestClock.layer()))

describe("Bulkhead against a model", () => {
  it("does what the model does for any sequence of calls, ends, interruptions, waits and resizes", () =>
    fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 60 }), (commands) =>
        inVirtualTime(Effect.gen(function*() {
          const bulkhead = yield* Bulkhead.make({ maxConcurrent: 1, maxQueue: MAX_QUEUE, maxWait: MAX_WAIT })
          const model = new Model(1)
          const running = new Set<number>()
          const calls: Array<{
            readonly gate: Deferred.Deferred<void, string>
            readonly fiber: Fiber.Fiber<void, unknown>
          }> = []
          for (const c of commands) {
            if (c.type === "call") {
              const id = calls.length
              const gate = yield* Deferred.make<void, string>()
              const work = Effect.suspend(() => {
                running.add(id)
                return Effect.ensuring(Deferred.await(gate), Effect.sync(() => running.delete(id)))
              })
              const fiber = yield* Effect.forkChild(Bulkhead.protect(work, bulkhead, { priority: c.priority }), {
                startImmediately: true
              })
              calls.push({ gate, fiber })
              model.call(id, c.priority)
            } else if (c.type === "end") {
              const id = model.running[c.nth % Math.max(1, model.running.length)]
              if (id === undefined) continue
              const exit = c.how === "ran" ? Exit.void : c.how === "failed" ? Exit.fail("no") : Exit.die("bug")
              yield* Deferred.done(calls[id]!.gate, exit)
              model.end(id, c.how)
            } else if (c.type === "interrupt") {
              const alive = [...model.running, ...model.queue.map((w) => w.id)]
              const id = alive[c.nth % Math.max(1, alive.length)]
              if (id === undefined) continue
              yield* Fiber.interrupt(calls[id]!.fiber)
              model.end(id, "interrupted")
            } else if (c.type === "wait") {
              yield* TestClock.adjust(c.millis)
              model.wait(c.millis)
            } else {
              yield* Bulkhead.resize(bulkhead, c.limit)
              model.resize(c.limit)
            }
            yield* turns(4)
            const metrics = yield* Bulkhead.metrics(bulkhead)
            assert.deepStrictEqual(
              { inUse: metrics.inUse, waiting: metrics.waiting, limit: metrics.maxConcurrent },
              { inUse: model.running.length, waiting: model.queue.length, limit: model.limit }
            )
            assert.sameMembers([...running], model.running)
            calls.forEach(({ fiber }, id) => {
              const exit = fiber.pollUnsafe()
              assert.strictEqual(exit === undefined ? undefined : outcome(exit), model.outcomes.get(id))
            })
          }
          yield* Fiber.interruptAll(calls.map((call) => call.fiber))
          const { inUse, waiting } = yield* Bulkhead.metrics(bulkhead)
          assert.deepStrictEqual({ inUse, waiting }, { inUse: 0, waiting: 0 })
        }))),
      { numRuns: 150 }
    ))

  it("conserves permits and loses no wake-up under any interleaving of scheduler steps", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            ops: fc.integer({ min: 3, max: 12 }),
            work: fc.nat(6),
            start: fc.nat(10),
            interruptAfter: fc.option(fc.nat(30), { nil: undefined }),
            priority: fc.nat(1)
          }),
          { minLength: 1, maxLength: 12 }
        ),
        fc.integer({ min: 1, max: 3 }),
        (plans, limit) =>
          inVirtualTime(Effect.gen(function*() {
            const bulkhead = yield* Bulkhead.make({ maxConcurrent: limit, maxQueue: 20, maxWait: Infinity })
            let running = 0
            let most = 0
            const fibers = yield* Effect.forEach(plans, (plan) =>
              Effect.gen(function*() {
                yield* turns(plan.start)
                const work = Effect.acquireUseRelease(
                  Effect.sync(() => {
                    running++
                    most = Math.max(most, running)
                  }),
                  () => turns(plan.work),
                  () => Effect.sync(() => void running--)
                )
                const fiber = yield* forkWith(Bulkhead.protect(work, bulkhead, plan), plan.ops)
                if (plan.interruptAfter !== undefined) {
                  yield* turns(plan.interruptAfter)
                  yield* Fiber.interrupt(fiber)
                }
                return yield* Fiber.await(fiber)
              }).pipe(Effect.forkChild({ startImmediately: true })))
            const exits = yield* Effect.forEach(fibers, Fiber.join)
            exits.forEach((exit, i) => {
              if (plans[i]!.interruptAfter === undefined) assert.strictEqual(outcome(exit), "ran")
            })
            assert.isAtMost(most, limit)
            const { inUse, waiting } = yield* Bulkhead.metrics(bulkhead)
            assert.deepStrictEqual({ inUse, waiting, running }, { inUse: 0, waiting: 0, running: 0 })
          }))
      ),
      { numRuns: 200 }
    ))
})
