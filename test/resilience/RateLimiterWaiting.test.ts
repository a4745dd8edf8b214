import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { MaxOpsBeforeYield } from "effect/Scheduler"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import { forkWith, turns } from "../support/EveryStep.ts"

const MAX_QUEUE = 4
/** Milliseconds that one token takes to come. */
const TOKEN = 10

/** When a call was admitted, or why not. */
type Outcome = number | "interrupted" | RateLimiter.Reason

type Command =
  | { readonly type: "call"; readonly cost: number; readonly maxWait: number }
  | { readonly type: "interrupt"; readonly nth: number }
  | { readonly type: "refund"; readonly nth: number }
  | { readonly type: "wait"; readonly millis: number }

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant("call" as const),
      cost: fc.integer({ min: 1, max: 4 }),
      maxWait: fc.constantFrom(0, 5, 10, 20, 30, 60, 100)
    })
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("interrupt" as const), nth: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("refund" as const), nth: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("wait" as const), millis: fc.integer({ min: 1, max: 35 }) }) }
)

/** What is limited, in milliseconds, as simply as it can be said. */
interface Budget {
  readonly capacity: number
  allowed(now: number, cost: number): boolean
  take(now: number, cost: number): void
  refund(now: number, cost: number, at: number): void
  /** How long `cost` has to wait behind callers that cost `ahead`. */
  wait(now: number, ahead: number, cost: number): number
}

const bucket = (capacity: number): Budget => {
  let debt = 0
  let seen = 0
  const pay = (now: number) => {
    debt = Math.max(0, debt - (now - seen))
    seen = now
  }
  return {
    capacity,
    allowed: (now, cost) => {
      pay(now)
      return debt + cost * TOKEN <= capacity * TOKEN
    },
    take: (_now, cost) => {
      debt += cost * TOKEN
    },
    refund: (now, cost) => {
      pay(now)
      debt = Math.max(0, debt - cost * TOKEN)
    },
    wait: (now, ahead, cost) => {
      pay(now)
      return Math.max(0, debt + (ahead + cost - capacity) * TOKEN)
    }
  }
}

const fixedWindow = (limit: number, window: number): Budget => {
  let start = -Infinity
  let count = 0
  const look = (now: number) => {
    if (now >= start + window) count = 0
  }
  return {
    capacity: limit,
    allowed: (now, cost) => {
      look(now)
      return count + cost <= limit
    },
    take: (now, cost) => {
      if (count === 0) start = now
      count += cost
    },
    refund: (now, cost, at) => {
      look(now)
      if (at >= start) count = Math.max(0, count - cost)
    },
    // Every call costs one here: with more, what fits into a window depends on the order.
    wait: (now, ahead) => start + window - now + Math.floor(ahead / limit) * window
  }
}

/** The line: who waits, and what became of whom. */
class Model {
  now = 0
  queue: Array<{ readonly id: number; readonly cost: number; readonly until: number }> = []
  outcomes = new Map<number, Outcome>()
  readonly budget: Budget

  constructor(budget: Budget) {
    this.budget = budget
  }

  call(id: number, cost: number, maxWait: number) {
    const { budget, now, queue } = this
    const ahead = queue.reduce((sum, waiter) => sum + waiter.cost, 0)
    if (cost > budget.capacity) this.outcomes.set(id, "never")
    else if (queue.length === 0 && budget.allowed(now, cost)) this.admit(id, cost)
    else if (maxWait === 0) this.outcomes.set(id, "limited")
    else if (budget.wait(now, ahead, cost) > maxWait) this.outcomes.set(id, "wait-too-long")
    else if (queue.length >= MAX_QUEUE) this.outcomes.set(id, "queue-full")
    else queue.push({ id, cost, until: now + maxWait })
  }

  interrupt(id: number) {
    this.outcomes.set(id, "interrupted")
    this.queue = this.queue.filter((waiter) => waiter.id !== id)
    this.drain()
  }

  refund(cost: number, at: number) {
    this.budget.refund(this.now, cost, at)
    this.drain()
  }

  wait(millis: number) {
    for (let i = 0; i < millis; i++) {
      this.now++
      this.drain()
      for (const { until } of this.queue) assert.isAbove(until, this.now, "whoever was let in line is admitted in time")
    }
  }

  private admit(id: number, cost: number) {
    this.budget.take(this.now, cost)
    this.outcomes.set(id, this.now)
  }

  private drain() {
    while (this.queue.length > 0 && this.budget.allowed(this.now, this.queue[0]!.cost)) {
      const { cost, id } = this.queue.shift()!
      this.admit(id, cost)
    }
  }
}

const reason = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (Exit.isSuccess(exit)) throw new Error("it was admitted")
  if (Cause.hasInterruptsOnly(exit.cause)) return "interrupted"
  const error = Cause.squash(exit.cause)
  assert.instanceOf(error, RateLimiter.RateLimitExceededError)
  return (error as RateLimiter.RateLimitExceededError).reason
}

