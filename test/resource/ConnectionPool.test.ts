import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Status from "../../src/observability/Status.ts"
import * as ConnectionPool from "../../src/resource/ConnectionPool.ts"
import * as Database from "../../src/resource/Database.ts"
import { borrower, type Fake, fakes, fork, poolOf } from "./poolSupport.ts"

const quick = (pool: ConnectionPool.Pool<Fake, string>) => pool.use(({ id }) => Effect.succeed(id))

const exhausted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, ConnectionPool.PoolExhaustedError)
    return error
  })

describe("A pool of connections of any kind", () => {
  describe("opens and keeps", () => {
    it.effect("opens one when somebody asks, keeps it, and lends the one that was used last", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind)
        assert.strictEqual(kind.open.size, 0)
        assert.deepStrictEqual([yield* quick(pool), yield* quick(pool)], [1, 1])
        const [one, other] = [yield* borrower(pool), yield* borrower(pool)]
        assert.deepStrictEqual([yield* one.taken, yield* other.taken], [1, 2])
        yield* other.leave
        yield* one.leave
        yield* Fiber.joinAll([one.fiber, other.fiber])
        assert.strictEqual(yield* quick(pool), 1)
      }))

    it.effect("keeps the minimum open from the start, and again after one is closed", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { minConnections: 2, maxConnections: 3 })
        assert.strictEqual(kind.open.size, 2)
        yield* TestClock.adjust("2 seconds")
        yield* pool.use((fake) => pool.invalidate(fake))
        assert.deepStrictEqual([kind.all.length, kind.open.size], [3, 2])
      }))

    it.effect("leaves what it could not open for the next one who asks, and tells nobody else", () =>
      Effect.gen(function*() {
        const kind = fakes()
        kind.hook.opening = Effect.fail("refused")
        const pool = yield* poolOf(kind, { minConnections: 2 })
        assert.strictEqual(yield* Effect.flip(quick(pool)), "refused")
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 0, waiting: 0 })
        kind.hook.opening = Effect.void
        assert.strictEqual(yield* quick(pool), 1)
      }))

    it.effect("does not open again and again what breaks as soon as it is open", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { minConnections: 1, maxConnections: 1 })
        for (let i = 0; i < 3; i++) yield* pool.use((fake) => pool.invalidate(fake))
        // One a borrower.
        assert.strictEqual(kind.all.length, 3)
      }))

    it.effect("gives what acquire, validate and reset need, from where the pool was made", () =>
      Effect.gen(function*() {
        class Server extends Context.Service<Server, string>()("test/Server") {}
        const said: Array<string> = []
        const say = (what: string) =>
          Effect.flatMap(Server, (server) => Effect.sync(() => void said.push(what + server)))
        const pool = yield* ConnectionPool.make({
          acquire: Effect.acquireRelease(say("open "), () => Effect.sync(() => said.push("close"))),
          validate: () => say("ask "),
          reset: () => say("reset "),
          validationInterval: 0
        }).pipe(Effect.provideService(Server, "a"))
        yield* pool.use(() => Effect.void)
        yield* pool.use(() => Effect.void).pipe(Effect.provideService(Server, "b"))
        assert.deepStrictEqual(said, ["open a", "reset a", "ask a", "reset a"])
      }))
  })

  describe("bounds waiting", () => {
    it.effect("serves in order of arrival, and refuses at once when enough wait already", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { name: "mail", maxConnections: 1, maxWaiting: 2 })
        const order: Array<string> = []
        const first = yield* borrower(pool)
        yield* first.taken
        const waiters = yield* Effect.forEach(["b", "c"], (name) =>
          fork(pool.use(() => Effect.sync(() => order.push(name)))))
        assert.deepInclude(yield* pool.stats, { max: 1, active: 1, idle: 0, waiting: 2 })
        const error = yield* exhausted(quick(pool))
        assert.strictEqual(error.reason, "TooManyWaiting")
        assert.strictEqual(
          error.message,
          "all 1 connections of the pool \"mail\" are in use and 2 callers wait already (at most 2)"
        )
        assert.instanceOf(error, Database.PoolExhaustedError)
        yield* first.leave
        yield* Fiber.joinAll(waiters)
        assert.deepStrictEqual(order, ["b", "c"])
      }))

    it.effect("ends a wait for a free one at the acquire time-out", () =>
      Effect.gen(function*() {
        const pool = yield* poolOf(fakes(), { name: "mail", maxConnections: 1, acquireTimeout: "3 seconds" })
        yield* borrower(pool)
        const waiter = yield* fork(exhausted(quick(pool)))
        yield* TestClock.adjust("2999 millis")
        assert.isUndefined(waiter.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        const error = yield* Fiber.join(waiter)
        assert.strictEqual(error.reason, "AcquireTimeout")
        assert.strictEqual(
          error.message,
          "no connection of the pool \"mail\" was free within 3000 ms (1 of 1 in use, 0 waiting)"
        )
      }))

    it.effect("counts waiting and opening together, and keeps what is opened too late for the next", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { maxConnections: 1, acquireTimeout: "3 seconds", connectTimeout: "1 minute" })
        const first = yield* borrower(pool)
        yield* first.taken
        const waiter = yield* fork(exhausted(quick(pool)))
        yield* TestClock.adjust("2 seconds")
        kind.hook.opening = Effect.sleep("2 seconds")
        yield* pool.invalidate(kind.all[0]!)
        yield* first.leave
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(waiter.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(waiter)).reason, "AcquireTimeout")
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 0 })
        yield* TestClock.adjust("1 second")
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 1 })
        kind.hook.opening = Effect.die("not opened again")
        assert.strictEqual(yield* quick(pool), 2)
      }))

    it.effect("holds also when opening cannot be interrupted", () =>
      Effect.gen(function*() {
        const kind = fakes()
        kind.hook.opening = Effect.sleep("1 minute")
        const acquire = Effect.uninterruptible(kind.acquire)
        const pool = yield* poolOf(kind, { acquire, maxConnections: 1, connectTimeout: "1 second" })
        const waiter = yield* fork(exhausted(quick(pool)))
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* Fiber.join(waiter)).reason, "AcquireTimeout")
        yield* TestClock.adjust("1 minute")
        // It came after its time, and was closed.
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1])
        kind.hook.opening = Effect.void
        assert.strictEqual(yield* quick(pool), 2)
      }))

    it.effect("gives up an attempt to open after the connect time-out, and makes another", () =>
      Effect.gen(function*() {
        const kind = fakes()
        kind.hook.opening = Effect.never
        const pool = yield* poolOf(kind, { connectTimeout: "1 second" })
        const waiter = yield* fork(quick(pool))
        yield* TestClock.adjust("999 millis")
        kind.hook.opening = Effect.void
        assert.isUndefined(waiter.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Fiber.join(waiter), 1)
      }))

    it.effect("gives a connection that comes back to who waits for a slow one to open", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind)
        const first = yield* borrower(pool)
        yield* first.taken
        kind.hook.opening = Effect.sleep("1 second")
        const second = yield* fork(quick(pool))
        const third = yield* fork(quick(pool))
        assert.isUndefined(second.pollUnsafe())
        yield* first.leave
        assert.deepStrictEqual([yield* Fiber.join(second), yield* Fiber.join(third)], [1, 1])
        // What was begun is kept.
        yield* TestClock.adjust("1 second")
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 2 })
      }))

    it.effect("fails who waits when opening fails, and only one of them", () =>
      Effect.gen(function*() {
        const kind = fakes()
        kind.hook.opening = Effect.andThen(Effect.sleep("1 second"), Effect.fail("refused"))
        const pool = yield* poolOf(kind)
        const first = yield* fork(Effect.exit(quick(pool)))
        kind.hook.opening = Effect.sleep("2 seconds")
        const second = yield* fork(Effect.exit(quick(pool)))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(first), Exit.fail("refused"))
        assert.isUndefined(second.pollUnsafe())
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* Fiber.join(second), Exit.succeed(1))
      }))
  })

  describe("replaces", () => {
    it.effect("closes what is above the minimum after the idle time-out, the longest idle first", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { maxConnections: 3, minConnections: 1, idleTimeout: "10 seconds" })
        const all = [yield* borrower(pool), yield* borrower(pool), yield* borrower(pool)]
        for (const { leave } of all) {
          yield* leave
          yield* TestClock.adjust("1 second")
        }
        yield* TestClock.adjust("6999 millis")
        assert.strictEqual(kind.open.size, 3)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual([...kind.open].map(({ id }) => id), [2, 3])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([...kind.open].map(({ id }) => id), [3])
        yield* TestClock.adjust("1 day")
        assert.strictEqual(kind.open.size, 1)
      }))

    it.effect("a connection that has reached its lifetime, less up to a tenth", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, {
          maxLifetime: "100 seconds",
          idleTimeout: "1 day",
          validationInterval: "1 day"
        })
        yield* quick(pool)
        yield* TestClock.adjust("89999 millis")
        assert.strictEqual(yield* quick(pool), 1)
        yield* TestClock.adjust("10001 millis")
        assert.strictEqual(yield* quick(pool), 2)
        assert.strictEqual(kind.all[0]!.closed, 1)
        // Also when it comes back.
        const last = yield* borrower(pool)
        yield* TestClock.adjust("100 seconds")
        assert.strictEqual(kind.open.size, 1)
        yield* last.leave
        yield* Fiber.join(last.fiber)
        assert.strictEqual(kind.open.size, 0)
      }))

    it.effect("not all at the same time, though they were opened together", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, {
          maxConnections: 20,
          minConnections: 20,
          maxLifetime: "1000 seconds",
          validationInterval: "1 day"
        })
        const touch = Effect.scoped(Effect.replicateEffect(pool.reserve, 20))
        const left: Array<number> = []
        for (const seconds of [900, 25, 25, 25, 25]) {
          yield* TestClock.adjust(Duration.seconds(seconds))
          yield* touch
          left.push(kind.all.slice(0, 20).filter(({ closed }) => closed === 0).length)
        }
        assert.strictEqual(left[0], 20)
        assert.strictEqual(left[4], 0)
        assert.isTrue(left.slice(1, 4).every((n) => n > 0 && n < 20), left.join())
      }))

    it.effect("one that lay idle for long and does not answer: the borrower gets another", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { validationInterval: "10 seconds", validationTimeout: "1 second" })
        yield* quick(pool)
        yield* TestClock.adjust("9999 millis")
        assert.strictEqual(yield* quick(pool), 1)
        assert.deepStrictEqual(kind.asked, [])
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* quick(pool), 1)
        assert.deepStrictEqual(kind.asked, [1])
        // Answering counts as a use.
        assert.strictEqual(yield* quick(pool), 1)
        assert.deepStrictEqual(kind.asked, [1])
        yield* TestClock.adjust("10 seconds")
        kind.all[0]!.lives = false
        assert.strictEqual(yield* quick(pool), 2)
        yield* TestClock.adjust("10 seconds")
        kind.hook.asking = Effect.never
        const waiter = yield* fork(quick(pool))
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(waiter.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Fiber.join(waiter), 3)
        yield* TestClock.adjust("10 seconds")
        kind.hook.asking = Effect.die("bug")
        assert.strictEqual(yield* quick(pool), 4)
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1, 1, 1, 0])
      }))

    it.effect("one that was said to be broken, now or when it comes back", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind)
        yield* pool.use((fake) =>
          Effect.andThen(pool.invalidate(fake), Effect.sync(() => assert.strictEqual(fake.closed, 0)))
        )
        assert.strictEqual(kind.all[0]!.closed, 1)
        yield* quick(pool)
        yield* pool.invalidate(kind.all[1]!)
        yield* pool.invalidate(kind.all[1]!)
        yield* pool.invalidate({ id: 0, closed: 0, lives: true })
        assert.strictEqual(kind.all[1]!.closed, 1)
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 0 })
      }))

    it.effect("one whose borrower died or was interrupted, not one whose borrower failed, unless told otherwise", () =>
      Effect.gen(function*() {
        const ways: ReadonlyArray<Effect.Effect<never, string>> = [
          Effect.fail("no"),
          Effect.die("bug"),
          Effect.interrupt
        ]
        const closed = (options: Partial<ConnectionPool.Options<Fake, string, Scope.Scope>>) =>
          Effect.forEach(ways, (way) =>
            Effect.gen(function*() {
              const kind = fakes()
              const pool = yield* poolOf(kind, options)
              yield* Effect.exit(pool.use(() => way))
              yield* Effect.exit(Effect.scoped(Effect.andThen(pool.reserve, way)))
              return kind.all.map(({ closed }) => closed)
            }))
        assert.deepStrictEqual(yield* closed({}), [[0], [1, 1], [1, 1]])
        assert.deepStrictEqual(yield* closed({ isBroken: Cause.hasFails }), [[1, 1], [0], [0]])
        const throws = () => {
          throw new Error("bug")
        }
        assert.deepStrictEqual(yield* closed({ isBroken: throws }), [[1, 1], [1, 1], [1, 1]])
        assert.deepStrictEqual(yield* closed({ reset: throws }), [[1, 1], [1, 1], [1, 1]])
      }))

    it.effect("one that cannot be reset; one that can is lent when it is, and nobody waits to give back", () =>
      Effect.gen(function*() {
        const kind = fakes()
        let reset: Effect.Effect<void, string> | undefined = undefined as Effect.Effect<void, string> | undefined
        const pool = yield* poolOf(kind, { maxConnections: 1, reset: () => reset, validationTimeout: "1 second" })
        yield* quick(pool)
        reset = Effect.sleep("500 millis")
        assert.strictEqual(yield* quick(pool), 1)
        const next = yield* fork(quick(pool))
        assert.isUndefined(next.pollUnsafe())
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 0, waiting: 1 })
        yield* TestClock.adjust("500 millis")
        assert.strictEqual(yield* Fiber.join(next), 1)
        yield* TestClock.adjust("500 millis")
        reset = Effect.fail("no")
        assert.deepStrictEqual([yield* quick(pool), yield* quick(pool)], [1, 2])
        reset = Effect.never
        yield* quick(pool)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1, 1, 1])
      }))
  })

  describe("purges", () => {
    it.effect("closes the idle ones now and the lent ones when they come back", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { minConnections: 1 })
        const held = yield* borrower(pool)
        const other = yield* borrower(pool)
        yield* other.leave
        yield* Fiber.join(other.fiber)
        yield* pool.purge
        assert.deepStrictEqual(kind.all.slice(0, 2).map(({ closed }) => closed), [0, 1])
        assert.notInclude([1, 2], yield* quick(pool))
        yield* held.leave
        assert.strictEqual(yield* Fiber.join(held.fiber), 1)
        assert.strictEqual(kind.all[0]!.closed, 1)
        assert.isAtMost(kind.most(), 2)
      }))

    it.effect("lends none that was being opened, asked or reset meanwhile", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { validationInterval: "1 second" })
        kind.hook.opening = Effect.sleep("1 second")
        const opening = yield* fork(quick(pool))
        yield* pool.purge
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* Fiber.join(opening), 2)
        yield* TestClock.adjust("1 second")
        kind.hook.asking = Effect.sleep("1 second")
        const asking = yield* fork(quick(pool))
        yield* pool.purge
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* Fiber.join(asking), 3)
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1, 1, 0])
      }))

    it.effect("waits until they are closed, and goes on when its caller does not; never more are open than may be", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { maxConnections: 1 })
        yield* quick(pool)
        kind.hook.closing = Effect.sleep("1 second")
        const purge = yield* fork(pool.purge)
        assert.isUndefined(purge.pollUnsafe())
        yield* Fiber.interrupt(purge)
        const next = yield* fork(quick(pool))
        assert.strictEqual(kind.all.length, 1)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(next), 2)
        assert.strictEqual(kind.most(), 1)
        kind.hook.closing = Effect.void
      }))

    it.effect("nor are more open when one that was spent is still being closed", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { maxConnections: 1, maxLifetime: "10 seconds", idleTimeout: "1 day" })
        yield* quick(pool)
        kind.hook.closing = Effect.sleep("1 second")
        yield* TestClock.adjust("10 seconds")
        const next = yield* fork(quick(pool))
        assert.strictEqual(kind.all.length, 1)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(next), 2)
        kind.hook.closing = Effect.void
      }))

    it.effect("a close that hangs is told and passed over", () => {
      const said: Array<string> = []
      return Effect.gen(function*() {
        const kind = fakes()
        const pool = yield* poolOf(kind, { name: "mail", maxConnections: 1 })
        yield* quick(pool)
        kind.hook.closing = Effect.never
        const purge = yield* fork(pool.purge)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(purge)
        kind.hook.closing = Effect.void
        assert.strictEqual(yield* quick(pool), 2)
        assert.deepStrictEqual(said, ["a connection of the pool \"mail\" did not close within 5000 ms"])
      }).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void said.push(String(message)))])))
    })
  })

  describe("shows", () => {
    it.effect("who holds a connection, and warns once of one that is held for too long", () => {
      const warnings: Array<string> = []
      return Effect.gen(function*() {
        const pool = yield* poolOf(fakes(), { name: "mail", leakAfter: "30 seconds" })
        const hold = Effect.fn("sendReport")(function*() {
          return yield* pool.use(() => Effect.never)
        })
        yield* fork(hold())
        yield* fork(
          Effect.withSpan(Effect.scoped(Effect.andThen(pool.reserve, Effect.never)), "reserved").pipe(
            Effect.provideService(ConnectionPool.LeakAfter, Duration.hours(1))
          )
        )
        yield* TestClock.adjust("29999 millis")
        const [first, second] = yield* pool.leases
        assert.deepInclude(first, { since: 0, held: 29_999 })
        assert.match(first!.borrower, /^sendReport/)
        assert.strictEqual(second!.borrower, "reserved")
        assert.deepStrictEqual(warnings, [])
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(warnings.length, 1)
        assert.match(warnings[0]!, /^a connection of the pool "mail" has been held for 30 s, by: sendReport/)
        assert.strictEqual((yield* pool.stats).leaks, 1)
      }).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))])))
    })

    it.effect("how long acquiring took, and not of those who went away", () =>
      Effect.gen(function*() {
        const pool = yield* poolOf(fakes(), { maxConnections: 1, acquireTimeout: "2 seconds" })
        const first = yield* borrower(pool)
        const impatient = yield* fork(quick(pool))
        const second = yield* fork(quick(pool))
        const third = yield* fork(Effect.exit(quick(pool)))
        yield* Fiber.interrupt(impatient)
        yield* TestClock.adjust("1 second")
        yield* first.leave
        yield* Fiber.joinAll([second, third])
        yield* borrower(pool)
        const late = yield* fork(Effect.exit(quick(pool)))
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(late)
        const { acquire } = yield* pool.stats
        assert.deepInclude(acquire, { attempts: 5, successes: 4, failures: 1 })
        assert.closeTo(acquire.max, 2_000, 100)
      }))

    it.effect("itself in the status tree, when it has a name", () =>
      Effect.gen(function*() {
        const status = yield* Status.Status
        yield* Effect.scoped(Effect.gen(function*() {
          const pool = yield* poolOf(fakes(), { name: "mail" })
          yield* poolOf(fakes())
          yield* pool.use(() =>
            Effect.gen(function*() {
              const node = yield* status.get("pool:mail")
              assert.deepInclude(node, { kind: "pool", state: "ready" })
              assert.deepStrictEqual(node!.counters, { max: 2, active: 1, idle: 0, waiting: 0, leaks: 0 })
              assert.strictEqual(node!.operations["acquire"]!.successes, 1)
            })
          )
          assert.strictEqual((yield* status.snapshot).nodes.length, 1)
        }))
        assert.isUndefined(yield* status.get("pool:mail"))
      }).pipe(Effect.provide(Status.layer)))

    it.effect("what is wrong with its options, by name", () =>
      Effect.gen(function*() {
        const wrong: ReadonlyArray<[Partial<ConnectionPool.Options<Fake, string, Scope.Scope>>, RegExp]> = [
          [{ maxConnections: 0 }, /^maxConnections must be a whole number of at least 1, got 0/],
          [{ minConnections: -1 }, /^minConnections must/],
          [{ minConnections: 3 }, /^minConnections must be at most maxConnections \(2\), got 3/],
          [{ maxWaiting: 1.5 }, /^maxWaiting must/],
          [{ acquireTimeout: 0 }, /^acquireTimeout must be a duration above zero/],
          [{ connectTimeout: 0 }, /^connectTimeout must/],
          [{ idleTimeout: 0 }, /^idleTimeout must/],
          [{ maxLifetime: 0 }, /^maxLifetime must/],
          [{ validationInterval: NaN }, /^validationInterval must/],
          [{ validationTimeout: 0 }, /^validationTimeout must/],
          [{ closeTimeout: 0 }, /^closeTimeout must/],
          [{ leakAfter: 0 }, /^leakAfter must/]
        ]
        for (const [options, message] of wrong) {
          const exit = yield* Effect.exit(poolOf(fakes(), options))
          assert.isTrue(Exit.isFailure(exit))
          const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
          assert.instanceOf(defect, RangeError)
          assert.match((defect as RangeError).message, message)
        }
      }))
  })

  describe("ends with its scope", () => {
    it.effect("refuses who waits and who comes, closes everything once, and leaves no fiber", () =>
      Effect.gen(function*() {
        const kind = fakes()
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(poolOf(kind, { maxConnections: 3, name: "mail" }), scope)
        const held = yield* borrower(pool)
        yield* held.taken
        yield* Effect.scoped(Effect.andThen(pool.reserve, Effect.void))
        kind.hook.opening = Effect.never
        const idle = yield* borrower(pool)
        yield* idle.taken
        const opening = yield* fork(exhausted(quick(pool)))
        const waiting = yield* fork(exhausted(quick(pool)))
        yield* Scope.close(scope, Exit.void)
        for (const fiber of [opening, waiting]) assert.strictEqual((yield* Fiber.join(fiber)).reason, "Closed")
        assert.strictEqual((yield* exhausted(quick(pool))).message, "the pool \"mail\" is closed")
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1, 1])
        yield* held.leave
        yield* idle.leave
        yield* Fiber.joinAll([held.fiber, idle.fiber])
        yield* pool.purge
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1, 1])
        // Whatever slept in the pool is gone: nothing happens any more.
        yield* TestClock.adjust("1 day")
        assert.deepInclude(yield* pool.stats, { active: 0, idle: 0, waiting: 0, leaks: 0 })
      }))

    it.effect("closes once what opens only after that", () =>
      Effect.gen(function*() {
        const kind = fakes()
        kind.hook.opening = Effect.sleep("1 minute")
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(poolOf(kind, { acquire: Effect.uninterruptible(kind.acquire) }), scope)
        const opening = yield* fork(exhausted(quick(pool)))
        const closing = yield* fork(Scope.close(scope, Exit.void))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.joinAll([closing, opening])
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(kind.all.map(({ closed }) => closed), [1])
      }))

    it.effect("as a service, and by a pipe", () =>
      Effect.gen(function*() {
        class Mail extends Context.Service<Mail, ConnectionPool.Pool<Fake, string>>()("test/Mail") {}
        const kind = fakes()
        const send = Effect.flatMap(Mail, ConnectionPool.use(({ id }) => Effect.succeed(id)))
        const layer = ConnectionPool.layer(Mail, { acquire: kind.acquire })
        assert.deepStrictEqual(yield* Effect.all([send, send]).pipe(Effect.provide(layer)), [1, 1])
        assert.strictEqual(kind.all[0]!.closed, 1)
        const pool = yield* poolOf(kind)
        assert.strictEqual(yield* ConnectionPool.use(pool, ({ id }) => Effect.succeed(id)), 2)
      }))
  })

  it.effect("tells what nobody waits for as an unhandled failure", () => {
    const said: Array<string> = []
    return Effect.gen(function*() {
      const kind = fakes()
      kind.hook.opening = Effect.fail("refused")
      yield* poolOf(kind, { name: "mail", minConnections: 1 })
      assert.deepStrictEqual(said, ["the pool \"mail\" could not open a connection"])
    }).pipe(
      Effect.provide(Layer.mergeAll(
        Logger.layer([Logger.make(({ message }) => void said.push(String(message)))]),
        Layer.succeed(References.UnhandledLogLevel, "Error")
      ))
    )
  })
})
