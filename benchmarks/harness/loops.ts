/** What is run n times: an effect in one running fiber, a promise in one loop. */
import * as Effect from "effect/Effect"
import type { LoopCase, Role } from "./Suite.ts"

/** Runs what `body` makes n times in one fiber. The effect is made for each call, as application code does. */
export const effectLoop = (body: () => Effect.Effect<unknown, unknown>) => (n: number): Promise<void> =>
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

/** Runs what `body` makes n times in all, in as many fibers at once. */
export const effectLoops = (inFlight: number, body: () => Effect.Effect<unknown, unknown>) => (n: number) =>
  Effect.runPromise(Effect.suspend(() => {
    let i = 0
    const worker = Effect.whileLoop({ while: () => i++ < n, body, step: () => {} })
    return Effect.all(Array.from({ length: inFlight }, () => worker), { concurrency: "unbounded", discard: true })
  }))

/** Awaits what `body` makes n times in all, in as many loops at once. */
export const promiseLoops = (inFlight: number, body: () => unknown) => async (n: number) => {
  let i = 0
  const worker = async () => {
    while (i++ < n) await body()
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
}

/** Makes the cases of a group: `const closed = group("closed")`, then `closed.effect("seaworthy", "ours", () => ...)`. */
export const group = (group: string, inFlight = 1) => ({
  effect: (name: string, role: Role, body: () => Effect.Effect<unknown, unknown>): LoopCase => ({
    group,
    name,
    role,
    run: inFlight === 1 ? effectLoop(body) : effectLoops(inFlight, body)
  }),
  promise: (name: string, role: Role, body: () => unknown): LoopCase => ({
    group,
    name,
    role,
    run: inFlight === 1 ? promiseLoop(body) : promiseLoops(inFlight, body)
  })
})
