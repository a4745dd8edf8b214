/** Least code for retry + time-out + circuit breaker + bulkhead in one pass over the fiber. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { consecutive, makeCircuit, nowOf, type Open } from "./breaker.ts"
import type { Full } from "./bulkhead.ts"
import * as Retry from "./retry.ts"
import type { TimedOut } from "./timeout.ts"

export const make = (options: {
  readonly times: number
  readonly millis: number
  readonly failures: number
  readonly places: number
}) => {
  const circuit = makeCircuit(consecutive(options.failures), 60_000)
  let free = options.places
  const retry = Retry.make(options.times, 100)

  const attempt = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Open | Full | TimedOut, R> =>
    Effect.callback<A, E | Open | Full | TimedOut, R>((resume) => {
      const caller = Fiber.getCurrent()!
      const wait = circuit.isClosed() ? 0 : circuit.admit(nowOf(caller))
      if (wait > 0) return resume(Effect.fail({ _tag: "Open", retryAfterMillis: wait }))
      if (free === 0) return resume(Effect.fail({ _tag: "Full" }))
      free--
      const settle = (exit: Exit.Exit<A, E>, late: boolean) => {
        free++
        const failed = late || Exit.isFailure(exit)
        if (wait === 0) circuit.record(failed, () => nowOf(caller))
        else circuit.probed(failed, nowOf(caller))
        resume(late ? Effect.fail({ _tag: "TimedOut" }) : exit)
      }
      const fiber = Effect.runForkWith(caller.context as never)(self as Effect.Effect<A, E>)
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return settle(exit, false)
      let late = false
      const timer = setTimeout(() => {
        late = true
        fiber.interruptUnsafe()
      }, options.millis)
      fiber.addObserver((exit) => {
        clearTimeout(timer)
        settle(exit, late)
      })
      return Effect.suspend(() => Fiber.interrupt(fiber))
    })
  return <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | Open | Full | TimedOut, R> =>
    retry(attempt(self))
}
