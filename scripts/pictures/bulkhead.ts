import * as Effect from "effect/Effect"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 6000
const slow = { from: 1500, to: 3200 }
const resizeAt = 4200
const maxWait = 600

type End = "done" | Bulkhead.BulkheadFullError["reason"]

/** What runs, what waits and what is refused while the dependency is slow. */
export const bulkhead = Effect.gen(function*() {
  const running: Array<[at: number, count: number]> = []
  const waiting: Array<[at: number, count: number]> = []
  const ends: Array<{ readonly came: number; readonly at: number; readonly end: End }> = []

  yield* run(
    until,
    Effect.gen(function*() {
      const reports = yield* Bulkhead.make({ name: "reports", maxConcurrent: 3, maxQueue: 4, maxWait })
      const work = Effect.gen(function*() {
        const at = yield* now
        yield* Effect.sleep(at >= slow.from && at < slow.to ? 900 : 220)
      })
      const call = Effect.gen(function*() {
        const came = yield* now
        const result = yield* Effect.result(Bulkhead.protect(work, reports))
        ends.push({ came, at: yield* now, end: result._tag === "Success" ? "done" : result.failure.reason })
      })
      yield* Effect.forkScoped(callAt([...every(110, 55, 4200), ...every(55, 4200, until)], () => call))
      yield* Effect.forkScoped(Effect.delay(Bulkhead.resize(reports, 6), resizeAt))
      // Between the calls, so that every count is one that stood for a while.
      yield* callAt(every(10, 3, until), () =>
        Effect.gen(function*() {
          const { inUse, waiting: queued } = yield* Bulkhead.metrics(reports)
          const at = (yield* now) - 3
          running.push([at, inUse])
          waiting.push([at, queued])
        }))
    })
  )

  const unit = 15
  const picture = new Picture({
    title: "Bulkhead: what runs, what waits, what is refused",
    scenario: [
      "3 places, a queue of 4, waits of at most 600 ms. A call every 110 ms, of 220 ms each; of 900 ms while the",
      "dependency is slow. At 4,200 ms twice as many calls come, and the bulkhead is resized to 6 places."
    ],
    description:
      "While the dependency is slow, all three places are taken, the queue fills up, and further calls are refused at " +
      "once or after having waited too long. After the resize six calls run at a time.",
    legend: [
      { shape: "bar", kind: "main", text: "running" },
      { shape: "bar", kind: "wait", text: "waiting" },
      { shape: "dashed", kind: "muted", text: "places" },
      { shape: "dot", kind: "ok", text: "call done" },
      { shape: "tick", kind: "refused", text: "refused: queue full" },
      { shape: "cross", kind: "bad", text: "refused: waited too long" }
    ],
    height: 6 * unit + 4 * unit + 40 + 3 * 22 + 36,
    until,
    every: 1000
  })
  const scaled = (counts: typeof running) => counts.map(([at, count]): [number, number] => [at, count * unit])
  const { top } = picture
  const runBase = top + 18 + 6 * unit
  const waitBase = runBase + 14 + 4 * unit
  const laneTop = waitBase + 20
  picture.timeAxis(top, laneTop + 3 * 22)
  picture.band(slow.from, slow.to, top, laneTop + 3 * 22 - top, "mutedTint")
  picture.text(picture.x(slow.from) + 6, top + 13, "dependency slow", { kind: "muted", small: true })
  picture.text(picture.x(resizeAt) + 6, top + 12, "resized to 6", { kind: "muted", small: true })

  picture.lane(runBase - 3 * unit, "running")
  picture.area(scaled(running), runBase, "main")
  picture.line(picture.left, runBase - 3 * unit, picture.x(resizeAt), runBase - 3 * unit, "muted", true)
  picture.line(picture.x(resizeAt), runBase - 6 * unit, picture.x(until), runBase - 6 * unit, "muted", true)
  picture.text(picture.x(until) + 5, runBase - 6 * unit + 4, "6", { kind: "muted", small: true })
  picture.text(picture.x(until) + 5, runBase - 3 * unit + 4, "3", { kind: "muted", small: true })
  picture.lane(waitBase - 2 * unit, "waiting")
  picture.area(scaled(waiting), waitBase, "wait")
  picture.text(picture.x(until) + 5, waitBase - 4 * unit + 4, "4", { kind: "muted", small: true })

  const lanes = ["done", "queue-full", "waited-too-long"] as const
  const names = ["done", "queue full", "waited too long"]
  lanes.forEach((end, index) => {
    const y = laneTop + 12 + index * 22
    picture.lane(y, names[index]!)
    for (const call of ends) {
      if (call.end !== end) continue
      const x = picture.x(call.at)
      if (end === "done") picture.dot(x, y, "ok")
      else if (end === "queue-full") picture.tick(x, y, "refused")
      else picture.cross(x, y, "bad")
    }
  })
  return picture.render()
})
