import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Refusal } from "../internal/bulkheadWait.ts"
import { remainingMillis } from "../internal/deadline.ts"
import type { Algorithm } from "./Algorithm.ts"
import { RateLimitExceededError, type Reason } from "./errors.ts"
import { nowMicros } from "./memory.ts"
import { fromMemory, type Source, type SourcedAnswer } from "./sources.ts"
import type { Answer } from "./Store.ts"
import { WaitingLine } from "./waiting.ts"

/** One call, with its options decoded. */
export interface Call {
  readonly key: string
  readonly cost: number
  readonly maxWaitMillis: number
}

const REASON: Record<Refusal, Reason> = {
  "queue-full": "queue-full",
  "waited-too-long": "wait-too-long",
  deadline: "deadline"
}

// Whole milliseconds, never less: timers know no finer time, and a Duration of less costs a BigInt.
const millis = (micros: number): Duration.Duration => Duration.millis(Math.ceil(micros / 1000))

/** The policy of a limiter over its source: take, or wait in line, or refuse. */
export class Limiter<E> {
  readonly name: string
  readonly algorithm: Algorithm
  readonly window: Duration.Duration
  readonly maxWaitMillis: number
  private readonly source: Source<E>
  private readonly line: WaitingLine
  private admitted = 0
  private rejected = 0

  constructor(
    options: {
      readonly name: string
      readonly algorithm: Algorithm
      readonly maxWaitMillis: number
      readonly maxQueue: number
    },
    source: Source<E>
  ) {
    this.name = options.name
    this.algorithm = options.algorithm
    this.window = Duration.millis(options.algorithm.windowMicros / 1000)
    this.maxWaitMillis = options.maxWaitMillis
    this.source = source
    this.line = new WaitingLine(options.algorithm, options.maxQueue)
  }

  protect<A, E1, R>(self: Effect.Effect<A, E1, R>, call: Call): Effect.Effect<A, E | E1 | RateLimitExceededError, R> {
    const { memory } = this.source
    if (memory === undefined) return Effect.flatMap(this.acquire(call), () => self)
    return Effect.withFiber((fiber): Effect.Effect<A, E | E1 | RateLimitExceededError, R> => {
      if (this.line.has(call.key)) return Effect.flatMap(this.acquire(call), () => self)
      const now = nowMicros(fiber)
      const wait = memory.tryTake(call.key, now, call.cost)
      if (wait === 0) {
        this.admitted++
        return self
      }
      const answer = memory.look(call.key, now, call.cost)
      const refusal = this.refusal(fiber, call, answer)
      return refusal === undefined
        ? Effect.flatMap(this.wait(fiber, call, answer, wait), () => self)
        : Effect.fail(refusal)
    })
  }

  /** For a policy: takes the cost if that can be done at once and in memory. False when it can not. */
  tryTake(fiber: Fiber.Fiber<unknown, unknown>, call: Call): boolean {
    const { memory } = this.source
    if (memory === undefined || this.line.has(call.key)) return false
    if (memory.tryTake(call.key, nowMicros(fiber), call.cost) > 0) return false
    this.admitted++
    return true
  }

  consume(call: Call): Effect.Effect<Grant<E>, E | RateLimitExceededError> {
    const { memory } = this.source
    if (memory === undefined) return Effect.map(this.acquire(call), (answer) => new Grant(this, call, answer))
    return Effect.withFiber((fiber): Effect.Effect<Grant<E>, E | RateLimitExceededError> => {
      const grant = (answer: SourcedAnswer) => new Grant(this, call, answer)
      if (this.line.has(call.key)) return Effect.map(this.acquire(call), grant)
      const now = nowMicros(fiber)
      const wait = memory.tryTake(call.key, now, call.cost)
      const answer = memory.look(call.key, now, call.cost)
      if (wait > 0) return Effect.map(this.orWait(fiber, call, answer, wait), grant)
      this.admitted++
      return Effect.succeed(grant(fromMemory(answer, 0)))
    })
  }

  peek(call: Call): Effect.Effect<Standing, E> {
    return Effect.withFiber((fiber) =>
      Effect.map(this.source.peek(call.key, call.cost), (answer) => {
        // Behind those that wait, nothing is free.
        if (!this.line.has(call.key)) return new Standing(this, answer)
        const wait = Math.max(answer.wait, this.line.estimate(call.key, nowMicros(fiber), call.cost))
        return new Standing(this, { ...answer, wait, remaining: 0 }, false)
      })
    )
  }

  refund(call: Call, answer: SourcedAnswer): Effect.Effect<void, E> {
    return Effect.andThen(
      this.source.refund(call.key, call.cost, answer),
      Effect.sync(() => this.line.poke(call.key))
    )
  }

