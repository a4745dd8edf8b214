import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError, SqlSyntaxError } from "effect/sql/SqlError"
import { makeCompilerSqlite } from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Status from "../../src/observability/Status.ts"
import type { PoolExhaustedError } from "../../src/resource/Database.ts"
import * as Database from "../../src/resource/Database.ts"
import * as Gate from "../../src/resource/database/gate.ts"
import { ResourceError } from "../../src/resource/ResourceError.ts"
import { forkWith, interruptAt, steps, turns } from "../support/EveryStep.ts"
import { manualRestart, Restart } from "./databaseSuite.ts"

const gate = (maxConnections: number, maxWaiting: number) =>
  Gate.make({ maxConnections, maxWaiting, acquireTimeout: Duration.seconds(5) })

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

describe("Waiting for a connection", () => {
  it.effect("lets in as many as there are connections, and the next ones in the order in which they came", () =>
    Effect.gen(function*() {
      const door = gate(2, 10)
      const order: Array<number> = []
      const leave = yield* Effect.forEach([0, 1, 2, 3], () => Deferred.make<void>())
      const fibers = yield* Effect.forEach(
        leave,
        (gone, n) => fork(door.pass(Effect.andThen(Effect.sync(() => order.push(n)), Deferred.await(gone))))
      )
      assert.deepStrictEqual(order, [0, 1])
      assert.deepStrictEqual([door.inside(), door.waiting()], [2, 2])
      yield* Deferred.succeed(leave[1]!, undefined)
      yield* Fiber.join(fibers[1]!)
      yield* Deferred.succeed(leave[2]!, undefined)
      yield* Fiber.join(fibers[2]!)
      assert.deepStrictEqual(order, [0, 1, 2, 3])
      yield* Effect.forEach(leave, (gone) => Deferred.succeed(gone, undefined))
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual([door.inside(), door.waiting()], [0, 0])
    }))

  it.effect("ends after the acquire time-out with how many are in use and how many wait", () =>
    Effect.gen(function*() {
      const door = gate(1, 10)
      const holder = yield* fork(door.pass(Effect.never))
      const waiter = yield* fork(Effect.flip(door.pass(Effect.void)))
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(waiter.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const error: PoolExhaustedError = yield* Fiber.join(waiter)
      assert.strictEqual(error.reason, "AcquireTimeout")
      assert.strictEqual(error.message, "no database connection was free within 5000 ms (1 of 1 in use, 0 waiting)")
      assert.strictEqual(door.waiting(), 0)
      yield* Fiber.interrupt(holder)
      assert.strictEqual(yield* door.pass(Effect.succeed("in")), "in")
    }))

  it.effect("is refused at once when enough wait already", () =>
    Effect.gen(function*() {
      const door = gate(1, 1)
      yield* fork(door.pass(Effect.never))
      yield* fork(door.pass(Effect.void))
      assert.strictEqual((yield* Effect.flip(door.pass(Effect.void))).reason, "TooManyWaiting")
      const none = gate(1, 0)
      yield* fork(none.pass(Effect.never))
      assert.strictEqual((yield* Effect.flip(none.pass(Effect.void))).reason, "TooManyWaiting")
    }))

  it.effect("ends for everyone when the database is released", () =>
    Effect.gen(function*() {
      const door = gate(1, 5)
      yield* fork(door.pass(Effect.never))
      const waiter = yield* fork(Effect.flip(door.pass(Effect.void)))
      door.close()
      assert.strictEqual((yield* Fiber.join(waiter)).reason, "Closed")
      assert.strictEqual((yield* Effect.flip(door.pass(Effect.void))).reason, "Closed")
    }))

  it.effect("holds a place until the scope closes", () =>
    Effect.gen(function*() {
      const door = gate(1, 5)
      const scope = yield* Scope.make()
      yield* Scope.provide(door.enter, scope)
      assert.strictEqual(door.inside(), 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(door.inside(), 0)
    }))

  it.effect("passes on the place of one who was admitted at the moment it gave up", () =>
    Effect.gen(function*() {
      for (const step of steps(12, 12)) {
        const door = gate(1, 5)
        const scope = yield* Scope.make()
        yield* Scope.provide(door.enter, scope)
        const waiter = yield* forkWith(door.pass(Effect.yieldNow), step.ops)
        while (door.waiting() === 0) yield* Effect.yieldNow
        const next = yield* fork(door.pass(Effect.succeed("in")))
        yield* Scope.close(scope, Exit.void)
        yield* turns(step.turns)
        yield* Fiber.interrupt(waiter)
        assert.strictEqual(yield* Fiber.join(next), "in")
        assert.deepStrictEqual([door.inside(), door.waiting()], [0, 0], JSON.stringify(step))
      }
    }))

  it.effect("misses no place that is left while it begins to wait", () =>
    Effect.gen(function*() {
      for (const step of steps(12, 30)) {
        const door = gate(1, 5)
        const scope = yield* Scope.make()
        yield* Scope.provide(door.enter, scope)
        const waiter = yield* forkWith(door.pass(Effect.succeed("in")), step.ops)
        yield* turns(step.turns)
        yield* Scope.close(scope, Exit.void)
        // The clock stands still: only the place that was left can let it in.
        assert.strictEqual(yield* Fiber.join(waiter), "in", JSON.stringify(step))
        const refused = gate(1, 5)
        yield* fork(refused.pass(Effect.never))
        const late = yield* forkWith(Effect.flip(refused.pass(Effect.void)), step.ops)
        yield* turns(step.turns)
        refused.close()
        assert.strictEqual((yield* Fiber.join(late)).reason, "Closed", JSON.stringify(step))
      }
    }))

  it.effect("loses no place to an interruption, wherever it comes", () =>
    Effect.gen(function*() {
      for (const step of steps(12, 20)) {
        const door = gate(1, 5)
        const first = yield* fork(door.pass(Effect.yieldNow))
        yield* interruptAt(door.pass(Effect.yieldNow), step)
        yield* Fiber.join(first)
        assert.deepStrictEqual([door.inside(), door.waiting()], [0, 0], JSON.stringify(step))
      }
    }))

  it.effect("admits all in any mix of work, interruptions and time-outs, never more than there are places", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 3 }),
          fc.array(
            fc.record({
              work: fc.integer({ min: 0, max: 8000 }),
              patience: fc.option(fc.integer({ min: 0, max: 8000 }))
            }),
            { maxLength: 12 }
          ),
          (places, callers) =>
            Effect.runPromise(
              Effect.scoped(Effect.gen(function*() {
                const door = gate(places, 6)
                let most = 0
                const fibers = yield* Effect.forEach(callers, ({ patience, work }) => {
                  const inside = door.pass(
                    Effect.andThen(Effect.sync(() => most = Math.max(most, door.inside())), Effect.sleep(work))
                  )
                  return fork(patience === null ? inside : Effect.timeoutOption(inside, patience))
                })
                yield* TestClock.adjust("10 minutes")
                for (const fiber of fibers) assert.isDefined(fiber.pollUnsafe())
                assert.isAtMost(most, places)
                assert.deepStrictEqual([door.inside(), door.waiting()], [0, 0])
              })).pipe(Effect.provide(TestClock.layer()))
            )
        ),
        { numRuns: 100 }
      )
    ))
})

