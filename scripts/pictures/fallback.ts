import * as Effect from "effect/Effect"
import * as Fallback from "../../src/resilience/Fallback.ts"
import { Picture } from "./Picture.ts"
import { callAt, every, now, run } from "./virtualTime.ts"

const until = 8000
const outage = { from: 1500, to: 6500 }
const maxAge = 2000
/** How long the rough answer of this process is at hand. */
const localUntil = 5000

const rows = [
  { name: "dependency", detail: "the call itself", source: "call" },
  { name: "1. cache", detail: "last good, at most 2 s old", source: "cache" },
  { name: "2. local", detail: "a rough answer, until 5 s", source: "local" },
  { name: "3. default", detail: "always at hand", source: "default" }
] as const

/** Which strategy answers, call by call, over an outage. */
export const fallback = Effect.gen(function*() {
  const answers: Array<{ readonly at: number; readonly source: string }> = []
  const asked: Array<{ readonly at: number; readonly source: string }> = []

  yield* run(
    until,
    Effect.gen(function*() {
      const lastGood = yield* Fallback.makeStore<string>({ maxAge })
      const ask = (source: string, isUp: (at: number) => boolean) =>
        Effect.gen(function*() {
          const at = yield* now
          if (isUp(at)) return source
          asked.push({ at, source })
          return yield* Effect.fail("down")
        })
      const call = ask("call", (at) => at < outage.from || at >= outage.to).pipe(
        Effect.tap(() => Effect.map(now, (at) => void answers.push({ at, source: "call" })))
      )
      const protectedCall = Fallback.fallback(
        call,
        [
          Fallback.cache(lastGood, "rate"),
          Fallback.local(() => ask("local", (at) => at < localUntil)),
          Fallback.value("default")
        ],
        { onFallback: ({ strategy }) => Effect.map(now, (at) => void answers.push({ at, source: strategy })) }
      )
      yield* callAt(every(250, 125, until), () => protectedCall)
    })
  )

  const laneHigh = 40
  const picture = new Picture({
    title: "Fallback: who answers, call by call",
    scenario: [
      "A call every 250 ms; the dependency is down for 5 seconds. Each call is answered by the first that can: the last",
      "good value while it is fresh enough, then a local computation while it works, then a default. No caller fails."
    ],
    description:
      "While the dependency is up it answers. When it goes down, the cache answers for two seconds, then the local " +
      "strategy, and when that fails too the default, until the dependency is back.",
    legend: [
      { shape: "dot", kind: "ok", text: "answered by the dependency" },
      { shape: "diamond", kind: "main", text: "answered by a fallback" },
      { shape: "cross", kind: "bad", text: "asked and failed" }
    ],
    height: rows.length * laneHigh + 40,
    until,
    every: 1000,
    left: 172
  })
  const { top } = picture
  picture.timeAxis(top, top + rows.length * laneHigh)
  picture.band(outage.from, outage.to, top, rows.length * laneHigh, "badTint")
  rows.forEach(({ detail, name, source }, index) => {
    const y = top + 20 + index * laneHigh
    picture.lane(y, name, detail)
    for (const failed of asked) if (failed.source === source) picture.cross(picture.x(failed.at), y, "bad")
    for (const answer of answers) {
      if (answer.source !== source) continue
      if (source === "call") picture.dot(picture.x(answer.at), y, "ok")
      else picture.diamond(picture.x(answer.at), y, "main")
    }
  })
  return picture.render()
})
