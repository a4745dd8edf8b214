import * as Effect from "effect/Effect"
import * as Timeout from "../../src/resilience/Timeout.ts"
import { Picture } from "./Picture.ts"
import { now, run } from "./virtualTime.ts"

const until = 1000

interface Seen {
  /** When the work got its signal, was interrupted, and had ended; when and with what the caller went on. */
  signal?: number
  interrupted?: number
  ended?: number
  answered?: number
  answer?: string
}

interface Lane {
  readonly name: string
  readonly detail: string
  /** The limits to draw, in milliseconds. */
  readonly limits: ReadonlyArray<number>
  readonly call: (seen: Seen) => Effect.Effect<string, Timeout.TimeoutError>
}

/** Work that takes `millis`, and `cleanup` to end when it is interrupted. */
const work = (seen: Seen, millis: number, cleanup = 0) =>
  Effect.sleep(millis).pipe(
    Effect.as("answer"),
    Effect.onInterrupt(() =>
      Effect.andThen(Effect.map(now, (at) => void (seen.interrupted = at)), Effect.sleep(cleanup))
    ),
    Effect.ensuring(Effect.map(now, (at) => void (seen.ended = at)))
  )

const lanes: ReadonlyArray<Lane> = [
  {
    name: "in time",
    detail: "limit 400",
    limits: [400],
    call: (seen) => Timeout.timeout(work(seen, 250), "400 millis")
  },
  {
    name: "too slow",
    detail: "limit 400",
    limits: [400],
    call: (seen) => Timeout.timeout(work(seen, 900), "400 millis")
  },
  {
    name: "slow to clean up",
    detail: "limit 400, finalizer 150",
    limits: [400],
    call: (seen) => Timeout.timeout(work(seen, 900, 150), "400 millis")
  },
  {
    name: "grace, used",
    detail: "limit 400, grace 300",
    limits: [400, 700],
    call: (seen) =>
      Timeout.expired.pipe(
        Effect.andThen(Effect.map(now, (at) => void (seen.signal = at))),
        Effect.andThen(Effect.sleep(120)),
        Effect.as("partial answer"),
        Effect.ensuring(Effect.map(now, (at) => void (seen.ended = at))),
        Timeout.timeout({ duration: "400 millis", grace: "300 millis" })
      )
  },
  {
    name: "grace, ignored",
    detail: "limit 400, grace 300",
    limits: [400, 700],
    call: (seen) =>
      Effect.raceFirst(
        work(seen, 900),
        Effect.andThen(
          Timeout.expired,
          Effect.flatMap(now, (at) => {
            seen.signal = at
            return Effect.never
          })
        )
      ).pipe(Timeout.timeout({ duration: "400 millis", grace: "300 millis" }))
  },
  {
    name: "nested",
    detail: "call 300, request 800",
    limits: [300, 800],
    call: (seen) =>
      work(seen, 900).pipe(
        Timeout.timeout({ duration: "300 millis", name: "call" }),
        Timeout.timeout({ duration: "800 millis", name: "request" })
      )
  }
]

/** What becomes of work that takes too long. */
export const timeout = Effect.gen(function*() {
  const seen = lanes.map((): Seen => ({}))
  yield* run(
    until,
    Effect.forEach(lanes, ({ call }, index) =>
      Effect.gen(function*() {
        const mine = seen[index]!
        const result = yield* Effect.result(call(mine))
        mine.answered = yield* now
        mine.answer = result._tag === "Success" ? result.success : `TimeoutError "${result.failure.strategy}"`
      }), { concurrency: "unbounded" })
  )

  const laneHigh = 38
  const picture = new Picture({
    title: "Timeout: what becomes of the work, and when the caller goes on",
    scenario: ["Six calls with limits (all in ms). The caller goes on only when the work has really ended."],
    description:
      "Work in time gives its answer. Work that is too slow is interrupted at the limit; the caller goes on when its " +
      "finalizers have run. With grace the work gets a signal first and may still answer. The shorter of two limits wins.",
    legend: [
      { shape: "band", kind: "mainTint", text: "work runs" },
      { shape: "band", kind: "waitTint", text: "after the signal or the interruption" },
      { shape: "dashed", kind: "muted", text: "limit" },
      { shape: "diamond", kind: "wait", text: "signal" },
      { shape: "cross", kind: "bad", text: "interrupted" },
      { shape: "dot", kind: "ok", text: "caller goes on with an answer" },
      { shape: "tick", kind: "bad", text: "caller goes on with an error" }
    ],
    height: lanes.length * laneHigh + 36,
    until,
    every: 100,
    left: 160
  })
  const { top } = picture
  picture.timeAxis(top, top + lanes.length * laneHigh)
  lanes.forEach((lane, index) => {
    const y = top + 20 + index * laneHigh
    const { answer, answered, ended, interrupted, signal } = seen[index]!
    const calm = Math.min(ended!, signal ?? Infinity, interrupted ?? Infinity)
    picture.lane(y, lane.name, lane.detail)
    picture.band(0, calm, y - 9, 18, "mainTint")
    if (ended! > calm) picture.band(calm, ended!, y - 9, 18, "waitTint")
    for (const limit of lane.limits) {
      picture.line(picture.x(limit), y - 15, picture.x(limit), y + 15, "muted", true, 1.5)
    }
    if (signal !== undefined) picture.diamond(picture.x(signal), y, "wait")
    if (interrupted !== undefined) picture.cross(picture.x(interrupted), y, "bad")
    const failed = answer!.startsWith("TimeoutError")
    const x = picture.x(answered!) + (interrupted === answered ? 8 : 0)
    if (failed) picture.tick(x, y, "bad", 16)
    else picture.dot(x, y, "ok")
    picture.text(x + 8, y + 4, answer!, { small: true, kind: failed ? "bad" : "ok" })
  })
  return picture.render()
})
