import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Refusal } from "../internal/bulkheadWait.ts"
import { remainingMillis } from "../internal/deadline.ts"
import type { Algorithm } from "./Algorithm.ts"
import { RateLimitExceededError, type Reason } from "./errors.ts"
import { nowMicros } from "./memory.ts"
import type { Source, SourcedAnswer } from "./sources.ts"
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
      const answer: Answer = memory.look(call.key, now, call.cost)
      return Effect.flatMap(this.orWait(fiber, call, answer, wait), () => self)
    })
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
      return Effect.succeed(grant({ ...answer, wait, from: "memory" }))
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
      if (call.cost > this.algorithm.capacity) return this.refuse(call, "never", Infinity)
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

  // `asked` is how long to sleep if the call is first in line: 0 where the source was not asked.
  private orWait(
    fiber: Fiber.Fiber<unknown, unknown>,
    call: Call,
    answer: Answer,
    asked: number
  ): Effect.Effect<SourcedAnswer, E | RateLimitExceededError> {
    if (call.cost > this.algorithm.capacity) return this.refuse(call, "never", Infinity, answer)
    if (call.maxWaitMillis === 0) return this.refuse(call, "limited", answer.wait, answer)
    const left = remainingMillis(fiber)
    const waitMillis = answer.wait / 1000
    if (waitMillis > call.maxWaitMillis) return this.refuse(call, "wait-too-long", answer.wait, answer)
    if (waitMillis >= left) return this.refuse(call, "deadline", answer.wait, answer)
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

  private refuse(call: Call, reason: Reason, wait: number, answer?: Answer) {
    return Effect.fail(this.error(call, reason, wait, answer))
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
      ...(call.key === "" ? undefined : { key: call.key }),
      ...(wait === Infinity ? undefined : { retryAfter: millis(wait) })
    })
  }
}

/** Where a caller stands. */
export class Standing {
  readonly allowed: boolean
  readonly limit: number
  readonly window: Duration.Duration
  readonly remaining: number
  readonly resetAfter: Duration.Duration
  readonly retryAfter: Duration.Duration

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
  readonly cost: number
  readonly #limiter: Limiter<E>
  readonly #call: Call
  readonly #answer: SourcedAnswer
  #open = true

  constructor(limiter: Limiter<E>, call: Call, answer: SourcedAnswer) {
    super(limiter, answer)
    this.cost = call.cost
    this.#limiter = limiter
    this.#call = call
    this.#answer = answer
  }

  refund(): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      if (!this.#open) return Effect.void
      this.#open = false
      return this.#limiter.refund(this.#call, this.#answer)
    })
  }
}
