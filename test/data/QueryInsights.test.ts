import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as PgliteDatabase from "../../src/backends/PgliteDatabase.ts"
import * as QueryInsights from "../../src/data/QueryInsights.ts"
import * as Status from "../../src/observability/Status.ts"
import { Unobserved } from "../../src/resource/database/observer.ts"
import { turns } from "../support/EveryStep.ts"
import * as FakeDatabase from "./queryInsights/fakeDatabase.ts"
import { suite } from "./queryInsightsSuite.ts"

const message = (make: () => unknown): string => {
  try {
    make()
  } catch (error) {
    if (error instanceof RangeError) return error.message
    throw error
  }
  throw new Error("it was accepted")
}

const counters = Effect.map(
  Effect.flatMap(Status.Status, (status) => status.get("query-insights")),
  (node) => node?.counters
)

/** Runs with a database that a test directs. */
const directed = <A, E>(
  fake: FakeDatabase.FakeDatabase,
  options: QueryInsights.Options,
  program: Effect.Effect<A, E, QueryInsights.QueryInsights | Status.Status>
) =>
  Effect.provide(
    program,
    QueryInsights.layerWith(options).pipe(Layer.provide(fake.layer), Layer.provideMerge(Status.layer))
  )

describe("options", () => {
  it("out of range throw a RangeError that names the option and what is valid", () => {
    const layer = (options: QueryInsights.Options) => message(() => QueryInsights.layerWith(options))
    assert.match(layer({ slowerThan: 0 }), /^slowerThan must be a duration above zero/)
    assert.match(layer({ maxStatements: 0 }), /^maxStatements must be a whole number of at least 1/)
    assert.match(layer({ explain: { every: -1 } }), /^explain\.every must be a duration of zero or more/)
    assert.match(layer({ explain: { perMinute: 0 } }), /^explain\.perMinute must be a whole number of at least 1/)
    assert.match(layer({ largeTable: 0.5 }), /^largeTable must be a whole number of at least 1/)
    assert.match(layer({ repeatedAt: 1 }), /^repeatedAt must be a whole number of at least 2/)
    assert.match(layer({ statisticsAge: -1 }), /^statisticsAge must be a duration of zero or more/)
  })
})

describe("without a layer", () => {
  it.effect("nothing is observed, and a request is only what runs in it", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      yield* Effect.provide(
        Effect.gen(function*() {
          assert.strictEqual(yield* QueryInsights.request(Effect.succeed("value"), "GET /"), "value")
          assert.strictEqual(yield* Effect.flip(Effect.fail("no").pipe(QueryInsights.request("GET /"))), "no")
          assert.isEmpty(fake.observers.all)
        }),
        fake.layer
      )
    }))

  it.effect("and after its layer is gone neither", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      yield* directed(fake, {}, Effect.sync(() => assert.lengthOf(fake.observers.all, 1)))
      assert.isEmpty(fake.observers.all)
    }))
})

