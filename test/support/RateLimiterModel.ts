/**
 * What a rate limiter promises, written as plainly as possible, and a suite that holds a store against it.
 *
 * The model shares nothing with the library's arithmetic: it says whether a cost is allowed at a time, and the suite
 * finds out by asking it at the edges whether a wait, a rest and a reset are right to the microsecond.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"

interface Grant {
  readonly at: number
  readonly cost: number
}

interface Model {
  allowed(now: number, cost: number): boolean
  take(now: number, cost: number): void
  refund(now: number, grant: Grant): void
  fresh(now: number): boolean
}

/** The theoretical arrival time of GCRA, in microseconds times the limit, as big integers. */
const bucketModel = ({ capacity, limit, windowMicros }: RateLimiter.Algorithm): Model => {
  const per = BigInt(limit)
  const window = BigInt(windowMicros)
  let arrival = 0n
  const debt = (now: number) => {
    const ahead = arrival - BigInt(now) * per
    return ahead > 0n ? ahead : 0n
  }
  return {
    allowed: (now, cost) => debt(now) + BigInt(cost) * window <= BigInt(capacity) * window,
    take: (now, cost) => {
      arrival = BigInt(now) * per + debt(now) + BigInt(cost) * window
    },
    refund: (now, { cost }) => {
      const left = debt(now) - BigInt(cost) * window
      arrival = BigInt(now) * per + (left > 0n ? left : 0n)
    },
    fresh: (now) => debt(now) === 0n
  }
}

/** The window that is open, if any. */
const fixedModel = ({ limit, windowMicros }: RateLimiter.Algorithm): Model => {
  let window: { readonly start: number; used: number } | undefined
  const open = (
    now: number
  ) => (window !== undefined && window.used > 0 && now - window.start < windowMicros ? window : undefined)
  return {
    allowed: (now, cost) => (open(now)?.used ?? 0) + cost <= limit,
    take: (now, cost) => {
      window = open(now) ?? { start: now, used: 0 }
      window.used += cost
    },
    refund: (now, { at, cost }) => {
      const current = open(now)
      if (current !== undefined && at >= current.start) current.used -= cost
    },
    fresh: (now) => open(now) === undefined
  }
}

/** All grants that were ever made. */
const logModel = ({ limit, windowMicros }: RateLimiter.Algorithm): Model => {
  const grants: Array<Grant> = []
  const used = (now: number) =>
    grants.filter(({ at }) => at > now - windowMicros).reduce((sum, { cost }) => sum + cost, 0)
  return {
    allowed: (now, cost) => used(now) + cost <= limit,
    take: (at, cost) => void grants.push({ at, cost }),
    refund: (_now, { at, cost }) => {
      const index = grants.findIndex((grant) => grant.at === at && grant.cost === cost)
      if (index >= 0) grants.splice(index, 1)
    },
    fresh: (now) => used(now) === 0
  }
}

/** A chain of windows and what was granted in each; the chain ends when neither this nor the last window has anything. */
const counterModel = ({ limit, windowMicros }: RateLimiter.Algorithm): Model => {
  let origin = 0
  let used = new Map<number, number>()
  const nth = (at: number) => Math.floor((at - origin) / windowMicros)
  const count = (n: number) => used.get(n) ?? 0
  const fresh = (now: number) => count(nth(now)) === 0 && count(nth(now) - 1) === 0
  return {
    allowed: (now, cost) => {
      const elapsed = now - origin - nth(now) * windowMicros
      const weighed = count(nth(now) - 1) * (windowMicros - elapsed) + (count(nth(now)) + cost) * windowMicros
      return weighed <= limit * windowMicros
    },
    take: (now, cost) => {
      if (fresh(now)) {
        origin = now
        used = new Map()
      }
      used.set(nth(now), count(nth(now)) + cost)
    },
    refund: (now, { at, cost }) => {
      if (at >= origin && nth(at) >= nth(now) - 1) used.set(nth(at), Math.max(0, count(nth(at)) - cost))
    },
    fresh
  }
}

