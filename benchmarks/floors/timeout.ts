/** Least code for a time-out that interrupts the work and waits for it: a fiber for the work, a timer if it waits. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

export interface TimedOut {
  readonly _tag: "TimedOut"
}

const timedOut: TimedOut = { _tag: "TimedOut" }

export const make = (millis: number) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | TimedOut, R> =>
  Effect.callback<A, E | TimedOut, R>((resume) => {
    const caller = Fiber.getCurrent()!
    const fiber = Effect.runForkWith(caller.context as never)(self as Effect.Effect<A, E>)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return resume(exit)
    let late = false
    const timer = setTimeout(() => {
      late = true
      fiber.interruptUnsafe()
    }, millis)
    fiber.addObserver((exit) => {
      clearTimeout(timer)
      resume(late ? Effect.fail(timedOut) : exit)
    })
    return Effect.suspend(() => Fiber.interrupt(fiber))
  })

/** The same with the timer of Effect's clock, which tests can turn: a second fiber sleeps. */
export const makeWithClock = (millis: number) => {
  const duration = Duration.millis(millis)
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | TimedOut, R> =>
    Effect.callback<A, E | TimedOut, R>((resume) => {
      const caller = Fiber.getCurrent()!
      const fiber = Effect.runForkWith(caller.context as never)(self as Effect.Effect<A, E>)
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return resume(exit)
      let late = false
      const timer = Effect.runFork(caller.getRef(Clock.Clock).sleep(duration))
      timer.addObserver((exit) => {
        if (exit._tag === "Failure") return
        late = true
        fiber.interruptUnsafe()
      })
      fiber.addObserver((exit) => {
        timer.interruptUnsafe()
        resume(late ? Effect.fail(timedOut) : exit)
      })
      return Effect.suspend(() => Fiber.interruptAll([fiber, timer]))
    })
}
