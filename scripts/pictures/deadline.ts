import * as Effect from "effect/Effect"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import * as Timeout from "../../src/resilience/Timeout.ts"
import { Picture } from "./Picture.ts"
import { now, run } from "./virtualTime.ts"

const until = 1600
const deadlineAt = 1000
const limit = 400

interface Span {
  readonly name: string
  readonly from: number
  readonly to: number
  readonly ok: boolean
}

interface Scene {
  readonly name: string
  readonly detail: string
  readonly backoff: number
  readonly deadline: boolean
}

const scenes: ReadonlyArray<Scene> = [
  { name: "no deadline", detail: "backoff 250", backoff: 250, deadline: false },
  { name: "deadline 1,000", detail: "backoff 250", backoff: 250, deadline: true },
  { name: "deadline 1,000", detail: "backoff 500", backoff: 500, deadline: true }
]

const span = <A, E>(spans: Array<Span>, name: string, work: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const from = yield* now
    return yield* Effect.onExit(work, (exit) =>
      Effect.map(now, (to) => void spans.push({ name, from, to, ok: exit._tag === "Success" })))
  })

/** A request that looks something up, then calls a dependency that hangs, with a time-out and a retry. */
const request = (scene: Scene, spans: Array<Span>) => {
  const call = span(spans, "call", Effect.never).pipe(
    Timeout.timeout({ duration: limit, name: "call" }),
    Retry.retry({ schedule: Retry.fixed(scene.backoff), times: 1 })
  )
  const whole = Effect.andThen(span(spans, "lookup", Effect.sleep(200)), call)
  return scene.deadline ? Deadline.within(whole, { duration: deadlineAt, name: "request" }) : whole
}

/** How a deadline shortens what is below it, and refuses what could not finish. */
export const deadline = Effect.gen(function*() {
  const seen = scenes.map((): { spans: Array<Span>; ended: number; error: string } => ({
    spans: [],
    ended: 0,
    error: ""
  }))
  yield* run(
    until,
    Effect.forEach(scenes, (scene, index) =>
      Effect.gen(function*() {
        const mine = seen[index]!
        const error = yield* Effect.flip(request(scene, mine.spans))
        mine.ended = yield* now
        mine.error = error._tag === "RetryExhaustedError" ? `${error._tag}: ${error.reason}` : error._tag
      }), { concurrency: "unbounded" })
  )

  const laneHigh = 64
  const picture = new Picture({
    title: "Deadline: one limit for a whole request",
    scenario: [
      "The same request three times: a lookup, then a call that hangs, with a time-out of 400 ms and one retry.",
      "With the deadline, the second attempt gets only what is left; a backoff that cannot fit is not begun."
    ],
    description:
      "Without a deadline the request takes 1,250 ms. With a deadline of 1,000 ms the second attempt is cut off there. " +
      "When the backoff alone would pass the deadline, the request fails at once instead of sleeping.",
    legend: [
      { shape: "band", kind: "okTint", text: "done" },
      { shape: "band", kind: "badTint", text: "cut off" },
      { shape: "hollow", kind: "muted", text: "time-out" },
      { shape: "line", kind: "wait", text: "backoff" },
      { shape: "tick", kind: "bad", text: "caller has its error" },
      { shape: "dashed", kind: "bad", text: "deadline" }
    ],
    height: scenes.length * laneHigh + 36,
    until,
    every: 200,
    left: 120
  })
  const { top } = picture
  picture.timeAxis(top, top + scenes.length * laneHigh)
  scenes.forEach((scene, index) => {
    const y = top + 22 + index * laneHigh
    const { ended, error, spans } = seen[index]!
    picture.lane(y, scene.name, scene.detail)
    spans.forEach(({ from, name, ok, to }, i) => {
      if (name === "call") picture.hollow(from, from + limit, y - 11, 22, "muted")
      picture.band(from, to, y - 11, 22, ok ? "okTint" : "badTint")
      const word = name === "lookup" ? name : `${i === 1 ? "1st" : "2nd"}: ${to - from}`
      picture.text((picture.x(from) + picture.x(to)) / 2, y + 4, word, { anchor: "middle", small: true })
      const next = spans[i + 1]
      if (next !== undefined && next.from > to) {
        picture.line(picture.x(to), y, picture.x(next.from), y, "wait", false, 2)
      }
    })
    if (scene.deadline) {
      picture.line(picture.x(deadlineAt), y - 20, picture.x(deadlineAt), y + 16, "bad", true, 1.5)
    }
    picture.tick(picture.x(ended), y, "bad", 26)
    picture.text(picture.x(ended) + 4, y + 27, error, { kind: "bad", small: true, anchor: "start" })
  })
  return picture.render()
})
