import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { expectTypeOf } from "vitest"
import * as Fallback from "../../src/resilience/Fallback.ts"
import * as Rejection from "../../src/resilience/Rejection.ts"

class Down extends Data.TaggedError("Down") {}
class Invalid extends Data.TaggedError("Invalid") {}
class LocalError extends Data.TaggedError("LocalError") {}
class OpenError extends Rejection.Class("OpenError") {}

describe("Fallback", () => {
  describe("strategies", () => {
    it.effect("none is used while the effect succeeds", () =>
      Effect.gen(function*() {
        let used = 0
        const local = Fallback.local(() => Effect.sync(() => ++used))
        assert.strictEqual(yield* Fallback.fallback(Effect.succeed(7), [local, Fallback.value(0)]), 7)
        assert.strictEqual(used, 0)
      }))

    it.effect("cache answers with the last good value of its key", () =>
      Effect.gen(function*() {
        const store = yield* Fallback.makeStore<number>()
        const get = (call: Effect.Effect<number, Down>, key: string) =>
          Fallback.fallback(call, [Fallback.cache(store, key)])
        const down = new Down()
        yield* get(Effect.succeed(1), "a")
        yield* get(Effect.succeed(2), "a")
        yield* get(Effect.succeed(3), "b")
        assert.deepStrictEqual([yield* get(Effect.fail(down), "a"), yield* get(Effect.fail(down), "b")], [2, 3])
        assert.strictEqual(yield* Effect.flip(get(Effect.fail(down), "c")), down)
      }))

    it.effect("a cached undefined, null, 0 or empty string is a value", () =>
      Effect.gen(function*() {
        for (const value of [undefined, null, 0, ""]) {
          const store = yield* Fallback.makeStore<unknown>()
          yield* Fallback.fallback(Effect.succeed(value), [Fallback.cache(store, "k")])
          const kept = yield* Fallback.fallback(Effect.fail("no"), [
            Fallback.cache(store, "k"),
            Fallback.value("default")
          ])
          assert.strictEqual(kept, value)
        }
      }))

    it.effect("what a fallback answered is not kept as a good value", () =>
      Effect.gen(function*() {
        const store = yield* Fallback.makeStore<number>()
        const strategies = [Fallback.cache(store, "k"), Fallback.value(-1)] as const
        assert.strictEqual(yield* Fallback.fallback(Effect.fail("no"), strategies), -1)
        assert.deepStrictEqual(yield* store.get("k"), Option.none())
      }))

    it.effect("local and use run an effect that sees the original error", () =>
      Effect.gen(function*() {
        const down = new Down()
        const seen: Array<unknown> = []
        const see = (answer: Effect.Effect<string, LocalError>) => (error: Down) => {
          seen.push(error)
          return answer
        }
        const answer = yield* Fallback.fallback(Effect.fail(down), [
          Fallback.local(see(Effect.fail(new LocalError()))),
          Fallback.use("mirror", see(Effect.succeed("mirrored")))
        ])
        assert.strictEqual(answer, "mirrored")
        assert.deepStrictEqual(seen, [down, down])
      }))

    it.effect("value is always at hand: nothing after it is tried", () =>
      Effect.gen(function*() {
        const answer = yield* Fallback.fallback(Effect.fail("no"), [
          Fallback.value({ rate: 1 }),
          Fallback.local(() => Effect.die("tried"))
        ])
        assert.deepStrictEqual(answer, { rate: 1 })
      }))

    it.effect("can be picked and ordered by the names that settings give", () =>
      Effect.gen(function*() {
        const store = yield* Fallback.makeStore<string>()
        yield* store.set("k", "kept")
        const strategies = [
          Fallback.cache(store, "k"),
          Fallback.local(() => Effect.succeed("computed")),
          Fallback.value("default")
        ]
        const answer = (...names: ReadonlyArray<string>) =>
          Fallback.fallback(Effect.fail("down"), Fallback.inOrder(names, strategies))
        assert.deepStrictEqual(
          [yield* answer("cache", "local", "default"), yield* answer("local", "cache"), yield* answer("default")],
          ["kept", "computed", "default"]
        )
        assert.strictEqual(yield* Effect.flip(answer()), "down")
        assert.throws(() => answer("cache", "remote"), RangeError, "names must be among: cache, local, default")
      }))

    it.effect("are tried in order until one has an answer", () =>
      Effect.promise(() => {
        const kind = fc.constantFrom("miss", "hit", "fail", "answer", "value")
        return fc.assert(
          fc.asyncProperty(fc.array(kind, { maxLength: 6 }), (kinds) =>
            Effect.runPromise(Effect.gen(function*() {
              const tried: Array<number> = []
              const strategies = yield* Effect.forEach(kinds, (kind, i) =>
                Effect.gen(function*() {
                  if (kind === "value") return Fallback.value(i)
                  if (kind === "fail" || kind === "answer") {
                    return Fallback.use(`${i}`, () => {
                      tried.push(i)
                      return kind === "fail" ? Effect.fail(`failed ${i}`) : Effect.succeed(i)
                    })
                  }
                  const store = yield* Fallback.makeStore<number>()
                  if (kind === "hit") yield* store.set("k", i)
                  return Fallback.cache(store, "k")
                }))
              const exit = yield* Effect.exit(
                Fallback.fallback(Effect.fail("original") as Effect.Effect<number, string>, strategies)
              )
              const winner = kinds.findIndex((kind) => kind === "hit" || kind === "answer" || kind === "value")
              const reached = winner < 0 ? kinds : kinds.slice(0, winner + 1)
              const ran = reached.flatMap((kind, i) => kind === "fail" || kind === "answer" ? [i] : [])
              assert.deepStrictEqual(tried, ran)
              const lastFailed = reached.lastIndexOf("fail")
              assert.deepStrictEqual<unknown>(
                exit,
                winner >= 0
                  ? Exit.succeed(winner)
                  : Exit.fail(lastFailed < 0 ? "original" : `failed ${lastFailed}`)
              )
            }))),
          { numRuns: 200 }
        )
      }))
  })

  describe("what it handles", () => {
    it.effect("rejections of other strategies", () =>
      Effect.gen(function*() {
        const open = Effect.fail(new OpenError({ strategy: "db" }))
        assert.strictEqual(yield* Fallback.fallback(open, [Fallback.value("closed for now")]), "closed for now")
      }))

    it.effect("only what `when` admits; other errors pass through unchanged", () =>
      Effect.gen(function*() {
        const invalid = new Invalid()
        const call = (error: Down | Invalid) =>
          Fallback.fallback(Effect.fail(error), [Fallback.value(0)], { when: (error) => error._tag === "Down" })
        assert.strictEqual(yield* call(new Down()), 0)
        assert.strictEqual(yield* Effect.flip(call(invalid)), invalid)
      }))

    it.effect("no defect, and no interruption, also when typed failures come with them", () =>
      Effect.gen(function*() {
        const causes: ReadonlyArray<Cause.Cause<string>> = [
          Cause.die("bug"),
          Cause.interrupt(),
          Cause.combine(Cause.fail("no"), Cause.die("bug")),
          Cause.combine(Cause.fail("no"), Cause.interrupt())
        ]
        for (const cause of causes) {
          const exit = yield* Effect.exit(Fallback.fallback(Effect.failCause(cause), [Fallback.value("hidden")]))
          assert.deepStrictEqual<unknown>(Exit.isFailure(exit) ? exit.cause : exit, cause)
        }
      }))

    it.effect("a defect of a strategy stays a defect and is not passed on", () =>
      Effect.gen(function*() {
        const strategies = [Fallback.local(() => Effect.die("bug")), Fallback.value("hidden")] as const
        assert.deepStrictEqual(yield* Effect.exit(Fallback.fallback(Effect.fail("no"), strategies)), Exit.die("bug"))
        const throwing = [
          Fallback.local((): Effect.Effect<string> => {
            throw "bug"
          }),
          Fallback.value("hidden")
        ] as const
        assert.deepStrictEqual(yield* Effect.exit(Fallback.fallback(Effect.fail("no"), throwing)), Exit.die("bug"))
      }))
  })

  it.effect("never runs for an interrupted caller", () =>
    Effect.gen(function*() {
      let used = 0
      const count = Effect.sync(() => ++used)
      const strategies = [Fallback.local(() => count), Fallback.value(0)] as const
      const waiting = yield* Effect.forkChild(Fallback.fallback(Effect.never, strategies, { onFallback: () => count }))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(waiting)
      assert.isTrue(Exit.hasInterrupts(waiting.pollUnsafe()!))
      const inStrategy = yield* Effect.forkChild(
        Fallback.fallback(Effect.fail("no"), [Fallback.local(() => Effect.never), Fallback.local(() => count)])
      )
      yield* Effect.yieldNow
      yield* Fiber.interrupt(inStrategy)
      assert.isTrue(Exit.hasInterrupts(inStrategy.pollUnsafe()!))
      assert.strictEqual(used, 0)
    }))

  it.effect("onFallback is told which strategy answered which error, and of nothing else", () =>
    Effect.gen(function*() {
      const told: Array<readonly [string, string]> = []
      const onFallback = (used: Fallback.Used<string>) =>
        Effect.sync(() => {
          told.push([used.strategy, used.error])
        })
      const store = yield* Fallback.makeStore<string>()
      const cache = Fallback.cache(store, "k")
      const failing = Effect.fail("down") as Effect.Effect<string, string>
      yield* Fallback.fallback(failing, [Fallback.local(() => Effect.succeed("x"))], { onFallback })
      yield* Fallback.fallback(failing, [Fallback.use("mirror", () => Effect.succeed("x"))], { onFallback })
      yield* Fallback.fallback(failing, [cache, Fallback.value("x")], { onFallback })
      yield* Fallback.fallback(Effect.succeed("good"), [cache], { onFallback })
      yield* Fallback.fallback(failing, [cache], { onFallback })
      yield* Effect.flip(Fallback.fallback(failing, [Fallback.local(() => Effect.fail("too"))], { onFallback }))
      assert.deepStrictEqual(told, [["local", "down"], ["mirror", "down"], ["default", "down"], ["cache", "down"]])
    }))

  describe("store", () => {
    it.effect("is bounded: the key written longest ago goes first", () =>
      Effect.gen(function*() {
        const store = yield* Fallback.makeStore<number>({ capacity: 2 })
        yield* store.set("a", 1)
        yield* store.set("b", 2)
        yield* store.set("a", 3)
        yield* store.set("c", 4)
        const kept = yield* Effect.forEach(["a", "b", "c"], store.get)
        assert.deepStrictEqual(kept, [Option.some(3), Option.none(), Option.some(4)])
      }))

    it.effect("a value older than maxAge is not used", () =>
      Effect.gen(function*() {
        const store = yield* Fallback.makeStore<number>({ maxAge: "1 minute" })
        yield* store.set("a", 1)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* store.get("a"), Option.some(1))
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(yield* store.get("a"), Option.none())
      }))

    it.effect("agrees with a reference model", () =>
      Effect.promise(() => {
        const key = fc.constantFrom("a", "b", "c", "d")
        return fc.assert(
          fc.asyncProperty(
            fc.array(fc.oneof(fc.record({ set: key }), fc.record({ get: key })), { maxLength: 60 }),
            fc.integer({ min: 1, max: 4 }),
            (operations, capacity) =>
              Effect.runPromise(Effect.gen(function*() {
                const store = yield* Fallback.makeStore<number>({ capacity })
                let model: Array<readonly [string, number]> = []
                let written = 0
                for (const operation of operations) {
                  if ("set" in operation) {
                    const entry = [operation.set, written++] as const
                    yield* store.set(...entry)
                    model = [...model.filter(([key]) => key !== entry[0]), entry].slice(-capacity)
                  } else {
                    const expected = model.find(([key]) => key === operation.get)
                    const found = yield* store.get(operation.get)
                    assert.deepStrictEqual(found, expected === undefined ? Option.none() : Option.some(expected[1]))
                  }
                }
              }))
          ),
          { numRuns: 200 }
        )
      }))

    it("refuses options that are out of range, by name", () => {
      assert.throws(() => Effect.runSync(Fallback.makeStore({ capacity: 0 })), RangeError, "capacity must be")
      assert.throws(() => Effect.runSync(Fallback.makeStore({ maxAge: 0 })), RangeError, "maxAge must be")
    })
  })

  it("has the exact types: handled errors disappear", () => {
    const self = null as unknown as Effect.Effect<number, Down | Invalid, "R">
    const store = null as unknown as Fallback.Store<number>
    const cache = Fallback.cache(store, "k")
    const local = Fallback.local((_: Down | Invalid) => null as unknown as Effect.Effect<boolean, LocalError, "R2">)
    const check = () => {
      expectTypeOf(Fallback.fallback(self, [Fallback.value("x")])).toEqualTypeOf<
        Effect.Effect<number | "x", never, "R">
      >()
      expectTypeOf(Fallback.fallback(self, [cache])).toEqualTypeOf<Effect.Effect<number, Down | Invalid, "R">>()
      expectTypeOf(Fallback.fallback(self, [cache, Fallback.value(0)])).toEqualTypeOf<
        Effect.Effect<number, never, "R">
      >()
      expectTypeOf(Fallback.fallback(self, [local])).toEqualTypeOf<
        Effect.Effect<number | boolean, LocalError, "R" | "R2">
      >()
      expectTypeOf(self.pipe(Fallback.fallback([cache, local]))).toEqualTypeOf<
        Effect.Effect<number | boolean, LocalError, "R" | "R2">
      >()
      expectTypeOf(self.pipe(Fallback.fallback([local, cache]))).toEqualTypeOf<
        Effect.Effect<number | boolean, LocalError, "R" | "R2">
      >()
      expectTypeOf(self.pipe(Fallback.fallback([local, Fallback.value(0)]))).toEqualTypeOf<
        Effect.Effect<number | boolean, never, "R" | "R2">
      >()
      expectTypeOf(Fallback.fallback(self, [local], { when: (error) => error._tag === "Down" })).toEqualTypeOf<
        Effect.Effect<number | boolean, Invalid | LocalError, "R" | "R2">
      >()
      expectTypeOf(Fallback.fallback(self, [Fallback.value(0)], { when: (error): boolean => error._tag === "Down" }))
        .toEqualTypeOf<Effect.Effect<number, Down | Invalid, "R">>()
      expectTypeOf(Fallback.fallback(self, Fallback.inOrder(["cache"], [cache, local, Fallback.value("x")])))
        .toEqualTypeOf<Effect.Effect<number | boolean | "x", Down | Invalid | LocalError, "R" | "R2">>()
      const onlyDown = Fallback.local((error: Down) => Effect.succeed(error._tag))
      // @ts-expect-error the strategy does not accept Invalid
      // @effect-diagnostics-next-line missingEffectError:off
      Fallback.fallback(self, [onlyDown])
      // @ts-expect-error nor here
      // @effect-diagnostics-next-line missingEffectError:off
      self.pipe(Fallback.fallback([onlyDown]))
    }
    assert.isFunction(check)
  })
})
