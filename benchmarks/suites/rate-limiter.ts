import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Peer from "effect/persistence/RateLimiter"
import { RateLimiterMemory } from "rate-limiter-flexible"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import * as Floor from "../floors/tokenBucket.ts"
import { effectLoop, group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  admitted: "admitted by a token bucket",
  rejected: "empty bucket: the rejection, caught",
  keyed: "admitted, each call of another of 1,000 keys",
  algorithms: "admitted, by algorithm",
  keys: "admitted, number of keys"
}

/** More than any run takes. */
const plenty = { limit: 1_000_000_000, window: "1 second" } as const
const one = { limit: 1, window: "1 hour" } as const

const ours = (algorithm: RateLimiter.Algorithm) => Effect.runPromise(RateLimiter.make({ name: "ours", algorithm }))

const effects = () => Effect.runPromise(Peer.make.pipe(Effect.provide(Layer.fresh(Peer.layerStoreMemory))))

const admitted = async (): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.admitted)
  const limiter = await ours(RateLimiter.tokenBucket(plenty))
  const floor = Floor.make(plenty.limit, 1000)
  const theirs = await effects()
  const other = new RateLimiterMemory({ points: plenty.limit, duration: 1 })
  return [
    effect("seaworthy", "ours", () => RateLimiter.protect(Work.quick, limiter)),
    effect("floor", "floor", () => floor(Work.quick)),
    effect("no limiter", "bare", () => Work.quick),
    effect(
      "effect RateLimiter",
      "peer",
      () => Effect.andThen(theirs.consume({ ...plenty, algorithm: "token-bucket", key: "key" }), Work.quick)
    ),
    promise("rate-limiter-flexible, fixed window", "peer", async () => {
      await other.consume("key")
      return Work.quickPromise()
    })
  ]
}

const rejected = async (): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.rejected)
  const limiter = await ours(RateLimiter.tokenBucket(one))
  const floor = Floor.make(1, 3_600_000)
  const theirs = await effects()
  const other = new RateLimiterMemory({ points: 1, duration: 3600 })
  return [
    effect("seaworthy", "ours", () => Work.handled(RateLimiter.protect(Work.quick, limiter))),
    effect("floor", "floor", () => Work.handled(floor(Work.quick))),
    effect(
      "effect RateLimiter",
      "peer",
      () => Work.handled(theirs.consume({ ...one, algorithm: "token-bucket", key: "key" }))
    ),
    promise("rate-limiter-flexible, fixed window", "peer", Work.handledPromise(() => other.consume("key")))
  ]
}

const keysOf = (count: number) => {
  const keys = Array.from({ length: count }, (_, index) => `key-${index}`)
  let next = 0
  return () => {
    next = next + 1 === count ? 0 : next + 1
    return keys[next]!
  }
}

const keyed = async (): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.keyed)
  const limiter = await Effect.runPromise(RateLimiter.keyed({ algorithm: RateLimiter.tokenBucket(plenty) }))
  const theirs = await effects()
  const other = new RateLimiterMemory({ points: plenty.limit, duration: 1 })
  const [a, b, c] = [keysOf(1000), keysOf(1000), keysOf(1000)]
  return [
    effect("seaworthy", "ours", () => RateLimiter.protect(Work.quick, RateLimiter.forKey(limiter, a()))),
    effect(
      "effect RateLimiter",
      "peer",
      () => Effect.andThen(theirs.consume({ ...plenty, algorithm: "token-bucket", key: b() }), Work.quick)
    ),
    promise("rate-limiter-flexible, fixed window", "peer", async () => {
      await other.consume(c())
      return Work.quickPromise()
    })
  ]
}

const byAlgorithm = async (): Promise<Array<Case>> => {
  const { effect } = group(groups.algorithms)
  const algorithms = [
    RateLimiter.tokenBucket(plenty),
    RateLimiter.gcra({ ...plenty, burst: 1000 }),
    RateLimiter.fixedWindow(plenty),
    RateLimiter.slidingWindowCounter(plenty),
    RateLimiter.slidingWindowLog({ limit: 100_000, window: "1 milli" })
  ]
  return Promise.all(algorithms.map(async (algorithm) => {
    const limiter = await ours(algorithm)
    return effect(algorithm._tag, "ours", () => Work.handled(RateLimiter.protect(Work.quick, limiter)))
  }))
}

const byKeys = async (): Promise<Array<Case>> => {
  const { effect } = group(groups.keys)
  const of = async (name: string, count: number) => {
    const options = { algorithm: RateLimiter.tokenBucket({ limit: 1_000_000, window: "1 hour" }), maxKeys: 2 * count }
    const keyed = await Effect.runPromise(RateLimiter.keyed(options))
    const key = keysOf(count)
    const body = () => Work.handled(RateLimiter.protect(Work.quick, RateLimiter.forKey(keyed, key())))
    await effectLoop(body)(count)
    return effect(name, "ours", body)
  }
  return [await of("10 keys", 10), await of("10,000 keys", 10_000)]
}

export const suite: Suite = {
  about: "The work ends at once. The floor has one bucket and no keys; rate-limiter-flexible counts in fixed windows.",
  metric: "cpu",
  goals: [
    { group: groups.admitted, ratio: 1.5 },
    { group: groups.rejected, ratio: 1.5 },
    { group: groups.keys, of: "10,000 keys", against: "10 keys", ratio: 2 }
  ],
  make: async () => ({
    cases: [
      ...await admitted(),
      ...await rejected(),
      ...await keyed(),
      ...await byAlgorithm(),
      ...await byKeys()
    ]
  })
}
