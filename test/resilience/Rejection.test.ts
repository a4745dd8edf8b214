import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { inspect } from "node:util"
import * as Rejection from "../../src/resilience/Rejection.ts"

class Refused extends Rejection.Class("Refused")<{ readonly used: number }> {
  override get message() {
    return `quota "${this.strategy}" is used up`
  }
}

describe("Rejection", () => {
  const refused = new Refused({ strategy: "mail", key: "ann@example.org", retryAfter: Duration.seconds(5), used: 3 })

  it.effect("can be yielded and caught by its tag", () =>
    Effect.gen(function*() {
      const message = yield* Effect.gen(function*() {
        return yield* refused
      }).pipe(Effect.catchTag("Refused", (e) => Effect.succeed(`${e.message} after ${e.used}`)))
      assert.strictEqual(message, `quota "mail" is used up after 3`)
    }))

  it("is told apart from any other error", () => {
    assert.isTrue(Rejection.isRejection(refused))
    assert.isFalse(Rejection.isRejection(new Error("x")))
    assert.isFalse(Rejection.isRejection(undefined))
    assert.isFalse(Rejection.isRejection({ _tag: "Refused" }))
  })

  it("is an Error, with a name and without a captured stack", () => {
    assert.instanceOf(refused, Error)
    assert.instanceOf(refused, Refused)
    assert.strictEqual(refused.name, "Refused")
    assert.strictEqual(refused.stack, `Refused: quota "mail" is used up`)
    assert.isFalse(Object.hasOwn(refused, "stack"))
    refused.stack = "replaced"
    assert.strictEqual(refused.stack, "replaced")
  })

  it("shows no key in its message, its text or a pretty cause", () => {
    const fresh = new Refused({ strategy: "mail", key: "ann@example.org", used: 1 })
    for (const text of [fresh.message, String(fresh), inspect(fresh), Cause.pretty(Cause.fail(fresh))]) {
      assert.include(text, "mail")
      assert.notInclude(text, "ann@example.org")
    }
  })

  it("has a JSON form", () => {
    assert.deepStrictEqual(
      JSON.parse(JSON.stringify(new Refused({ strategy: "mail", retryAfter: Duration.seconds(5), used: 3 }))),
      {
        _tag: "Refused",
        message: `quota "mail" is used up`,
        strategy: "mail",
        used: 3,
        retryAfterMillis: 5000
      }
    )
  })
})
