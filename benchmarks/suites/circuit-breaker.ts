import * as Cockatiel from "cockatiel"
import * as Effect from "effect/Effect"
import * as Peer from "effect/persistence/CircuitBreaker"
import * as Scope from "effect/Scope"
import Opossum from "opossum"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as Floor from "../floors/breaker.ts"
import { effectLoop, group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  row: "closed, failures in a row",
  rate: "closed, failures of the last 100",
  open: "open: the rejection, caught",
  windows: "closed, length of the window",
  keys: "closed, number of keys"
}

const ours = (trip: CircuitBreaker.TripRule) => Effect.runPromise(CircuitBreaker.make({ name: "ours", trip }))

const effects = (tripPolicy: Peer.TripPolicy) =>
  Effect.runPromise(
    Peer.make({ tripPolicy, openDuration: "1 minute" }).pipe(
      Effect.provide(Peer.layerStoreMemory()),
      Scope.provide(Scope.makeUnsafe())
    )
  )

const cockatiel = (breaker: Cockatiel.IBreaker) =>
  Cockatiel.circuitBreaker(Cockatiel.handleAll, { halfOpenAfter: 60_000, breaker })

const opossum = (work: () => Promise<number>) =>
  new Opossum(work, { timeout: false, errorThresholdPercentage: 50, volumeThreshold: 20, resetTimeout: 60_000 })

const key = { key: "key" }

const inARow = async (): Promise<Array<Case>> => {
  const breaker = await ours(CircuitBreaker.consecutive(5))
  const floor = Floor.make(Floor.consecutive(5), 60_000)
  const theirs = await effects(Peer.consecutive(5))
  const other = cockatiel(new Cockatiel.ConsecutiveBreaker(5))
  const { effect, promise } = group(groups.row)
  return [
    effect("seaworthy", "ours", () => CircuitBreaker.protect(Work.quick, breaker)),
    effect("floor", "floor", () => floor(Work.quick)),
    effect("no breaker", "bare", () => Work.quick),
    effect("effect CircuitBreaker", "peer", () => theirs.execute(Work.quick, key)),
    promise("cockatiel", "peer", () => other.execute(Work.quickPromise)),
    promise("no breaker, a promise", "bare", Work.quickPromise)
  ]
}

const ofTheLast = async (): Promise<Array<Case>> => {
  const breaker = await ours(CircuitBreaker.failureRate({ window: { calls: 100 } }))
  const floor = Floor.make(Floor.halfOfLast(100), 60_000)
  const theirs = await effects(Peer.rate({ threshold: 0.5, size: 100, minimumCalls: 20 }))
  const counting = cockatiel(new Cockatiel.CountBreaker({ threshold: 0.5, size: 100, minimumNumberOfCalls: 20 }))
  const other = opossum(Work.quickPromise)
  const { effect, promise } = group(groups.rate)
  return [
    effect("seaworthy", "ours", () => CircuitBreaker.protect(Work.quick, breaker)),
    effect("floor", "floor", () => floor(Work.quick)),
    effect("effect CircuitBreaker", "peer", () => theirs.execute(Work.quick, key)),
    promise("cockatiel", "peer", () => counting.execute(Work.quickPromise)),
    promise("opossum", "peer", () => other.fire())
  ]
}

const rejected = async (): Promise<Array<Case>> => {
  const protect = CircuitBreaker.protect(await ours(CircuitBreaker.consecutive(1)))
  const floor = Floor.make(Floor.consecutive(1), 60_000)
  const theirs = await effects(Peer.consecutive(1))
  const counting = cockatiel(new Cockatiel.ConsecutiveBreaker(1))
  const other = opossum(Work.brokenPromise)

  await Effect.runPromise(Work.handled(protect(Work.broken)))
  await Effect.runPromise(Work.handled(floor(Work.broken)))
  await Effect.runPromise(Work.handled(theirs.execute(Work.broken, key)))
  const fromCockatiel = Work.handledPromise(() => counting.execute(Work.brokenPromise))
  await fromCockatiel()
  other.open()
  const { effect, promise } = group(groups.open)
  return [
    effect("seaworthy", "ours", () => Work.handled(protect(Work.quick))),
    effect("floor", "floor", () => Work.handled(floor(Work.quick))),
    effect("effect CircuitBreaker", "peer", () => Work.handled(theirs.execute(Work.quick, key))),
    promise("cockatiel", "peer", fromCockatiel),
    promise("opossum", "peer", Work.handledPromise(() => other.fire()))
  ]
}

const byWindow = async (): Promise<Array<Case>> => {
  const { effect } = group(groups.windows)
  const of = async (name: string, window: { readonly calls: number }) => {
    const breaker = await ours(CircuitBreaker.failureRate({ window }))
    return effect(name, "ours", () => CircuitBreaker.protect(Work.quick, breaker))
  }
  return [await of("the last 100", { calls: 100 }), await of("the last 100,000", { calls: 100_000 })]
}

/** Each call is of another key. */
const byKeys = async (): Promise<Array<Case>> => {
  const { effect } = group(groups.keys)
  const of = async (name: string, count: number) => {
    const options = { name: "ours", trip: CircuitBreaker.failureRate(), maxKeys: 2 * count }
    const keyed = await Effect.runPromise(CircuitBreaker.keyed(options))
    const keys = Array.from({ length: count }, (_, index) => `key-${index}`)
    let next = 0
    const body = () => {
      next = next + 1 === count ? 0 : next + 1
      return CircuitBreaker.protect(Work.quick, CircuitBreaker.forKey(keyed, keys[next]!))
    }
    await effectLoop(body)(count)
    return effect(name, "ours", body)
  }
  return [await of("10 keys", 10), await of("10,000 keys", 10_000)]
}

export const suite: Suite = {
  about: "The work ends at once, so that what is measured is the breaker. Rejections are caught, as a caller does.",
  metric: "cpu",
  goals: [
    { group: groups.row, ratio: 1.5 },
    { group: groups.rate, ratio: 1.5 },
    { group: groups.open, ratio: 1.5 },
    { group: groups.windows, of: "the last 100,000", against: "the last 100", ratio: 1.2 },
    { group: groups.keys, of: "10,000 keys", against: "10 keys", ratio: 2 }
  ],
  make: async () => ({
    cases: [
      ...await inARow(),
      ...await ofTheLast(),
      ...await rejected(),
      ...await byWindow(),
      ...await byKeys()
    ]
  })
}
