import * as Effect from "effect/Effect"
import * as Budget from "../../src/resilience/Budget.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 20_000
const outage = { from: 5000, to: 14_000 }
const slot = 500

interface Load {
  /** Attempts in each slot of time. */
  readonly first: Array<number>
  readonly retries: Array<number>
  /** Calls that the budget refused a retry. */
  readonly refused: Array<number>
}

const add = (counts: Array<number>, at: number) => {
  const index = Math.floor(at / slot)
  counts[index] = (counts[index] ?? 0) + 1
}

const scene = (budget: Budget.Budget | undefined, load: Load) =>
  callAt(every(50, 0, until), () => {
    let attempts = 0
    const attempt = Effect.gen(function*() {
      const at = yield* now
      add(attempts++ === 0 ? load.first : load.retries, at)
      if (at >= outage.from && at < outage.to) return yield* Effect.fail("down")
    })
    const options = { times: 3, schedule: Retry.fullJitter({ base: "100 millis" }) }
    return attempt.pipe(
      budget === undefined ? Retry.retry(options) : Retry.retry({ ...options, budget }),
      Effect.catchTag("RetryBudgetExhaustedError", () => Effect.map(now, (at) => add(load.refused, at))),
      Effect.ignore
    )
  })

const emptyLoad = (): Load => ({ first: [], retries: [], refused: [] })

/** The load on a dependency over an outage, with retries that no budget bounds and with retries that one does. */
export const budget = Effect.gen(function*() {
  const without = emptyLoad()
  const within = emptyLoad()
  yield* run(until, scene(undefined, without))
  yield* run(
    until,
    Effect.flatMap(Budget.make({ ratio: 0.2, minPerSecond: 1, window: "5 seconds" }), (made) => scene(made, within))
  )

  const high = 92
  const picture = new Picture({
    title: "Budget: the load that retries put on a dependency in trouble",
    scenario: [
      "20 calls a second, 3 retries each, full jitter from 100 ms. The dependency is down for 9 seconds.",
      "The budget: retries up to 20 % of the calls, and one a second besides, over 5 seconds."
    ],
    description:
      "Without a budget every call of the outage is made four times, so the dependency gets four times its load. With " +
      "a budget it gets about a quarter more, and the calls that get no retry fail at once with their own error.",
    legend: [
      { shape: "bar", kind: "main", text: "first attempts" },
      { shape: "bar", kind: "wait", text: "retries" },
      { shape: "bar", kind: "refused", text: "calls that were refused a retry" }
    ],
    height: 2 * (high + 34) + 36,
    until,
    every: 5000
  })
  const { top } = picture
  const bottom = top + 2 * (high + 34)
  picture.timeAxis(top, bottom)
  picture.band(outage.from, outage.to, top, bottom - top, "badTint")
  picture.text(picture.x(outage.from) + 6, top + 13, "dependency down", { kind: "bad", small: true })

  const most = Math.max(...without.first.map((count, i) => count + (without.retries[i] ?? 0)))
  const scale = (count: number) => count / most * (high - 10)
  const scenes = [["no budget", without], ["with a budget", within]] as const
  scenes.forEach(([name, load], index) => {
    const base = top + (index + 1) * (high + 34) - 28
    picture.lane(base - high / 2, name, "per 500 ms")
    load.first.forEach((first, at) => {
      const [x, wide] = [picture.x(at * slot) + 1, picture.x(slot) - picture.x(0) - 2]
      const retries = load.retries[at] ?? 0
      picture.rect(x, base - scale(first), wide, scale(first), "main")
      if (retries > 0) picture.rect(x, base - scale(first + retries), wide, scale(retries), "wait")
      const refused = load.refused[at] ?? 0
      if (refused > 0) picture.rect(x, base + 2, wide, scale(refused), "refused")
    })
    picture.line(picture.left, base, picture.x(until), base, "muted")
    for (const count of [10, 40]) {
      picture.text(picture.x(until) + 4, base - scale(count) + 4, String(count), { small: true, kind: "muted" })
    }
  })
  return picture.render()
})
