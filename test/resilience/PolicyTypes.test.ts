import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { expectTypeOf } from "vitest"
import type { AdaptiveLimitFullError } from "../../src/resilience/AdaptiveLimit.ts"
import type { RetryBudgetExhaustedError } from "../../src/resilience/Budget.ts"
import * as Budget from "../../src/resilience/Budget.ts"
import type { BulkheadFullError } from "../../src/resilience/Bulkhead.ts"
import type { CircuitBreakerOpenError } from "../../src/resilience/CircuitBreaker.ts"
import type { DeadlineExceededError } from "../../src/resilience/Deadline.ts"
import * as Fallback from "../../src/resilience/Fallback.ts"
import * as Policy from "../../src/resilience/Policy.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import type { RateLimitExceededError, RateLimitStoreError } from "../../src/resilience/RateLimiter.ts"
import type { RetryExhaustedError } from "../../src/resilience/Retry.ts"
import type { TimeoutError } from "../../src/resilience/Timeout.ts"

class Busy {
  readonly _tag = "Busy"
}
class Gone {
  readonly _tag = "Gone"
}
class Service {
  readonly _tag = "Service"
}

declare const work: Effect.Effect<number, Busy | Gone, Service>

// The types are what is tested: nothing below runs.
const types = (_: () => unknown) => {}

