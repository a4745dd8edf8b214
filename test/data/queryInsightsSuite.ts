/**
 * What `QueryInsights` promises on every Postgres, run against each of them.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as QueryInsights from "../../src/data/QueryInsights.ts"
import { explain } from "../../src/data/queryInsights/explain.ts"
import * as Transaction from "../../src/data/Transaction.ts"
import * as StatusModule from "../../src/observability/Status.ts"
import { Status } from "../../src/observability/Status.ts"
import type { Database } from "../../src/resource/Database.ts"
import { Unobserved } from "../../src/resource/database/observer.ts"
import { eventually } from "../support/Live.ts"

/** Everything is slow, and every slow statement is explained. */
export const everything: QueryInsights.Options = {
  slowerThan: "1 micros",
  largeTable: 1_000,
  statisticsAge: 0,
  explain: { every: 0, perMinute: 1_000 }
}

let schemas = 0

/** A schema of its own for a test, with a name that has to be quoted. */
export const freshSchema = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const quoted = `"Insights ${schemas++}"`
  yield* quietly(sql.unsafe(`CREATE SCHEMA ${quoted}`))
  return quoted
})

/** Preparations are not what the test is about. */
export const quietly = Effect.provideService(Unobserved, true)

/** Runs statements on one connection, and has it tell the statistics what it did. */
export const onOne = (...statements: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(
      Effect.forEach([...statements, "SELECT pg_stat_force_next_flush()"], (one) => sql.unsafe(one))
    )
    yield* sql`SELECT 1`
  }).pipe(quietly)

/** What was found about things of one schema. */
export const findingsOf = (schema: string, report: QueryInsights.Report): ReadonlyArray<QueryInsights.Finding> =>
  report.findings.filter(({ subject }) => subject.startsWith(schema))

export const kindsOf = (schema: string, report: QueryInsights.Report): ReadonlyArray<string> =>
  findingsOf(schema, report).map(({ kind }) => kind)

/** Waits until the report has, or has not, findings of one kind. */
export const awaitKind = (schema: string, kind: QueryInsights.Kind, there = true) =>
  Effect.gen(function*() {
    const insights = yield* QueryInsights.QueryInsights
    return yield* eventually(insights.report, {
      until: (report) => kindsOf(schema, report).includes(kind) === there,
      what: `the report ${there ? "has no" : "still has"} ${kind}`
    })
  })

/** Runs what a finding suggests. */
const apply = (finding: QueryInsights.Finding | undefined) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    assert.isNotEmpty(finding?.sql ?? [])
    for (const statement of finding!.sql) yield* sql.unsafe(statement)
  })

/** Runs a statement until it has been explained, and gives its outline. */
const planOf = (run: Effect.Effect<unknown, unknown, never>, part: string) =>
  Effect.gen(function*() {
    const insights = yield* QueryInsights.QueryInsights
    yield* insights.clear
    yield* run
    const all = yield* eventually(insights.slow, {
      until: (slow) => slow.some(({ plan, text }) => text.includes(part) && plan !== undefined),
      what: "the statement was not explained"
    })
    return all.find(({ text }) => text.includes(part))!.plan!
  })

