import * as Cockatiel from "cockatiel"
import * as Effect from "effect/Effect"
import * as AdaptiveLimit from "../../src/resilience/AdaptiveLimit.ts"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Fallback from "../../src/resilience/Fallback.ts"
import * as Hedge from "../../src/resilience/Hedge.ts"
import * as LimitFloor from "../floors/adaptiveLimit.ts"
import * as HedgeFloor from "../floors/hedge.ts"
import * as TimeoutFloor from "../floors/timeout.ts"
import { group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  good: "fallback: the work answers",
  failed: "fallback: the work fails, a value answers",
  deadline: "deadline: the work ends at once",
  hedge: "hedge: the first copy ends at once",
  waiting: "hedge: the first copy waits for a microtask",
  adaptive: "adaptive limit: a free place"
}

const fallbacks = (name: string, work: Effect.Effect<number, Error>, promised: () => Promise<number>): Array<Case> => {
  const { effect, promise } = group(name)
  const ours = Fallback.fallback([Fallback.value(0)])
  const other = Cockatiel.fallback(Cockatiel.handleAll, 0)
  return [
    effect("seaworthy", "ours", () => ours(work)),
    effect("Effect.catch", "floor", () => Effect.catch(work, () => Effect.succeed(0))),
    promise("cockatiel", "peer", () => other.execute(promised))
  ]
}

const deadlines = (): Array<Case> => {
  const { effect } = group(groups.deadline)
  const ours = Deadline.within("2 seconds")
  const floor = TimeoutFloor.make(2000)
  return [
    effect("seaworthy", "ours", () => ours(Work.quick)),
    effect("floor of the time-out", "floor", () => floor(Work.quick)),
    effect("effect timeout", "peer", () => Effect.timeout(Work.quick, "2 seconds"))
  ]
}

const hedges = (name: string, work: Effect.Effect<number, Error>): Array<Case> => {
  const { effect } = group(name)
  const ours = Hedge.hedge({ delay: "50 millis", repeatable: true })
  const floor = HedgeFloor.make(50)
  return [
    effect("seaworthy", "ours", () => ours(work)),
    effect("floor", "floor", () => floor(work)),
    effect("effect race with a delay", "peer", () => Effect.race(work, Effect.delay(work, "50 millis")))
  ]
}

const limits = async (): Promise<Array<Case>> => {
  const { effect } = group(groups.adaptive)
  const gradient = await Effect.runPromise(AdaptiveLimit.make())
  const aimd = await Effect.runPromise(AdaptiveLimit.make({ algorithm: AdaptiveLimit.aimd() }))
  const floor = LimitFloor.make(10, 200)
  return [
    effect("seaworthy, AIMD", "ours", () => AdaptiveLimit.protect(Work.quick, aimd)),
    effect("seaworthy, gradient", "ours", () => AdaptiveLimit.protect(Work.quick, gradient)),
    effect("floor, AIMD without clock or queue", "floor", () => floor(Work.quick))
  ]
}

export const suite: Suite = {
  about: "Strategies that few peers have. The work ends at once, except where it says otherwise.",
  metric: "cpu",
  goals: Object.values(groups).map((group) => ({ group, ratio: 1.5 })),
  make: async () => ({
    cases: [
      ...fallbacks(groups.good, Work.quick, Work.quickPromise),
      ...fallbacks(groups.failed, Work.broken, Work.brokenPromise),
      ...deadlines(),
      ...hedges(groups.hedge, Work.quick),
      ...hedges(groups.waiting, Work.waiting),
      ...await limits()
    ]
  })
}
