import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"

/*
 * The reference: a circuit breaker in the plainest words. It keeps every call it has counted in a list and computes each
 * answer from that list, knows no generations but the identity of the period a call was admitted in, and has no window,
 * ring or lease queue.
 */

interface Rule {
  readonly consecutive?: number | undefined
  readonly failures?: number | undefined
  readonly slow?: { readonly threshold: number; readonly millis: number } | undefined
  readonly calls?: number | undefined
  readonly time?: number | undefined
  readonly minimum: number
}

interface Options {
  readonly rule: Rule
  readonly openMillis: number
  readonly growing: boolean
  readonly permitted: number
  readonly successes: number
  readonly failures: number
  readonly lease: number
}

interface Counted {
  readonly failed: boolean
  readonly slow: boolean
  readonly at: number
}

interface Recovery {
  readonly openings: number
  readonly openMillis: number
}

type Period =
  | {
    readonly _tag: "Closed"
    counted: Array<Counted>
    readonly recovery?: (Recovery & { readonly closedAt: number }) | undefined
  }
  | { readonly _tag: "Open"; readonly until: number; readonly recovery: Recovery }
  | {
    readonly _tag: "HalfOpen"
    probes: Array<{ readonly call: number; readonly expires: number }>
    successes: number
    failures: number
    readonly recovery: Recovery
  }

type Mode = "ForcedOpen" | "Disabled" | "MetricsOnly"
type Result = "success" | "failure" | "defect" | "interrupt"

const buckets = 10

class Model {
  readonly options: Options
  now = 0
  period: Period = { _tag: "Closed", counted: [] }
  manual: { readonly mode: Mode; readonly counted: Array<Counted> } | undefined = undefined
  total = { successes: 0, failures: 0, slow: 0, rejections: 0, openings: 0 }
  /** Where each running call was admitted; undefined for one that is not counted at all. */
  readonly running = new Map<number, { readonly place: object | undefined; readonly started: number }>()

  constructor(options: Options) {
    this.options = options
  }

  start(call: number): "admitted" | "rejected" {
    const place = this.admit(call)
    if (place === "rejected") {
      this.total.rejections++
      return "rejected"
    }
    this.running.set(call, { place, started: this.now })
    return "admitted"
  }

  private admit(call: number): object | undefined | "rejected" {
    if (this.manual !== undefined) {
      if (this.manual.mode === "ForcedOpen") return "rejected"
      return this.manual.mode === "Disabled" ? undefined : this.manual
    }
    if (this.period._tag === "Closed") return this.period
    if (this.period._tag === "Open") {
      if (this.now < this.period.until) return "rejected"
      this.period = { _tag: "HalfOpen", probes: [], successes: 0, failures: 0, recovery: this.period.recovery }
    }
    const { probes } = this.period
    if (probes.length >= this.options.permitted) {
      const lapsed = probes.findIndex((probe) => probe.expires <= this.now)
      if (lapsed === -1) return "rejected"
      probes.splice(lapsed, 1)
    }
    probes.push({ call, expires: this.now + this.options.lease })
    return this.period
  }

  end(call: number, result: Result): void {
    const { place, started } = this.running.get(call)!
    this.running.delete(call)
    const failed = result !== "success"
    const slow = this.options.rule.slow !== undefined && this.now - started >= this.options.rule.slow.millis
    const count = () => {
      if (failed) this.total.failures++
      else this.total.successes++
      if (slow) this.total.slow++
    }
    const isProbe = (period: object): period is Extract<Period, { readonly _tag: "HalfOpen" }> => "probes" in period
    if (place === undefined) return
    if (isProbe(place)) {
      const held = place.probes.some((probe) => probe.call === call)
      place.probes = place.probes.filter((probe) => probe.call !== call)
      if (!held || result === "interrupt" || this.manual !== undefined || this.period !== place) return
      count()
      if (failed || slow) {
        if (++place.failures >= this.options.failures) this.open(place.recovery)
      } else if (++place.successes >= this.options.successes) {
        this.period = { _tag: "Closed", counted: [], recovery: { ...place.recovery, closedAt: this.now } }
      }
      return
    }
    if (result === "interrupt" || place !== (this.manual ?? this.period)) return
    count()
    const { counted } = place as { counted: Array<Counted> }
    counted.push({ failed, slow, at: this.now })
    if (this.manual === undefined && (failed || slow) && this.exceeds(counted)) {
      const recovery = this.period._tag === "Closed" ? this.period.recovery : undefined
      const goesOn = recovery !== undefined && this.now - recovery.closedAt < recovery.openMillis
      this.open(goesOn ? recovery : undefined)
    }
  }

  private open(before: Recovery | undefined): void {
    const openings = (before?.openings ?? 0) + 1
    const openMillis = this.options.growing ? this.options.openMillis * 2 ** (openings - 1) : this.options.openMillis
    this.total.openings++
    this.period = { _tag: "Open", until: this.now + openMillis, recovery: { openings, openMillis } }
  }

