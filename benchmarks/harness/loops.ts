/** What is run n times: an effect in one running fiber, a promise in one loop. */
import * as Effect from "effect/Effect"

/** Runs what `body` makes n times in one fiber. The effect is made for each call, as application code does. */
export const effectLoop = (body: () => Effect.Effect<unknown>) => (n: number): Promise<void> =>
  Effect.runPromise(Effect.suspend(() => {
    let i = 0
    return Effect.whileLoop({
      while: () => i < n,
      body,
      step: () => {
        i++
      }
    })
  }))

/** Awaits what `body` makes n times. */
export const promiseLoop = (body: () => unknown) => async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await body()
}

/** Work in flight at all times, by as many fibers. */
export const effectLoopConcurrent = (inFlight: number, body: () => Effect.Effect<unknown>) => (n: number) =>
  Effect.runPromise(Effect.suspend(() => {
    let i = 0
    const worker = Effect.whileLoop({
      while: () => i++ < n,
      body,
      step: () => {}
    })
    return Effect.all(Array.from({ length: inFlight }, () => worker), { concurrency: "unbounded", discard: true })
  }))

/** Work in flight at all times, by as many promise loops. */
export const promiseLoopConcurrent = (inFlight: number, body: () => Promise<unknown>) => async (n: number) => {
  let i = 0
  const worker = async () => {
    while (i++ < n) await body()
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
}
