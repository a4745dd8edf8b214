import * as PgClient from "@effect/sql-pg/PgClient"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import * as PostgresDatabase from "../../src/backends/PostgresDatabase.ts"
import * as Transaction from "../../src/data/Transaction.ts"
import * as StatusModule from "../../src/observability/Status.ts"
import { Database, PoolExhaustedError } from "../../src/resource/Database.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { interruptAt, steps } from "../support/EveryStep.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import { account, ask } from "../support/PostgresAccount.ts"
import * as Servers from "../support/Servers.ts"
import { suite } from "./transactionSuite.ts"

Servers.describeWith(["postgres"], "Transactions on Postgres", () => {
  const scope = Scope.makeUnsafe()
  let server: Servers.PostgresServer
  beforeAll(async () => {
    server = await Effect.runPromise(
      Scope.provide(Servers.postgres({ settings: { deadlock_timeout: "100ms" } }), scope)
    )
  }, 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 60_000)

  const options = (more: PostgresDatabase.Options = {}): PostgresDatabase.Options => ({
    ...account(server),
    retry_attempts: 0,
    ...more
  })
  const database = (more?: () => PostgresDatabase.Options) =>
    Layer.unwrap(Effect.sync(() => PostgresDatabase.layerWith(options(more?.()))))

  const admin = (sql: string) => ask(server, sql)
  const terminate = (pid: number) => admin(`SELECT pg_terminate_backend(${pid})`)

  /** Nothing of an application is left open on the server. */
  const nothingOpen = (application: string) =>
    eventually(
      Effect.map(
        admin(
          `SELECT pid FROM pg_stat_activity WHERE application_name = '${application}' AND (state <> 'idle' OR xact_start IS NOT NULL)`
        ),
        (rows) => rows.length === 0
      ),
      { what: "a transaction was left open" }
    )

  let names = 0
  const freshName = (kind: string) => `${kind}_${names++}`

  const backendPid = Effect.flatMap(
    SqlClient,
    (sql) => Effect.map(sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`, ([row]) => row!.pid)
  )

  suite("like everywhere", database(() => ({ pool: { max_connections: 4 } })), false)

  const withDatabase = <A, E>(
    program: Effect.Effect<A, E, SqlClient | Database | Scope.Scope | StatusModule.Status>,
    more?: () => PostgresDatabase.Options,
    history = 20
  ) =>
    Effect.scoped(program).pipe(
      Effect.provide(
        Layer.mergeAll(database(more), Transaction.layerWith({ history })).pipe(
          Layer.provideMerge(StatusModule.layer)
        )
      )
    )

  /** A program on a database behind a proxy. */
  const behindProxy = <A, E>(
    program: (proxy: FaultProxy.FaultProxy) => Effect.Effect<A, E, SqlClient | Scope.Scope | StatusModule.Status>,
    more: PostgresDatabase.Options = {},
    history?: number
  ) =>
    Effect.scoped(Effect.gen(function*() {
      const proxy = yield* FaultProxy.make({ target: { host: server.host, port: server.port } })
      // No checks of the monitor among the traffic.
      const monitoring = { check_interval: Duration.hours(1) }
      return yield* withDatabase(program(proxy), () => ({ port: proxy.port, monitoring, ...more }), history)
    }))

  const makeTable = Effect.gen(function*() {
    const sql = yield* SqlClient
    const name = freshName("rows")
    yield* sql`CREATE TABLE ${sql(name)} (id int PRIMARY KEY)`
    return {
      sql,
      put: (id: number) => sql`INSERT INTO ${sql(name)} VALUES (${id})`,
      ids: Effect.map(admin(`SELECT id FROM ${name} ORDER BY id`), (rows) => rows.map(({ id }) => id)),
      has: (id: number) => Effect.map(sql`SELECT 1 FROM ${sql(name)} WHERE id = ${id}`, (rows) => rows.length === 1)
    }
  })

  describe("contention", () => {
    it.live("two transactions that deadlock both commit, exactly once", () =>
      withDatabase(
        Effect.gen(function*() {
          const sql = yield* SqlClient
          const name = freshName("deadlock")
          yield* sql`CREATE TABLE ${sql(name)} (id int PRIMARY KEY, n int)`
          yield* sql`INSERT INTO ${sql(name)} VALUES (1, 0), (2, 0)`
          const locked = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
          let tries = 0
          const both = (first: 0 | 1) =>
            Transaction.run(
              Effect.gen(function*() {
                const second = first === 0 ? 1 : 0
                tries++
                yield* sql`UPDATE ${sql(name)} SET n = n + 1 WHERE id = ${first + 1}`
                yield* Deferred.succeed(locked[first], undefined)
                yield* Deferred.await(locked[second])
                yield* sql`UPDATE ${sql(name)} SET n = n + 1 WHERE id = ${second + 1}`
              }),
              { isolation: "READ_COMMITTED", name: `from ${first}` }
            )
          yield* Effect.all([both(0), both(1)], { concurrency: 2 })
          assert.strictEqual(tries, 3)
          assert.deepStrictEqual(yield* sql`SELECT n FROM ${sql(name)} ORDER BY id`, [{ n: 2 }, { n: 2 }])
          const log = yield* Transaction.history
          assert.deepStrictEqual(log.flatMap(({ retried }) => retried), ["40P01"])
        })
      ))

    it.live("write skew under serializable is caught, and the loser decides again on what it then sees", () =>
      withDatabase(
        Effect.gen(function*() {
          const sql = yield* SqlClient
          const name = freshName("duty")
          yield* sql`CREATE TABLE ${sql(name)} (id int PRIMARY KEY, present boolean)`
          yield* sql`INSERT INTO ${sql(name)} VALUES (1, true), (2, true)`
          const read = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
          const leave = (id: 1 | 2) =>
            Transaction.run(
              Effect.gen(function*() {
                const [row] = yield* sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM ${
                  sql(name)
                } WHERE present`
                yield* Deferred.succeed(read[id - 1]!, undefined)
                yield* Deferred.await(read[2 - id]!)
                if (row!.n < 2) return "stays"
                yield* sql`UPDATE ${sql(name)} SET present = false WHERE id = ${id}`
                return "leaves"
              }),
              { isolation: "SERIALIZABLE" }
            )
          const outcomes = yield* Effect.all([leave(1), leave(2)], { concurrency: 2 })
          assert.deepStrictEqual([...outcomes].sort(), ["leaves", "stays"])
          assert.deepStrictEqual(yield* sql`SELECT count(*)::int AS n FROM ${sql(name)} WHERE present`, [{ n: 1 }])
          assert.include((yield* Transaction.history).flatMap(({ retried }) => retried), "40001")
        })
      ))

    it.live("requiresNew on a pool in full use is refused at once", () =>
      withDatabase(
        Effect.gen(function*() {
          const { ids, put } = yield* makeTable
          const open = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
          const outer = (id: 0 | 1) =>
            Transaction.run(Effect.gen(function*() {
              yield* put(id)
              yield* Deferred.succeed(open[id], undefined)
              yield* Deferred.await(open[1 - id]!)
              return yield* timed(Transaction.run(put(10 + id), { propagation: "requiresNew", name: "audit" }))
            }))
          const inner = yield* Effect.all([outer(0), outer(1)], { concurrency: 2 })
          for (const { exit, millis } of inner) {
            const error = yield* Effect.flip(exit)
            assert.strictEqual(error._tag === "TransactionRefusedError" && error.reason, "PoolExhausted")
            assert.isBelow(millis, 5_000)
          }
          assert.deepStrictEqual(yield* ids, [0, 1])
        }),
        () => ({ pool: { max_connections: 2, acquire_timeout: Duration.seconds(20) } })
      ))

    it.live("an outermost transaction waits for a connection no longer than the pool lets it, and is not tried again", () =>
      withDatabase(
        Effect.gen(function*() {
          const sql = yield* SqlClient
          yield* sql.reserve
          let tries = 0
          const error = yield* Effect.flip(Transaction.run(Effect.sync(() => tries++), { retry: 5 }))
          assert.isTrue(error._tag === "SqlError" && error.reason.cause instanceof PoolExhaustedError)
          assert.strictEqual(tries, 0)
        }),
        () => ({ pool: { max_connections: 1, acquire_timeout: Duration.millis(200) } })
      ))
  })

  describe("a connection that is lost before COMMIT", () => {
    it.live("terminated mid-way begins again on a new connection", () =>
      withDatabase(
        Effect.gen(function*() {
          const { ids, put } = yield* makeTable
          const pids: Array<number> = []
          yield* Transaction.run(Effect.gen(function*() {
            pids.push(yield* backendPid)
            yield* put(pids.length)
            if (pids.length === 1) yield* terminate(pids[0]!)
            yield* put(10 + pids.length)
          }))
          assert.strictEqual(new Set(pids).size, 2)
          assert.deepStrictEqual(yield* ids, [2, 12])
          const alive = Effect.map(
            admin("SELECT pid FROM pg_stat_activity WHERE application_name = 'terminated'"),
            (rows) => rows.map(({ pid }) => pid)
          )
          assert.include(yield* alive, pids[1])
          assert.notInclude(yield* alive, pids[0])
          yield* nothingOpen("terminated")
        }),
        () => ({ application_name: "terminated" })
      ))

    it.live("terminated while a statement runs begins again", () =>
      withDatabase(
        Effect.gen(function*() {
          const { ids, put, sql } = yield* makeTable
          let tries = 0
          yield* Transaction.run(Effect.gen(function*() {
            yield* put(++tries)
            const pid = yield* backendPid
            if (tries === 1) {
              yield* Effect.all([sql`SELECT pg_sleep(60)`, terminate(pid)], { concurrency: 2, discard: true })
            }
          }))
          assert.deepStrictEqual(yield* ids, [2])
          const [entry] = yield* Transaction.history
          assert.strictEqual(entry?.attempts, 2)
          yield* nothingOpen("killed")
        }),
        () => ({ application_name: "killed" })
      ))

    it.live("noticed before COMMIT could be sent begins again: nothing was committed", () =>
      behindProxy((proxy) =>
        Effect.gen(function*() {
          const { ids, put } = yield* makeTable
          let tries = 0
          yield* Transaction.run(Effect.gen(function*() {
            yield* put(++tries)
            if (tries > 1) return
            const before = yield* proxy.stats
            yield* terminate(yield* backendPid)
            // The driver has closed it; its pool opens another in its place.
            yield* eventually(
              Effect.map(proxy.stats, (now) => now.open < before.open || now.accepted > before.accepted)
            )
          }))
          assert.strictEqual(tries, 2)
          assert.deepStrictEqual(yield* ids, [2])
          yield* nothingOpen("noticed")
        }), { application_name: "noticed" }))

    it.live("reset by the network begins again", () =>
      behindProxy((proxy) =>
        Effect.gen(function*() {
          const { ids, put } = yield* makeTable
          let tries = 0
          yield* Transaction.run(Effect.gen(function*() {
            yield* put(++tries)
            if (tries < 3) yield* proxy.resetConnections
            yield* put(10 + tries)
          }))
          assert.deepStrictEqual(yield* ids, [3, 13])
        })
      ))

    it.live(
      "silent: ends at the time-out, and leaves nothing behind when the line is back",
      () =>
        behindProxy((proxy) =>
          Effect.gen(function*() {
            const { ids, put } = yield* makeTable
            const { exit, millis } = yield* timed(Effect.flip(Transaction.run(
              put(1).pipe(Effect.andThen(proxy.blackHole), Effect.andThen(put(2))),
              { timeout: "300 millis" }
            )))
            const error = yield* exit
            assert.strictEqual(error._tag, "TransactionTimeoutError")
            assert.isBelow(millis, 10_000)
            yield* proxy.pass
            yield* nothingOpen("silent")
            assert.deepStrictEqual(yield* ids, [])
          }), { application_name: "silent" }),
      60_000
    )
  })

  describe("a COMMIT whose answer is lost", () => {
    /** The last step of the work breaks the line, so that it is COMMIT which meets the fault. */
    const commitInto = (
      fault: (proxy: FaultProxy.FaultProxy) => Effect.Effect<void>,
      run: (
        work: Effect.Effect<string, unknown, SqlClient>,
        table: Effect.Success<typeof makeTable>,
        proxy: FaultProxy.FaultProxy,
        tries: () => number
      ) => Effect.Effect<void, unknown, SqlClient | Scope.Scope>
    ) =>
      behindProxy((proxy) =>
        Effect.gen(function*() {
          const table = yield* makeTable
          let tries = 0
          const work = Effect.suspend(() =>
            table.put(++tries).pipe(
              Effect.andThen(tries === 1 ? fault(proxy) : Effect.void),
              Effect.as(`try ${tries}`)
            )
          )
          yield* run(work, table, proxy, () => tries)
          yield* proxy.pass
          yield* nothingOpen("commits")
        }), { application_name: "commits" })

    const losesReply = (proxy: FaultProxy.FaultProxy) => proxy.cutAfter(0, "out")
    const losesRequest = (proxy: FaultProxy.FaultProxy) => proxy.cutAfter(0, "in")

    it.live("is an unknown outcome and is not repeated, whether it was committed", () =>
      commitInto(losesReply, (work, { ids }, _proxy, tries) =>
        Effect.gen(function*() {
          const seen: Array<string> = []
          const hooks = Effect.andThen(
            Transaction.afterCommit(Effect.sync(() => void seen.push("commit"))),
            Transaction.afterRollback(Effect.sync(() => void seen.push("rollback")))
          )
          const error = yield* Effect.flip(Transaction.run(Effect.andThen(hooks, work), { name: "pay" }))
          assert.isTrue(error instanceof Transaction.CommitOutcomeUnknownError && error.reason === "ConnectionLost")
          assert.match(String(error), /"pay": COMMIT was sent and the connection was lost, so it may/)
          assert.strictEqual(tries(), 1)
          assert.deepStrictEqual(seen, [])
          assert.deepStrictEqual(yield* ids, [1])
          const [entry] = yield* Transaction.history
          assert.deepInclude(entry, {
            name: "pay",
            outcome: "unknown",
            attempts: 1,
            failure: "CommitOutcomeUnknownError"
          })
        })))

    it.live("or was not", () =>
      commitInto(losesRequest, (work, { ids }, _proxy, tries) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(Transaction.run(work))
          assert.isTrue(error instanceof Transaction.CommitOutcomeUnknownError)
          assert.strictEqual(tries(), 1)
          assert.deepStrictEqual(yield* ids, [])
        })))

    it.live("settled by verify as committed gives the value and runs the hooks", () =>
      commitInto(losesReply, (work, { has, ids }, proxy, tries) =>
        Effect.gen(function*() {
          const seen: Array<string> = []
          const verify = Effect.andThen(proxy.pass, has(1))
          const hook = Transaction.afterCommit(Effect.sync(() => void seen.push("commit")))
          assert.strictEqual(yield* Transaction.run(Effect.andThen(hook, work), { verify }), "try 1")
          assert.strictEqual(tries(), 1)
          assert.deepStrictEqual(seen, ["commit"])
          assert.deepStrictEqual(yield* ids, [1])
          const [entry] = yield* Transaction.history
          assert.deepInclude(entry, { outcome: "committed", verified: true })
        })))

    it.live("settled by verify as not committed begins again", () =>
      commitInto(losesRequest, (work, { has, ids }, proxy) =>
        Effect.gen(function*() {
          const verify = Effect.andThen(proxy.pass, has(1))
          assert.strictEqual(yield* Transaction.run(work, { verify }), "try 2")
          assert.deepStrictEqual(yield* ids, [2])
        })))

    it.live("that is still being made is waited for before the no of a verify counts, and is not made twice", () =>
      behindProxy((proxy) =>
        Effect.gen(function*() {
          const { has, ids, put, sql } = yield* makeTable
          // A COMMIT that takes its time: the check of a deferred constraint sleeps.
          const slow = freshName("slow")
          yield* sql.unsafe(`CREATE TABLE ${slow} (id int)`)
          yield* sql.unsafe(
            `CREATE FUNCTION ${slow}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'`
          )
          yield* sql.unsafe(
            `CREATE CONSTRAINT TRIGGER sleep AFTER INSERT ON ${slow} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ${slow}()`
          )
          const committing = Effect.map(
            admin(
              "SELECT 1 FROM pg_stat_activity WHERE application_name = 'lingers' AND query = 'COMMIT' AND state = 'active'"
            ),
            (rows) => rows.length === 1
          )
          yield* Effect.forkScoped(Effect.andThen(eventually(committing), proxy.resetConnections))
          let tries = 0
          const work = Effect.suspend(() =>
            put(++tries).pipe(Effect.andThen(sql.unsafe(`INSERT INTO ${slow} VALUES (1)`)), Effect.as(`try ${tries}`))
          )
          const answers: Array<boolean> = []
          const verify = Effect.tap(has(1), (answer) => Effect.sync(() => answers.push(answer)))
          assert.strictEqual(yield* Transaction.run(work, { verify }), "try 1")
          // What the question would have led to without waiting.
          assert.isFalse(answers[0])
          assert.isTrue(answers.at(-1))
          assert.deepStrictEqual(yield* ids, [1])
          yield* nothingOpen("lingers")
        }), { application_name: "lingers" }))

    for (const [what, direction, answer] of [["as committed", "out", 2], ["as aborted", "in", 3]] as const) {
      it.live(`settled by the server ${what}, asked until it can be reached`, () =>
        behindProxy((proxy) =>
          Effect.gen(function*() {
            const { ids, put } = yield* makeTable
            const passed = Effect.map(proxy.stats, ({ bytesIn, bytesOut }) => direction === "in" ? bytesIn : bytesOut)
            let workDone = 0
            const insert = (id: number) => Effect.andThen(put(id), Effect.map(passed, (n) => void (workDone = n)))
            // The same twice, for the driver to have prepared its statements: then what passes after the work is known.
            yield* Transaction.run(insert(0), { verify: "server" })
            yield* Transaction.run(insert(1), { verify: "server" })
            const bytes = (yield* passed) - workDone
            let next = 2
            const work = Effect.suspend(() => {
              const id = next++
              // All but the end: of the reply to COMMIT, or of COMMIT, which the server begins before it has the last 5 bytes.
              return put(id).pipe(
                Effect.andThen(
                  id === 2 ? proxy.cutAfter(bytes - (direction === "in" ? 20 : 1), direction) : Effect.void
                ),
                Effect.as(id)
              )
            })
            const accepted = (yield* proxy.stats).accepted
            // The first question to the server is cut as well.
            yield* Effect.forkScoped(Effect.andThen(
              eventually(Effect.map(proxy.stats, (stats) => stats.accepted > accepted)),
              proxy.pass
            ))
            assert.strictEqual(yield* Transaction.run(work, { verify: "server" }), answer)
            assert.deepStrictEqual(yield* ids, [0, 1, answer])
            const entry = (yield* Transaction.history).at(-1)
            assert.deepInclude(entry, { outcome: "committed", attempts: answer - 1, verified: answer === 2 })
          })
        ))
    }

    it.live("that verify cannot settle stays unknown and says why", () =>
      commitInto(losesReply, (work) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(
            Transaction.run(work, { verify: Effect.fail("no idea"), verifyTimeout: "100 millis" })
          )
          assert.isTrue(error instanceof Transaction.CommitOutcomeUnknownError && error.verification === "no idea")
        })))

    it.live("that never comes is an unknown outcome at the time-out, and the connection is not used again meanwhile", () =>
      commitInto((proxy) => proxy.blackHole, (work, { ids }, proxy) =>
        Effect.gen(function*() {
          const { exit, millis } = yield* timed(Effect.flip(Transaction.run(work, { timeout: "500 millis" })))
          const error = yield* exit
          assert.isTrue(error instanceof Transaction.CommitOutcomeUnknownError && error.reason === "TimedOut")
          assert.isBelow(millis, 10_000)
          assert.deepStrictEqual(yield* ids, [])
          yield* proxy.pass
          yield* eventually(Effect.map(ids, (found) => found.length === 1))
        })))

    it.live("denied by the server is no mystery: a deferred constraint", () =>
      withDatabase(Effect.gen(function*() {
        const sql = yield* SqlClient
        const name = freshName("deferred")
        yield* sql`CREATE TABLE ${sql(name)} (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)`
        const twice = sql`INSERT INTO ${sql(name)} VALUES (1), (1)`
        const error = yield* Effect.flip(Transaction.run(twice, { verify: Effect.die("not asked") }))
        assert.strictEqual(error._tag === "SqlError" && error.reason._tag, "UniqueViolation")
        assert.deepStrictEqual(yield* sql`SELECT id FROM ${sql(name)}`, [])
      })))
  })

  describe("work that is forked and goes on", () => {
    it.live("does not reach the connection any more, and a statement under way does not stay on one that is lent again", () =>
      withDatabase(
        Effect.gen(function*() {
          const { ids, put, sql } = yield* makeTable
          const later = yield* Deferred.make<void>()
          let pid = 0
          const late = yield* Transaction.run(Effect.gen(function*() {
            pid = yield* backendPid
            return yield* Effect.forkDetach(Effect.andThen(Deferred.await(later), put(1)))
          }))
          yield* Deferred.succeed(later, undefined)
          assert.match(String(yield* Effect.flip(Fiber.join(late))), /connection was given back/)
          assert.strictEqual(yield* backendPid, pid)
          assert.deepStrictEqual(yield* ids, [])

          const busy = yield* Effect.scoped(Effect.gen(function*() {
            const connection = yield* sql.reserve
            return yield* Effect.forkDetach(connection.execute("SELECT pg_sleep(60)", [], undefined), {
              startImmediately: true
            })
          }))
          assert.isTrue(Exit.isFailure(yield* Fiber.await(busy)))
          assert.notStrictEqual(yield* backendPid, pid)
          yield* terminate(pid)
        }),
        () => ({ application_name: "forks", pool: { max_connections: 1 } })
      ))
  })

  describe("the statements of a transaction", () => {
    it.live("are those of the work, BEGIN and COMMIT: no other round trip, and none of them parsed twice", () =>
      behindProxy((proxy) =>
        Effect.gen(function*() {
          const { has, put } = yield* makeTable
          const sent = Effect.map(proxy.stats, ({ bytesIn }) => bytesIn)
          const sizes: Array<number> = []
          for (const id of [1, 2, 3]) {
            const before = yield* sent
            yield* Transaction.run(put(id), { verify: has(id) })
            sizes.push((yield* sent) - before)
          }
          const log = yield* Transaction.history
          assert.deepStrictEqual(log.map(({ operations }) => operations.map(({ text }) => text.split(" ")[0])), [
            ["BEGIN", "INSERT", "COMMIT"],
            ["BEGIN", "INSERT", "COMMIT"],
            ["BEGIN", "INSERT", "COMMIT"]
          ])
          // What is said once on a connection: the texts, and the question who is behind it.
          assert.isBelow(sizes[1]!, sizes[0]! / 2)
          assert.strictEqual(sizes[2], sizes[1])
        }), { pool: { max_connections: 1 } }))

    it.live(
      "interrupted at any step leave no connection behind, whether single or in a transaction",
      () =>
        withDatabase(
          Effect.gen(function*() {
            const { pool, sql } = yield* Database
            for (const work of [sql`SELECT 1`, sql.withTransaction(sql`SELECT 1`), Transaction.run(sql`SELECT 1`)]) {
              for (const step of steps(10, 12)) {
                yield* interruptAt(Effect.ignore(work), step)
                const { active, waiting } = yield* pool.stats
                assert.deepStrictEqual([active, waiting], [0, 0], JSON.stringify(step))
              }
            }
            assert.deepStrictEqual(yield* pool.leases, [])
            yield* nothingOpen("stepwise")
            // As many as there are can be had at once.
            yield* Effect.scoped(Effect.all([sql.reserve, sql.reserve], { concurrency: 2 }))
          }),
          () => ({ application_name: "stepwise", pool: { max_connections: 2 } })
        ),
      60_000
    )

    it.live("are in the log as interrupted when they were", () =>
      withDatabase(Effect.gen(function*() {
        const sql = yield* SqlClient
        yield* Effect.flip(Transaction.run(sql`SELECT pg_sleep(60)`, { timeout: "200 millis" }))
        const [entry] = yield* Transaction.history
        assert.deepStrictEqual(entry?.operations.map(({ failure, text }) => [text.split("(")[0], failure]), [
          ["BEGIN ISOLATION LEVEL REPEATABLE READ", undefined],
          ["SELECT pg_sleep", "interrupted"],
          ["ROLLBACK", undefined]
        ])
      })))
  })

  describe("a caller that is interrupted", () => {
    it.live("in the middle of a statement leaves nothing open", () =>
      withDatabase(
        Effect.gen(function*() {
          const { ids, put, sql } = yield* makeTable
          const fiber = yield* Effect.forkChild(Transaction.run(Effect.andThen(put(1), sql`SELECT pg_sleep(60)`)))
          yield* eventually(Effect.map(
            admin(
              "SELECT 1 FROM pg_stat_activity WHERE application_name = 'leaver' AND query LIKE 'SELECT pg_sleep%' AND state = 'active'"
            ),
            (rows) => rows.length === 1
          ))
          yield* Fiber.interrupt(fiber)
          yield* nothingOpen("leaver")
          assert.deepStrictEqual(yield* ids, [])
        }),
        () => ({ application_name: "leaver" })
      ))
  })

  describe("on the client of @effect/sql-pg as it is", () => {
    it.live("begins again after 40001 and a terminated connection, times out, and knows an unknown COMMIT", () =>
      Effect.scoped(Effect.gen(function*() {
        const proxy = yield* FaultProxy.make({ target: { host: server.host, port: server.port } })
        const client = PgClient.layer({
          host: proxy.host,
          port: proxy.port,
          database: server.database,
          username: server.username,
          password: Redacted.make(server.password),
          applicationName: "plain"
        })
        yield* Effect.gen(function*() {
          const { ids, put, sql } = yield* makeTable
          let tries = 0
          const value = yield* Transaction.run(Effect.gen(function*() {
            yield* put(++tries)
            if (tries === 1) yield* sql.unsafe("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$")
            if (tries === 2) yield* Effect.andThen(terminate(yield* backendPid), put(0))
            return `try ${tries}`
          }))
          assert.strictEqual(value, "try 3")
          const late = yield* Effect.flip(Transaction.run(sql`SELECT pg_sleep(60)`, { timeout: "200 millis" }))
          assert.strictEqual(late._tag, "TransactionTimeoutError")
          const unknown = yield* Effect.flip(Transaction.run(Effect.andThen(put(4), proxy.cutAfter(0, "out"))))
          assert.strictEqual(unknown._tag, "CommitOutcomeUnknownError")
          yield* proxy.pass
          const settled = yield* Transaction.run(
            Effect.as(Effect.andThen(put(5), proxy.cutAfter(0, "out")), 5),
            { verify: Effect.andThen(proxy.pass, Effect.map(sql`SELECT 1`, () => true)) }
          )
          assert.strictEqual(settled, 5)
          assert.deepStrictEqual(yield* ids, [3, 4, 5])
          yield* nothingOpen("plain")
        }).pipe(Effect.provide(client))
      })))
  })

  describe("bank transfers under faults", () => {
    const seconds = Number(process.env["SOAK_SECONDS"] ?? "8")

    it.live(
      `by 16 fibers for ${seconds} s keep the sum, and each acknowledged one exists exactly once`,
      () =>
        behindProxy((proxy) =>
          Effect.gen(function*() {
            const sql = yield* SqlClient
            const accounts = 10
            const initial = 1_000
            yield* sql`CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))`
            yield* sql`CREATE TABLE transfers (id text PRIMARY KEY, source int, target int, amount int)`
            yield* sql`INSERT INTO accounts SELECT n, ${initial}::int FROM generate_series(0, ${
              accounts - 1
            }::int) AS n`

            const acknowledged: Array<string> = []
            const refused: Array<string> = []
            const failures = new Map<string, number>()
            let injected = 0
            const end = performance.now() + seconds * 1_000

            const transfer = (id: string, source: number, target: number, amount: number) =>
              Effect.gen(function*() {
                const [row] = yield* sql<
                  { readonly balance: number }
                >`SELECT balance FROM accounts WHERE id = ${source}`
                if (row!.balance < amount) return yield* Effect.fail("too poor" as const)
                yield* sql`UPDATE accounts SET balance = balance - ${amount}::int WHERE id = ${source}`
                yield* sql`UPDATE accounts SET balance = balance + ${amount}::int WHERE id = ${target}`
                yield* sql`INSERT INTO transfers VALUES (${id}, ${source}, ${target}, ${amount})`
              })

            const teller = (number: number) =>
              Effect.gen(function*() {
                for (let n = 0; performance.now() < end; n++) {
                  const id = `${number}-${n}`
                  const source = yield* Random.nextIntBetween(0, accounts - 1)
                  const target = (source + (yield* Random.nextIntBetween(1, accounts - 1))) % accounts
                  const amount = yield* Random.nextIntBetween(1, 50)
                  const nested = yield* Random.nextBoolean
                  const exit = yield* transfer(id, source, target, amount).pipe(
                    Transaction.run({ propagation: nested ? "nested" : "required", name: "inner" }),
                    Transaction.run({
                      isolation: number % 2 === 0 ? "SERIALIZABLE" : "REPEATABLE_READ",
                      timeout: "3 seconds",
                      // Some ask the server, some leave it open.
                      verify: [
                        "server" as const,
                        Effect.map(sql`SELECT 1 FROM transfers WHERE id = ${id}`, (rows) => rows.length === 1),
                        "server" as const,
                        undefined
                      ][number % 4],
                      verifyTimeout: "2 seconds"
                    }),
                    // Now and then a caller goes away.
                    Effect.timeoutOption((yield* Random.nextIntBetween(0, 20)) === 0 ? "5 millis" : "1 minute"),
                    Effect.exit
                  )
                  if (Exit.isSuccess(exit)) {
                    if (Option.isSome(exit.value)) acknowledged.push(id)
                  } else {
                    const error = Cause.squash(exit.cause)
                    const tag = typeof error === "string"
                      ? error
                      : (error as { readonly _tag?: string })._tag ?? String(error)
                    failures.set(tag, (failures.get(tag) ?? 0) + 1)
                    // Of these it is certain that nothing was committed.
                    if (!(error instanceof Transaction.CommitOutcomeUnknownError)) refused.push(id)
                  }
                }
              })

            const killer = Effect.gen(function*() {
              const kill = admin(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bank' ORDER BY random() LIMIT 1"
              )
              const faults = [
                proxy.resetConnections,
                kill,
                kill,
                Effect.andThen(
                  Effect.flatMap(Random.nextIntBetween(0, 2_000), (n) => proxy.cutAfter(n, "out")),
                  pause("50 millis")
                ),
                Effect.andThen(
                  Effect.flatMap(Random.nextIntBetween(0, 2_000), (n) => proxy.cutAfter(n, "in")),
                  pause("50 millis")
                ),
                Effect.andThen(proxy.latency("5 millis", { jitter: "10 millis" }), pause("200 millis")),
                Effect.andThen(proxy.refuse, pause("100 millis")),
                Effect.andThen(proxy.blackHole, pause("300 millis"))
              ]
              while (performance.now() < end) {
                yield* pause(yield* Random.nextIntBetween(20, 150))
                yield* faults[yield* Random.nextIntBetween(0, faults.length - 1)]!
                injected++
                yield* proxy.pass
              }
            })

            const killing = yield* Effect.forkChild(killer)
            yield* Effect.all(Array.from({ length: 16 }, (_, n) => teller(n)), { concurrency: 16, discard: true })
            yield* Fiber.join(killing)
            yield* proxy.pass
            yield* nothingOpen("bank")

            const [{ total }] = (yield* admin("SELECT sum(balance)::int AS total FROM accounts")) as [{ total: number }]
            assert.strictEqual(total, accounts * initial)
            const rows = yield* admin("SELECT id FROM transfers")
            const stored = new Set(rows.map(({ id }) => String(id)))
            assert.strictEqual(stored.size, rows.length)
            assert.deepStrictEqual(acknowledged.filter((id) => !stored.has(id)), [], "acknowledged and lost")
            assert.deepStrictEqual(refused.filter((id) => stored.has(id)), [], "refused and yet committed")
            const wrong = yield* admin(`SELECT a.id FROM accounts a WHERE balance <> ${initial}
              + (SELECT coalesce(sum(amount), 0) FROM transfers WHERE target = a.id)
              - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE source = a.id)`)
            assert.deepStrictEqual(wrong, [])
            assert.isAbove(acknowledged.length, 0)
            assert.notInclude([...failures.keys()].join(), "Error:")

            // Full and idle: all of it can be had at once.
            yield* eventually(
              Effect.scoped(Effect.all(Array.from({ length: 8 }, () => sql.reserve), { concurrency: 8 })),
              { within: "30 seconds" }
            )
            const node = yield* Effect.flatMap(StatusModule.Status, (status) => status.get("transactions"))
            assert.isAbove(node?.counters["repeated"] ?? 0, 0, "no fault had any effect")
            // Those settled as not committed were tried again, and are among the repeated.
            const settled = (yield* Transaction.history).filter(({ outcome, verified }) =>
              verified && outcome === "committed"
            )
            console.log(
              `soak: ${acknowledged.length} acknowledged under ${injected} faults, failed ${
                JSON.stringify(Object.fromEntries(failures))
              }, ${settled.length} lost COMMITs found committed, ${JSON.stringify(node?.counters)}`
            )
          }), {
          application_name: "bank",
          pool: { max_connections: 8, max_waiting: 100, acquire_timeout: Duration.seconds(2) }
        }, 1_000_000),
      (seconds + 60) * 1_000
    )
  })
})