const makeModel = (algorithm: RateLimiter.Algorithm): Model => {
  switch (algorithm._tag) {
    case "tokenBucket":
    case "gcra":
      return bucketModel(algorithm)
    case "fixedWindow":
      return fixedModel(algorithm)
    case "slidingWindowLog":
      return logModel(algorithm)
    case "slidingWindowCounter":
      return counterModel(algorithm)
  }
}

export interface Command {
  readonly type: "consume" | "peek" | "refund" | "advance" | "window"
  readonly key: "a" | "b"
  /** Cost, or which grant to give back, or units of time. */
  readonly n: number
  /** Microseconds more to advance. */
  readonly micros: number
}

export const plan = fc.record({
  limit: fc.integer({ min: 1, max: 5 }),
  window: fc.integer({ min: 1, max: 30 }),
  burst: fc.option(fc.integer({ min: 1, max: 8 }), { nil: undefined }),
  commands: fc.array(
    fc.record({
      type: fc.constantFrom(
        "consume",
        "consume",
        "consume",
        "peek",
        "refund",
        "advance",
        "advance",
        "window"
      ) satisfies fc.Arbitrary<
        Command["type"]
      >,
      key: fc.constantFrom("a" as const, "a" as const, "b" as const),
      n: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, { weight: 2, arbitrary: fc.nat(40) }),
      micros: fc.nat(2)
    }),
    { maxLength: 50 }
  )
})

export type Plan = typeof plan extends fc.Arbitrary<infer A> ? A : never

/** Runs the commands on the store and on the model, and compares every answer. */
export const compare = (options: {
  readonly name: string
  readonly algorithm: RateLimiter.Algorithm
  /** Microseconds of a unit of time. */
  readonly unit: number
  readonly startAt: number
  readonly commands: ReadonlyArray<Command>
  readonly setTime: (micros: number) => Effect.Effect<void>
}) =>
  Effect.gen(function*() {
    const { algorithm, name, unit } = options
    const store = yield* RateLimiter.RateLimiterStore
    const keys = { a: makeModel(algorithm), b: makeModel(algorithm) }
    const grants: Array<Grant & { readonly key: "a" | "b" }> = []
    let now = options.startAt
    yield* options.setTime(now)

    const check = (model: Model, cost: number, answer: RateLimiter.Answer, allowed: boolean) => {
      assert.strictEqual(answer.wait === 0, allowed, "allowed")
      if (cost > algorithm.capacity) assert.strictEqual(answer.wait, Infinity, "never")
      else if (!allowed) {
        assert.isTrue(model.allowed(now + answer.wait, cost), `wait of ${answer.wait} is long enough`)
        assert.isFalse(model.allowed(now + answer.wait - 1, cost), `wait of ${answer.wait} is no longer than needed`)
      }
      let remaining = 0
      while (model.allowed(now, remaining + 1)) remaining++
      assert.strictEqual(answer.remaining, remaining, "remaining")
      assert.isTrue(model.fresh(now + answer.reset), `as new after ${answer.reset}`)
      if (answer.reset > 0) assert.isFalse(model.fresh(now + answer.reset - 1), `not as new before ${answer.reset}`)
      assert.strictEqual(answer.at, now, "time")
    }

    for (const { key, micros, n, type } of options.commands) {
      const model = keys[key]
      if (type === "advance" || type === "window") {
        // To the very end of what was just granted, or next to it.
        now += type === "window" ? algorithm.windowMicros + micros - 1 : n * unit + micros
        yield* options.setTime(now)
      } else if (type === "refund") {
        const [grant] = grants.splice(n % Math.max(1, grants.length), 1)
        if (grant === undefined) continue
        keys[grant.key].refund(now, grant)
        yield* store.refund({ name, key: grant.key, algorithm, cost: grant.cost }, grant.at)
      } else {
        const cost = 1 + n % (algorithm.capacity + 1)
        const allowed = model.allowed(now, cost)
        const answer = yield* store[type]({ name, key, algorithm, cost })
        if (type === "consume" && allowed) {
          model.take(now, cost)
          grants.push({ key, cost, at: answer.at })
        }
        check(model, cost, answer, allowed)
      }
    }
  })