  view(counted: ReadonlyArray<Counted>) {
    const { calls, consecutive, time } = this.options.rule
    const seen = consecutive !== undefined
      ? counted.slice(counted.findLastIndex((call) => !call.failed) + 1)
      : calls !== undefined
      ? counted.slice(-calls)
      : counted.filter((call) => {
        const width = time! / buckets
        return Math.floor(this.now / width) - Math.floor(call.at / width) < buckets
      })
    return {
      calls: seen.length,
      failures: seen.filter((call) => call.failed).length,
      slow: seen.filter((call) => call.slow).length
    }
  }

  private exceeds(counted: ReadonlyArray<Counted>): boolean {
    const { consecutive, failures, minimum, slow } = this.options.rule
    const seen = this.view(counted)
    if (consecutive !== undefined) return seen.failures >= consecutive
    return seen.calls >= minimum && (
      (failures !== undefined && seen.failures / seen.calls >= failures) ||
      (slow !== undefined && seen.slow / seen.calls >= slow.threshold)
    )
  }

  control(mode: Mode | "Automatic" | "Reset"): void {
    if (mode === "Reset") {
      this.manual = undefined
      this.period = { _tag: "Closed", counted: [] }
    } else if (mode === "Automatic") this.manual = undefined
    else if (this.manual?.mode !== mode) this.manual = { mode, counted: [] }
  }

  /** A snapshot put back at once: the same circuit, without the calls that were running. */
  restart(): void {
    const { period } = this
    this.period = period._tag === "Closed"
      ? { ...period, counted: [...period.counted] }
      : period._tag === "HalfOpen"
      ? { ...period, probes: [] }
      : { ...period }
    if (this.manual !== undefined) {
      this.manual = {
        mode: this.manual.mode,
        counted: this.manual.mode === "MetricsOnly" ? [...this.manual.counted] : []
      }
    }
  }

  state(): unknown {
    if (this.manual !== undefined) return { _tag: this.manual.mode }
    const { period } = this
    switch (period._tag) {
      case "Closed":
        return { _tag: "Closed", share: 1 }
      case "Open":
        return {
          _tag: "Open",
          retryAfter: Duration.millis(Math.max(0, period.until - this.now)),
          openings: period.recovery.openings
        }
      case "HalfOpen":
        return { _tag: "HalfOpen", probes: period.probes.length, openings: period.recovery.openings }
    }
  }

  window() {
    if (this.manual !== undefined) return this.view(this.manual.counted)
    return this.period._tag === "Closed" ? this.view(this.period.counted) : { calls: 0, failures: 0, slow: 0 }
  }
}

type Command =
  | { readonly _tag: "Start" }
  | { readonly _tag: "End"; readonly which: number; readonly result: Result }
  | { readonly _tag: "Wait"; readonly millis: number }
  | { readonly _tag: "Control"; readonly mode: Mode | "Automatic" | "Reset" }
  | { readonly _tag: "Restart" }

const anEnd: fc.Arbitrary<Command> = fc.record({
  _tag: fc.constant("End" as const),
  which: fc.nat(),
  result: fc.constantFrom<Result>("success", "success", "failure", "failure", "failure", "defect", "interrupt")
})

const aCommand: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Command>({ _tag: "Start" }) },
  { weight: 8, arbitrary: anEnd },
  {
    weight: 4,
    arbitrary: fc.record({
      _tag: fc.constant("Wait" as const),
      millis: fc.constantFrom(1, 99, 100, 400, 500, 1000, 3000)
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      _tag: fc.constant("Control" as const),
      mode: fc.constantFrom("ForcedOpen", "Disabled", "MetricsOnly", "Automatic", "Automatic", "Automatic", "Reset")
    })
  },
  { weight: 1, arbitrary: fc.constant<Command>({ _tag: "Restart" }) }
)

const aRule: fc.Arbitrary<Rule> = fc.oneof(
  fc.record({ consecutive: fc.integer({ min: 1, max: 3 }), minimum: fc.constant(1) }),
  fc.record({
    calls: fc.integer({ min: 3, max: 40 }),
    failures: fc.constantFrom(0.25, 0.5, 1),
    minimum: fc.integer({ min: 1, max: 3 })
  }),
  fc.record({
    time: fc.constantFrom(1000, 5000),
    failures: fc.constantFrom(0.25, 0.5, 1),
    minimum: fc.integer({ min: 1, max: 3 })
  }),
  fc.record({
    calls: fc.integer({ min: 2, max: 5 }),
    slow: fc.record({ threshold: fc.constantFrom(0.5, 1), millis: fc.constantFrom(100, 500) }),
    failures: fc.constantFrom(undefined, 0.5),
    minimum: fc.integer({ min: 1, max: 2 })
  })
)