// A driver whose connections answer with the number of the generation that they belong to.
const fakeDriver = () => {
  const log: Array<string> = []
  let generation = 0
  const connectionOf = (n: number): Connection => {
    const execute = (sql: string) =>
      Effect.suspend(() => {
        log.push(`${n}: ${sql}`)
        if (sql.startsWith("BAD")) return Effect.fail(new SqlError({ reason: new SqlSyntaxError({ cause: "bad" }) }))
        return Effect.succeed([{ generation: n }])
      })
    return {
      execute,
      executeRaw: execute,
      executeUnprepared: execute,
      executeValues: (sql) => Effect.map(execute(sql), () => [[n]]),
      executeValuesUnprepared: (sql) => Effect.map(execute(sql), () => [[n]]),
      executeStream: (sql) => Stream.fromEffect(Effect.map(execute(sql), ([row]) => row))
    }
  }
  const layer = Database.layerFrom({
    id: "database",
    validate: Effect.void,
    connect: () =>
      Effect.acquireRelease(
        Effect.sync((): Database.Connections => {
          const connection = connectionOf(++generation)
          log.push(`${generation}: open`)
          return { borrow: (f) => f(connection), reserve: Effect.succeed(connection), migrations: [] }
        }),
        () => Effect.sync(() => log.push(`${generation}: close`))
      ),
    verify: () => Effect.void,
    options: { monitor: false }
  }, { driver: "fake", compiler: makeCompilerSqlite(), spanAttributes: [] })
  return { log, layer: layer.pipe(Layer.provideMerge(manualRestart), Layer.provideMerge(Status.layer)) }
}