const compare = (algorithm: RateLimiter.Algorithm, budget: Budget, commands: ReadonlyArray<Command>) =>
  Effect.gen(function*() {
    const limiter = yield* RateLimiter.make({ algorithm, maxQueue: MAX_QUEUE })
    const model = new Model(budget)
    const admittedAt = new Map<number, number>()
    const calls: Array<Fiber.Fiber<RateLimiter.Grant, unknown>> = []
    const costs: Array<number> = []
    const refunded = new Set<number>()
    for (const c of commands) {
      if (c.type === "call") {
        const id = calls.length
        const call = Effect.tap(
          RateLimiter.consume(limiter, c),
          () => Effect.map(Clock.currentTimeMillis, (now) => admittedAt.set(id, now))
        )
        calls.push(yield* Effect.forkChild(call, { startImmediately: true }))
        costs.push(c.cost)
        model.call(id, c.cost, c.maxWait)
      } else if (c.type === "interrupt") {
        const waiter = model.queue[c.nth % Math.max(1, model.queue.length)]
        if (waiter === undefined) continue
        yield* Fiber.interrupt(calls[waiter.id]!)
        model.interrupt(waiter.id)
      } else if (c.type === "refund") {
        const open = [...admittedAt.keys()].filter((id) => !refunded.has(id))
        const id = open[c.nth % Math.max(1, open.length)]
        if (id === undefined) continue
        refunded.add(id)
        yield* RateLimiter.refund(yield* Fiber.join(calls[id]!))
        model.refund(costs[id]!, admittedAt.get(id)!)
      } else {
        yield* TestClock.adjust(c.millis)
        model.wait(c.millis)
      }
      yield* turns(12)
      calls.forEach((fiber, id) => {
        const exit = fiber.pollUnsafe()
        const outcome = exit === undefined ? undefined : admittedAt.get(id) ?? reason(exit)
        assert.strictEqual(outcome, model.outcomes.get(id), `call ${id} at ${model.now}`)
      })
      assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, model.queue.length)
    }
  })

const inVirtualTime = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.runPromise(Effect.provide(effect, TestClock.layer()))

const commands = fc.array(command, { maxLength: 50 })

describe("RateLimiter: the line, against a model", () => {
  it("a bucket admits every call at the very time that the model says, or refuses it at the start for its reason", () =>
    fc.assert(
      fc.asyncProperty(
        commands,
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 4 }),
        (commands, limit, burst) =>
          inVirtualTime(
            compare(RateLimiter.tokenBucket({ limit, window: limit * TOKEN, burst }), bucket(burst), commands)
          )
      ),
      { numRuns: 200 }
    ))

  it("a fixed window does so too", () =>
    fc.assert(
      fc.asyncProperty(
        commands,
        fc.integer({ min: 1, max: 3 }),
        fc.constantFrom(10, 25, 40),
        (commands, limit, window) =>
          inVirtualTime(
            compare(
              RateLimiter.fixedWindow({ limit, window }),
              fixedWindow(limit, window),
              commands.map((c) => c.type === "call" ? { ...c, cost: 1 } : c)
            )
          )
      ),
      { numRuns: 200 }
    ))
})

describe("RateLimiter: the end of a line", () => {
  it.effect("does not take with it the line that others have begun meanwhile", () =>
    Effect.gen(function*() {
      for (let ops = 3; ops < 20; ops++) {
        // The first call waits and is admitted. While it leaves, a second is admitted at once, and a third has to wait.
        const waits = [10_000, 0, 0, 50_000]
        let others: Effect.Effect<unknown> = Effect.void
        const store = RateLimiter.RateLimiterStore.of({
          consume: () =>
            Effect.suspend(() => {
              const wait = waits.shift() ?? 0
              const answer = { wait, remaining: 0, reset: wait, at: 0 }
              return waits.length === 2 && wait === 0
                ? Effect.as(Effect.forkDetach(others), answer)
                : Effect.succeed(answer)
            }),
          peek: () => Effect.die("not asked"),
          refund: () => Effect.void
        })
        const options = {
          algorithm: RateLimiter.fixedWindow({ limit: 2, window: "1 second" }),
          maxWait: "1 minute",
          storeTimeout: Infinity
        } as const
        const limiter = yield* Effect.provideService(
          RateLimiter.distributed(options),
          RateLimiter.RateLimiterStore,
          store
        )
        const call = RateLimiter.protect(Effect.void, RateLimiter.forKey(limiter, "key"))
        const running: Array<Fiber.Fiber<unknown, unknown>> = []
        others = Effect.provideService(
          Effect.contextWith((context) =>
            Effect.sync(() => {
              for (let i = 0; i < 2; i++) running.push(Effect.runForkWith(context)(call))
            })
          ),
          MaxOpsBeforeYield,
          2048
        )
        running.push(yield* forkWith(call, ops))
        yield* turns(60)
        yield* TestClock.adjust(10)
        yield* turns(60)
        const waiting = running.filter((fiber) => fiber.pollUnsafe() === undefined).length
        assert.strictEqual((yield* RateLimiter.metrics(limiter)).waiting, waiting, `${ops} operations a turn`)
        yield* TestClock.adjust(50)
        yield* turns(60)
        assert.isTrue(running.length === 3 && running.every((fiber) => fiber.pollUnsafe() !== undefined))
      }
    }))
})
