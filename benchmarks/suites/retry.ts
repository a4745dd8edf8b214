import * as Cockatiel from "cockatiel"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import pRetry from "p-retry"
import * as Retry from "../../src/resilience/Retry.ts"
import * as Floor from "../floors/retry.ts"
import { group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  once: "no failure, combinator made once",
  inPlace: "no failure, options written at the call",
  again: "one failure, retried at once"
}

const times = { times: 3 }

const withoutFailure = (): Array<Case> => {
  const { effect, promise } = group(groups.once)
  const ours = Retry.retry(times)
  const floor = Floor.make(3, 100)
  const theirs = Effect.retry(times)
  const other = Cockatiel.retry(Cockatiel.handleAll, {
    maxAttempts: 3,
    backoff: new Cockatiel.ExponentialBackoff({ initialDelay: 100 })
  })
  return [
    effect("seaworthy", "ours", () => ours(Work.quick)),
    effect("floor", "floor", () => floor(Work.quick)),
    effect("no retry", "bare", () => Work.quick),
    effect("effect retry", "peer", () => theirs(Work.quick)),
    promise("cockatiel", "peer", () => other.execute(Work.quickPromise)),
    promise("no retry, a promise", "bare", Work.quickPromise)
  ]
}

const atTheCall = (): Array<Case> => {
  const { effect, promise } = group(groups.inPlace)
  return [
    effect("seaworthy", "ours", () => Work.quick.pipe(Retry.retry({ times: 3 }))),
    effect(
      "seaworthy, with a schedule",
      "ours",
      () =>
        Work.quick.pipe(
          Retry.retry({ times: 3, schedule: Retry.exponential({ base: "100 millis", max: "5 seconds" }) })
        )
    ),
    effect("floor", "floor", () => Floor.make(3, 100)(Work.quick)),
    effect("effect retry", "peer", () => Work.quick.pipe(Effect.retry({ times: 3 }))),
    effect(
      "effect retry, with a schedule",
      "peer",
      () => Work.quick.pipe(Effect.retry({ times: 3, schedule: Schedule.exponential("100 millis") }))
    ),
    promise("p-retry", "peer", () => pRetry(Work.quickPromise, { retries: 3, minTimeout: 100 }))
  ]
}

const afterOneFailure = (): Array<Case> => {
  const { effect, promise } = group(groups.again)
  const flaky = () => Work.makeFlaky()
  const [one, other, third, fourth] = [flaky(), flaky(), flaky(), Work.makeFlakyPromise()]
  const ours = Retry.retry({ schedule: Schedule.recurs(3) })
  const theirs = Effect.retry(Schedule.recurs(3))
  const atOnce = Cockatiel.retry(Cockatiel.handleAll, { maxAttempts: 3 })
  const floor = <A, E>(self: Effect.Effect<A, E>) => Effect.catch(self, () => self)
  return [
    effect("seaworthy", "ours", () => ours(one)),
    effect("floor", "floor", () => floor(other)),
    effect("effect retry", "peer", () => theirs(third)),
    promise("cockatiel", "peer", () => atOnce.execute(fourth))
  ]
}

export const suite: Suite = {
  about:
    "The work ends at once. The last group fails at every other attempt and is tried again without a wait; its floor " +
    "is one `Effect.catch`, without a schedule.",
  metric: "cpu",
  goals: [{ group: groups.once, ratio: 1.5 }, { group: groups.inPlace, ratio: 1.5 }],
  make: async () => ({ cases: [...withoutFailure(), ...atTheCall(), ...afterOneFailure()] })
}
