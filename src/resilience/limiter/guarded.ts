import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"

/**
 * Asks something that may be far away, for `millis` at most. A caller that is interrupted leaves at once.
 *
 * The question itself goes on (it cannot be called back): `tooLate` gets the answer that nobody waits for any more, after
 * an interruption (`abandoned`) or after the time is up, to undo what it did.
 */
export const guarded = <A, E, E2>(
  question: Effect.Effect<A, E>,
  millis: number,
  onTimeout: () => E2,
  tooLate: (answer: A, why: "abandoned" | "timed-out") => Effect.Effect<unknown, unknown>
): Effect.Effect<A, E | E2> =>
  Effect.callback<A, E | E2>((resume) => {
    const caller = Fiber.getCurrent()!
    const run = Effect.runForkWith(caller.context)
    let state: "waiting" | "abandoned" | "timed-out" = "waiting"
    const asking = run(question)
    const early = asking.pollUnsafe()
    if (early !== undefined) return resume(early)
    const timer = millis === Infinity
      ? undefined
      : run(caller.getRef(Clock.Clock).sleep(Duration.millis(millis)))
    timer?.addObserver((exit) => {
      if (state !== "waiting" || Exit.isFailure(exit)) return
      state = "timed-out"
      resume(Effect.fail(onTimeout()))
    })
    asking.addObserver((exit) => {
      timer?.interruptUnsafe()
      if (state === "waiting") return resume(exit)
      if (Exit.isSuccess(exit)) run(Effect.ignore(tooLate(exit.value, state)))
    })
    return Effect.sync(() => {
      state = "abandoned"
      timer?.interruptUnsafe()
    })
  })
