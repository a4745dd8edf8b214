import * as PgConnection from "@effect/sql-pg/PgConnection"
import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { inspect } from "node:util"
import * as PostgresDatabase from "../../src/backends/PostgresDatabase.ts"
import * as QueryInsights from "../../src/data/QueryInsights.ts"
import * as Status from "../../src/observability/Status.ts"
import type { Database } from "../../src/resource/Database.ts"
import { eventually, timed } from "../support/Live.ts"
import { account, ask } from "../support/PostgresAccount.ts"
import * as Servers from "../support/Servers.ts"
import { everything, findingsOf, freshSchema, kindsOf, onOne, quietly, suite } from "./queryInsightsSuite.ts"

Servers.describeWith(["postgres"], "QueryInsights on Postgres", () => {
  const scope = Scope.makeUnsafe()
  let server: Servers.PostgresServer
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.provide(Servers.postgres({ settings: { autovacuum: "off" } }), scope))
  }, 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 60_000)

  const database = (more: () => PostgresDatabase.Options = () => ({})) =>
    Layer.unwrap(Effect.sync(() =>
      PostgresDatabase.layerWith({
        ...account(server),
        retry_attempts: 0,
        ...more()
      })
    ))

  const admin = (sql: string) => ask(server, sql)

  const withInsights = <A, E>(
    options: QueryInsights.Options,
    program: Effect.Effect<A, E, SqlClient | Database | QueryInsights.QueryInsights | Status.Status | Scope.Scope>,
    more?: () => PostgresDatabase.Options
  ) =>
    Effect.scoped(program).pipe(
      Effect.provide(
        QueryInsights.layerWith(options).pipe(
          Layer.provideMerge(database(more)),
          Layer.provideMerge(Status.layer)
        )
      )
    )

  const counters = Effect.map(
    Effect.flatMap(Status.Status, (status) => status.get("query-insights")),
    (node) => node!.counters
  )
  const insights = QueryInsights.QueryInsights

  suite("like everywhere", database(() => ({ pool: { max_connections: 4 } })), false)

  it.live("a table of 50,000 rows: suggestion, applied, gone, with the defaults of what is large", () =>
    withInsights(
      { slowerThan: "1 micros" },
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient
        const { clear, report, slow } = yield* insights
        yield* onOne(
          `CREATE TABLE ${schema}.orders (id serial PRIMARY KEY, customer int, note text)`,
          `INSERT INTO ${schema}.orders (customer, note) SELECT i % 10000, repeat('x', 50) FROM generate_series(1, 50000) i`
        )
        yield* quietly(sql.unsafe(`ANALYZE ${schema}.orders`))
        const find = sql.unsafe(`SELECT * FROM ${schema}.orders WHERE customer = $1`, [42])
        yield* find
        yield* eventually(slow, { until: (all) => all.some(({ plan }) => plan !== undefined) })
        const [finding] = findingsOf(schema, yield* report)
        assert.strictEqual(finding?.kind, "MissingIndex")
        for (const statement of finding!.sql) yield* sql.unsafe(statement)
        assert.notInclude(kindsOf(schema, yield* report), "MissingIndex")
        yield* clear
        yield* find
        const [one] = yield* eventually(slow, { until: (all) => all.some(({ plan }) => plan !== undefined) })
        assert.match(one!.plan!.join("\n"), /index cond \(orders\.customer = \$1\)/)
      })
    ))

  it.live("a LIKE pattern that begins with a wildcard: what is suggested is used", () =>
    withInsights(
      everything,
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient
        const { clear, report, slow } = yield* insights
        yield* onOne(
          `CREATE TABLE ${schema}.words (id int, word varchar(80))`,
          `INSERT INTO ${schema}.words SELECT i, md5(i::text) FROM generate_series(1, 20000) i`
        )
        yield* quietly(sql.unsafe(`ANALYZE ${schema}.words`))
        const find = sql.unsafe(`SELECT id FROM ${schema}.words WHERE word LIKE '%abcdef12%'`)
        const explained = eventually(slow, { until: (all) => all.some(({ plan }) => plan !== undefined) })
        yield* find
        yield* explained
        const [finding] = findingsOf(schema, yield* report)
        assert.strictEqual(finding?.kind, "LeadingWildcard")
        assert.deepStrictEqual(finding?.sql, [
          "CREATE EXTENSION IF NOT EXISTS pg_trgm",
          `CREATE INDEX CONCURRENTLY ON ${schema}.words USING gin (word gin_trgm_ops)`
        ])
        for (const statement of finding!.sql) yield* sql.unsafe(statement)
        assert.notInclude(kindsOf(schema, yield* report), "LeadingWildcard")
        yield* clear
        yield* find
        const [one] = yield* explained
        assert.match(one!.plan!.join("\n"), /Bitmap/)
        // Now that it is installed, it is named with its schema.
        yield* sql.unsafe(`DROP INDEX ${schema}.words_word_idx`)
        yield* clear
        yield* find
        yield* explained
        const [again] = findingsOf(schema, yield* report)
        assert.deepStrictEqual(again?.sql, [
          `CREATE INDEX CONCURRENTLY ON ${schema}.words USING gin (word public.gin_trgm_ops)`
        ])
        for (const statement of again!.sql) yield* sql.unsafe(statement)
      })
    ))

  it.live("a foreign key of a partitioned table: what is suggested can be run", () =>
    withInsights(
      everything,
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient
        const { report } = yield* insights
        yield* onOne(
          `CREATE TABLE ${schema}.a (id int PRIMARY KEY)`,
          `INSERT INTO ${schema}.a SELECT generate_series(1, 100)`,
          `CREATE TABLE ${schema}.b (id int, a int REFERENCES ${schema}.a) PARTITION BY RANGE (id)`,
          `CREATE TABLE ${schema}.b1 PARTITION OF ${schema}.b FOR VALUES FROM (0) TO (2000)`,
          `CREATE TABLE ${schema}.b2 PARTITION OF ${schema}.b FOR VALUES FROM (2000) TO (9999)`,
          `INSERT INTO ${schema}.b SELECT i, i % 100 + 1 FROM generate_series(1, 5000) i`
        )
        yield* quietly(sql.unsafe(`ANALYZE ${schema}.b`))
        const keys = (all: QueryInsights.Report) =>
          findingsOf(schema, all).filter(({ kind }) => kind === "UnindexedForeignKey")
        const found = keys(yield* report)
        assert.deepStrictEqual(found.map((one) => one.sql), [[`CREATE INDEX ON ${schema}.b (a)`]])
        for (const statement of found.flatMap((one) => one.sql)) yield* sql.unsafe(statement)
        const after = yield* report
        assert.isEmpty(keys(after))
        // The parts belong to the whole: nobody is told to drop them alone.
        assert.notInclude(kindsOf(schema, after), "UnusedIndex")
      })
    ))

  it.live("users never wait for an EXPLAIN: with the pool in use it is skipped", () =>
    withInsights(
      { ...everything, slowerThan: "50 millis" },
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const held = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(sql.withTransaction(Deferred.await(held)), { startImmediately: true })
        yield* sql`SELECT pg_sleep(0.06)`
        // The last free place stays theirs, all the while that room is looked for.
        yield* eventually(
          Effect.gen(function*() {
            const { exit, millis } = yield* timed(sql`SELECT 1`)
            assert.isTrue(Exit.isSuccess(exit))
            assert.isBelow(millis, 1_000)
            return (yield* counters)["explainSkipped"]! > 0
          })
        )
        assert.deepInclude(yield* counters, { explained: 0, explainFailures: 0 })
        yield* Deferred.succeed(held, undefined)
        yield* Fiber.join(holder)
        yield* sql`SELECT pg_sleep(0.06)`
        yield* eventually(Effect.map(counters, (all) => all["explained"]! > 0))
      }),
      () => ({ pool: { max_connections: 2 } })
    ))

  it.live("an EXPLAIN does not wait for locks of others", () =>
    withInsights(
      everything,
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient
        yield* onOne(`CREATE TABLE ${schema}.t (id int)`)
        yield* Effect.scoped(Effect.gen(function*() {
          const blocker = yield* PgConnection.make(account(server))
          const before = yield* counters
          yield* blocker.query("BEGIN")
          yield* blocker.query(`LOCK TABLE ${schema}.t IN ACCESS EXCLUSIVE MODE`)
          // Slow since it waits for the lock until it is given up on: then its plan waits as well, but not for long.
          const waiting = yield* Effect.forkChild(sql.unsafe(`SELECT id AS locked FROM ${schema}.t`), {
            startImmediately: true
          })
          yield* eventually(Effect.map(
            admin(
              "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT id AS locked%'"
            ),
            (rows) => rows.length > 0
          ))
          yield* Fiber.interrupt(waiting)
          yield* eventually(Effect.map(counters, (all) => all["explainFailures"]! > before["explainFailures"]!), {
            within: "5 seconds"
          })
          const { slow } = yield* insights
          const one = (yield* slow).find(({ text }) => text.includes("locked"))
          assert.deepStrictEqual([one?.count, one?.failures, one?.plan], [1, 1, undefined])
          yield* blocker.query("ROLLBACK")
        }))
      }),
      () => ({ application_name: "insights-locks" })
    ).pipe(
      Effect.andThen(eventually(Effect.map(
        admin("SELECT 1 FROM pg_stat_activity WHERE application_name = 'insights-locks' AND xact_start IS NOT NULL"),
        (rows) => rows.length === 0
      )))
    ))

  it.live("a role of few rights gets what it may see, and is told what it may not", () =>
    Effect.gen(function*() {
      yield* admin("CREATE ROLE reader LOGIN PASSWORD 'reader-password'")
      yield* admin("CREATE ROLE hidden NOLOGIN")
      yield* admin("GRANT hidden TO reader")
      yield* admin("ALTER ROLE reader NOINHERIT")
      yield* admin("CREATE SCHEMA few")
      yield* admin("GRANT USAGE, CREATE ON SCHEMA few TO hidden")
      yield* admin("GRANT USAGE ON SCHEMA few TO reader")
      yield* admin("CREATE TABLE few.secrets (id int, word text)")
      yield* admin("INSERT INTO few.secrets SELECT i, 'w' || i FROM generate_series(1, 5000) i")
      yield* admin("ALTER TABLE few.secrets OWNER TO hidden")
      yield* admin("CREATE INDEX ON few.secrets (id)")
      yield* admin("CREATE INDEX ON few.secrets (id, word)")
      yield* admin("ANALYZE few.secrets")
      yield* admin("REVOKE SELECT ON pg_stat_user_indexes FROM PUBLIC")
      yield* admin("REVOKE SELECT ON pg_stat_user_tables FROM PUBLIC")
      yield* withInsights(
        everything,
        Effect.gen(function*() {
          const sql = yield* SqlClient
          const { report } = yield* insights
          const before = yield* counters
          // It was let in for this transaction; for the plan it is not.
          yield* sql.withTransaction(Effect.andThen(
            sql`SET LOCAL ROLE hidden`,
            sql`SELECT count(*) AS n FROM few.secrets WHERE word = ${"w7"}`
          ))
          yield* eventually(Effect.map(counters, (all) => all["explainFailures"]! > before["explainFailures"]!))
          const found = yield* report
          assert.deepStrictEqual(found.unread, [
            "how tables are used (pg_stat_user_tables): the server refused (42501)",
            "how indexes are used (pg_stat_user_indexes): the server refused (42501)"
          ])
          assert.deepStrictEqual(kindsOf("few.", found), ["DuplicateIndex"])
        }),
        () => ({ username: "reader", password: Redacted.make("reader-password") })
      )
    }).pipe(
      Effect.ensuring(
        Effect.ignore(Effect.andThen(
          admin("GRANT SELECT ON pg_stat_user_indexes TO PUBLIC"),
          admin("GRANT SELECT ON pg_stat_user_tables TO PUBLIC")
        ))
      )
    ))

  it.live("an interrupted statement is slow when it was", () =>
    withInsights(
      { slowerThan: "100 millis" },
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const { slow } = yield* insights
        yield* Effect.ignore(Effect.timeout(sql`SELECT pg_sleep(30)`, "200 millis"))
        const one = (yield* slow).find(({ text }) => text === "SELECT pg_sleep(?)")
        assert.deepStrictEqual([one?.count, one?.failures], [1, 1])
        assert.isAtLeast(one!.max, 190)
      })
    ))

  it.live("no value is in a log line, at any level", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make(({ cause, fiber, message }) => {
        lines.push(inspect([message, cause, fiber.getRef(References.CurrentLogAnnotations)], { depth: 6 }))
      })
      yield* withInsights(
        everything,
        Effect.gen(function*() {
          const schema = yield* freshSchema
          const sql = yield* SqlClient
          const { report, slow } = yield* insights
          yield* Effect.logTrace("the logger hears")
          yield* onOne(`CREATE TABLE ${schema}.t (id int, word text)`)
          yield* sql.unsafe(`SELECT * FROM ${schema}.t WHERE word = $1 OR word = 'hunter2-literal'`, ["hunter2-param"])
          yield* eventually(slow, { until: (all) => all.some(({ plan }) => plan !== undefined) })
          yield* Effect.exit(sql.withTransaction(Effect.andThen(
            sql.unsafe(`CREATE TABLE ${schema}.gone (word text)`),
            Effect.andThen(sql.unsafe(`SELECT 'hunter2-gone' FROM ${schema}.gone`), Effect.fail("undone"))
          )))
          yield* eventually(Effect.map(counters, (all) => all["explainFailures"]! > 0))
          yield* Effect.log(QueryInsights.render(yield* report))
        })
      ).pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All")
      )
      assert.include(lines.join("\n"), "the logger hears")
      assert.notInclude(lines.join("\n"), "hunter2")
    }))

  // The last: it takes the server away.
  it.live("a database that is down fails the report with an SqlError, and neither the log nor users' calls", () =>
    withInsights(
      { slowerThan: "50 millis" },
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const { report, slow } = yield* insights
        yield* sql`SELECT pg_sleep(0.06)`
        yield* server.kill
        const error = yield* Effect.flip(report)
        assert.strictEqual(error._tag, "SqlError")
        assert.isTrue((yield* slow).some(({ text }) => text === "SELECT pg_sleep(?)"))
      }),
      () => ({ monitoring: { check_interval: Duration.hours(1) } })
    ))
})
