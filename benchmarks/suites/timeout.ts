import * as Cockatiel from "cockatiel"
import * as Effect from "effect/Effect"
import pTimeout from "p-timeout"
import * as Timeout from "../../src/resilience/Timeout.ts"
import * as Floor from "../floors/timeout.ts"
import { group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = {
  quick: "work that does not wait",
  waiting: "work that waits for a microtask",
  inPlace: "options written at the call"
}

const cockatiel = Cockatiel.timeout(2000, Cockatiel.TimeoutStrategy.Aggressive)

const cases = (name: string, work: Effect.Effect<number, Error>, promised: () => Promise<number>): Array<Case> => {
  const { effect, promise } = group(name)
  const ours = Timeout.timeout("2 seconds")
  const floor = Floor.make(2000)
  const clock = Floor.makeWithClock(2000)
  const theirs = Effect.timeout("2 seconds")
  return [
    effect("seaworthy", "ours", () => ours(work)),
    effect("floor", "floor", () => floor(work)),
    effect("floor with Effect's clock", "bare", () => clock(work)),
    effect("no time-out", "bare", () => work),
    effect("effect timeout", "peer", () => theirs(work)),
    promise("cockatiel", "peer", () => cockatiel.execute(promised)),
    promise("p-timeout", "peer", () => pTimeout(promised(), { milliseconds: 2000 })),
    promise("no time-out, a promise", "bare", promised)
  ]
}

const atTheCall = (): Array<Case> => {
  const { effect, promise } = group(groups.inPlace)
  return [
    effect("seaworthy", "ours", () => Work.quick.pipe(Timeout.timeout("2 seconds"))),
    effect("floor", "floor", () => Floor.make(2000)(Work.quick)),
    effect("effect timeout", "peer", () => Work.quick.pipe(Effect.timeout("2 seconds"))),
    promise("p-timeout", "peer", () => pTimeout(Work.quickPromise(), { milliseconds: 2000 }))
  ]
}

export const suite: Suite = {
  about:
    "The work ends in time: what is measured is the fiber it runs in and, when it waits, the timer that is set and " +
    "cleared. A floor and ours interrupt late work and wait for it; p-timeout and cockatiel leave it running. " +
    "The floor sets its timer with `setTimeout`; ours, and \"floor with Effect's clock\", ask the clock in use, which a " +
    "test can turn: that takes a second fiber, and is all of the difference.",
  metric: "cpu",
  goals: Object.values(groups).map((group) => ({ group, ratio: 1.5 })),
  make: async () => ({
    cases: [
      ...cases(groups.quick, Work.quick, Work.quickPromise),
      ...cases(groups.waiting, Work.waiting, Work.waitingPromise),
      ...atTheCall()
    ]
  })
}