describe("the slow-query log", () => {
  it.effect("has what takes as long as `slowerThan`, interrupted and failed statements too, and no others", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      const slow = yield* directed(
        fake,
        { slowerThan: "100 millis", explain: false, ignore: (text) => text.includes("health") },
        Effect.gen(function*() {
          yield* fake.ran("SELECT a", 99.9)
          yield* fake.ran("SELECT b", 100)
          yield* fake.ran("SELECT c", 500, [], Exit.interrupt())
          yield* fake.ran("SELECT health", 500)
          yield* Effect.provideService(fake.ran("SELECT own", 500), Unobserved, true)
          assert.strictEqual((yield* counters)?.["slow"], 2)
          return yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.slow)
        })
      )
      assert.deepStrictEqual(slow.map(({ count, failures, text }) => [text, count, failures]), [
        ["SELECT c", 1, 1],
        ["SELECT b", 1, 0]
      ])
    }))

  it.effect("is as slow as the setting `monitoring.performance_threshold` says", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      const slow = yield* Effect.gen(function*() {
        yield* fake.ran("SELECT a", 199)
        yield* fake.ran("SELECT b", 200)
        return yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.slow)
      }).pipe(
        Effect.provide(QueryInsights.layer.pipe(Layer.provide(fake.layer), Layer.provide(Status.layer))),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnv({ env: { MONITORING_PERFORMANCE_THRESHOLD: "200 millis" } })
        )
      )
      assert.deepStrictEqual(slow.map(({ text }) => text), ["SELECT b"])
    }))

  it.effect("is cleared, and counters stay", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      yield* directed(
        fake,
        { maxStatements: 2, explain: false },
        Effect.gen(function*() {
          const insights = yield* QueryInsights.QueryInsights
          for (const name of ["a", "b", "c"]) yield* fake.ran(`SELECT ${name}`, 5_000)
          assert.lengthOf(yield* insights.slow, 2)
          yield* insights.clear
          assert.isEmpty(yield* insights.slow)
          assert.deepInclude(yield* counters, { slow: 3, dropped: 1 })
        })
      )
    }))

  it.effect("never fails the statement that it is about, whatever users hand in", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      const hostile = new Proxy({}, {
        get: () => {
          throw new Error("do not touch")
        },
        getPrototypeOf: () => {
          throw new Error("do not touch")
        }
      })
      yield* directed(
        fake,
        {
          ignore: (text) => {
            if (text.includes("bad")) throw new Error("made by a test")
            return false
          }
        },
        Effect.gen(function*() {
          yield* fake.ran("SELECT bad", 5_000)
          yield* fake.ran("SELECT $1", 5_000, [hostile])
          yield* fake.ran("SELECT good", 5_000)
          const slow = yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.slow)
          assert.deepStrictEqual(slow.map(({ text }) => text), ["SELECT good"])
          assert.strictEqual((yield* counters)?.["dropped"], 2)
        })
      )
    }))

  it.effect("is told live, with what requests repeat", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      yield* directed(
        fake,
        { repeatedAt: 2, explain: false },
        Effect.gen(function*() {
          const { changes } = yield* QueryInsights.QueryInsights
          const fiber = yield* Effect.forkChild(Stream.runCollect(Stream.take(changes, 2)), { startImmediately: true })
          yield* turns(20)
          yield* fake.ran("SELECT a", 5_000)
          yield* QueryInsights.request(Effect.andThen(fake.ran("SELECT b", 1), fake.ran("SELECT b", 1)), "GET /")
          const heard = Array.from(yield* Fiber.join(fiber)).map((change) =>
            change.type === "slow" ? [change.type, change.statement.text] : [change.type, change.repeated.text]
          )
          assert.deepStrictEqual(heard, [["slow", "SELECT a"], ["repeated", "SELECT b"]])
        })
      )
    }))
})

describe("a request", () => {
  it.effect("that is interrupted is told as well, with all that ran by then, also beside each other", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      const repeated = yield* directed(
        fake,
        { repeatedAt: 3 },
        Effect.gen(function*() {
          const work = Effect.forEach(
            [1, 2, 3, 4],
            (id) => Effect.andThen(fake.ran("SELECT a WHERE id = $1", 2, [id]), Effect.never),
            { concurrency: "unbounded" }
          )
          const fiber = yield* Effect.forkChild(QueryInsights.request(work, "GET /slow"), { startImmediately: true })
          yield* turns(20)
          yield* Fiber.interrupt(fiber)
          return yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.repeated)
        })
      )
      assert.deepStrictEqual(repeated.map(({ request, runs, text, total }) => [request, text, runs, total]), [
        ["GET /slow", "SELECT a WHERE id = $1", 4, 8]
      ])
    }))

  it.effect("does not count what outlives it", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      const repeated = yield* directed(
        fake,
        { repeatedAt: 2 },
        Effect.gen(function*() {
          const late = Effect.andThen(Effect.sleep("1 second"), fake.ran("SELECT a", 1))
          const fiber = yield* QueryInsights.request(
            Effect.andThen(fake.ran("SELECT a", 1), Effect.forkDetach(late)),
            "GET /"
          )
          yield* TestClock.adjust("2 seconds")
          yield* Fiber.join(fiber)
          return yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.repeated)
        })
      )
      assert.isEmpty(repeated)
    }))
})

