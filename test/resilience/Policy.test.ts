import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"
import * as AdaptiveLimit from "../../src/resilience/AdaptiveLimit.ts"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Fallback from "../../src/resilience/Fallback.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"
import * as Policy from "../../src/resilience/Policy.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import { inVirtualTime } from "./support.ts"

const failing = Effect.fail("down" as const)

const codes = (policy: Policy.Policy<any>) => Policy.warnings(policy).map(({ code }) => code)

/** Ids, states and healths of the nodes in a status tree. */
const nodes = Effect.map(
  Effect.flatMap(Status.Status, (status) => status.snapshot),
  (snapshot) => snapshot.nodes.map(({ health, id, state }) => [id, state, health])
)

describe("Policy, the canonical order", () => {
  it.effect("a policy without strategies leaves the effect as it is", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("none", {})
      assert.strictEqual(yield* Policy.protect(Effect.succeed(1), policy), 1)
      assert.strictEqual(yield* Effect.flip(failing.pipe(Policy.protect(policy))), "down")
    }))

  it.effect("the time-out limits an attempt, and retry gives each attempt its own", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        timeout: "1 second",
        retry: { times: 2, schedule: Retry.fixed("100 millis") },
        repeatable: true
      })
      let attempts = 0
      const exit = yield* inVirtualTime(
        Effect.flip(Policy.protect(Effect.andThen(Effect.sync(() => attempts++), Effect.never), policy)),
        "3200 millis"
      )
      assert.strictEqual(attempts, 3)
      assert.isTrue(Exit.isSuccess(exit))
      if (Exit.isSuccess(exit)) {
        assert.strictEqual(exit.value._tag, "RetryExhaustedError")
        assert.deepStrictEqual(
          exit.value.recent.map(({ error }) => error.message),
          Array(3).fill("time-out \"calls\": no answer within 1s")
        )
      }
    }))

  it.effect("the breaker counts each attempt, time-outs included, and retry does not repeat its rejection", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        timeout: "1 second",
        circuitBreaker: { trip: CircuitBreaker.consecutive(2) },
        retry: { times: 5, schedule: Retry.fixed("100 millis") },
        repeatable: true
      })
      let attempts = 0
      const work = Effect.suspend(() => ++attempts === 1 ? failing : Effect.never)
      const exit = yield* inVirtualTime(Effect.flip(Policy.protect(work, policy)), "2 seconds")
      assert.strictEqual(attempts, 2)
      assert.isTrue(Exit.isSuccess(exit))
      if (Exit.isSuccess(exit)) assert.strictEqual(exit.value._tag, "CircuitBreakerOpenError")
    }))

  it.effect("waiting for a place does not count for the time-out or as a slow call", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        timeout: "1 second",
        circuitBreaker: { trip: CircuitBreaker.slowCallRate({ duration: "900 millis", threshold: 0.1, minimum: 1 }) },
        bulkhead: { maxConcurrent: 1, maxQueue: 1 }
      })
      const call = Policy.protect(Effect.as(Effect.sleep("800 millis"), "done"), policy)
      const exit = yield* inVirtualTime(Effect.all([call, call], { concurrency: 2 }), "1600 millis")
      assert.deepStrictEqual(exit, Exit.succeed(["done", "done"]))
      assert.strictEqual(yield* Policy.health(policy), "up")
    }))

  it.effect("a call that waits for its rate holds no place", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        rateLimiter: {
          algorithm: RateLimiter.fixedWindow({ limit: 1, window: "1 second" }),
          maxWait: "10 seconds"
        },
        bulkhead: { maxConcurrent: 5 },
        deadline: "1 minute"
      })
      const call = Policy.protect(Effect.never, policy)
      const fiber = yield* Effect.forkChild(Effect.all([call, call, call], { concurrency: 3 }))
      yield* TestClock.adjust("500 millis")
      const { bulkhead, rateLimiter } = yield* Policy.metrics(policy)
      assert.strictEqual(rateLimiter?.waiting, 2)
      assert.strictEqual(bulkhead?.inUse, 1)
      yield* Fiber.interrupt(fiber)
    }))

  it.effect("hedges of a call are one result for the breaker", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        hedge: { delay: "100 millis", maxHedges: 2 },
        circuitBreaker: true,
        timeout: "1 second",
        repeatable: true
      })
      let copies = 0
      const work = Effect.suspend(() => ++copies < 3 ? Effect.never : Effect.succeed(copies))
      assert.deepStrictEqual(yield* inVirtualTime(Policy.protect(work, policy), "200 millis"), Exit.succeed(3))
      assert.strictEqual((yield* Policy.metrics(policy)).circuitBreaker?.total.successes, 1)
    }))

  it.effect("the deadline bounds attempts and backoffs together", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        deadline: "2500 millis",
        timeout: "1 second",
        retry: { times: 10, schedule: Retry.fixed("1 second") },
        repeatable: true
      })
      const error = yield* inVirtualTime(Effect.flip(Policy.protect(Effect.never, policy)), "2500 millis")
      assert.isTrue(Exit.isSuccess(error))
      const slow = yield* inVirtualTime(
        Effect.flip(Policy.protect(Effect.uninterruptible(Effect.sleep("3 seconds")), policy))
      )
      assert.isTrue(Exit.isSuccess(slow) && slow.value instanceof Deadline.DeadlineExceededError)
    }))

  it.effect("an attempt that would begin after a surrounding deadline is not begun", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        timeout: "1 second",
        circuitBreaker: true,
        bulkhead: { maxConcurrent: 1 }
      })
      let begun = false
      let told = ""
      const attempt = Policy.protect(Effect.sync(() => begun = true), policy).pipe(
        Effect.catch((error) => Effect.sync(() => told = error.message))
      )
      const late = Effect.uninterruptible(Effect.andThen(Effect.sleep("2 seconds"), attempt))
      yield* inVirtualTime(Effect.exit(Deadline.within(late, "1 second")), "2 seconds")
      assert.isFalse(begun)
      assert.strictEqual(told, "time-out \"calls\": no answer within 0 (all that the deadline left)")
      assert.strictEqual((yield* Policy.metrics(policy)).calls.timeouts, 1)
    }))

  it.effect("the fallback answers whatever the others refuse", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        fallback: [Fallback.value("default")],
        circuitBreaker: { trip: CircuitBreaker.consecutive(1) },
        bulkhead: { maxConcurrent: 1 },
        deadline: "1 second"
      })
      assert.strictEqual(yield* Policy.protect(failing, policy), "default")
      assert.strictEqual(yield* Policy.protect(Effect.succeed("fresh"), policy), "default")
      const { calls } = yield* Policy.metrics(policy)
      assert.deepStrictEqual(calls, { successes: 2, failures: 0, retries: 0, timeouts: 0, fallbacks: 2 })
    }))

  it.effect("a defect stays a defect, and an interrupted caller gets no fallback", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", { fallback: [Fallback.value("default")], retry: true, timeout: true })
      const died = yield* Effect.exit(Policy.protect(Effect.die("bug"), policy))
      assert.isTrue(Exit.isFailure(died) && Exit.hasDies(died))
      const fiber = yield* Effect.forkChild(Policy.protect(Effect.never, policy), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      const { calls } = yield* Policy.metrics(policy)
      assert.deepStrictEqual(calls, { successes: 0, failures: 1, retries: 0, timeouts: 0, fallbacks: 0 })
    }))
})

