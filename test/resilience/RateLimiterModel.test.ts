import { describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import { algorithms } from "../support/RateLimiterAlgorithms.ts"
import { compare, plan } from "../support/RateLimiterModel.ts"

/** A clock that is set to the microsecond. */
const makeClock = Effect.map(Clock.Clock, (real) => {
  let micros = 0
  const clock: Clock.Clock = { ...real, monotonicTimeNanosUnsafe: () => BigInt(micros) * 1000n }
  return { clock, setTime: (to: number) => Effect.sync(() => void (micros = to)) }
})

describe("RateLimiter arithmetic in memory, against the model", () => {
  for (const [name, algorithm] of Object.entries(algorithms)) {
    for (const [scale, unit] of [["microseconds", 1], ["seconds", 1_000_000], ["weeks", 604_800_000_000]] as const) {
      it(`${name}: any calls, peeks, refunds and times, windows of ${scale}`, () =>
        fc.assert(
          fc.asyncProperty(plan, ({ burst, commands, limit, window }) =>
            Effect.gen(function*() {
              const { clock, setTime } = yield* makeClock
              yield* compare({
                name: "limiter",
                algorithm: algorithm({ limit, window: window * unit / 1000, burst }),
                unit,
                startAt: 0,
                commands,
                setTime
              }).pipe(Effect.provideService(Clock.Clock, clock))
            }).pipe(Effect.provide(RateLimiter.layerStoreMemory()), Effect.runPromise)),
          { numRuns: 200 }
        ))
    }
  }
})
