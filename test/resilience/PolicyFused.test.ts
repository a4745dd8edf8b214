import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Budget from "../../src/resilience/Budget.ts"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Fallback from "../../src/resilience/Fallback.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"
import { assemble, assembleTower } from "../../src/resilience/policy/Assemble.ts"
import { Defaults } from "../../src/resilience/policy/Defaults.ts"
import type { Options } from "../../src/resilience/policy/Options.ts"
import * as Parts from "../../src/resilience/policy/Parts.ts"
import { metricsOf } from "../../src/resilience/policy/Report.ts"
import { Stats } from "../../src/resilience/policy/Stats.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import { countingSleeps } from "./support.ts"

// ---------------------------------------------------------------------------------------------------------------------
// Scenarios: a policy, calls, and an operator's hand. Everything happens at its own millisecond or fraction of one.
// ---------------------------------------------------------------------------------------------------------------------

interface Attempt {
  /** Milliseconds; 0 does not wait at all. */
  readonly takes: number
  readonly ends: "value" | "odd" | "error" | "hint" | "defect" | "interrupt" | "late value" | "dirty"
}

interface Call {
  readonly at: number
  readonly attempts: ReadonlyArray<Attempt>
  readonly interruptedAfter: number | undefined
  readonly deadline: number | undefined
}

interface Hand {
  readonly at: number
  readonly does: "forceOpen" | "disable" | "metricsOnly" | "resume" | "reset" | "resize 1" | "resize 3"
}

interface Scenario {
  readonly options: () => Options
  readonly calls: ReadonlyArray<Call>
  readonly hand: ReadonlyArray<Hand>
}

const optional = <A>(arbitrary: fc.Arbitrary<A>) => fc.option(arbitrary, { nil: undefined, freq: 3 })

const seldom = <A>(arbitrary: fc.Arbitrary<A>) =>
  fc.oneof({ arbitrary, weight: 1 }, { arbitrary: fc.constant(undefined), weight: 4 })

const throwing: Outcome.Classify = (exit) => {
  if (Exit.isSuccess(exit) && exit.value === "odd") throw new Error("odd")
  return Outcome.classify(exit)
}

const breakers = fc.record({
  trip: fc.constantFrom(
    CircuitBreaker.consecutive(2),
    CircuitBreaker.failureRate({ minimum: 2, window: { calls: 4 } }),
    CircuitBreaker.failureRate({ minimum: 2, window: { time: 80 }, slow: { threshold: 0.5, duration: 20 } })
  ),
  openTime: fc.constant(35),
  halfOpen: fc.constantFrom({ permitted: 1 }, { permitted: 2, lease: 60 }),
  rampUp: optional(fc.constant({ duration: 100 })),
  classify: optional(fc.constantFrom(throwing, Outcome.failWhen((value) => value === "odd")))
})

const bulkheads = fc.record({
  maxConcurrent: fc.integer({ min: 1, max: 2 }),
  maxQueue: fc.integer({ min: 0, max: 2 }),
  maxWait: fc.constantFrom(25, Infinity)
})

const limiters = fc.record({
  algorithm: fc.constantFrom(
    RateLimiter.fixedWindow({ limit: 2, window: 60 }),
    RateLimiter.tokenBucket({ limit: 4, window: 100 })
  ),
  maxWait: fc.constantFrom(0, 45)
})

const retries = fc.record({
  times: fc.integer({ min: 0, max: 2 }),
  schedule: fc.constantFrom(undefined, Retry.fixed(0), Retry.fixed(13), Retry.fullJitter({ base: 30 })),
  rejections: fc.constantFrom(undefined, true as const),
  whileResult: fc.constantFrom(undefined, (value: unknown) => value === "odd"),
  totalDuration: fc.constantFrom(undefined, 90),
  budgeted: fc.boolean()
})