describe("Policy, its strategies", () => {
  it.effect("an adaptive limit stands around the breaker, and does not learn from what that refuses", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("calls", {
        adaptiveLimit: { algorithm: AdaptiveLimit.aimd({ initial: 8, backoff: 0.5 }) },
        circuitBreaker: { trip: CircuitBreaker.consecutive(1) },
        timeout: "1 second"
      })
      yield* Effect.exit(Policy.protect(failing, policy))
      yield* Effect.exit(Policy.protect(failing, policy))
      assert.strictEqual((yield* Policy.metrics(policy)).adaptiveLimit?.limit, 4)
      assert.deepStrictEqual(Policy.describe(policy).strategies.map(({ kind }) => kind), [
        "adaptiveLimit",
        "circuitBreaker",
        "timeout"
      ])
      const shared = yield* Policy.make("shared", { adaptiveLimit: Policy.strategies(policy).adaptiveLimit! })
      yield* Policy.protect(Effect.void, shared)
      assert.strictEqual((yield* Policy.metrics(policy)).adaptiveLimit?.started, 3)
    }))

  it.effect("names that are not given are the name of the policy", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("payments", {
        circuitBreaker: { trip: CircuitBreaker.consecutive(1) },
        bulkhead: { maxConcurrent: 1, name: "seats" },
        timeout: "1 second"
      })
      yield* Effect.exit(Policy.protect(failing, policy))
      const error = yield* Effect.flip(Policy.protect(Effect.void, policy))
      assert.strictEqual(error.message, "circuit breaker \"payments\" rejected the call: the circuit is open")
      assert.deepStrictEqual(Policy.describe(policy).strategies.map(({ kind, name }) => [kind, name]), [
        ["bulkhead", "seats"],
        ["circuitBreaker", "payments"],
        ["timeout", "payments"]
      ])
    }))

  it.effect("a breaker, bulkhead or limiter may be shared between policies", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "database", trip: CircuitBreaker.consecutive(1) })
      const seats = yield* Bulkhead.make({ name: "seats", maxConcurrent: 1 })
      const rate = yield* RateLimiter.make({ algorithm: RateLimiter.fixedWindow({ limit: 2, window: "1 minute" }) })
      const shared = { circuitBreaker: breaker, bulkhead: seats, rateLimiter: rate, timeout: "1 second" } as const
      const reads = yield* Policy.make("reads", shared)
      const writes = yield* Policy.make("writes", shared)
      const nested = Policy.protect(Effect.exit(Policy.protect(Effect.void, writes)), reads)
      const full = yield* nested
      assert.isTrue(Exit.isFailure(full) && full.cause.reasons[0]?._tag === "Fail")
      const limited = yield* Effect.flip(Policy.protect(Effect.void, writes))
      assert.strictEqual(limited._tag, "RateLimitExceededError")
      yield* CircuitBreaker.forceOpen(breaker)
      assert.strictEqual(yield* Policy.health(reads), "degraded")
      assert.strictEqual(yield* Policy.health(writes), "degraded")
      assert.strictEqual(Policy.strategies(reads).circuitBreaker, breaker)
    }))

  it.effect("a bad option is a defect that names it", () =>
    Effect.gen(function*() {
      const named = (options: Policy.Options) =>
        Effect.map(Effect.exit(Policy.make("bad", options)), (exit) => {
          const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
          assert.isTrue(reason?._tag === "Die" && reason.defect instanceof RangeError)
          return reason?._tag === "Die" ? String(reason.defect).split(" ")[1]! : ""
        })
      const bad: ReadonlyArray<Policy.Options> = [
        { timeout: 0 },
        { deadline: -1 },
        { retry: { times: -1 } },
        { bulkhead: { maxConcurrent: 0 } },
        { circuitBreaker: { openTime: 0 } },
        { hedge: { delay: 1, maxHedges: 0 } }
      ]
      const messages = yield* Effect.forEach(bad, named)
      assert.deepStrictEqual(messages, ["timeout", "deadline", "times", "maxConcurrent", "openTime", "maxHedges"])
    }))

  it.effect("a policy is a service of a layer", () =>
    Effect.gen(function*() {
      const options = Policy.options({ timeout: "1 second", circuitBreaker: true })
      class Payments extends Context.Service<Payments, Policy.Policy<typeof options>>()("Payments") {}
      const program = Effect.flatMap(Payments, (policy) => Policy.protect(Effect.succeed("paid"), policy))
      assert.strictEqual(yield* Effect.provide(program, Policy.layer(Payments, "payments", options)), "paid")
    }))
})

