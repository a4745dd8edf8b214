import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Hedge from "../../src/resilience/Hedge.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 600
const delay = 100

interface Bar {
  readonly from: number
  readonly to: number
  readonly end: "won" | "failed" | "interrupted"
}

interface Lane {
  readonly name: string
  readonly detail: string
  readonly maxHedges: number
  /** How long each attempt takes; one that fails has a minus. */
  readonly attempts: ReadonlyArray<number>
}

const lanes: ReadonlyArray<Lane> = [
  { name: "quick", detail: "no hedge", maxHedges: 1, attempts: [70] },
  { name: "first is slow", detail: "the copy wins", maxHedges: 1, attempts: [420, 80] },
  { name: "copy is slower", detail: "the first wins", maxHedges: 1, attempts: [160, 250] },
  { name: "first fails", detail: "hedge at once", maxHedges: 1, attempts: [-40, 120] },
  { name: "both slow", detail: "maxHedges 2", maxHedges: 2, attempts: [430, 380, 60] }
]

const attempt = (bars: Array<Bar>, millis: number) =>
  Effect.gen(function*() {
    const from = yield* now
    const work = Effect.andThen(Effect.sleep(Math.abs(millis)), millis < 0 ? Effect.fail("down") : Effect.void)
    yield* Effect.onExit(work, (exit) =>
      Effect.map(now, (to) => {
        const failed = exit._tag === "Failure" && millis < 0
        bars.push({ from, to, end: exit._tag === "Success" ? "won" : failed ? "failed" : "interrupted" })
      }))
  })

const callCount = 1000
const quantiles = [0.5, 0.9, 0.95, 0.99, 0.999]

/** Many calls of which one in twenty is slow: how long each took, and how many attempts there were. */
const crowd = (hedged: boolean) =>
  Effect.gen(function*() {
    const taken: Array<number> = []
    let attempts = 0
    const call = Effect.gen(function*() {
      attempts++
      const slow = (yield* Random.next) < 0.05
      yield* Effect.sleep(Math.round(slow ? 200 + 300 * (yield* Random.next) : 20 + 60 * (yield* Random.next)))
    })
    yield* run(
      callCount * 10 + 1000,
      callAt(every(10, 0, callCount * 10), () =>
        Effect.gen(function*() {
          const from = yield* now
          yield* hedged ? Hedge.hedge(call, { delay, repeatable: true }) : call
          taken.push((yield* now) - from)
        }))
    )
    taken.sort((a, b) => a - b)
    return { at: quantiles.map((q) => taken[Math.ceil(q * taken.length) - 1]!), attempts }
  })

/** Which attempts are made, which wins, and what that does to the slowest calls. */
export const hedge = Effect.gen(function*() {
  const seen = lanes.map((): Array<Bar> => [])
  yield* run(
    until,
    Effect.forEach(lanes, ({ attempts, maxHedges }, index) => {
      let next = 0
      const call = Effect.suspend(() => attempt(seen[index]!, attempts[next++]!))
      return Effect.ignore(Hedge.hedge(call, { delay, maxHedges, repeatable: true }))
    }, { concurrency: "unbounded" })
  )
  const plain = yield* crowd(false)
  const hedged = yield* crowd(true)

  const rows = lanes.map(({ attempts }) => attempts.length * 13 + 18)
  const lanesHigh = rows.reduce((sum, high) => sum + high, 0)
  const barsTop = lanesHigh + 62
  const picture = new Picture({
    title: "Hedge: a second copy of a slow call",
    scenario: [
      "Five calls, hedged after 100 ms: every bar is an attempt, the first answer wins, the others are interrupted.",
      "Below: 1,000 calls of which one in twenty is slow (200 to 500 ms)."
    ],
    description:
      "A quick call has no hedge. When the first attempt is slow, a copy starts after 100 ms and the first answer wins. " +
      "When the first attempt fails, the copy starts at once. Of many calls, the slowest ones get much faster.",
    legend: [
      { shape: "band", kind: "mainTint", text: "attempt" },
      { shape: "dot", kind: "ok", text: "answered: the outcome" },
      { shape: "tick", kind: "muted", text: "interrupted" },
      { shape: "cross", kind: "bad", text: "failed" },
      { shape: "dashed", kind: "muted", text: "delay of the hedge" }
    ],
    height: barsTop + quantiles.length * 26 + 14,
    until,
    every: 100
  })
  const { top } = picture
  picture.timeAxis(top, top + lanesHigh)
  let y = top + 6
  lanes.forEach(({ attempts, detail, name }, index) => {
    const high = attempts.length * 13
    picture.lane(y + high / 2 + (attempts.length === 1 ? 2 : 0), name, detail)
    const bars = seen[index]!.toSorted((a, b) => a.from - b.from)
    bars.forEach(({ end, from, to }, i) => {
      const middle = y + i * 13 + 6.5
      picture.band(from, to, middle - 5, 10, "mainTint")
      if (end === "won") picture.dot(picture.x(to), middle, "ok")
      else if (end === "failed") picture.cross(picture.x(to), middle, "bad")
      else picture.tick(picture.x(to), middle, "muted", 10)
    })
    for (const i of bars.slice(1).keys()) {
      if (bars[i + 1]!.from % delay !== 0) continue
      picture.line(picture.x(delay * (i + 1)), y - 4, picture.x(delay * (i + 1)), y + high + 2, "muted", true)
    }
    y += high + 18
  })

  const words = `${plain.attempts} attempts without, ${hedged.attempts} with the hedge`
  picture.text(20, top + barsTop - 12, `Latency of 1,000 calls (${words})`, { bold: true })
  const percent = ["median", "90 %", "95 %", "99 %", "99.9 %"]
  percent.forEach((name, index) => {
    const row = top + barsTop + index * 26
    picture.lane(row + 10, name)
    const parts = [[plain.at[index]!, "badTint", "plain"], [hedged.at[index]!, "okTint", "hedged"]] as const
    parts.forEach(([millis, look, word], i) => {
      picture.band(0, millis, row + i * 11, 10, look)
      picture.text(picture.x(millis) + 5, row + i * 11 + 9, `${millis} ms ${word}`, { small: true, kind: "muted" })
    })
  })
  return picture.render()
})
