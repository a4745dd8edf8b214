import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PeerBreaker from "effect/persistence/CircuitBreaker"
import * as PeerLimiter from "effect/persistence/RateLimiter"
import * as Scope from "effect/Scope"
import { RateLimiterMemory } from "rate-limiter-flexible"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import type { Role, Sample, SampleCase, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  limiter: "rate limiter, a key",
  breaker: "circuit breaker, a key that failed once",
  healthy: "circuit breaker, a key that is well",
  bulkhead: "bulkhead, a key"
}

const count = 100_000

/** The texts are there before: what is counted is what is kept about a key. */
const keys = Array.from({ length: count }, (_, index) => `customer-${index}`)

const used = () => {
  globalThis.gc?.()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** What 100,000 keys take when each was used once. `use` gives what holds the keys. */
const keep = (group: string, name: string, role: Role, use: () => Promise<unknown>): SampleCase => ({
  group,
  name,
  role,
  sample: async (): Promise<Sample> => {
    const before = used()
    const cpu = process.cpuUsage()
    const start = process.hrtime.bigint()
    const held = await use()
    const wallNanos = Number(process.hrtime.bigint() - start) / count
    const { system, user } = process.cpuUsage(cpu)
    const bytes = Math.max(0, used() - before) / count
    if (held === undefined) throw new Error("nothing was kept")
    return { wallNanos, cpuNanos: (system + user) * 1000 / count, bytes }
  }
})

const eachKey = (body: (key: string) => Effect.Effect<unknown, unknown>) =>
  Effect.runPromise(Effect.forEach(keys, (key) => Effect.ignore(body(key)), { discard: true }))

const hundred = { limit: 100, window: "1 hour" } as const

const limiters: ReadonlyArray<SampleCase> = [
  ...[
    RateLimiter.tokenBucket(hundred),
    RateLimiter.fixedWindow(hundred),
    RateLimiter.slidingWindowCounter(hundred),
    RateLimiter.slidingWindowLog(hundred)
  ].map((algorithm) =>
    keep(groups.limiter, `seaworthy ${algorithm._tag}`, "ours", async () => {
      const limiter = await Effect.runPromise(RateLimiter.keyed({ algorithm, maxKeys: count }))
      await eachKey((key) => RateLimiter.protect(Work.quick, RateLimiter.forKey(limiter, key)))
      return limiter
    })
  ),
  keep(groups.limiter, "effect token bucket", "peer", async () => {
    const limiter = await Effect.runPromise(
      PeerLimiter.make.pipe(Effect.provide(Layer.fresh(PeerLimiter.layerStoreMemory)))
    )
    await eachKey((key) => limiter.consume({ ...hundred, algorithm: "token-bucket", key }))
    return limiter
  }),
  keep(groups.limiter, "rate-limiter-flexible", "peer", async () => {
    // Its timers hold these keys until the window is over; what is measured is the difference.
    const limiter = new RateLimiterMemory({ points: 100, duration: 3600 })
    for (const key of keys) await limiter.consume(key)
    return limiter
  })
]

const breaker = (group: string, name: string, trip: CircuitBreaker.TripRule, work: Effect.Effect<number, Error>) =>
  keep(group, name, "ours", async () => {
    const keyed = await Effect.runPromise(CircuitBreaker.keyed({ name: "ours", trip, maxKeys: count }))
    await eachKey((key) => CircuitBreaker.protect(work, CircuitBreaker.forKey(keyed, key)))
    return keyed
  })

const effectBreaker = (group: string, work: Effect.Effect<number, Error>) =>
  keep(group, "effect CircuitBreaker", "peer", async () => {
    const made = await Effect.runPromise(
      PeerBreaker.make({ tripPolicy: PeerBreaker.consecutive(5), openDuration: "1 minute" }).pipe(
        Effect.provide(Layer.fresh(PeerBreaker.layerStoreMemory())),
        Scope.provide(Scope.makeUnsafe())
      )
    )
    await eachKey((key) => made.execute(work, { key }))
    return made
  })

export const suite: Suite = {
  about:
    "What 100,000 keys take, each used once; the text of a key is not counted. CPU and wall time are those of making " +
    "and first using a key.",
  metric: "bytes",
  bytesTitle: "bytes a key",
  rounds: 5,
  withoutBytes: true,
  goals: [
    { group: groups.limiter, of: "seaworthy tokenBucket", value: 120 },
    { group: groups.limiter, of: "seaworthy fixedWindow", value: 120 },
    { group: groups.limiter, of: "seaworthy slidingWindowCounter", value: 120 },
    { group: groups.breaker, of: "seaworthy, failures in a row", value: 120 },
    { group: groups.healthy, of: "seaworthy, failures in a row", value: 120 }
  ],
  make: async () => ({
    cases: [
      ...limiters,
      breaker(groups.breaker, "seaworthy, failures in a row", CircuitBreaker.consecutive(5), Work.broken),
      breaker(groups.breaker, "seaworthy, rate of 100 calls", CircuitBreaker.failureRate(), Work.broken),
      effectBreaker(groups.breaker, Work.broken),
      breaker(groups.healthy, "seaworthy, failures in a row", CircuitBreaker.consecutive(5), Work.quick),
      effectBreaker(groups.healthy, Work.quick),
      keep(groups.bulkhead, "seaworthy", "ours", async () => {
        const keyed = await Effect.runPromise(Bulkhead.keyed({ maxConcurrent: 10, maxKeys: count }))
        await eachKey((key) => Bulkhead.protect(Work.quick, Bulkhead.forKey(keyed, key)))
        return keyed
      })
    ]
  })
}