describe("Policy, defaults and settings", () => {
  it.effect("`true` stands for the defaults, which a layer changes for all policies below it", () =>
    Effect.gen(function*() {
      const make = Policy.make("calls", { retry: true, circuitBreaker: true, timeout: true, repeatable: true })
      const summaries = Effect.map(make, (policy) => Policy.describe(policy).strategies.map(({ summary }) => summary))
      assert.deepStrictEqual(yield* summaries, [
        "up to 3 times, full jitter from 100ms to 5s",
        "opens at 5 failures in a row, for 1m",
        "10s for an attempt"
      ])
      const configured = Policy.configure({ defaultTimeout: 4000, retryAttempts: 7 }).pipe(
        Layer.provide(Policy.configure({ circuitBreakerThreshold: 9, retryAttempts: 1 }))
      )
      assert.deepStrictEqual(yield* Effect.provide(summaries, configured), [
        "up to 7 times, full jitter from 100ms to 5s",
        "opens at 9 failures in a row, for 1m",
        "4s for an attempt"
      ])
    }))

  it.effect("a default that is out of range is a defect that names it", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Effect.provide(Effect.void, Policy.configure({ retryAttempts: -1 })))
      const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
      assert.strictEqual(
        reason?._tag === "Die" ? String(reason.defect) : "",
        "RangeError: retryAttempts must be a whole number of at least 0, got -1"
      )
    }))

  it.effect("the error_handling settings become retry, breaker and fallbacks", () =>
    Effect.gen(function*() {
      const settings: Policy.ErrorHandling = {
        retry: { max_attempts: 3, delay: "1 second", backoff: "linear" },
        circuit_breaker: { threshold: 0.5, window: "1 minute", reset_timeout: "5 minutes" },
        fallback: { enabled: true, strategies: ["cache", "default", "local"] }
      }
      const fallback = [Fallback.local((_: unknown) => Effect.succeed("local")), Fallback.value("default")]
      const policy = yield* Policy.fromSettings("calls", settings, { fallback, repeatable: true, timeout: "1 second" })
      assert.deepStrictEqual(
        Policy.describe(policy).strategies.map(({ settings }) => settings),
        [
          { strategies: ["default", "local"] },
          { times: 2, delays: "own schedule" },
          { trip: "50 % failures in 1m", openTime: "5m" },
          { duration: "1s" }
        ]
      )
      let calls = 0
      const work = Effect.andThen(Effect.sync(() => calls++), failing)
      assert.deepStrictEqual(
        yield* inVirtualTime(Policy.protect(work, policy), "3 seconds"),
        Exit.succeed("default")
      )
      assert.strictEqual(calls, 3)
      const without = yield* Policy.fromSettings("off", {
        ...settings,
        fallback: { enabled: false, strategies: ["local"] }
      }, { fallback })
      const error = yield* inVirtualTime(Effect.flip(Policy.protect(failing, without)))
      assert.isTrue(Exit.isSuccess(error))
    }))
})

