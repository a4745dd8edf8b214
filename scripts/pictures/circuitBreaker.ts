import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 7000
const outage = { from: 1000, to: 3300 }
const callMillis = 150

/** A breaker over an outage of its dependency. */
export const circuitBreaker = Effect.gen(function*() {
  const marks: Array<{ readonly at: number; readonly outcome: "success" | "failure" | CircuitBreaker.StateTag }> = []
  const rate: Array<[at: number, share: number]> = [[0, 0]]
  // What the window of the rule holds: the breaker itself empties it when it opens, before anybody could look.
  let recent: Array<boolean> = []
  const states: Array<{ readonly from: number; readonly tag: CircuitBreaker.StateTag }> = [{ from: 0, tag: "Closed" }]

  yield* run(
    until,
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "payments",
        trip: CircuitBreaker.failureRate({ threshold: 0.5, window: { calls: 10 }, minimum: 10 }),
        openTime: "1 second",
        rampUp: { duration: "1 second", from: 0.2 }
      })
      yield* CircuitBreaker.transitions(breaker).pipe(
        Stream.runForEach(({ to }) => Effect.map(now, (from) => states.push({ from, tag: to }))),
        Effect.forkScoped({ startImmediately: true })
      )
      const work = Effect.gen(function*() {
        yield* Effect.sleep(callMillis)
        const at = yield* now
        if (at >= outage.from && at < outage.to) return yield* Effect.fail("unreachable" as const)
      })
      yield* callAt(every(100, 50, until - callMillis), () =>
        Effect.gen(function*() {
          const exit = yield* Effect.result(CircuitBreaker.protect(work, breaker))
          const at = yield* now
          const outcome = exit._tag === "Success" ? "success" : exit.failure === "unreachable" ? "failure" : "Open"
          marks.push({ at, outcome })
          if (
            outcome === "Open" || (yield* CircuitBreaker.state(breaker))._tag !== "Closed" && recent.length === 0
          ) return
          recent = [...recent, outcome === "failure"].slice(-10)
          rate.push([at, recent.filter(Boolean).length / recent.length])
          if ((yield* CircuitBreaker.state(breaker))._tag === "Closed") return
          recent = []
          rate.push([at + 40, 0])
        }))
    })
  )

  const picture = new Picture({
    title: "Circuit breaker: calls over an outage",
    scenario: [
      "A call every 100 ms, each taking 150 ms. Opens at 50 % failures of the last 10 calls, stays open for 1 second,",
      "then lets one probe through. After closing it ramps up from 20 % to all calls within a second."
    ],
    description:
      "Calls succeed until the dependency goes down; after five failures in ten calls the circuit opens and calls are " +
      "refused at once. A probe after each second finds out whether the dependency is back; then the circuit closes.",
    legend: [
      { shape: "dot", kind: "ok", text: "call succeeded" },
      { shape: "cross", kind: "bad", text: "call failed" },
      { shape: "tick", kind: "refused", text: "refused by the breaker, not made" },
      { shape: "line", kind: "main", text: "failure rate" },
      { shape: "dashed", kind: "muted", text: "threshold" }
    ],
    height: 226,
    until,
    every: 1000
  })
  const { left, top } = picture
  const bottom = top + 196
  picture.timeAxis(top, bottom)

  picture.lane(top + 14, "dependency")
  const parts = [[0, outage.from, "up"], [outage.from, outage.to, "down"], [outage.to, until, "up"]] as const
  for (const [from, to, word] of parts) {
    picture.band(from, to, top + 4, 20, word === "up" ? "okTint" : "badTint")
    picture.text((picture.x(from) + picture.x(to)) / 2, top + 18, word, { anchor: "middle" })
  }

  picture.lane(top + 48, "succeeded")
  picture.lane(top + 70, "failed")
  picture.lane(top + 92, "refused")
  for (const { at, outcome } of marks) {
    if (outcome === "success") picture.dot(picture.x(at), top + 48, "ok")
    else if (outcome === "failure") picture.cross(picture.x(at), top + 70, "bad")
    else picture.tick(picture.x(at), top + 92, "refused")
  }

  picture.lane(top + 122, "circuit")
  const looks = { Closed: "okTint", Open: "badTint", HalfOpen: "waitTint" } as const
  for (const [index, { from, tag }] of states.entries()) {
    const to = states[index + 1]?.from ?? until
    picture.band(from, to, top + 112, 20, looks[tag as keyof typeof looks])
    const middle = (picture.x(from) + picture.x(to)) / 2
    if (tag === "HalfOpen") picture.text(middle, top + 145, "half-open", { anchor: "middle", small: true })
    else picture.text(middle, top + 126, tag === "Open" ? "open" : "closed", { anchor: "middle" })
  }

  const high = 36
  picture.lane(bottom - high / 2, "failure rate", "of the last 10")
  picture.line(left, bottom - high / 2, picture.x(until), bottom - high / 2, "muted", true)
  picture.text(picture.x(until) + 3, bottom - high / 2 + 4, "50%", { kind: "muted", small: true })
  picture.steps(rate.map(([at, share]) => [at, bottom - share * high]), "main")
  return picture.render()
})