describe("The client of a database", () => {
  it.effect("is one object that goes on over restarts", () => {
    const { layer } = fakeDriver()
    return Effect.gen(function*() {
      const { driver, sql } = yield* Database.Database
      assert.strictEqual(sql, yield* SqlClient)
      assert.deepStrictEqual([driver, sql.driver], ["fake", "fake"])
      assert.deepStrictEqual(yield* sql`SELECT 1`, [{ generation: 1 }])
      yield* (yield* Restart)("database")
      assert.deepStrictEqual(yield* sql`SELECT 1`, [{ generation: 2 }])
      assert.deepStrictEqual(yield* sql`SELECT 1`.values, [[2]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("keeps a transaction and a stream on the connection they began with; a restart waits for both", () => {
    const { layer, log } = fakeDriver()
    return Effect.gen(function*() {
      const sql = yield* SqlClient
      const restart = yield* Restart
      const finish = yield* Deferred.make<void>()
      const transaction = yield* fork(
        sql.withTransaction(Effect.andThen(sql`SELECT 1`, Effect.andThen(Deferred.await(finish), sql`SELECT 2`)))
      )
      const stream = yield* fork(
        sql`SELECT 3`.stream.pipe(Stream.tap(() => Deferred.await(finish)), Stream.runCollect)
      )
      const restarting = yield* fork(restart("database"))
      assert.isUndefined(restarting.pollUnsafe())
      // The one that comes now waits for the restart.
      const later = yield* fork(sql`SELECT 4`)
      yield* Deferred.succeed(finish, undefined)
      assert.deepStrictEqual(yield* Fiber.join(transaction), [{ generation: 1 }])
      assert.deepStrictEqual(yield* Fiber.join(stream), [{ generation: 1 }])
      yield* Fiber.join(restarting)
      assert.deepStrictEqual(yield* Fiber.join(later), [{ generation: 2 }])
      assert.isBelow(log.indexOf("1: COMMIT"), log.indexOf("1: close"))
      assert.isAbove(log.indexOf("1: close"), 0)
      assert.isAbove(log.indexOf("2: open"), log.indexOf("1: close"))
    }).pipe(Effect.provide(layer))
  })

  it.effect("counts statements, and not those that were interrupted", () => {
    const { layer } = fakeDriver()
    return Effect.gen(function*() {
      const { ping, sql } = yield* Database.Database
      yield* sql`SELECT 1`
      yield* Effect.ignore(sql`BAD`)
      yield* ping
      const node = yield* (yield* Status.Status).get("database")
      const { attempts, failures, successes } = node!.operations["query"]!
      assert.deepStrictEqual({ attempts, failures, successes }, { attempts: 3, failures: 1, successes: 2 })
    }).pipe(Effect.provide(layer))
  })

  it.effect("fails with a connection error, whose cause says why, once the database is released", () => {
    const { layer } = fakeDriver()
    return Effect.gen(function*() {
      const sql = yield* Effect.scoped(Effect.map(Layer.build(layer), (context) => Context.get(context, SqlClient)))
      for (const use of [sql`SELECT 1`, sql.withTransaction(Effect.void), Stream.runDrain(sql`SELECT 1`.stream)]) {
        const error: SqlError = yield* Effect.flip(use)
        assert.instanceOf(error.reason, ConnectionError)
        assert.instanceOf(error.reason.cause, ResourceError)
        assert.strictEqual(error.message, "the database is not usable: it is stopped")
      }
    })
  })

  it.effect("gives its place back when a transaction is interrupted, wherever", () => {
    const { layer, log } = fakeDriver()
    return Effect.gen(function*() {
      const sql = yield* SqlClient
      for (const step of steps(6, 30)) {
        yield* interruptAt(sql.withTransaction(sql`SELECT 1`), step)
      }
      const began = log.filter((line) => line.includes("BEGIN")).length
      const ended = log.filter((line) => /COMMIT|ROLLBACK/.test(line)).length
      assert.isAbove(began, 0)
      assert.strictEqual(ended, began)
      // No borrower is left: the restart does not wait.
      const restarting = yield* fork(Effect.flatMap(Restart, (restart) => restart("database")))
      yield* Fiber.join(restarting)
      assert.deepStrictEqual(yield* sql`SELECT 1`, [{ generation: 2 }])
    }).pipe(Effect.provide(layer))
  })
})