describe("explaining", () => {
  const prepared = (fake: FakeDatabase.FakeDatabase) => fake.sent.filter((sql) => sql.startsWith("PREPARE")).length

  it.effect("looks at the plan alone, in a read-only transaction that is rolled back", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      yield* directed(
        fake,
        {},
        Effect.gen(function*() {
          yield* fake.ran("DELETE FROM t WHERE id = $1 AND name = $2;", 5_000, [7, "hunter2"])
          yield* turns(200)
        })
      )
      const shown = fake.sent.map((sql) => sql.replace(/seaworthy_\w+/, "name").replace(/effect_sql_\d+/, "point"))
      assert.deepStrictEqual(shown, [
        "BEGIN READ ONLY",
        "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true), set_config('plan_cache_mode', 'force_generic_plan', true)",
        "PREPARE name AS DELETE FROM t WHERE id = $1 AND name = $2",
        "SAVEPOINT point",
        "EXPLAIN (FORMAT JSON, VERBOSE, COSTS) EXECUTE name(NULL, NULL)",
        "DEALLOCATE name",
        "ROLLBACK"
      ])
    }))

  it.effect("is done once a statement in a while, and so often a minute in all", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      yield* directed(
        fake,
        { explain: { every: "10 minutes", perMinute: 3 } },
        Effect.gen(function*() {
          const run = (name: string) => Effect.andThen(fake.ran(`SELECT ${name}`, 5_000), turns(200))
          yield* run("a")
          yield* run("a")
          assert.strictEqual(prepared(fake), 1)
          for (const name of ["b", "c", "d", "e"]) yield* run(name)
          assert.strictEqual(prepared(fake), 3)
          yield* TestClock.adjust("1 minute")
          for (const name of ["a", "d"]) yield* run(name)
          assert.strictEqual(prepared(fake), 4)
          yield* TestClock.adjust("9 minutes")
          yield* run("a")
          assert.strictEqual(prepared(fake), 5)
        })
      )
    }))

  it.effect("waits a second for room in the pool, then leaves it for the next slow run", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("pg")
      fake.active = 1
      yield* directed(
        fake,
        {},
        Effect.gen(function*() {
          yield* fake.ran("SELECT a", 5_000)
          yield* turns(200)
          yield* TestClock.adjust("1 second")
          yield* turns(200)
          assert.strictEqual(prepared(fake), 0)
          assert.strictEqual((yield* counters)?.["explainSkipped"], 1)
          fake.active = 0
          yield* fake.ran("SELECT a", 5_000)
          yield* turns(200)
          assert.strictEqual(prepared(fake), 1)
        })
      )
    }))

  it.effect("is not done when it is turned off, nor on a driver whose plans are not known", () =>
    Effect.gen(function*() {
      for (const [driver, explain] of [["pg", false], ["sqlite", true]] as const) {
        const fake = FakeDatabase.make(driver)
        yield* directed(fake, { explain }, Effect.andThen(fake.ran("SELECT a", 5_000), turns(200)))
        assert.isEmpty(fake.sent)
      }
    }))
})

describe("a report on another driver", () => {
  it.effect("has the slow statements and repeated queries, and says what it cannot look at", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("sqlite")
      const report = yield* directed(
        fake,
        { repeatedAt: 2 },
        Effect.gen(function*() {
          yield* fake.ran("SELECT a FROM t LIMIT 10 OFFSET 50000", 5_000)
          yield* QueryInsights.request(Effect.andThen(fake.ran("SELECT b", 1), fake.ran("SELECT b", 1)), "GET /")
          return yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.report)
        })
      )
      assert.deepStrictEqual(report.unread, [
        "plans and statistics: only of Postgres are they known, not of \"sqlite\""
      ])
      assert.deepStrictEqual(report.findings.map(({ kind }) => kind), ["RepeatedQuery", "LargeOffset"])
      assert.lengthOf(report.slow, 1)
      assert.isEmpty(fake.sent)
      assert.include(QueryInsights.render(report), "Not looked at:\n- plans and statistics")
    }))
})

describe("a rendered report", () => {
  it.effect("cannot be broken by what statements and names have in them", () =>
    Effect.gen(function*() {
      const fake = FakeDatabase.make("sqlite")
      const report = yield* directed(
        fake,
        { repeatedAt: 2 },
        Effect.gen(function*() {
          const evil = "SELECT \"a`\n```\n# Owned\" FROM t"
          yield* QueryInsights.request(Effect.andThen(fake.ran(evil, 5_000), fake.ran(evil, 5_000)), "GET /\n# Owned")
          return yield* Effect.flatMap(QueryInsights.QueryInsights, (insights) => insights.report)
        })
      )
      assert.notMatch(QueryInsights.render(report), /^(?:# Owned|```)/m)
    }))
})

suite("on the embedded database", PgliteDatabase.layerWith({ data_dir: "memory://" }), true)
