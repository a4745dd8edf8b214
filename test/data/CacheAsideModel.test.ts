import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as CacheAside from "../../src/data/CacheAside.ts"
import { SharedMemory } from "../support/CacheAsideStoreMemory.ts"

const inVirtualTime = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(
    Effect.scoped(effect).pipe(
      Effect.provide(TestClock.layer()),
      // Failed loads in the background are what these tests are about.
      Effect.provideService(References.UnhandledLogLevel, undefined)
    )
  )

const keys = ["a:1", "a:2", "b:1"]
const tagOf = (key: string) => key.split(":")[1]!
const target = fc.oneof(
  fc.record({ key: fc.constantFrom(...keys) }),
  fc.record({ tag: fc.constantFrom("1", "2") }),
  fc.record({ prefix: fc.constantFrom("a:", "b:") }),
  fc.record({ all: fc.constant(true as const) })
)
const hits = (what: CacheAside.Target, key: string): boolean =>
  "key" in what
    ? what.key === key
    : "tag" in what
    ? what.tag === tagOf(key)
    : "prefix" in what
    ? key.startsWith(what.prefix)
    : true

// ---------------------------------------------------------------------------------------------------------------------
// In memory, with loads that take no time: exactly the model
// ---------------------------------------------------------------------------------------------------------------------

type Answer = number | "absent" | "failed"

interface Times {
  readonly ttl: number
  readonly absentTtl: number
  readonly failureTtl: number
  readonly staleWhileRevalidate: number
  readonly staleIfError: number
  readonly eagerRefresh: number
  readonly errorBackoff: number
}

/** What `CacheAside` promises, written as simply as possible. */
class Model {
  readonly times: Times
  readonly entries = new Map<string, { readonly answer: Answer; readonly at: number; readonly ttl: number }>()
  readonly pauses = new Map<string, { readonly failures: number; readonly until: number }>()
  loads = 0

  constructor(times: Times) {
    this.times = times
  }

  get(key: string, now: number, next: Answer): Answer {
    const entry = this.entries.get(key)
    if (entry === undefined) return this.load(key, now, next)
    const { eagerRefresh, staleIfError, staleWhileRevalidate } = this.times
    const age = now - entry.at
    const isFailure = entry.answer === "failed"
    const paused = now < (this.pauses.get(key)?.until ?? 0)
    if (age < entry.ttl) {
      if (!isFailure && eagerRefresh < 1 && age >= entry.ttl * eagerRefresh && !paused) this.load(key, now, next)
      return entry.answer
    }
    if (isFailure) return this.load(key, now, next)
    if (age < entry.ttl + staleWhileRevalidate) {
      if (!paused) this.load(key, now, next)
      return entry.answer
    }
    if (age < entry.ttl + staleIfError && paused) return entry.answer
    const loaded = this.load(key, now, next)
    return loaded === "failed" && age < entry.ttl + staleIfError ? entry.answer : loaded
  }

  load(key: string, now: number, next: Answer): Answer {
    const { absentTtl, errorBackoff, failureTtl, staleIfError, staleWhileRevalidate, ttl } = this.times
    this.loads++
    if (next !== "failed") {
      this.pauses.delete(key)
      const life = next === "absent" ? absentTtl : ttl
      if (life > 0) this.entries.set(key, { answer: next, at: now, ttl: life })
      else this.entries.delete(key)
      return next
    }
    const failures = (this.pauses.get(key)?.failures ?? 0) + 1
    this.pauses.set(key, { failures, until: now + Math.min(30_000, errorBackoff * 2 ** (failures - 1)) })
    const entry = this.entries.get(key)
    const servable = entry !== undefined &&
      now - entry.at < entry.ttl + (entry.answer === "failed" ? 0 : Math.max(staleIfError, staleWhileRevalidate))
    if (failureTtl > 0 && !servable) this.entries.set(key, { answer: "failed", at: now, ttl: failureTtl })
    return next
  }

  set(key: string, now: number, answer: Answer): void {
    this.invalidate({ key })
    const life = answer === "absent" ? this.times.absentTtl : this.times.ttl
    if (life > 0) this.entries.set(key, { answer, at: now, ttl: life })
  }

  invalidate(what: CacheAside.Target): void {
    for (const key of keys) {
      if (!hits(what, key)) continue
      // A failure carries no tag: it is not about a value.
      if ("tag" in what && this.entries.get(key)?.answer === "failed") continue
      this.entries.delete(key)
      if ("key" in what || "all" in what) this.pauses.delete(key)
    }
  }
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant("get" as const), key: fc.constantFrom(...keys) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("refresh" as const), key: fc.constantFrom(...keys) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("set" as const), key: fc.constantFrom(...keys) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("wait" as const), millis: fc.integer({ min: 1, max: 70 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("forget" as const), what: target }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant("source" as const), answer: fc.constantFrom("value", "absent", "failed") })
  }
)