describe("Policy, described", () => {
  const make = Policy.make("payments", {
    timeout: "2 seconds",
    circuitBreaker: true,
    bulkhead: { maxConcurrent: 10, maxQueue: 5 },
    retry: { times: 3 },
    fallback: [Fallback.value("\"none\" <yet>")],
    repeatable: true
  })

  it.effect("as text, from the outermost strategy to the work", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        Policy.draw(yield* make),
        [
          "policy \"payments\"",
          "└─ fallback: default",
          "   └─ retry: up to 3 times, full jitter from 100ms to 5s",
          "      └─ bulkhead: 10 at once, queue of 5",
          "         └─ circuit breaker: opens at 5 failures in a row, for 1m",
          "            └─ time-out: 2s for an attempt",
          "               └─ the work"
        ].join("\n")
      )
    }))

  it.effect("as a Mermaid flow chart that names cannot break", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("a \"quoted\"\nname", {
        fallback: [Fallback.use("<b>\"x\"]", () => Effect.void)],
        timeout: 1
      })
      assert.strictEqual(
        Policy.draw(policy, "mermaid"),
        [
          "flowchart LR",
          "  caller([\"a #quot;quoted#quot; name\"])",
          "  fallback[\"fallback<br/>#lt;b>#quot;x#quot;]\"]",
          "  timeout[\"time-out<br/>1ms for an attempt\"]",
          "  work([\"the work\"])",
          "  caller --> fallback --> timeout --> work"
        ].join("\n")
      )
    }))

  it.effect("warns about nothing in a sound policy", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(Policy.warnings(yield* make), [])
    }))

  it.effect("warns about known mistakes", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(codes(yield* Policy.make("p", { retry: true, timeout: true })), ["retry-not-repeatable"])
      assert.deepStrictEqual(codes(yield* Policy.make("p", { hedge: { delay: 1 }, timeout: true })), [
        "hedge-not-repeatable"
      ])
      assert.deepStrictEqual(codes(yield* Policy.make("p", { timeout: "2 seconds", deadline: "1 second" })), [
        "timeout-exceeds-deadline"
      ])
      assert.deepStrictEqual(codes(yield* Policy.make("p", { circuitBreaker: true })), ["no-time-limit"])
      assert.deepStrictEqual(
        codes(
          yield* Policy.make("p", {
            circuitBreaker: { classify: (exit) => Exit.isSuccess(exit) ? Outcome.success : Outcome.failure() },
            timeout: 1
          })
        ),
        ["breaker-counts-rejections"]
      )
      assert.deepStrictEqual(
        codes(yield* Policy.make("p", { retry: { rejections: true }, repeatable: true, timeout: 1 })),
        ["retry-repeats-rejections"]
      )
      assert.deepStrictEqual(codes(yield* Policy.make("p", { circuitBreaker: true, timeout: "30 seconds" })), [
        "lease-within-timeout"
      ])
      assert.deepStrictEqual(
        codes(
          yield* Policy.make("p", {
            circuitBreaker: { trip: CircuitBreaker.slowCallRate({ duration: "1 second" }) },
            timeout: "1 second"
          })
        ),
        ["slow-call-beyond-timeout"]
      )
      assert.deepStrictEqual(
        codes(yield* Policy.make("p", { bulkhead: { maxConcurrent: 1, maxQueue: 1 }, deadline: "30 seconds" })),
        ["queue-wait-exceeds-deadline"]
      )
      assert.deepStrictEqual(
        codes(yield* Policy.make("p", { hedge: { delay: "1 second" }, repeatable: true, timeout: "1 second" })),
        ["hedge-after-timeout"]
      )
      assert.deepStrictEqual(
        codes(
          yield* Policy.make("p", { fallback: [Fallback.value(1), Fallback.local(() => Effect.void)], timeout: 1 })
        ),
        ["fallback-unreachable"]
      )
    }))

  it.effect("a classify that cannot take the question says nothing", () =>
    Effect.gen(function*() {
      const classify: Outcome.Classify = () => {
        throw new Error("unexpected")
      }
      assert.deepStrictEqual(codes(yield* Policy.make("p", { circuitBreaker: { classify }, timeout: 1 })), [])
    }))
})

