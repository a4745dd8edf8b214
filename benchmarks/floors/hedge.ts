/** Least code for a hedge: a second copy when the first takes too long; the first answer wins, the other is interrupted. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

export const make = (millis: number) => <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.callback<A, E, R>((resume) => {
    const caller = Fiber.getCurrent()!
    const copies: Array<Fiber.Fiber<A, E>> = []
    let done = false
    let running = 0
    const launch = () => {
      running++
      const fiber = Effect.runForkWith(caller.context as never)(self as Effect.Effect<A, E>)
      copies.push(fiber)
      fiber.addObserver((exit) => {
        running--
        if (done || (exit._tag === "Failure" && running > 0)) return
        done = true
        clearTimeout(timer)
        const others = copies.filter((copy) => copy !== fiber)
        resume(others.length === 0 ? exit : Effect.andThen(Fiber.interruptAll(others), exit))
      })
    }
    let timer: ReturnType<typeof setTimeout> | undefined
    launch()
    if (!done) timer = setTimeout(launch, millis)
    return Effect.suspend(() => {
      clearTimeout(timer)
      return Fiber.interruptAll(copies)
    })
  })
