import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Algorithm } from "./Algorithm.ts"
import { RateLimitStoreError } from "./errors.ts"
import { makeMany, makeOne, type Memory, nowMicros } from "./memory.ts"
import { type Handlers, Questions } from "./questions.ts"
import type { Answer, RateLimiterStore, Request } from "./Store.ts"

/** An answer, and who gave it: only there it can be undone. */
export interface SourcedAnswer extends Answer {
  readonly from: "memory" | "store" | "nobody"
}

/** What was taken in this process. Spelt out: a spread costs ten times as much as all the rest of a call. */
export const fromMemory = (answer: Answer, wait = answer.wait): SourcedAnswer => ({
  wait,
  remaining: answer.remaining,
  reset: answer.reset,
  at: answer.at,
  from: "memory"
})

const fromStore = (answer: Answer): SourcedAnswer => ({
  wait: answer.wait,
  remaining: answer.remaining,
  reset: answer.reset,
  at: answer.at,
  from: "store"
})

/** Where a limiter asks. */
export interface Source<E> {
  /** The states, where they are all in this process: then a call is one step, without an answer object. */
  readonly memory: Memory | undefined
  readonly consume: (key: string, cost: number) => Effect.Effect<SourcedAnswer, E>
  readonly peek: (key: string, cost: number) => Effect.Effect<SourcedAnswer, E>
  readonly refund: (key: string, cost: number, answer: SourcedAnswer) => Effect.Effect<void, E>
  readonly keys: () => number
  readonly storeErrors: () => number
}

interface LocalOperations {
  readonly consume: (key: string, cost: number) => Effect.Effect<SourcedAnswer>
  readonly peek: (key: string, cost: number) => Effect.Effect<SourcedAnswer>
  readonly refund: (key: string, cost: number, answer: SourcedAnswer) => Effect.Effect<void>
}

const local = (memory: Memory): LocalOperations => ({
  consume: (key, cost) =>
    Effect.withFiber((fiber) => {
      const now = nowMicros(fiber)
      const wait = memory.tryTake(key, now, cost)
      return Effect.succeed(fromMemory(memory.look(key, now, cost), wait))
    }),
  peek: (key, cost) =>
    Effect.withFiber((fiber) => Effect.succeed(fromMemory(memory.look(key, nowMicros(fiber), cost)))),
  refund: (key, cost, answer) =>
    Effect.withFiber((fiber) => {
      memory.refund(key, nowMicros(fiber), cost, answer.at)
      return Effect.void
    })
})

/** States in this process: one, or one a key. */
export const localSource = (algorithm: Algorithm, maxKeys: number | undefined): Source<never> => {
  const memory = maxKeys === undefined ? makeOne(algorithm) : makeMany(algorithm, maxKeys)
  return { memory, ...local(memory), keys: () => memory.size, storeErrors: () => 0 }
}

/** What happens to a call while the store is away. */
export type OnStoreError = "open" | "closed" | "local"

/** States in a store, asked for a limited time. */
export const storeSource = (
  store: Context.Service.Shape<typeof RateLimiterStore>,
  options: {
    readonly name: string
    readonly algorithm: Algorithm
    readonly maxKeys: number
    readonly onStoreError: OnStoreError
    readonly timeoutMillis: number
  }
): Source<RateLimitStoreError> => {
  const { algorithm, name, onStoreError, timeoutMillis } = options
  const memory = onStoreError === "local" ? makeMany(algorithm, options.maxKeys) : undefined
  const fallback = memory === undefined ? undefined : local(memory)
  let storeErrors = 0

  const questions = new Questions(timeoutMillis)
  const request = (key: string, cost: number): Request => ({ name, key, algorithm, cost })
  const free: SourcedAnswer = { wait: 0, remaining: algorithm.capacity, reset: 0, at: 0, from: "nobody" }

  const instead = (
    error: RateLimitStoreError,
    ask: (operations: LocalOperations) => Effect.Effect<SourcedAnswer>
  ): Effect.Effect<SourcedAnswer, RateLimitStoreError> => {
    storeErrors++
    if (fallback !== undefined) return ask(fallback)
    return onStoreError === "open" ? Effect.succeed(free) : Effect.fail(error)
  }

  const handlers = (
    ask: (operations: LocalOperations) => Effect.Effect<SourcedAnswer>,
    tooLate: (answer: Answer, why: "timed-out" | "abandoned") => Effect.Effect<unknown, unknown>
  ): Handlers<Answer, RateLimitStoreError, SourcedAnswer, RateLimitStoreError> => ({
    onExit: (exit) => {
      if (exit._tag === "Success") return Effect.succeed(fromStore(exit.value))
      const failure = Cause.findErrorOption(exit.cause)
      return failure._tag === "Some" ? instead(failure.value, ask) : Effect.failCause(exit.cause)
    },
    onTimeout: () => instead(new RateLimitStoreError({ strategy: name, reason: "timed-out" }), ask),
    tooLate
  })

  return {
    memory: undefined,
    consume: (key, cost) =>
      Effect.suspend(() => {
        const asking = request(key, cost)
        return questions.ask(
          store.consume(asking),
          handlers((local) => local.consume(key, cost), (answer, why) =>
            // A call that went ahead without the answer is a call all the same.
            answer.wait > 0 || (why === "timed-out" && onStoreError !== "closed")
              ? Effect.void
              : store.refund(asking, answer.at))
        )
      }),
    peek: (key, cost) =>
      Effect.suspend(() =>
        questions.ask(store.peek(request(key, cost)), handlers((local) => local.peek(key, cost), () => Effect.void))
      ),
    refund: (key, cost, answer) => {
      if (answer.from === "nobody") return Effect.void
      if (answer.from === "memory") return fallback?.refund(key, cost, answer) ?? Effect.void
      const failed = (error: RateLimitStoreError) => {
        storeErrors++
        return onStoreError === "closed" ? Effect.fail(error) : Effect.void
      }
      return questions.ask(store.refund(request(key, cost), answer.at), {
        onExit: Exit.match({
          onSuccess: () => Effect.void,
          onFailure: (cause) => {
            const failure = Cause.findErrorOption(cause)
            return failure._tag === "Some" ? failed(failure.value) : Effect.failCause(cause as Cause.Cause<never>)
          }
        }),
        onTimeout: () => failed(new RateLimitStoreError({ strategy: name, reason: "timed-out" })),
        tooLate: () => Effect.void
      })
    },
    keys: () => memory?.size ?? 0,
    storeErrors: () => storeErrors
  }
}