describe("Policy, in the status tree", () => {
  const options = Policy.options({
    circuitBreaker: { trip: CircuitBreaker.consecutive(1), openTime: "1 minute" },
    bulkhead: { maxConcurrent: 3 },
    timeout: "1 second"
  })

  it.effect("it is there with its strategies until its scope closes", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Policy.make("payments", options)
        assert.deepStrictEqual(yield* nodes, [
          ["payments", "ready", "up"],
          ["payments/bulkhead", "ready", "up"],
          ["payments/circuitBreaker", "closed", "up"],
          ["payments/timeout", "ready", "up"]
        ])
        const snapshot = yield* (yield* Status.Status).snapshot
        assert.deepStrictEqual(snapshot.nodes.map(({ kind, parent }) => [kind, parent]), [
          ["policy", undefined],
          ["strategy", "payments"],
          ["strategy", "payments"],
          ["strategy", "payments"]
        ])
      }))
      assert.deepStrictEqual(yield* nodes, [])
    }).pipe(Effect.provide(Status.layer)))

  it.effect("an open circuit is degraded, not down, and recovers", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("payments", options)
      yield* Effect.exit(Policy.protect(failing, policy))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* nodes).filter(([, state]) => state !== "ready"), [
        ["payments", "degraded", "degraded"],
        ["payments/circuitBreaker", "open", "degraded"]
      ])
      assert.strictEqual((yield* (yield* Status.Status).snapshot).health, "degraded")
      yield* TestClock.adjust("1 minute")
      yield* Policy.protect(Effect.void, policy)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* (yield* Status.Status).snapshot).health, "up")
    }).pipe(Effect.provide(Status.layer)))

  it.effect("counts and latency are read from it", () =>
    Effect.gen(function*() {
      const policy = yield* Policy.make("payments", { ...options, retry: { times: 1, schedule: Retry.fixed(0) } })
      yield* inVirtualTime(Policy.protect(Effect.sleep("500 millis"), policy), "500 millis")
      yield* inVirtualTime(Effect.exit(Policy.protect(Effect.never, policy)), "1 second")
      const status = yield* Status.Status
      const node = (id: string) => Effect.map(status.get(id), (node) => node!)
      const { counters, operations } = yield* node("payments")
      assert.deepStrictEqual(counters, { successes: 1, failures: 1, retries: 1, timeouts: 1, fallbacks: 0 })
      assert.strictEqual(operations["call"]?.successes, 1)
      assert.strictEqual(operations["call"]?.failures, 1)
      assert.isAtLeast(operations["call"]?.max ?? 0, 500)
      assert.deepStrictEqual((yield* node("payments/circuitBreaker")).counters, {
        successes: 1,
        failures: 1,
        slow: 0,
        rejections: 1,
        openings: 1
      })
      assert.strictEqual((yield* node("payments/bulkhead")).counters["started"], 3)
      assert.strictEqual((yield* node("payments/timeout")).counters["timeouts"], 1)
      assert.strictEqual((yield* node("payments/retry")).counters["retries"], 1)
    }).pipe(Effect.provide(Status.layer)))

  it.effect("the defaults turn that off", () =>
    Effect.gen(function*() {
      const quiet = Policy.configure({ enableHealthChecks: false })
      yield* Effect.provide(Policy.make("hidden", options), quiet)
      assert.deepStrictEqual(yield* nodes, [])
      yield* Effect.provide(Policy.make("uncounted", options), Policy.configure({ enableMetrics: false }))
      const node = yield* (yield* Status.Status).get("uncounted")
      assert.deepStrictEqual([node?.counters, node?.operations], [{}, {}])
    }).pipe(Effect.provide(Status.layer)))

  it.effect("two policies of one name are a defect that names it", () =>
    Effect.gen(function*() {
      yield* Policy.make("payments", options)
      const exit = yield* Effect.exit(Policy.make("payments", options))
      const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
      assert.isTrue(reason?._tag === "Die" && reason.defect instanceof Status.DuplicateIdError)
    }).pipe(Effect.provide(Status.layer)))
})