  metrics() {
    return {
      admitted: this.admitted,
      rejected: this.rejected,
      waiting: this.line.size,
      keys: this.source.keys(),
      storeErrors: this.source.storeErrors()
    }
  }

  private acquire(call: Call): Effect.Effect<SourcedAnswer, E | RateLimitExceededError> {
    return Effect.withFiber((fiber): Effect.Effect<SourcedAnswer, E | RateLimitExceededError> => {
      if (call.cost > this.algorithm.capacity) {
        return Effect.fail(this.error(call, "never", Infinity, undefined))
      }
      if (this.line.has(call.key)) {
        const wait = this.line.estimate(call.key, nowMicros(fiber), call.cost)
        return this.orWait(fiber, call, { wait, remaining: 0, reset: wait, at: 0 }, 0)
      }
      return Effect.flatMap(this.source.consume(call.key, call.cost), (answer) => {
        if (answer.wait > 0) return this.orWait(fiber, call, answer, answer.wait)
        this.admitted++
        return Effect.succeed(answer)
      })
    })
  }

  // What speaks against the call from the start.
  private refusal(
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Call,
    answer: Answer
  ): RateLimitExceededError | undefined {
    if (call.cost > this.algorithm.capacity) return this.error(call, "never", Infinity, answer)
    if (call.maxWaitMillis === 0) return this.error(call, "limited", answer.wait, answer)
    const waitMillis = answer.wait / 1000
    if (waitMillis > call.maxWaitMillis) return this.error(call, "wait-too-long", answer.wait, answer)
    if (waitMillis >= remainingMillis(fiber)) return this.error(call, "deadline", answer.wait, answer)
    return undefined
  }

  // `asked` is how long to sleep if the call is first in line: 0 where the source was not asked.
  private wait(
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Call,
    answer: Answer,
    asked: number
  ): Effect.Effect<SourcedAnswer, E | RateLimitExceededError> {
    const left = remainingMillis(fiber)
    const byDeadline = left < call.maxWaitMillis
    const admitted = this.line.wait(
      {
        key: call.key,
        cost: call.cost,
        budgetMillis: byDeadline ? left : call.maxWaitMillis,
        limitedBy: byDeadline ? "deadline" : "waited-too-long",
        wait: asked,
        now: nowMicros,
        attempt: this.source.consume(call.key, call.cost),
        interruptible: this.source.memory === undefined
      },
      (refusal, wait) => this.error(call, REASON[refusal], wait, answer)
    )
    return Effect.map(admitted, (taken) => {
      this.admitted++
      return taken
    })
  }

  private orWait(
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Call,
    answer: Answer,
    asked: number
  ): Effect.Effect<SourcedAnswer, E | RateLimitExceededError> {
    const refusal = this.refusal(fiber, call, answer)
    return refusal === undefined ? this.wait(fiber, call, answer, asked) : Effect.fail(refusal)
  }

  private error(call: Call, reason: Reason, wait: number, answer: Answer | undefined): RateLimitExceededError {
    this.rejected++
    return new RateLimitExceededError({
      strategy: this.name,
      reason,
      cost: call.cost,
      limit: this.algorithm.limit,
      window: this.window,
      remaining: answer?.remaining ?? 0,
      resetAfter: millis(answer?.reset ?? 0),
      key: call.key === "" ? undefined : call.key,
      retryAfter: wait === Infinity ? undefined : millis(wait)
    })
  }
}

/** Where a caller stands. */
export class Standing {
  // Only declared: fields that are defined and then assigned cost 1 us an object.
  declare readonly allowed: boolean
  declare readonly limit: number
  declare readonly window: Duration.Duration
  declare readonly remaining: number
  declare readonly resetAfter: Duration.Duration
  declare readonly retryAfter: Duration.Duration

  constructor(
    limiter: { readonly algorithm: Algorithm; readonly window: Duration.Duration },
    answer: Answer,
    allowed = answer.wait === 0
  ) {
    this.allowed = allowed
    this.limit = limiter.algorithm.limit
    this.window = limiter.window
    this.remaining = answer.remaining
    this.resetAfter = millis(answer.reset)
    this.retryAfter = millis(answer.wait)
  }
}

/** What a call took, until it is given back. */
export class Grant<E> extends Standing {
  declare readonly cost: number
  #taken: { readonly limiter: Limiter<E>; readonly call: Call; readonly answer: SourcedAnswer } | undefined

  constructor(limiter: Limiter<E>, call: Call, answer: SourcedAnswer) {
    super(limiter, answer)
    this.cost = call.cost
    this.#taken = { limiter, call, answer }
  }

  refund(): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      const taken = this.#taken
      this.#taken = undefined
      return taken === undefined ? Effect.void : taken.limiter.refund(taken.call, taken.answer)
    })
  }
}
