import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as AdaptiveLimit from "../../src/resilience/AdaptiveLimit.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 30_000
const workers = 100
const baseMillis = 100
/** How many calls the dependency can work at, at a time. */
const capacity = (at: number): number => at >= 10_000 && at < 20_000 ? 10 : 30

interface Seen {
  readonly limits: Array<[at: number, limit: number]>
  readonly taken: Array<{ readonly at: number; readonly millis: number }>
}

const lanes = [
  { name: "AIMD", detail: "latency 150 ms", algorithm: AdaptiveLimit.aimd({ latency: "150 millis", max: 100 }) },
  { name: "gradient", detail: "as by default", algorithm: AdaptiveLimit.gradient({ max: 100 }) },
  {
    name: "gradient",
    detail: "probes after 4 s",
    algorithm: AdaptiveLimit.gradient({ max: 100, probeAfter: "4 seconds" })
  }
]

/** Callers without end, on a dependency whose calls take longer the more of them there are beyond its capacity. */
const scene = (algorithm: AdaptiveLimit.Adaptation, seen: Seen) =>
  Effect.gen(function*() {
    const limit = yield* AdaptiveLimit.make({ algorithm })
    let running = 0
    const work = Effect.gen(function*() {
      const at = yield* now
      running++
      const noise = 0.9 + 0.2 * (yield* Random.next)
      yield* Effect.sleep(Math.round(baseMillis * noise * Math.max(1, running / capacity(at))))
    }).pipe(Effect.ensuring(Effect.sync(() => running--)))
    const call = Effect.gen(function*() {
      const from = yield* now
      const result = yield* Effect.result(AdaptiveLimit.protect(work, limit))
      if (result._tag === "Failure") return yield* Effect.sleep(100)
      const at = yield* now
      seen.taken.push({ at, millis: at - from })
    })
    yield* Effect.forkScoped(callAt(every(3, 0, workers * 3), () => Effect.forever(call)))
    yield* callAt(every(50, 0, until), () =>
      Effect.gen(function*() {
        seen.limits.push([yield* now, (yield* AdaptiveLimit.metrics(limit)).limit])
      }))
  })

const slot = 250

/** Mean duration of the calls that ended in each slot of time. */
const means = (taken: Seen["taken"]): Array<[at: number, millis: number]> =>
  every(slot, 0, until).flatMap((from): Array<[number, number]> => {
    const within = taken.filter(({ at }) => at >= from && at < from + slot)
    return within.length === 0 ? [] : [[from, within.reduce((sum, { millis }) => sum + millis, 0) / within.length]]
  })

/** How the limit follows a dependency that loses two thirds of its capacity, and gets it back. */
export const adaptiveLimit = Effect.gen(function*() {
  const seen = lanes.map((): Seen => ({ limits: [], taken: [] }))
  for (const [index, { algorithm }] of lanes.entries()) yield* run(until, scene(algorithm, seen[index]!))

  const high = 84
  const latencyHigh = 34
  const laneHigh = high + latencyHigh + 34
  const most = 80
  const picture = new Picture({
    title: "Adaptive limit: following what the dependency can do",
    scenario: [
      "100 callers without end. The dependency can do 30 calls at a time, of 100 ms each, then only 10, then 30 again;",
      "with more than that at a time, every call takes longer in proportion. Nobody tells the limit.",
      "The gradient compares with what a call takes without load; when calls were slow for long, it probes for that."
    ],
    description:
      "AIMD and the gradient start at 20, rise to somewhat more than the capacity of the dependency, fall when it loses " +
      "capacity and durations grow, and rise again. The third lane dips to a quarter for a moment when it probes.",
    legend: [
      { shape: "line", kind: "main", text: "limit" },
      { shape: "dashed", kind: "muted", text: "capacity of the dependency" },
      { shape: "band", kind: "waitTint", text: "duration of a call, mean of 250 ms" }
    ],
    height: lanes.length * laneHigh + 40,
    until,
    every: 5000,
    left: 150
  })
  const { top } = picture
  picture.timeAxis(top, top + lanes.length * laneHigh)
  lanes.forEach(({ detail, name }, index) => {
    const base = top + index * laneHigh + high + 8
    const { limits, taken } = seen[index]!
    const y = (limit: number) => base - limit / most * high
    picture.lane(y(30), name, detail)
    picture.steps([0, 10_000, 20_000].map((at): [number, number] => [at, y(capacity(at))]), "muted", true)
    picture.steps(limits.map(([at, limit]) => [at, y(limit)]), "main")
    picture.line(picture.left, base, picture.x(until), base, "grid")
    for (const limit of [10, 30, 60]) {
      picture.text(picture.x(until) + 5, y(limit) + 4, String(limit), { small: true, kind: "muted" })
    }
    const bottom = base + latencyHigh + 10
    picture.lane(bottom - latencyHigh / 2, "duration", "0 to 400 ms")
    picture.area(
      means(taken).map(([at, millis]) => [at, Math.min(400, millis) / 400 * latencyHigh]),
      bottom,
      "waitTint"
    )
    picture.line(picture.left, bottom, picture.x(until), bottom, "muted")
  })
  return picture.render()
})
