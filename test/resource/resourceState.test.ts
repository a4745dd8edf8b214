import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { canMove, type Check, states, step, type Watch } from "../../src/resource/internal/resourceState.ts"

const thresholds = { failureThreshold: 3, successThreshold: 2, slow: 1000 }
const ready: Watch = { state: "ready", failures: 0, successes: 0 }
const ok: Check = { ok: true, millis: 1 }
const bad: Check = { ok: false }
const run = (from: Watch, checks: ReadonlyArray<Check>, base: "ready" | "degraded" = "ready") =>
  checks.reduce((watch, check) => step(watch, check, thresholds, base), from).state

describe("resource state", () => {
  it("nothing leaves stopped, and only draining or a start that never began leads there from ready", () => {
    for (const to of states) if (to !== "stopped") assert.isFalse(canMove("stopped", to), to)
    assert.isFalse(canMove("ready", "stopped"))
    assert.isTrue(canMove("draining", "stopped"))
    assert.isFalse(canMove("ready", "failed"))
  })

  it("steps by thresholds", () => {
    assert.strictEqual(run(ready, [bad]), "degraded")
    assert.strictEqual(run(ready, [bad, bad]), "degraded")
    assert.strictEqual(run(ready, [bad, bad, bad]), "down")
    assert.strictEqual(run(ready, [bad, bad, bad, ok]), "down")
    assert.strictEqual(run(ready, [bad, bad, bad, ok, ok]), "ready")
    assert.strictEqual(run(ready, [bad, bad, bad, ok, bad, ok]), "down")
    assert.strictEqual(run(ready, [bad, ok]), "degraded")
    assert.strictEqual(run(ready, [bad, ok, ok]), "ready")
    assert.strictEqual(run(ready, [{ ok: true, millis: 1001 }]), "degraded")
    assert.strictEqual(run(ready, [{ ok: true, millis: 1001 }, ok]), "ready")
    assert.strictEqual(run(ready, [ok], "degraded"), "degraded")
  })

  it("agrees with a model that looks at the whole history", () => {
    // The model: down once 3 in a row failed and until 2 in a row succeeded; otherwise degraded from a failure until 2
    // in a row succeeded; otherwise ready.
    const model = (checks: ReadonlyArray<boolean>) => {
      let failures = 0
      let successes = 0
      let state = "ready"
      for (const check of checks) {
        if (check) {
          successes++
          if (state === "ready" || successes >= 2) {
            state = "ready"
            failures = 0
          }
        } else {
          failures++
          successes = 0
          state = state === "down" || failures >= 3 ? "down" : "degraded"
        }
      }
      return state
    }
    fc.assert(fc.property(fc.array(fc.boolean(), { maxLength: 30 }), (checks) => {
      assert.strictEqual(run(ready, checks.map((good) => good ? ok : bad)), model(checks))
    }))
  })
})