export const suite = <E>(
  name: string,
  backend: Layer.Layer<Database | SqlClient.SqlClient, E, Status>,
  singleSession: boolean
): void => {
  const live = Layer.mergeAll(backend, Transaction.layerWith()).pipe(Layer.provideMerge(StatusModule.layer))
  const insights = (options: QueryInsights.Options = everything) =>
    Effect.provide(QueryInsights.layerWith(options), { local: true })

  layer(live, { excludeTestServices: true, timeout: "2 minutes" })(name, (it) => {
    const ships = (schema: string) =>
      onOne(
        `CREATE TABLE ${schema}.ships (id int PRIMARY KEY, "Home Port" text, owner varchar(20), built int, tons int)`,
        `INSERT INTO ${schema}.ships SELECT i, 'port ' || i, 'owner ' || (i % 2500), i, i % 3 FROM generate_series(1, 5000) i`
      ).pipe(Effect.andThen(analyze(`${schema}.ships`)))
    const analyze = (table: string) =>
      Effect.flatMap(SqlClient.SqlClient, (sql) => quietly(Effect.asVoid(sql.unsafe(`ANALYZE ${table}`))))

    it.effect("a slow statement is kept by its text, with kinds of parameters, latencies and who asked", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { slow } = yield* QueryInsights.QueryInsights
        const nap = Effect.fn("nap")((word: string) => sql`SELECT pg_sleep(0.06), ${word}::text`)
        yield* Transaction.run(nap("hunter2"), { name: "rest" }).pipe(Effect.withSpan("GET /nap"))
        yield* nap("correct horse").pipe(Effect.withSpan("GET /nap"))
        const [one, ...others] = (yield* slow).filter(({ text }) => text.includes("pg_sleep"))
        assert.isEmpty(others)
        assert.strictEqual(one?.text, "SELECT pg_sleep(?), $1::text")
        assert.strictEqual(one?.count, 2)
        assert.isAtLeast(one!.mean, 50)
        assert.isTrue(["text(7)", "text(13)"].includes(one!.parameters.join()))
        assert.deepStrictEqual(one!.callers.map(({ by, count }) => `${by} ${count}`).toSorted(), [
          "nap < GET /nap 1",
          "transaction \"rest\" < nap < GET /nap 1"
        ])
      }).pipe(insights({ slowerThan: "50 millis", explain: false })))

    it.effect("statements that fail are slow too when they are", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { slow } = yield* QueryInsights.QueryInsights
        yield* Effect.flip(sql`SELECT pg_sleep(0.06), 1 / (random() * 0)::int`)
        const one = (yield* slow).find(({ text }) => text.includes("random"))
        assert.deepStrictEqual([one?.count, one?.failures], [1, 1])
      }).pipe(insights({ slowerThan: "50 millis", explain: false })))

    it.effect("a large table read as a whole for few rows: the index that is suggested is used, and the finding gone", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        const find = sql.unsafe(`SELECT id FROM ${schema}.ships WHERE "Home Port" = $1 AND tons <> 7`, ["port 5"])
        assert.match((yield* planOf(find, "Home Port")).join("\n"), /Seq Scan on Insights \d+\.ships .*filter/)
        const { report } = yield* QueryInsights.QueryInsights
        const [finding] = findingsOf(schema, yield* report)
        assert.strictEqual(finding?.kind, "MissingIndex")
        assert.deepStrictEqual(finding?.sql, [`CREATE INDEX CONCURRENTLY ON ${schema}.ships ("Home Port")`])
        assert.match(
          finding!.seen,
          /about 5,000 rows\) is read as a whole to find about 1 row by "Home Port": 1 slow run/
        )
        assert.deepStrictEqual(finding!.statements, [
          `SELECT id FROM ${schema}.ships WHERE "Home Port" = $1 AND tons <> ?`
        ])
        yield* apply(finding)
        assert.notInclude(kindsOf(schema, yield* report), "MissingIndex")
        assert.match((yield* planOf(find, "Home Port")).join("\n"), /(?:Index|Bitmap Heap) Scan/)
      }).pipe(insights()))

    it.effect("a table sorted to keep its first rows: the index that is suggested is used", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        const newest = sql.unsafe(`SELECT id FROM ${schema}.ships ORDER BY built DESC, tons LIMIT $1`, [10])
        yield* planOf(newest, "ORDER BY")
        const { report } = yield* QueryInsights.QueryInsights
        const [finding] = findingsOf(schema, yield* report)
        assert.deepStrictEqual(finding?.sql, [`CREATE INDEX CONCURRENTLY ON ${schema}.ships (built DESC, tons)`])
        yield* apply(finding)
        assert.match((yield* planOf(newest, "ORDER BY")).join("\n"), /Index (?:Only )?Scan/)
        assert.notInclude(kindsOf(schema, yield* report), "MissingIndex")
      }).pipe(insights()))

    it.effect("an index that would not help is not suggested", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        const statements = [
          // A third of the rows.
          "SELECT * FROM ships WHERE tons = 1",
          // Few rows, but not by the column that an index could be on.
          "SELECT * FROM ships WHERE tons = 1 AND lower(owner) = 'owner 7'",
          "SELECT * FROM ships WHERE id > 3 AND lower(owner) = 'owner 7'",
          // All of them.
          "SELECT count(*) FROM ships",
          // A cast that an index on the column does not serve.
          "SELECT * FROM ships WHERE built::text = '7'",
          "SELECT * FROM ships WHERE built = 1 OR owner = 'x'"
        ]
        for (const statement of statements) {
          const plan = yield* planOf(sql.unsafe(statement.replace("ships", `${schema}.ships`)), "ships")
          assert.match(plan.join("\n"), /Seq Scan/, statement)
          const { report } = yield* QueryInsights.QueryInsights
          assert.notInclude(kindsOf(schema, yield* report), "MissingIndex", statement)
        }
      }).pipe(insights()))

    it.effect("of a plan the sequential scans are read, with what they look for, for any values", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        const scans = (statement: string, parameters: number) =>
          Effect.map(
            explain(sql, "of_a_test", statement.replaceAll("ships", `${schema}.ships`), parameters),
            (facts) => facts?.scans.map(({ equal, order, range, whole }) => ({ equal, order, range, whole }))
          )
        const column = (name: string, cast?: string) => ({ name, cast })
        assert.deepStrictEqual(
          yield* scans("SELECT * FROM ships s WHERE s.\"Home Port\" = $1 AND owner = $2 AND built >= $3", 3),
          [{
            equal: [column("\"Home Port\""), column("owner", "text")],
            range: [column("built")],
            order: [],
            whole: true
          }]
        )
        assert.deepStrictEqual(
          yield* scans("SELECT * FROM ships WHERE tons = ANY($1) ORDER BY built DESC NULLS LAST, owner LIMIT 3", 1),
          [{
            equal: [column("tons")],
            range: [],
            order: [
              { name: "built", descending: true, nulls: "LAST" },
              { name: "owner", descending: false, nulls: undefined }
            ],
            whole: true
          }]
        )
        assert.deepStrictEqual(
          yield* scans("DELETE FROM ships WHERE built IS NULL AND tons * 2 > $1", 1),
          [{ equal: [column("built")], range: [], order: [], whole: false }]
        )
        assert.deepStrictEqual(yield* scans("SELECT * FROM ships WHERE id = $1", 1), [])
      }))

    it.effect("a change of rows is explained and not run again", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        const rows = Effect.map(
          sql.unsafe<{ readonly n: number; readonly tons: number }>(
            `SELECT count(*)::int AS n, sum(tons)::int AS tons FROM ${schema}.ships`
          ),
          ([row]) => [row?.n, row?.tons]
        )
        const [before, tons] = yield* rows
        const changes = [
          `INSERT INTO ${schema}.ships (id, owner) VALUES ($1, 'x')`,
          `UPDATE ${schema}.ships SET tons = tons + 1 WHERE id = $1`,
          `WITH gone AS (DELETE FROM ${schema}.ships WHERE id = $1 RETURNING id) SELECT id AS deleted FROM gone`
        ]
        for (const change of changes) {
          assert.isNotEmpty(yield* planOf(sql.unsafe(change, [9_999]), `${schema}.ships`), change)
        }
        assert.deepStrictEqual(yield* rows, [before, tons])
        yield* sql.unsafe(`CREATE SEQUENCE ${schema}.ids`)
        yield* planOf(sql.unsafe(`SELECT nextval('${schema}.ids')`), "nextval")
        const [next] = yield* sql.unsafe<{ readonly v: number }>(`SELECT nextval('${schema}.ids')::int AS v`)
        assert.strictEqual(next?.v, 2)
      }).pipe(insights()))

    it.effect("what cannot be explained is counted, and nobody fails", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        const { slow } = yield* QueryInsights.QueryInsights
        const counters = Effect.map(
          Effect.flatMap(Status, (status) => status.get("query-insights")),
          (node) => node!.counters
        )
        const before = yield* counters
        // It is gone before anybody can explain it.
        yield* Effect.exit(sql.withTransaction(Effect.andThen(
          sql.unsafe(`CREATE TABLE ${schema}.gone (a int)`),
          Effect.andThen(sql.unsafe(`SELECT a FROM ${schema}.gone`), Effect.fail("undone"))
        )))
        const after = yield* eventually(counters, {
          until: (all) => all["explainFailures"]! > before["explainFailures"]!
        })
        assert.strictEqual(after["explained"], before["explained"])
        const gone = (yield* slow).find(({ text }) => text.startsWith("SELECT a FROM"))
        assert.strictEqual(gone?.count, 1)
        assert.isUndefined(gone?.plan)
        // Nothing prepared, set or open is left behind.
        const [left] = yield* sql`SELECT count(*)::int AS n FROM pg_prepared_statements WHERE name LIKE 'seaworthy%'`
        assert.strictEqual(left?.["n"], 0)
        const [mode] =
          yield* sql`SELECT current_setting('plan_cache_mode') AS mode, current_setting('transaction_read_only') AS ro`
        assert.deepStrictEqual(mode, { mode: "auto", ro: "off" })
      }).pipe(insights()))

    it.effect("an unused, a duplicate and an invalid index, and a foreign key without one, are told until they are mended", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        yield* onOne(
          `CREATE TABLE ${schema}.cargo (id int PRIMARY KEY, "to" int REFERENCES ${schema}.ships, ship int REFERENCES ${schema}.ships, word text UNIQUE)`,
          `INSERT INTO ${schema}.cargo SELECT i, i, i, i::text FROM generate_series(1, 5000) i`,
          `CREATE INDEX "Unused" ON ${schema}.ships (built)`,
          `CREATE INDEX short ON ${schema}.ships (owner)`,
          `CREATE INDEX long ON ${schema}.ships (owner, built)`,
          `CREATE INDEX partial ON ${schema}.ships (owner) WHERE tons = 1`,
          `CREATE INDEX other_class ON ${schema}.ships (owner varchar_pattern_ops, tons)`,
          `CREATE INDEX of_ship ON ${schema}.cargo (ship, word)`
        )
        yield* analyze(`${schema}.cargo`)
        yield* Effect.flip(sql.unsafe(`CREATE UNIQUE INDEX CONCURRENTLY broken ON ${schema}.ships (tons)`))
        const { report } = yield* QueryInsights.QueryInsights
        const first = yield* awaitKind(schema, "UnusedIndex")
        const named = findingsOf(schema, first).map(({ kind, subject }) => `${kind} ${subject.slice(schema.length)}`)
        assert.deepStrictEqual(named.filter((one) => !one.startsWith("StaleStatistics")).toSorted(), [
          "DuplicateIndex .short",
          "InvalidIndex .broken",
          "UnindexedForeignKey .cargo",
          "UnusedIndex .\"Unused\"",
          "UnusedIndex .other_class",
          "UnusedIndex .partial"
        ])
        assert.deepStrictEqual(first.unread, [])
        const key = findingsOf(schema, first).find(({ kind }) => kind === "UnindexedForeignKey")
        assert.deepStrictEqual(key?.sql, [`CREATE INDEX CONCURRENTLY ON ${schema}.cargo ("to")`])
        yield* sql.unsafe(`UPDATE ${schema}.ships SET tons = id`)
        for (const finding of findingsOf(schema, first)) yield* apply(finding)
        const kinds = new Set(kindsOf(schema, yield* report))
        for (const kind of ["DuplicateIndex", "InvalidIndex", "UnindexedForeignKey"]) {
          assert.isFalse(kinds.has(kind), kind)
        }
        // What has taken the place of a duplicate was not used either.
        const left = findingsOf(schema, yield* report).filter(({ kind }) => kind === "UnusedIndex")
        assert.deepStrictEqual(left.map(({ subject }) => subject), [`${schema}.long`])
      }).pipe(insights()))

    it.effect("an index that has come since the last report is not called unused before its time", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        yield* ships(schema)
        const { report } = yield* QueryInsights.QueryInsights
        yield* sql.unsafe(`CREATE INDEX old ON ${schema}.ships (built)`)
        const unused = (all: QueryInsights.Report) =>
          findingsOf(schema, all).filter(({ kind }) => kind === "UnusedIndex").map(({ subject }) => subject)
        assert.deepStrictEqual(unused(yield* report), [`${schema}.old`])
        yield* sql.unsafe(`CREATE INDEX young ON ${schema}.ships (tons)`)
        assert.deepStrictEqual(unused(yield* report), [`${schema}.old`])
      }).pipe(
        // The server's statistics are older than its start, which was a while ago; the young index is not.
        insights({ ...everything, statisticsAge: "500 millis" })
      ))

    it.effect("dead rows and old figures are told until VACUUM and ANALYZE ran", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        yield* onOne(
          `CREATE TABLE ${schema}.log (id int) WITH (autovacuum_enabled = false)`,
          `INSERT INTO ${schema}.log SELECT generate_series(1, 5000)`
        )
        const stale = yield* awaitKind(schema, "StaleStatistics")
        yield* apply(findingsOf(schema, stale).find(({ kind }) => kind === "StaleStatistics"))
        yield* awaitKind(schema, "StaleStatistics", false)
        yield* onOne(`DELETE FROM ${schema}.log WHERE id <= 3000`)
        const dead = yield* awaitKind(schema, "DeadRows")
        const finding = findingsOf(schema, dead).find(({ kind }) => kind === "DeadRows")
        assert.match(finding!.seen, /3,000 dead rows beside 2,000 live ones \(60 %\); it has not been vacuumed/)
        yield* apply(finding)
        yield* awaitKind(schema, "DeadRows", false)
      }).pipe(insights()))

    it.effect("a table that is mostly read as a whole is told, with the counts", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        yield* ships(schema)
        yield* onOne(...Array.from({ length: 60 }, () => `SELECT count(*) FROM ${schema}.ships`))
        const found = yield* awaitKind(schema, "SequentialScans")
        const finding = findingsOf(schema, found).find(({ kind }) => kind === "SequentialScans")
        assert.match(
          finding!.seen,
          /was read as a whole 6\d times and by an index 0 times .*: (?:4,9\d\d|5,000) rows each time/
        )
      }).pipe(insights({ ...everything, explain: false })))

    it.effect("a large OFFSET is told", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { report } = yield* QueryInsights.QueryInsights
        yield* sql`SELECT i FROM generate_series(1, 20000) AS i ORDER BY i LIMIT 10 OFFSET ${15_000}`
        yield* sql`SELECT i + 1 AS j FROM generate_series(1, 20000) AS i ORDER BY i LIMIT 10 OFFSET ${10}`
        const found = (yield* report).findings.filter(({ kind }) => kind === "LargeOffset")
        assert.deepStrictEqual(found.map(({ subject }) => subject), [
          "SELECT i FROM generate_series(?, ?) AS i ORDER BY i LIMIT ? OFFSET $1"
        ])
      }).pipe(insights()))

    it.effect("in a request, queries that run again and again are told, whoever runs them and however it ends", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { repeated, report } = yield* QueryInsights.QueryInsights
        const item = Effect.fn("item")((id: number) => sql`SELECT ${id}::int AS item`)
        const ids = Array.from({ length: 12 }, (_, i) => i)
        yield* Effect.forEach(ids, item, { concurrency: 4 }).pipe(QueryInsights.request("GET /items"))
        // Within a transaction, and it fails.
        yield* Transaction.run(Effect.andThen(Effect.forEach(ids, item), Effect.fail("no"))).pipe(
          QueryInsights.request("GET /items"),
          Effect.flip
        )
        // Not often enough, not in a request, not a query.
        yield* QueryInsights.request(Effect.forEach(ids.slice(3), item), "GET /few")
        yield* Effect.forEach(ids, item)
        yield* Effect.forEach(ids, () => sql`DELETE FROM pg_class WHERE false`).pipe(QueryInsights.request("writes"))
        const all = yield* repeated
        assert.deepStrictEqual(
          all.map(({ most, request, requests, runs, text }) => [request, text, requests, most, runs]),
          [["GET /items", "SELECT $1::int AS item", 2, 12, 24]]
        )
        assert.match(all[0]!.caller, /item/)
        const finding = (yield* report).findings.find(({ kind }) => kind === "RepeatedQuery")
        assert.match(finding!.seen, /^2 requests "GET \/items" ran one query up to 12 times each: 24 runs/)
        assert.match(finding!.advice, /= ANY\(\$1\)/)
      }).pipe(insights({ slowerThan: "1 minute" })))

    it.effect("no value is in anything that can be read", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        const service = yield* QueryInsights.QueryInsights
        yield* ships(schema)
        const secret = "hunter2-plantedSecret"
        const number = 8_675_309_123
        const statements: ReadonlyArray<readonly [string, ReadonlyArray<unknown>]> = [
          [`SELECT * FROM ${schema}.ships WHERE "Home Port" = $1 AND id < $2`, [secret, 8_675_309]],
          [`SELECT * FROM ${schema}.ships WHERE "Home Port" = '${secret}' AND built < ${number}`, []],
          [`SELECT * FROM ${schema}.ships WHERE owner LIKE '%${secret}%' /* ${secret} */`, []],
          [`SELECT E'${secret}\\'', $q$${secret}$q$, ${number}.5 FROM ${schema}.ships WHERE built = ANY($1)`, [[
            8_675_309
          ]]],
          [`UPDATE ${schema}.ships SET owner = 'x' WHERE owner = '${secret.slice(0, 20)}'`, []]
        ]
        for (const [text, params] of statements) {
          yield* planOf(sql.unsafe(text, params), "ships").pipe(QueryInsights.request("GET /secret"))
        }
        for (const [text, params] of statements) yield* sql.unsafe(text, params)
        // The server's messages have values in them.
        yield* Effect.flip(sql`SELECT ${secret}::text::int`)
        yield* Effect.flip(sql.unsafe(`SELECT '${secret}'::int FROM ${schema}.ships`))
        const report = yield* service.report
        const status = yield* Effect.flatMap(Status, ({ snapshot }) => snapshot)
        const seen = [report, yield* service.slow, yield* service.repeated, status].map((one) => JSON.stringify(one))
        assert.isNotEmpty(report.slow.filter(({ plan }) => plan !== undefined))
        assert.isNotEmpty(findingsOf(schema, report))
        for (const text of [...seen, QueryInsights.render(report)]) {
          for (const part of ["hunter2", "plantedSecret", "8675309", "8_675_309"]) assert.notInclude(text, part)
        }
      }).pipe(insights({ ...everything, repeatedAt: 2 })))

    it.effect("a report within a transaction is not part of it, and does not wait for itself", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { report } = yield* QueryInsights.QueryInsights
        const [found, xid] = yield* sql.withTransaction(Effect.gen(function*() {
          const within = yield* report
          const [row] = yield* sql`SELECT pg_current_xact_id_if_assigned()::text AS xid`
          return [within, row?.["xid"]] as const
        }))
        assert.isNull(xid)
        assert.deepStrictEqual(
          found.unread,
          singleSession
            ? ["plans and statistics: a transaction is open here, and the embedded database has one session"]
            : []
        )
      }).pipe(insights()))

    it.effect("a report reads well for people", () =>
      Effect.gen(function*() {
        const schema = yield* freshSchema
        const sql = yield* SqlClient.SqlClient
        const { report } = yield* QueryInsights.QueryInsights
        yield* ships(schema)
        yield* planOf(sql.unsafe(`SELECT * FROM ${schema}.ships WHERE built = 7`), "ships")
        const text = QueryInsights.render(yield* report)
        assert.match(text, /^# Query insights\n\n\d{4}-.*, driver pg(?:lite)?, server \d+/)
        assert.include(text, `Missing index\n\n${schema}.ships (about 5,000 rows) is read as a whole`)
        assert.include(text, `\`\`\`sql\nCREATE INDEX CONCURRENTLY ON ${schema}.ships (built);\n\`\`\``)
        assert.include(text, `1. \`SELECT * FROM ${schema}.ships WHERE built = ?\`\n   1 time, mean`)
      }).pipe(insights()))
  })
}