describe("Policy, the types", () => {
  it("a policy without strategies changes no type", () => {
    types(() =>
      Effect.gen(function*() {
        const policy = yield* Policy.make("none", {})
        expectTypeOf(Policy.protect(work, policy)).toEqualTypeOf<Effect.Effect<number, Busy | Gone, Service>>()
        expectTypeOf(work.pipe(Policy.protect(policy))).toEqualTypeOf<Effect.Effect<number, Busy | Gone, Service>>()
      })
    )
  })

  it("making one needs a scope and does not fail", () => {
    types(() => {
      const make = Policy.make("one", { timeout: "1 second" })
      expectTypeOf<Effect.Error<typeof make>>().toEqualTypeOf<never>()
      expectTypeOf<Effect.Services<typeof make>>().toEqualTypeOf<Scope.Scope>()
    })
  })

  it("each strategy adds its error", () => {
    types(() =>
      Effect.gen(function*() {
        const policy = yield* Policy.make("all", {
          deadline: "10 seconds",
          rateLimiter: { algorithm: RateLimiter.gcra({ limit: 1, window: 1 }) },
          bulkhead: { maxConcurrent: 1 },
          adaptiveLimit: true,
          circuitBreaker: true,
          hedge: { delay: "1 second" },
          timeout: true
        })
        type Expected =
          | Busy
          | Gone
          | TimeoutError
          | CircuitBreakerOpenError
          | BulkheadFullError
          | AdaptiveLimitFullError
          | RateLimitExceededError
          | DeadlineExceededError
        expectTypeOf(Policy.protect(work, policy)).toEqualTypeOf<Effect.Effect<number, Expected, Service>>()
        expectTypeOf(work.pipe(Policy.protect(policy))).toEqualTypeOf<Effect.Effect<number, Expected, Service>>()
      })
    )
  })

  it("what a retry repeats is left only within RetryExhaustedError, rejections pass", () => {
    types(() =>
      Effect.gen(function*() {
        const budget = yield* Budget.make()
        const policy = yield* Policy.make("retry", { retry: true, circuitBreaker: true, timeout: "1 second" })
        expectTypeOf(Policy.protect(work, policy)).toEqualTypeOf<
          Effect.Effect<number, RetryExhaustedError<Busy | Gone | TimeoutError> | CircuitBreakerOpenError, Service>
        >()
        const withBudget = yield* Policy.make("budget", { retry: { budget, times: 1 } })
        expectTypeOf(Policy.protect(work, withBudget)).toEqualTypeOf<
          Effect.Effect<number, RetryExhaustedError<Busy | Gone> | RetryBudgetExhaustedError<Busy | Gone>, Service>
        >()
        const guarded = yield* Policy.make("guarded", {
          retry: { while: (error: Busy | Gone | TimeoutError): error is Busy => error._tag === "Busy" },
          timeout: "1 second"
        })
        expectTypeOf(work.pipe(Policy.protect(guarded))).toEqualTypeOf<
          Effect.Effect<number, RetryExhaustedError<Busy> | Gone | TimeoutError, Service>
        >()
      })
    )
  })

  it("what a fallback answers is gone from the error type, and its answer is in the success type", () => {
    types(() =>
      Effect.gen(function*() {
        const answered = yield* Policy.make("answered", {
          fallback: [Fallback.value("none")],
          retry: true,
          circuitBreaker: true,
          timeout: "1 second"
        })
        expectTypeOf(work.pipe(Policy.protect(answered))).toEqualTypeOf<
          Effect.Effect<number | "none", never, Service>
        >()
        const local = yield* Policy.make("local", {
          fallback: [Fallback.local((_: Busy | Gone | TimeoutError) => Effect.fail("no local" as const))],
          timeout: "1 second"
        })
        expectTypeOf(Policy.protect(work, local)).toEqualTypeOf<Effect.Effect<number, "no local", Service>>()
        const some = yield* Policy.make("some", {
          fallback: {
            strategies: [Fallback.value(0)],
            when: (error: Busy | Gone | TimeoutError): error is TimeoutError => error._tag === "TimeoutError"
          },
          timeout: "1 second"
        })
        expectTypeOf(Policy.protect(work, some)).toEqualTypeOf<Effect.Effect<number, Busy | Gone, Service>>()
      })
    )
  })

  it("a shared limiter with a store adds the error of the store", () => {
    types(() =>
      Effect.gen(function*() {
        const keyed = yield* RateLimiter.distributed({ algorithm: RateLimiter.gcra({ limit: 1, window: 1 }) })
        const policy = yield* Policy.make("store", { rateLimiter: RateLimiter.forKey(keyed, "all") })
        expectTypeOf(Policy.protect(work, policy)).toEqualTypeOf<
          Effect.Effect<number, Busy | Gone | RateLimitExceededError | RateLimitStoreError, Service>
        >()
      })
    )
  })

  it("functions in the options have to take what they will be given", () => {
    types(() =>
      Effect.gen(function*() {
        // @ts-expect-error: time-outs reach `while` too
        yield* Policy.make("unfit", { retry: { while: (error: Busy) => error._tag === "Busy" }, timeout: 1 })
        const policy = yield* Policy.make("unfit", { retry: { while: (error: Busy) => error._tag === "Busy" } })
        // @ts-expect-error: the work fails with Gone as well
        // @effect-diagnostics-next-line floatingEffect:off
        Policy.protect(work, policy)
        // @ts-expect-error: the same in a pipe
        work.pipe(Policy.protect(policy))
        const fits = Policy.protect(Effect.fail(new Busy()), policy)
        expectTypeOf(fits).toEqualTypeOf<Effect.Effect<never, Busy | RetryExhaustedError<Busy>>>()
      })
    )
  })

  it("a service is typed by its options", () => {
    types(() => {
      const options = Policy.options({ circuitBreaker: true, timeout: "2 seconds" })
      type Payments = Policy.Policy<typeof options>
      const call = (policy: Payments) => Policy.protect(work, policy)
      expectTypeOf<Effect.Error<ReturnType<typeof call>>>().toEqualTypeOf<
        Busy | Gone | TimeoutError | CircuitBreakerOpenError
      >()
      expectTypeOf<Policy.Failure<Busy, typeof options>>().toEqualTypeOf<
        Busy | TimeoutError | CircuitBreakerOpenError
      >()
    })
  })

  it("settings give exact types too, for every order of the fallbacks", () => {
    types((settings?: Policy.ErrorHandling) =>
      Effect.gen(function*() {
        const policy = yield* Policy.fromSettings("settings", settings!, { timeout: "1 second" })
        expectTypeOf(Policy.protect(work, policy)).toEqualTypeOf<
          Effect.Effect<number, RetryExhaustedError<Busy | Gone | TimeoutError> | CircuitBreakerOpenError, Service>
        >()
      })
    )
  })
})
