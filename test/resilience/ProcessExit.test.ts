import { assert, describe, it } from "@effect/vitest"
import { outputOf } from "../support/OwnProcess.ts"

const program = (src: string) => `
  import * as Effect from "effect/Effect"
  import * as Fiber from "effect/Fiber"
  import * as Deadline from "${src}/resilience/Deadline.ts"
  import * as Hedge from "${src}/resilience/Hedge.ts"
  import * as Retry from "${src}/resilience/Retry.ts"
  import * as Timeout from "${src}/resilience/Timeout.ts"

  const call = Effect.sleep(5)
  const delay = await Effect.runPromise(Hedge.percentile({ initial: "1 hour" }))
  const calls = [
    Timeout.timeout(call, "1 hour"),
    Timeout.timeout(call, { duration: "1 hour", grace: "1 hour" }),
    Deadline.within(call, "1 hour"),
    Hedge.hedge(call, { delay: "1 hour", repeatable: true }),
    Hedge.hedge(call, { delay, repeatable: true })
  ]
  for (const call of calls) await Effect.runPromise(call)
  const fiber = Effect.runFork(Retry.retry(Effect.fail("no"), { schedule: Retry.fixed("1 hour") }))
  await Effect.runPromise(Effect.andThen(call, Fiber.interrupt(fiber)))
  console.log("done")
`

describe("a process with idle strategies", () => {
  it("ends by itself: no timer of an hour is left by calls that took milliseconds", { timeout: 120_000 }, async () => {
    const output = await outputOf(program, 100_000)
    assert.strictEqual(output, "done")
  })
})
