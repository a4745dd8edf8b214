import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { OpenTimes } from "./Circuit.ts"

/** A schedule in progress. Its clock is the time spent open, so that `upTo` and `during` measure that. */
interface Running {
  readonly step: Effect.Success<ReturnType<typeof Schedule.toStep<unknown, number, never, never>>>
  attempt: number
  now: number
  last: number
}

/** As many steps of a schedule are replayed for a restored circuit. Growing schedules have long reached their cap then. */
const maxReplay = 1000

/**
 * The open times of a fixed duration or of a schedule: the n-th opening lasts the schedule's n-th delay, and when the
 * schedule has ended, its last one.
 *
 * A transition is one synchronous step, so the schedule's steps run synchronously, with the references (`Random`) of the
 * fiber that trips. A step that is not synchronous, or throws, repeats the delay before it.
 */
export const openTimes = (
  openTime: number | Schedule.Schedule<unknown, number>,
  context: Context.Context<never>
): OpenTimes => {
  if (typeof openTime === "number") {
    return { start: () => undefined, next: () => openTime }
  }
  const runSyncExit = Effect.runSyncExitWith(context)
  return {
    start: (): Running | undefined => {
      const step = runSyncExit(Schedule.toStep(openTime))
      const now = Context.get(context, Clock.Clock).currentTimeMillisUnsafe()
      return step._tag === "Success" ? { step: step.value, attempt: 0, now, last: 0 } : undefined
    },
    next: (backoff) => {
      const running = backoff as Running | undefined
      if (running === undefined) return 0
      running.attempt++
      const exit = runSyncExit(Effect.suspend(() => running.step(running.now, running.attempt)))
      if (exit._tag === "Success") {
        const millis = Duration.toMillis(exit.value[1])
        if (Number.isFinite(millis)) {
          running.last = Math.max(0, millis)
          running.now += running.last
        }
      }
      return running.last
    }
  }
}

/** Starts a backoff that has already opened so many times. */
export const startAfter = (times: OpenTimes, openings: number): unknown => {
  const backoff = times.start()
  for (let n = 0; n < Math.min(openings, maxReplay); n++) times.next(backoff)
  return backoff
}