const times: fc.Arbitrary<Times> = fc.record({
  ttl: fc.integer({ min: 1, max: 100 }),
  absentTtl: fc.constantFrom(0, 20, 60),
  failureTtl: fc.constantFrom(0, 15),
  staleWhileRevalidate: fc.constantFrom(0, 30),
  staleIfError: fc.constantFrom(0, 20, 200),
  eagerRefresh: fc.constantFrom(1, 0.5),
  errorBackoff: fc.integer({ min: 1, max: 50 })
})

describe("CacheAside against a model", () => {
  it("answers and loads as the model does, for any options and any sequence of steps", () =>
    fc.assert(
      fc.asyncProperty(times, fc.array(step, { maxLength: 80 }), (times, all) =>
        inVirtualTime(Effect.gen(function*() {
          const model = new Model(times)
          let mood = "value"
          let serial = 0
          // The same answer for the model and for the cache, and a new one after each step.
          const next = (): Answer => mood === "value" ? serial : mood === "absent" ? "absent" : "failed"
          let loads = 0
          const cache = yield* CacheAside.make({
            name: "c",
            ...times,
            jitter: 0,
            tags: (key) => [tagOf(key)],
            load: (_key): Effect.Effect<number | Option.Option<number>, string> =>
              Effect.suspend(() => {
                loads++
                const answer = next()
                if (answer === "failed") return Effect.fail("down")
                return Effect.succeed(answer === "absent" ? Option.none<number>() : answer)
              })
          })
          const shown = Effect.map(
            (exit: Exit.Exit<Option.Option<number>, unknown>): Answer =>
              Exit.isSuccess(exit) ? Option.getOrElse(exit.value, () => "absent" as const) : "failed"
          )
          for (const one of all) {
            serial++
            const now = yield* Clock.currentTimeMillis
            if (one.type === "get") {
              const answer = yield* shown(Effect.exit(cache.get(one.key)))
              assert.strictEqual(answer, model.get(one.key, now, next()))
            } else if (one.type === "refresh") {
              const answer = yield* shown(Effect.exit(cache.refresh(one.key)))
              assert.strictEqual(answer, model.load(one.key, now, next()))
            } else if (one.type === "set") {
              const answer = mood === "value" ? serial : "absent"
              yield* cache.set(one.key, answer === "absent" ? Option.none() : answer)
              model.set(one.key, now, answer)
            } else if (one.type === "forget") {
              yield* cache.forget(one.what)
              model.invalidate(one.what)
            } else if (one.type === "wait") yield* TestClock.adjust(one.millis)
            else mood = one.answer
            assert.strictEqual(loads, model.loads)
          }
        }))),
      { numRuns: 300 }
    ))
})

// ---------------------------------------------------------------------------------------------------------------------
// Two nodes on one store, with loads that take time and a store that misbehaves: what must never happen
// ---------------------------------------------------------------------------------------------------------------------

const ttl = 1_000
const bounds = fc.constantFrom(0, 500)
const hardTimeout = 400

const nodeIndex = fc.constantFrom(0, 1)
const calm = [
  {
    weight: 6,
    arbitrary: fc.record({ type: fc.constant("get" as const), node: nodeIndex, key: fc.constantFrom(...keys) })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("wait" as const),
      millis: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 400 }))
    })
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("change" as const), node: nodeIndex, what: target }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant("set" as const), node: nodeIndex, key: fc.constantFrom(...keys) })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant("loads" as const),
      millis: fc.integer({ min: 0, max: 600 }),
      fail: fc.boolean()
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant("latency" as const),
      there: fc.constantFrom(0, 1, 15),
      back: fc.constantFrom(0, 1, 15)
    })
  }
]
const faults = fc.record({
  type: fc.constant("fault" as const),
  fault: fc.constantFrom("down", "frozen", "up", "deaf", "hearing", "flush")
})

type Step = typeof calm[number]["arbitrary"] extends fc.Arbitrary<infer A> ? A | { type: "fault"; fault: string }
  : never

