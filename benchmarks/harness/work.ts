/** The work that is protected: nothing at all, so that what is measured is the protection. */
import * as Effect from "effect/Effect"

/** Ends at once. */
export const quick: Effect.Effect<number, Error> = Effect.succeed(1)

/** The same for peers. */
export const quickPromise = async (): Promise<number> => 1

/** Waits for one turn of the microtask queue, as work that awaits something does. */
export const waiting: Effect.Effect<number, Error> = Effect.callback((resume) => {
  queueMicrotask(() => resume(quick))
})

/** The same for peers. */
export const waitingPromise = async (): Promise<number> => {
  await null
  return 1
}

/** A dependency that is down. */
// @effect-diagnostics-next-line globalErrorInEffectFailure:off -- what peers throw
export const broken: Effect.Effect<number, Error> = Effect.fail(new Error("down"))

export const brokenPromise = async (): Promise<number> => {
  throw new Error("down")
}

/** Handles the failure, which is part of what a rejection costs. */
export const handled = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A | undefined> =>
  Effect.orElseSucceed(self, () => undefined)

/** The same for peers. */
export const handledPromise = (body: () => Promise<unknown>) => async (): Promise<unknown> => {
  try {
    return await body()
  } catch {
    return undefined
  }
}

const down = new Error("down")

/** Fails at every other attempt, the first included. */
export const makeFlaky = (): Effect.Effect<number, Error> => {
  let attempts = 0
  return Effect.suspend(() => attempts++ % 2 === 0 ? Effect.fail(down) : quick)
}

/** The same for peers. */
export const makeFlakyPromise = (): () => Promise<number> => {
  let attempts = 0
  return async () => {
    if (attempts++ % 2 === 0) throw down
    return 1
  }
}
