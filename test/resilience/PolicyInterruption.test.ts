import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as Fallback from "../../src/resilience/Fallback.ts"
import * as Policy from "../../src/resilience/Policy.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import { turns } from "../support/EveryStep.ts"
import { countingSleeps, interruptedAtEveryStep } from "./support.ts"

const guards = {
  rateLimiter: { algorithm: RateLimiter.tokenBucket({ limit: 1_000_000, window: "1 second" }) },
  bulkhead: { maxConcurrent: 1, maxQueue: 1 },
  circuitBreaker: { trip: CircuitBreaker.consecutive(1), openTime: "10 seconds" }
} as const

const retry = { times: 2, schedule: Retry.fixed("1 second") } as const

/** Policies that take every way there is: fused with and without a retry, guarded, and as a tower. */
const policies: Readonly<Record<string, Policy.Options>> = {
  "four, fused": { ...guards, retry, timeout: "5 seconds", repeatable: true },
  "an attempt, fused, within a fallback and a deadline": {
    ...guards,
    retry: { ...retry, totalDuration: "1 minute" },
    timeout: "5 seconds",
    deadline: "30 seconds",
    fallback: [Fallback.value("fallback")],
    repeatable: true
  },
  "guards, fused": { ...guards, retry, deadline: "30 seconds", repeatable: true },
  "hedged": { ...guards, retry, hedge: { delay: "1 second" }, timeout: "5 seconds", repeatable: true },
  "a tower": {
    bulkhead: guards.bulkhead,
    circuitBreaker: guards.circuitBreaker,
    retry,
    timeout: { duration: "5 seconds", grace: "1 second" },
    repeatable: true
  }
}

const steps = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => steps(n - 1))

const works: Readonly<Record<string, Effect.Effect<unknown, string>>> = {
  "work that never ends": Effect.never,
  "work of a few steps": steps(12),
  "work that fails and is retried": Effect.andThen(steps(3), Effect.fail("failed")),
  "work that cleans up": Effect.ensuring(Effect.never, steps(7)),
  "work that cannot be interrupted": Effect.uninterruptible(steps(12))
}

/** A timer that was ended needs some turns until it is gone, since it yields after every few operations too. */
const settled = turns(20)

/** Nothing is held, nobody waits, and no timer runs. */
const nothingHeld = (policy: Policy.Policy<any>, pending: () => number) =>
  Effect.gen(function*() {
    const { bulkhead, rateLimiter } = yield* Policy.metrics(policy)
    assert.strictEqual(bulkhead?.inUse ?? 0, 0, "permits")
    assert.strictEqual(bulkhead?.waiting ?? 0, 0, "queue")
    assert.strictEqual(rateLimiter?.waiting ?? 0, 0, "line")
    yield* settled
    assert.strictEqual(pending(), 0, "timers")
    const { circuitBreaker } = Policy.strategies(policy)
    if (circuitBreaker !== undefined) {
      const state = yield* CircuitBreaker.state(circuitBreaker)
      if (state._tag === "HalfOpen") assert.strictEqual(state.probes, 0, "probes")
    }
  })

const withPolicy = <A, E>(
  options: Policy.Options,
  use: (policy: Policy.Policy<any>, pending: () => number) => Effect.Effect<A, E, Scope.Scope>
) =>
  countingSleeps((pending) =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("test", options)
      return yield* use(policy, pending)
    })
  )

const protectedBy = (
  policy: Policy.Policy<any>,
  work: Effect.Effect<unknown, string>
): Effect.Effect<unknown, unknown> => Policy.protect(work, policy as Policy.Policy<{}>)

describe("Policy, interrupted at every scheduler step", () => {
  for (const [name, options] of Object.entries(policies)) {
    for (const [kind, work] of Object.entries(works)) {
      it.effect(`${name}: ${kind} leaves nothing behind`, () =>
        withPolicy(options, (policy, pending) =>
          Effect.gen(function*() {
            yield* interruptedAtEveryStep(protectedBy(policy, work), () =>
              Effect.andThen(
                nothingHeld(policy, pending),
                CircuitBreaker.reset(Policy.strategies(policy).circuitBreaker!)
              ), 24)
            assert.strictEqual(yield* protectedBy(policy, Effect.succeed("next")), "next")
          })))
    }

    it.effect(`${name}: a probe gives its place back`, () =>
      withPolicy(options, (policy, pending) =>
        Effect.gen(function*() {
          const breaker = Policy.strategies(policy).circuitBreaker!
          yield* Effect.exit(CircuitBreaker.protect(Effect.fail("failed"), breaker))
          yield* TestClock.adjust("10 seconds")
          let probed = 0
          yield* interruptedAtEveryStep(protectedBy(policy, Effect.never), () =>
            Effect.gen(function*() {
              yield* nothingHeld(policy, pending)
              if ((yield* CircuitBreaker.state(breaker))._tag === "HalfOpen") probed++
            }), 24)
          assert.isAbove(probed, 0)
          assert.strictEqual(yield* protectedBy(policy, Effect.succeed("well")), "well")
          assert.strictEqual((yield* CircuitBreaker.state(breaker))._tag, "Closed")
        })))

    it.effect(`${name}: a caller in the queue gives its place back`, () =>
      withPolicy(options, (policy, pending) =>
        Effect.gen(function*() {
          const holder = yield* Effect.forkChild(protectedBy(policy, Effect.never), { startImmediately: true })
          const before = pending()
          yield* interruptedAtEveryStep(protectedBy(policy, Effect.never), () =>
            Effect.gen(function*() {
              const { bulkhead } = yield* Policy.metrics(policy)
              assert.deepStrictEqual([bulkhead?.inUse, bulkhead?.waiting], [1, 0])
              yield* settled
              assert.strictEqual(pending(), before)
            }), 24)
          yield* Fiber.interrupt(holder)
          yield* nothingHeld(policy, pending)
        })))
  }

  it.effect("an interrupted call counts for nothing, whatever its finalizers do", () =>
    Effect.gen(function*() {
      for (const options of Object.values(policies)) {
        yield* withPolicy({ ...options, fallback: undefined }, (policy) =>
          Effect.gen(function*() {
            const dirty = Effect.ensuring(Effect.never, Effect.die("while cleaning up"))
            yield* interruptedAtEveryStep(protectedBy(policy, dirty), () => Effect.void, 24)
            const { calls, circuitBreaker } = yield* Policy.metrics(policy)
            assert.deepStrictEqual(calls, { successes: 0, failures: 0, retries: 0, timeouts: 0, fallbacks: 0 })
            assert.strictEqual(circuitBreaker?.total.failures, 0)
          }))
      }
    }))
})
