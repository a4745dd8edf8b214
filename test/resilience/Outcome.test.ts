import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { TestClock } from "effect/testing"
import * as Deadline from "../../src/resilience/Deadline.ts"
import * as Outcome from "../../src/resilience/Outcome.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"
import * as Timeout from "../../src/resilience/Timeout.ts"

class Full extends Rejection.Class("Full") {}

const rejection = new Full({ strategy: "pool" })
const tagOf = (exit: Exit.Exit<unknown, unknown>) => Outcome.classify(exit)._tag

describe("Outcome.classify", () => {
  it("takes a success for a success, and failures and defects for failures", () => {
    assert.strictEqual(tagOf(Exit.succeed(undefined)), "Success")
    assert.strictEqual(tagOf(Exit.fail("no")), "Failure")
    assert.strictEqual(tagOf(Exit.die("bug")), "Failure")
    assert.strictEqual(tagOf(Exit.failCause(Cause.empty)), "Failure")
  })

  it("ignores interruption and the rejections of strategies", () => {
    assert.strictEqual(tagOf(Exit.interrupt()), "Ignored")
    assert.strictEqual(tagOf(Exit.fail(rejection)), "Ignored")
    assert.strictEqual(tagOf(Exit.failCause(Cause.combine(Cause.fail(rejection), Cause.interrupt()))), "Ignored")
  })

  it.effect("ignores a time-out of work that was not begun, since the deadline had passed", () =>
    Effect.gen(function*() {
      const late = (work: Effect.Effect<unknown, unknown>) =>
        Deadline.within(
          Effect.uninterruptible(Effect.andThen(Effect.sleep("2 seconds"), Effect.exit(work))),
          "1 second"
        )
          .pipe(Effect.forkDetach)
      const exits: Array<Exit.Exit<unknown, unknown>> = []
      const work = Effect.onExit(
        Timeout.timeout(Effect.never, "1 second"),
        (exit) => Effect.sync(() => exits.push(exit))
      )
      yield* late(work)
      yield* Effect.forkDetach(Effect.exit(work))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(exits.map(tagOf), ["Failure", "Ignored"])
    }))

  it("takes a failure beside interruption or a rejection for a failure", () => {
    assert.strictEqual(tagOf(Exit.failCause(Cause.combine(Cause.fail("no"), Cause.interrupt()))), "Failure")
    assert.strictEqual(tagOf(Exit.failCause(Cause.combine(Cause.fail(rejection), Cause.die("bug")))), "Failure")
  })

  it("passes on the retryAfter of an error when it is a duration", () => {
    const retryAfter = Duration.seconds(3)
    assert.deepStrictEqual(Outcome.classify(Exit.fail({ retryAfter })), Outcome.failure({ retryAfter }))
    assert.deepStrictEqual(Outcome.classify(Exit.fail({ retryAfter: 3 })), Outcome.failure())
  })
})

describe("Outcome.ignoreWhen", () => {
  const classify = Outcome.ignoreWhen((error: { readonly code: number }) => error.code === 404)

  it("ignores the errors it names, and no others, nor defects beside them", () => {
    assert.strictEqual(classify(Exit.fail({ code: 404 }))._tag, "Ignored")
    assert.strictEqual(classify(Exit.fail({ code: 500 }))._tag, "Failure")
    assert.strictEqual(classify(Exit.succeed(404))._tag, "Success")
    const both = Cause.combine(Cause.fail({ code: 404 }), Cause.die("bug"))
    assert.strictEqual(classify(Exit.failCause(both))._tag, "Failure")
  })

  it("is typed by the error", () => {
    expectTypeOf(classify).toEqualTypeOf<Outcome.Classify<unknown, { readonly code: number }>>()
  })
})

describe("Outcome.failWhen", () => {
  it("takes the results it names for failures", () => {
    const classify = Outcome.failWhen((response: { readonly status: number }) => response.status >= 500)
    assert.strictEqual(classify(Exit.succeed({ status: 503 }))._tag, "Failure")
    assert.strictEqual(classify(Exit.succeed({ status: 200 }))._tag, "Success")
    assert.strictEqual(classify(Exit.fail("no"))._tag, "Failure")
  })
})

describe("Outcome.isInterruption", () => {
  it("holds for interruption alone", () => {
    assert.isTrue(Outcome.isInterruption(Exit.interrupt()))
    assert.isFalse(Outcome.isInterruption(Exit.succeed(1)))
    assert.isFalse(Outcome.isInterruption(Exit.failCause(Cause.combine(Cause.fail("no"), Cause.interrupt()))))
  })
})
