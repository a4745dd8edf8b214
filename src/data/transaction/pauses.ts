// How long to wait before a transaction begins again: a random pause that grows, or what a schedule says.
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { SqlError } from "effect/sql/SqlError"
import { fullJitter } from "../../resilience/internal/backoff.ts"
import type { Plan } from "./options.ts"

type Step = (now: number, input: SqlError) => Pull.Pull<[unknown, Duration.Duration], never, unknown, unknown>

export class Pauses<R> {
  private readonly plan: Plan
  private step: Step | undefined

  constructor(plan: Plan) {
    this.plan = plan
  }

  /** Milliseconds before the try after `tries`; `Infinity` when the schedule is done. */
  next(fiber: Fiber.Fiber<unknown, unknown>, tries: number, error: SqlError): Effect.Effect<number, never, R> {
    const { baseMillis, maxMillis, schedule } = this.plan
    if (schedule === undefined) {
      const draw = fiber.getRef(Random.Random).nextDoubleUnsafe()
      return Effect.succeed(fullJitter(baseMillis, 2, maxMillis, tries, draw))
    }
    const ask = (step: Step) => {
      this.step = step
      return Pull.matchEffect(step(fiber.getRef(Clock.Clock).currentTimeMillisUnsafe(), error), {
        onSuccess: ([, delay]) => Effect.succeed(Duration.toMillis(delay)),
        onFailure: Effect.failCause,
        onDone: () => Effect.succeed(Infinity)
      })
    }
    return (this.step === undefined
      ? Effect.flatMap(Schedule.toStep(schedule) as Effect.Effect<Step>, ask)
      : ask(this.step)) as Effect.Effect<number, never, R>
  }
}
