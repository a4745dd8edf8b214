import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import { LeakAfter, Leases } from "../../src/resource/database/leases.ts"
import { interruptAt, steps } from "../support/EveryStep.ts"

describe("Who holds a connection", () => {
  const withWarnings = <A, E, R>(program: (leases: Leases, warnings: Array<string>) => Effect.Effect<A, E, R>) => {
    const warnings: Array<string> = []
    return Effect.provide(
      program(new Leases(), warnings),
      Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))])
    )
  }
  const hold = (leases: Leases, name: string) =>
    Effect.forkChild(Effect.scoped(Effect.andThen(leases.track, Effect.never)).pipe(Effect.withSpan(name)), {
      startImmediately: true
    })

  it.effect("is told from the time it was taken until it is given back", () =>
    withWarnings((leases) =>
      Effect.clockWith((clock) =>
        Effect.gen(function*() {
          yield* Effect.scoped(Effect.gen(function*() {
            yield* Effect.withSpan(leases.track, "import")
            yield* TestClock.adjust("3 seconds")
            assert.deepStrictEqual(leases.read(clock), [{ borrower: "import", since: 0, held: 3_000 }])
          }))
          assert.deepStrictEqual(leases.read(clock), [])
        })
      )
    ))

  it.effect("is warned of once, at its own time, also behind a lease with a later one", () =>
    withWarnings((leases, warnings) =>
      Effect.gen(function*() {
        yield* hold(leases, "slow").pipe(Effect.provideService(LeakAfter, Duration.minutes(10)))
        yield* TestClock.adjust("1 second")
        yield* hold(leases, "quick")
        yield* TestClock.adjust("59 seconds")
        assert.deepStrictEqual(warnings, [])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(warnings, ["a database connection has been held for 60 s, by: quick"])
        yield* TestClock.adjust("20 minutes")
        assert.deepStrictEqual(warnings.slice(1), ["a database connection has been held for 600 s, by: slow"])
        assert.strictEqual(leases.warned, 2)
        yield* hold(leases, "late")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(warnings.length, 3)
      })
    ))

  it.effect("is watched after a pause without leases, and by the clock of who took it", () =>
    withWarnings((leases, warnings) =>
      Effect.gen(function*() {
        yield* Effect.scoped(leases.track)
        yield* TestClock.adjust("59 seconds")
        yield* hold(leases, "second")
        yield* TestClock.adjust("59 seconds")
        assert.deepStrictEqual(warnings, [])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(warnings, ["a database connection has been held for 60 s, by: second"])

        yield* hold(leases, "third")
        const later = yield* TestClock.make()
        yield* Effect.provideService(hold(leases, "elsewhere"), Clock.Clock, later)
        yield* later.adjust("1 minute")
        assert.deepStrictEqual(warnings.slice(1), ["a database connection has been held for 60 s, by: elsewhere"])
      })
    ))

  it.effect("is not watched once closed", () =>
    withWarnings((leases, warnings) =>
      Effect.gen(function*() {
        yield* hold(leases, "job")
        leases.close()
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(warnings, [])
      })
    ))

  it.effect("is warned of after the time of its pool, unless its borrower was given another", () => {
    const warnings: Array<string> = []
    return Effect.gen(function*() {
      const leases = new Leases("line", Duration.seconds(10))
      yield* hold(leases, "long").pipe(Effect.provideService(LeakAfter, Duration.minutes(1)))
      yield* hold(leases, "short")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(warnings, ["a line has been held for 10 s, by: short"])
      leases.leakAfter = Duration.seconds(5)
      yield* hold(leases, "shorter")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(warnings.slice(1), ["a line has been held for 5 s, by: shorter"])
    }).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))])))
  })

  it.effect("leaves neither entry nor warning when interrupted at any step", () =>
    withWarnings((leases, warnings) =>
      Effect.clockWith((clock) =>
        Effect.gen(function*() {
          for (const step of steps(8, 20)) {
            yield* interruptAt(Effect.scoped(Effect.andThen(leases.track, Effect.yieldNow)), step)
            assert.deepStrictEqual(leases.read(clock), [], JSON.stringify(step))
          }
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(warnings, [])
        })
      )
    ))
})
