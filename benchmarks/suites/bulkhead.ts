import * as Cockatiel from "cockatiel"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import pLimit from "p-limit"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import * as Floor from "../floors/bulkhead.ts"
import { effectLoop, group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  free: "a free place",
  full: "full: the rejection, caught",
  queue: "64 callers, 8 places: the queue",
  keys: "a free place, number of keys"
}

const ours = (maxConcurrent: number, maxQueue = 0, maxWait: Duration.Input = "30 seconds") =>
  Effect.runPromise(Bulkhead.make({ name: "ours", maxConcurrent, maxQueue, maxWait }))

const free = async (): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.free)
  const bulkhead = await ours(10)
  const floor = Floor.make(10)
  const semaphore = Semaphore.makeUnsafe(10)
  const other = Cockatiel.bulkhead(10, 0)
  const limit = pLimit(10)
  return [
    effect("seaworthy", "ours", () => Bulkhead.protect(Work.quick, bulkhead)),
    effect("floor", "floor", () => floor(Work.quick)),
    effect("no bulkhead", "bare", () => Work.quick),
    effect("effect Semaphore", "peer", () => semaphore.withPermit(Work.quick)),
    promise("cockatiel", "peer", () => other.execute(Work.quickPromise)),
    promise("p-limit", "peer", () => limit(Work.quickPromise))
  ]
}

const full = async (): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.full)
  const bulkhead = await ours(1)
  const floor = Floor.make(1)
  const semaphore = Semaphore.makeUnsafe(1)
  const other = Cockatiel.bulkhead(1, 0)
  Effect.runFork(Bulkhead.protect(Effect.never, bulkhead))
  Effect.runFork(floor(Effect.never))
  Effect.runFork(semaphore.withPermit(Effect.never))
  void other.execute(() => new Promise(() => {}))
  return [
    effect("seaworthy", "ours", () => Work.handled(Bulkhead.protect(Work.quick, bulkhead))),
    effect("floor", "floor", () => Work.handled(floor(Work.quick))),
    effect("effect Semaphore, as an option", "peer", () => semaphore.withPermitsIfAvailable(1)(Work.quick)),
    promise("cockatiel", "peer", Work.handledPromise(() => other.execute(Work.quickPromise)))
  ]
}

const queue = async (): Promise<Array<Case>> => {
  const { effect, promise } = group(groups.queue, 64)
  const bulkhead = await ours(8, 64)
  const patient = await ours(8, 64, Infinity)
  const semaphore = Semaphore.makeUnsafe(8)
  const other = Cockatiel.bulkhead(8, 64)
  const limit = pLimit(8)
  return [
    effect("seaworthy, waits without limit", "ours", () => Bulkhead.protect(Work.waiting, patient)),
    effect("seaworthy, waits for 30 seconds", "ours", () => Bulkhead.protect(Work.waiting, bulkhead)),
    effect("no bulkhead", "bare", () => Work.waiting),
    effect("effect Semaphore", "peer", () => semaphore.withPermit(Work.waiting)),
    promise("cockatiel", "peer", () => other.execute(Work.waitingPromise)),
    promise("p-limit", "peer", () => limit(Work.waitingPromise))
  ]
}

/** Each call is of another key. */
const byKeys = async (): Promise<Array<Case>> => {
  const { effect } = group(groups.keys)
  const of = async (name: string, count: number) => {
    const keyed = await Effect.runPromise(Bulkhead.keyed({ name: "ours", maxConcurrent: 10, maxKeys: 2 * count }))
    const keys = Array.from({ length: count }, (_, index) => `key-${index}`)
    let next = 0
    const body = () => {
      next = next + 1 === count ? 0 : next + 1
      return Bulkhead.protect(Work.quick, Bulkhead.forKey(keyed, keys[next]!))
    }
    await effectLoop(body)(count)
    return effect(name, "ours", body)
  }
  return [await of("10 keys", 10), await of("10,000 keys", 10_000)]
}

export const suite: Suite = {
  about:
    "The work ends at once, in the queue it waits for a microtask. The floor has no queue. The wait of p-limit, of the " +
    "semaphore and of cockatiel has no limit; p-limit and the semaphore cannot refuse with an error.",
  metric: "cpu",
  goals: [
    { group: groups.free, ratio: 1.5 },
    { group: groups.full, ratio: 1.5 },
    { group: groups.queue, against: "effect Semaphore", ratio: 1.5 },
    { group: groups.keys, of: "10,000 keys", against: "10 keys", ratio: 2 }
  ],
  make: async () => ({ cases: [...await free(), ...await full(), ...await queue(), ...await byKeys()] })
}