const someOptions: fc.Arbitrary<Options> = fc.record({
  rule: aRule,
  openMillis: fc.constantFrom(500, 1000, 2000),
  growing: fc.boolean(),
  permitted: fc.integer({ min: 1, max: 3 }),
  successes: fc.integer({ min: 1, max: 3 }),
  failures: fc.integer({ min: 1, max: 2 }),
  lease: fc.constantFrom(400, 1000, 3000)
})

const breakerOptions = ({ failures, growing, lease, openMillis, permitted, rule, successes }: Options) => ({
  name: "model",
  trip: rule.consecutive !== undefined
    ? CircuitBreaker.consecutive(rule.consecutive)
    : rule.failures === undefined
    ? CircuitBreaker.slowCallRate({
      threshold: rule.slow!.threshold,
      duration: rule.slow!.millis,
      window: { calls: rule.calls! },
      minimum: rule.minimum
    })
    : CircuitBreaker.failureRate({
      threshold: rule.failures,
      slow: rule.slow === undefined ? undefined : { threshold: rule.slow.threshold, duration: rule.slow.millis },
      window: rule.calls === undefined ? { time: rule.time!, buckets } : { calls: rule.calls },
      minimum: rule.minimum
    }),
  openTime: growing ? Schedule.exponential(openMillis) : openMillis,
  halfOpen: { permitted, successes, failures, lease }
})

interface Running {
  readonly id: number
  readonly end: Deferred.Deferred<string, string>
  readonly fiber: Fiber.Fiber<string, unknown>
}

/** Runs the commands against the breaker and the model, and compares all that can be seen after each of them. */
const compare = Effect.fnUntraced(function*(
  breaker: CircuitBreaker.CircuitBreaker,
  options: Options,
  commands: ReadonlyArray<Command>
) {
  const model = new Model(options)
  const running: Array<Running> = []
  let ids = 0
  for (const command of commands) {
    switch (command._tag) {
      case "Start": {
        const end = yield* Deferred.make<string, string>()
        const fiber = yield* Effect.forkChild(CircuitBreaker.protect(Deferred.await(end), breaker), {
          startImmediately: true
        })
        const id = ids++
        const exit = fiber.pollUnsafe()
        assert.strictEqual(exit === undefined ? "admitted" : "rejected", model.start(id))
        if (exit === undefined) running.push({ id, end, fiber })
        break
      }
      case "End": {
        if (running.length === 0) break
        const [{ end, fiber, id }] = running.splice(command.which % running.length, 1) as [Running]
        if (command.result === "interrupt") yield* Fiber.interrupt(fiber)
        else {
          const given = command.result === "success"
            ? Exit.succeed("fine")
            : command.result === "failure"
            ? Exit.fail("failed")
            : Exit.die("defect")
          yield* Deferred.done(end, given)
          const exit = yield* Fiber.await(fiber)
          assert.strictEqual(exit._tag, given._tag)
          if (exit._tag === "Failure") {
            assert.strictEqual(Cause.squash(exit.cause), command.result === "failure" ? "failed" : "defect")
          }
        }
        model.end(id, command.result)
        break
      }
      case "Wait": {
        yield* TestClock.adjust(command.millis)
        model.now += command.millis
        break
      }
      case "Control": {
        yield* controls[command.mode](breaker)
        model.control(command.mode)
        break
      }
      case "Restart": {
        yield* CircuitBreaker.restore(breaker, JSON.parse(JSON.stringify(yield* CircuitBreaker.snapshot(breaker))))
        model.restart()
      }
    }
    assert.deepStrictEqual(yield* CircuitBreaker.state(breaker), model.state())
    const { total, window: { calls, failures, slow } } = yield* CircuitBreaker.metrics(breaker)
    assert.deepStrictEqual({ calls, failures, slow }, model.window())
    assert.deepStrictEqual(total, model.total)
  }
})

const controls = {
  ForcedOpen: CircuitBreaker.forceOpen,
  Disabled: CircuitBreaker.disable,
  MetricsOnly: CircuitBreaker.metricsOnly,
  Automatic: CircuitBreaker.resume,
  Reset: CircuitBreaker.reset
}

const check = (makeBreaker: (options: Options) => Effect.Effect<CircuitBreaker.CircuitBreaker>) =>
  fc.assert(
    fc.asyncProperty(someOptions, fc.array(aCommand, { maxLength: 80, size: "max" }), (options, commands) =>
      Effect.flatMap(makeBreaker(options), (breaker) =>
        compare(breaker, options, commands)).pipe(
          Effect.provide(TestClock.layer()),
          Effect.scoped,
          Effect.runPromise
        )),
    { numRuns: 400 }
  )

describe("CircuitBreaker, compared with a plain reference model", () => {
  it("behaves alike under any interleaving of results, time and control", () =>
    check((options) => CircuitBreaker.make(breakerOptions(options))))

  it("behaves alike as one key of a keyed breaker", () =>
    check((options) =>
      Effect.map(CircuitBreaker.keyed(breakerOptions(options)), (breakers) => CircuitBreaker.forKey(breakers, "key"))
    ))
})