/** Runs the steps on two nodes; `faulty` says which promises hold. */
const run = (all: ReadonlyArray<Step>, storage: "redis" | "two-level", staleIfError: number, faulty: boolean) =>
  Effect.gen(function*() {
    const store = new SharedMemory()
    // Of changes that are made at the same time, the one that the store takes last wins: who sets values has to know which
    // of two is the newer one.
    const oneByOne = yield* Semaphore.make(all.some(({ type }) => type === "set") ? 1 : 1_000)
    let load = { millis: 0, fail: false }
    /** What the source holds, and what each node has been told of it when a change was finished. */
    const source = new Map<string, number>()
    const told = [new Map<string, number>(), new Map<string, number>()]
    const changed = (key: string): number => {
      source.set(key, (source.get(key) ?? 0) + 1)
      return source.get(key)!
    }
    const tell = (node: number, key: string, version: number) =>
      told[node]!.set(key, Math.max(version, told[node]!.get(key) ?? 0))
    const nodes = yield* Effect.forEach([0, 1], () =>
      CacheAside.make({
        name: "c",
        schema: Schema.Struct({ version: Schema.Finite, at: Schema.Finite }),
        ttl,
        staleIfError,
        hardTimeout,
        lease: 150,
        storeTimeout: 50,
        storeRetry: 100,
        distrustAfter: 200,
        storage,
        tags: (key) => [tagOf(key)],
        load: (key) =>
          Effect.gen(function*() {
            const { fail, millis } = load
            const read = { version: source.get(key) ?? 0, at: yield* Clock.currentTimeMillis }
            yield* Effect.sleep(millis)
            return yield* fail ? Effect.fail("down") : Effect.succeed(read)
          })
      }).pipe(Effect.provide(store.layer)))
    const fibers: Array<Fiber.Fiber<void, unknown>> = []
    for (const one of all) {
      switch (one.type) {
        case "get": {
          const began = yield* Clock.currentTimeMillis
          const known = (faulty ? told[one.node]!.get(one.key) : Math.max(
            told[0]!.get(one.key) ?? 0,
            told[1]!.get(one.key) ?? 0
          )) ?? 0
          fibers.push(
            yield* Effect.forkChild(
              Effect.gen(function*() {
                const exit = yield* Effect.exit(nodes[one.node]!.get(one.key))
                const now = yield* Clock.currentTimeMillis
                assert.isAtMost(now - began, hardTimeout + 4 * 50 + 100)
                if (Exit.isFailure(exit)) return
                const { at, version } = Option.getOrThrow(exit.value)
                assert.isAtLeast(version, known, "forgotten before it was asked for")
                // The last part is the time between the load and the write, and between the look and the answer.
                assert.isBelow(began - at, ttl + staleIfError + hardTimeout + 100, "older than its bound")
              }),
              { startImmediately: true }
            )
          )
          break
        }
        case "change": {
          const { node, what } = one
          const change = Effect.suspend(() => {
            const now = keys.filter((key) => hits(what, key)).map((key) => [key, changed(key)] as const)
            return Effect.map(nodes[node]!.forget(what), () => {
              for (const [key, version] of now) tell(node, key, version)
            })
          })
          fibers.push(yield* Effect.forkChild(oneByOne.withPermits(1)(change), { startImmediately: true }))
          break
        }
        case "set": {
          const { key, node } = one
          const set = Effect.gen(function*() {
            const version = changed(key)
            yield* nodes[node]!.set(key, { version, at: yield* Clock.currentTimeMillis })
            tell(node, key, version)
          })
          fibers.push(yield* Effect.forkChild(oneByOne.withPermits(1)(set), { startImmediately: true }))
          break
        }
        case "wait":
          yield* TestClock.adjust(one.millis)
          break
        case "loads":
          load = one
          break
        case "latency":
          store.latency = one
          break
        case "fault":
          if (one.fault === "flush") store.flush()
          else if (one.fault === "deaf" || one.fault === "hearing") store.deaf = one.fault === "deaf"
          else store.mode = one.fault as SharedMemory["mode"]
      }
    }
    yield* TestClock.adjust("5 seconds")
    yield* Fiber.joinAll(fibers)
    // All is well again by itself: one load, which both nodes see.
    store.mode = "up"
    store.deaf = false
    load = { millis: 0, fail: false }
    store.latency = { there: 0, back: 0 }
    for (let turn = 0; turn < 20; turn++) {
      yield* Effect.forEach(nodes, (node) => Effect.forkChild(Effect.exit(node.get("again"))))
      yield* TestClock.adjust(100)
    }
    source.set("final", 7)
    const found = yield* Effect.forEach(nodes, (node) => node.get("final"))
    assert.deepStrictEqual(found[0], found[1])
    assert.isTrue(store.entries.has("final"))
    const now = yield* Clock.currentTimeMillis
    assert.deepStrictEqual([...store.leases.values()].filter(({ expires }) => expires > now), [])
  })

describe("CacheAside on two nodes of one store", () => {
  for (const storage of ["redis", "two-level"] as const) {
    it(`serves nothing that was forgotten on any node before it was asked for (${storage})`, () =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.oneof(...calm), { maxLength: 60 }), bounds, (all, staleIfError) =>
          inVirtualTime(run(all, storage, staleIfError, false))),
        { numRuns: 150 }
      ), 60_000)

    it(
      `whatever befalls the store: nothing that this node has forgotten, nothing too old, and well again by itself (${storage})`,
      () =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.oneof(...calm, { weight: 2, arbitrary: faults }), { maxLength: 60 }),
            bounds,
            (all, staleIfError) => inVirtualTime(run(all, storage, staleIfError, true))
          ),
          { numRuns: 150 }
        ),
      60_000
    )
  }
})
