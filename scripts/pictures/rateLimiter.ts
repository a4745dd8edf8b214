import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 4000
const limit = { limit: 5, window: "1 second" } as const

/** A steady trickle that starts the first window, a burst just before its end and one just after, then too many calls. */
const arrivals = [100, 850, 880, 910, 940, 970, 1110, 1140, 1170, 1200, 1230, ...every(100, 2000, 3500)]

interface Lane {
  readonly name: string
  readonly detail: string
  readonly algorithm: RateLimiter.Algorithm
  readonly maxWait?: number
}

const lanes: ReadonlyArray<Lane> = [
  { name: "token bucket", detail: "burst 5 (the default)", algorithm: RateLimiter.tokenBucket(limit) },
  { name: "GCRA", detail: "burst 1 (the default)", algorithm: RateLimiter.gcra(limit) },
  { name: "fixed window", detail: "starts at the first call", algorithm: RateLimiter.fixedWindow(limit) },
  { name: "sliding window", detail: "log", algorithm: RateLimiter.slidingWindowLog(limit) },
  { name: "sliding window", detail: "counter", algorithm: RateLimiter.slidingWindowCounter(limit) },
  { name: "GCRA, waiting", detail: "maxWait 700 ms", algorithm: RateLimiter.gcra(limit), maxWait: 700 }
]

interface Seen {
  readonly admitted: Array<{ readonly came: number; readonly at: number }>
  readonly refused: Array<number>
  readonly remaining: Array<[at: number, units: number]>
}

/** The same calls under each algorithm. */
export const rateLimiter = Effect.gen(function*() {
  const seen = lanes.map((): Seen => ({ admitted: [], refused: [], remaining: [] }))
  yield* run(
    until,
    Effect.forEach(lanes, ({ algorithm, maxWait }, index) =>
      Effect.gen(function*() {
        const { admitted, refused, remaining } = seen[index]!
        const limiter = yield* RateLimiter.make({ algorithm, maxWait })
        yield* Effect.forkScoped(callAt(arrivals, (_, came) =>
          RateLimiter.protect(now, limiter).pipe(
            Effect.match({
              onFailure: () => refused.push(came),
              onSuccess: (at) => admitted.push({ came, at })
            })
          )))
        yield* callAt(every(10, 5, until), () =>
          Effect.gen(function*() {
            remaining.push([(yield* now) - 5, (yield* RateLimiter.peek(limiter)).remaining])
          }))
      }), { concurrency: "unbounded" })
  )

  const laneHigh = 60
  const picture = new Picture({
    title: "Rate limiter: the same calls under every algorithm",
    scenario: [
      "The limit is 5 in 1,000 ms. Two bursts of 5, 260 ms apart; then a call every 100 ms, twice what is allowed.",
      "The number at the right: the most calls that passed within any 1,000 ms."
    ],
    description:
      "Token bucket admits a burst and then the steady rate; GCRA spaces calls evenly; a fixed window lets two bursts " +
      "pass around its end; sliding windows do not; with a wait, calls are delayed instead of refused.",
    legend: [
      { shape: "dot", kind: "ok", text: "admitted" },
      { shape: "tick", kind: "refused", text: "refused" },
      { shape: "line", kind: "wait", text: "waited" },
      { shape: "band", kind: "mainTint", text: "units left (0 to 5)" }
    ],
    height: 30 + lanes.length * laneHigh + 36,
    until,
    every: 500,
    left: 150,
    right: 60
  })
  const { top } = picture
  const lanesTop = top + 30
  picture.timeAxis(top, lanesTop + lanes.length * laneHigh)
  picture.lane(top + 12, "calls")
  for (const at of arrivals) picture.tick(picture.x(at), top + 12, "muted")

  const window = Duration.toMillis(limit.window)
  lanes.forEach(({ detail, maxWait, name }, index) => {
    const y = lanesTop + 22 + index * laneHigh
    const { admitted, refused, remaining } = seen[index]!
    picture.lane(y, name, detail)
    picture.area(remaining.map(([at, units]) => [at, units / 5 * 26]), y + 26, "mainTint")
    picture.line(picture.left, y + 26, picture.x(until), y + 26, "grid")
    for (const { at, came } of admitted) {
      if (at > came) {
        picture.line(picture.x(came), y + 12, picture.x(at), y, "wait")
      }
      picture.dot(picture.x(at), y, "ok")
    }
    for (const came of refused) picture.tick(picture.x(came), y + (maxWait === undefined ? 14 : 20), "refused", 10)
    const times = admitted.map(({ at }) => at)
    const most = Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + window).length))
    picture.text(picture.x(until) + 16, y + 12, String(most), { bold: true, kind: most > 5 ? "bad" : "ink" })
  })
  picture.text(picture.x(until) + 8, top + 16, "most", { small: true, kind: "muted" })
  return picture.render()
})