const policies = fc.record({
  fallback: fc.boolean(),
  deadline: optional(fc.constant(150)),
  retry: optional(retries),
  rateLimiter: optional(limiters),
  bulkhead: optional(bulkheads),
  adaptiveLimit: seldom(fc.constant({ maxQueue: 1 })),
  circuitBreaker: optional(breakers),
  hedge: seldom(fc.constant({ delay: 17 })),
  timeout: optional(fc.constantFrom(29, 53, { duration: 29, grace: 7 }))
}).map(({ fallback, retry, ...others }) => (): Options => {
  const { budgeted, ...retryOptions } = retry ?? { budgeted: false }
  const budget = budgeted
    ? { budget: Effect.runSync(Budget.make({ ratio: 0, minPerSecond: 20, window: 100 })) }
    : undefined
  return {
    ...others,
    fallback: fallback ? [Fallback.value("fallback")] : undefined,
    retry: retry && { ...retryOptions, ...budget } as Retry.Options<unknown, unknown>
  }
})

const attempts = fc.record<Attempt>({
  takes: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 70 })),
  ends: fc.constantFrom(
    "value",
    "value",
    "value",
    "error",
    "error",
    "odd",
    "hint",
    "defect",
    "interrupt",
    "late value",
    "dirty"
  )
})

const calls = fc.record<Call>({
  at: fc.integer({ min: 0, max: 250 }),
  attempts: fc.array(attempts, { minLength: 1, maxLength: 3 }),
  interruptedAfter: fc.option(fc.integer({ min: 0, max: 90 }), { nil: undefined, freq: 2 }),
  deadline: seldom(fc.integer({ min: 1, max: 80 }))
})

const hands = fc.record<Hand>({
  at: fc.integer({ min: 0, max: 250 }),
  does: fc.constantFrom("forceOpen", "disable", "metricsOnly", "resume", "reset", "resize 1", "resize 3")
})

const scenarios = (options: fc.Arbitrary<() => Options>): fc.Arbitrary<Scenario> =>
  fc.record({
    options,
    calls: fc.array(calls, { minLength: 1, maxLength: 10 }),
    hand: fc.array(hands, { maxLength: 3 })
  })

/** The policies that are fused from the first attempt on: those where most can go wrong. */
const four = fc.record({
  retry: fc.record({
    times: fc.integer({ min: 1, max: 2 }),
    schedule: fc.constantFrom(Retry.fixed(0), Retry.fixed(13)),
    rejections: fc.constantFrom(undefined, true as const)
  }),
  rateLimiter: optional(limiters),
  bulkhead: bulkheads,
  circuitBreaker: breakers,
  timeout: fc.constantFrom(29, 53)
}).map((options) => (): Options => options)

// ---------------------------------------------------------------------------------------------------------------------
// Running one
// ---------------------------------------------------------------------------------------------------------------------

const end = (attempt: Attempt): Effect.Effect<unknown, unknown> => {
  switch (attempt.ends) {
    case "odd":
      return Effect.succeed("odd")
    case "error":
      return Effect.fail("error")
    case "hint":
      return Effect.fail({ _tag: "Hint", retryAfter: Duration.millis(44) })
    case "defect":
    case "dirty":
      return Effect.die("defect")
    case "interrupt":
      return Effect.interrupt
    default:
      return Effect.succeed("value")
  }
}

/** The work of a call: its attempts one after the other, the last one again and again. */
const workOf = (call: Call, name: string, log: (text: string) => Effect.Effect<void>) => {
  let next = 0
  return Effect.suspend(() => {
    const attempt = call.attempts[Math.min(next++, call.attempts.length - 1)]!
    const wait = attempt.takes === 0 ? Effect.void : Effect.sleep(attempt.takes)
    const work = Effect.andThen(wait, end(attempt))
    const shaped = attempt.ends === "late value"
      ? Effect.uninterruptible(work)
      : attempt.ends === "dirty"
      ? Effect.ensuring(work, Effect.die("dirty"))
      : work
    return Effect.andThen(
      log(`${name} attempt ${next}`),
      Effect.onExit(shaped, (exit) => log(`${name} attempt ended ${exit._tag}`))
    )
  })
}

