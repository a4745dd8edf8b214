import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as Retry from "../../src/resilience/Retry.ts"
import { Picture } from "./Picture.ts"
import { now, run } from "./virtualTime.ts"

const until = 3000
const backAt = 1600
const callMillis = 30

interface Attempt {
  readonly from: number
  readonly to: number
  readonly ok: boolean
}

interface Lane {
  readonly name: string
  readonly detail: string
  readonly schedule: Schedule.Schedule<unknown, unknown>
  readonly retryAfter?: number
}

const lanes: ReadonlyArray<Lane> = [
  { name: "fixed", detail: "400 ms", schedule: Retry.fixed("400 millis") },
  { name: "linear", detail: "100 ms more each time", schedule: Retry.linear({ base: "100 millis" }) },
  { name: "exponential", detail: "from 100 ms", schedule: Retry.exponential({ base: "100 millis" }) },
  {
    name: "full jitter",
    detail: "from 100 ms (default)",
    schedule: Retry.fullJitter({ base: "100 millis", max: "5 seconds" })
  },
  { name: "decorrelated jitter", detail: "from 100 ms", schedule: Retry.decorrelatedJitter({ base: "100 millis" }) },
  {
    name: "retryAfter",
    detail: "1st error: in 1,200 ms",
    schedule: Retry.exponential({ base: "100 millis" }),
    retryAfter: 1200
  }
]

class Unavailable {
  readonly retryAfter: Duration.Duration | undefined
  constructor(retryAfter: number | undefined) {
    this.retryAfter = retryAfter === undefined ? undefined : Duration.millis(retryAfter)
  }
}

const attempts = (lane: Lane, out: Array<Attempt>) =>
  Effect.gen(function*() {
    const from = yield* now
    yield* Effect.sleep(callMillis)
    const to = yield* now
    out.push({ from, to, ok: to >= backAt })
    if (to < backAt) return yield* Effect.fail(new Unavailable(out.length === 1 ? lane.retryAfter : undefined))
  }).pipe(Retry.retry({ schedule: lane.schedule, times: 12 }), Effect.ignore)

const crowd = 60
const slot = 50

/** When the attempts of many callers come that all failed at the same time, counted in slots of time. */
const crowded = (schedule: Schedule.Schedule<unknown, unknown>, counts: Array<number>) =>
  Effect.gen(function*() {
    const at = Math.floor((yield* now) / slot)
    counts[at] = counts[at]! + 1
    return yield* Effect.fail("busy")
  }).pipe(Retry.retry({ schedule, times: 4 }), Effect.ignore)

/** When the attempts of a retried call come, for each schedule; and those of many callers together. */
export const retry = Effect.gen(function*() {
  const seen = lanes.map((): Array<Attempt> => [])
  const together = Array<number>(until / slot).fill(0)
  const spread = Array<number>(until / slot).fill(0)
  const exponential = Retry.exponential({ base: "100 millis" })
  const jittered = Retry.fullJitter({ base: "100 millis" })

  yield* run(until, Effect.forEach(lanes, (lane, i) => attempts(lane, seen[i]!), { concurrency: "unbounded" }))
  yield* run(
    until,
    Effect.forEach(
      [...Array(crowd).keys()],
      () => Effect.all([crowded(exponential, together), crowded(jittered, spread)], { concurrency: 2 }),
      { concurrency: "unbounded" }
    )
  )

  const laneHigh = 32
  const barsHigh = 44
  const picture = new Picture({
    title: "Retry: when the attempts come",
    scenario: [
      "One call for each schedule; every attempt takes 30 ms; the dependency is back after 1,600 ms.",
      "Below: 60 callers that all failed at 0 ms, 4 retries each, attempts per 50 ms."
    ],
    description:
      "Fixed, linear, exponential and jittered delays between the attempts of a call, a delay lengthened by retryAfter, " +
      "and how full jitter spreads the attempts of many callers that exponential delays bring back all at once.",
    legend: [
      { shape: "cross", kind: "bad", text: "attempt failed" },
      { shape: "dot", kind: "ok", text: "attempt succeeded" },
      { shape: "line", kind: "wait", text: "delay, with its length in ms" },
      { shape: "bar", kind: "main", text: "attempts of 60 callers" }
    ],
    height: lanes.length * laneHigh + 2 * (barsHigh + 16) + 68,
    until,
    every: 500,
    left: 160
  })
  const top = picture.top + 12
  const bottom = top + lanes.length * laneHigh + 2 * (barsHigh + 16) + 22
  picture.timeAxis(picture.top, bottom)
  picture.band(0, backAt, picture.top, lanes.length * laneHigh + 12, "badTint")
  picture.text(picture.x(backAt) + 6, top, "dependency back", { kind: "ok", small: true })
  picture.text(picture.x(backAt) - 6, top, "dependency down", { anchor: "end", kind: "bad", small: true })

  lanes.forEach((lane, index) => {
    const y = top + 18 + index * laneHigh
    picture.lane(y, lane.name, lane.detail)
    seen[index]!.forEach(({ ok, to }, i, all) => {
      const next = all[i + 1]
      if (next !== undefined) {
        const [start, end] = [picture.x(to) + 4, picture.x(next.from) - 1]
        picture.line(start, y, end, y, "wait", false, 1.5)
        const label = String(Math.round(next.from - to))
        if (end - start + 10 > label.length * 6) {
          picture.text((start + end) / 2, y - 5, label, { anchor: "middle", small: true, kind: "muted" })
        }
      }
      if (ok) picture.dot(picture.x(to), y, "ok")
      else picture.cross(picture.x(to), y, "bad")
    })
  })

  const parts = [["60 callers", "exponential", together], ["60 callers", "full jitter", spread]] as const
  const most = Math.max(...together, ...spread)
  parts.forEach(([name, detail, counts], index) => {
    const base = top + lanes.length * laneHigh + 18 + barsHigh + index * (barsHigh + 16)
    picture.lane(base - barsHigh / 2, name, detail)
    counts.forEach((count, at) => {
      const high = barsHigh * count / most
      picture.rect(picture.x(at * slot) + 0.5, base - high, picture.x(slot) - picture.x(0) - 1, high, "main")
    })
    picture.line(picture.left, base, picture.x(until), base, "muted")
    picture.text(
      picture.x(until) - 4,
      base - barsHigh + 10,
      `most at once after the first: ${Math.max(...counts.slice(1))}`,
      {
        anchor: "end",
        small: true,
        kind: "muted"
      }
    )
  })
  return picture.render()
})