const controls: Record<Hand["does"], (parts: Parts.Parts) => Effect.Effect<void> | undefined> = {
  "forceOpen": ({ circuitBreaker }) => circuitBreaker && CircuitBreaker.forceOpen(circuitBreaker),
  "disable": ({ circuitBreaker }) => circuitBreaker && CircuitBreaker.disable(circuitBreaker),
  "metricsOnly": ({ circuitBreaker }) => circuitBreaker && CircuitBreaker.metricsOnly(circuitBreaker),
  "resume": ({ circuitBreaker }) => circuitBreaker && CircuitBreaker.resume(circuitBreaker),
  "reset": ({ circuitBreaker }) => circuitBreaker && CircuitBreaker.reset(circuitBreaker),
  "resize 1": ({ bulkhead }) => bulkhead && Bulkhead.resize(bulkhead, 1),
  "resize 3": ({ bulkhead }) => bulkhead && Bulkhead.resize(bulkhead, 3)
}

/** An exit as text: what a caller sees, without the ids of fibers. */
const shown = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit)
    ? `value ${JSON.stringify(exit.value)}`
    : exit.cause.reasons.map((reason) =>
      Cause.isFailReason(reason)
        ? `fail ${JSON.stringify(reason.error)} ${String(reason.error)}`
        : Cause.isDieReason(reason)
        ? `die ${String(reason.defect)}`
        : "interrupt"
    ).join(", ")

/** What happened, line by line with its time, and the state after it. */
const play = (scenario: Scenario, build: typeof assemble) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const stats = new Stats()
    const parts = yield* Parts.make("policy", scenario.options(), yield* Defaults, stats)
    const apply = build(parts, stats)
    const log = (text: string) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        lines.push(`${now} ${text}`)
      })
    yield* countingSleeps((pending) =>
      Effect.gen(function*() {
        const happenings = [
          ...scenario.calls.map((call, index) => {
            const name = `call ${index}`
            const work = workOf(call, name, log)
            const guarded = apply(work) as Effect.Effect<unknown, unknown>
            const within = call.deadline === undefined ? guarded : Deadline.within(guarded, call.deadline)
            const told = Effect.onExit(within, (exit) => log(`${name} ${shown(exit)}`))
            const { interruptedAfter } = call
            const run = interruptedAfter === undefined ? told : Effect.gen(function*() {
              const fiber = yield* Effect.forkChild(told, { startImmediately: true })
              yield* Effect.sleep(interruptedAfter)
              yield* Fiber.interrupt(fiber)
            })
            return Effect.andThen(Effect.sleep(call.at), Effect.exit(run))
          }),
          ...scenario.hand.map((hand) =>
            Effect.andThen(Effect.sleep(hand.at), controls[hand.does](parts) ?? Effect.void)
          )
        ]
        const all = yield* Effect.forkChild(Effect.all(happenings, { concurrency: "unbounded", discard: true }))
        yield* TestClock.adjust("2 minutes")
        assert.isDefined(all.pollUnsafe(), "every call has ended")
        lines.push(`pending sleeps: ${pending()}`)
      })
    )
    const { bulkhead, calls, circuitBreaker, rateLimiter } = yield* metricsOf(parts, stats)
    const circuit = parts.circuitBreaker && (yield* CircuitBreaker.snapshot(parts.circuitBreaker))
    return { lines, calls, bulkhead, circuitBreaker, rateLimiter, circuit: JSON.stringify(circuit) }
  }).pipe(Random.withSeed("policy"))

const playAlone = (scenario: Scenario, build: typeof assemble) =>
  Effect.runPromise(Effect.provide(play(scenario, build), Layer.merge(TestClock.layer(), Logger.layer([]))))

const fusedIsTower = (options: fc.Arbitrary<() => Options>) =>
  fc.assert(
    fc.asyncProperty(scenarios(options), async (scenario) => {
      const fused = await playAlone(scenario, assemble)
      const tower = await playAlone(scenario, assembleTower)
      assert.deepStrictEqual(fused, tower)
      assert.strictEqual(fused.bulkhead?.inUse ?? 0, 0)
      assert.strictEqual(fused.bulkhead?.waiting ?? 0, 0)
      assert.strictEqual(fused.rateLimiter?.waiting ?? 0, 0)
      assert.strictEqual(fused.lines.at(-1), "pending sleeps: 0")
    }),
    { numRuns: 200 }
  )

describe("Policy, fused, is equal to the tower of the separate combinators, step by step and in the state after", () => {
  it("with any strategies", () => fusedIsTower(policies))

  it("with retry, bulkhead, circuit breaker and time-out", () => fusedIsTower(four))
})
