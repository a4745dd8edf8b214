import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import type * as QueryInsights from "../../src/data/QueryInsights.ts"
import * as Servers from "../support/Servers.ts"
import { finished } from "./support.ts"

const environment = (server: Servers.PostgresServer, password = server.password) => ({
  DATABASE_DRIVER: "postgres",
  DATABASE_HOST: server.host,
  DATABASE_PORT: String(server.port),
  DATABASE_DATABASE: server.database,
  DATABASE_USERNAME: server.username,
  DATABASE_PASSWORD: password,
  DATABASE_RETRY_ATTEMPTS: "0"
})

Servers.describeWith(["postgres"], "seaworthy insights", () => {
  it.live("prints advice with SQL that runs, changes nothing, and exits 0", () =>
    Effect.gen(function*() {
      const server = yield* Servers.postgres()
      const context = yield* Layer.build(PgClient.layer({ url: Redacted.make(server.url) }))
      const sql = Context.get(context, PgClient.PgClient)
      yield* sql`CREATE TABLE ships (id int PRIMARY KEY)`
      yield* sql`CREATE TABLE cargo (id int PRIMARY KEY, ship int REFERENCES ships)`
      yield* sql`INSERT INTO ships SELECT generate_series(1, 10)`
      yield* sql`INSERT INTO cargo SELECT n, n % 10 + 1 FROM generate_series(1, 20000) n`
      yield* sql`ANALYZE`

      const run = yield* finished(["insights"], { env: environment(server) })
      assert.strictEqual(run.code, 0, run.output)
      assert.include(run.stdout, "Foreign key without an index")
      assert.include(run.stdout, "provide QueryInsights.layer there")
      assert.strictEqual(run.stderr, "")

      // What else is found depends on when the server counted what was written.
      const unindexed = Effect.map(
        finished(["insights", "--json"], { env: environment(server) }),
        ({ stdout }) =>
          (JSON.parse(stdout) as QueryInsights.Report).findings.filter(({ kind }) => kind === "UnindexedForeignKey")
      )
      const [finding, ...others] = yield* unindexed
      assert.deepStrictEqual([finding?.subject, others], ["public.cargo", []])
      const advice = finding!.sql[0]!
      assert.include(run.stdout, advice)
      yield* sql.unsafe(advice)
      assert.deepStrictEqual(yield* unindexed, [])
    }).pipe(Effect.scoped), 120_000)

  it.live(
    "a database that cannot be reached is one message without a secret, and exit code 1",
    () =>
      Effect.gen(function*() {
        const server = yield* Servers.postgres()
        const run = yield* finished(["insights"], { env: environment(server, "wrong-Passw0rd") })
        assert.strictEqual(run.code, 1, run.output)
        assert.include(run.stderr, "database.password")
        assert.notInclude(run.output, "wrong-Passw0rd")
        assert.strictEqual(run.stdout, "")
        const json = yield* finished(["insights", "--json"], { env: environment(server, "wrong-Passw0rd") })
        assert.strictEqual(JSON.parse(json.stdout).error.resource, "database")
      }).pipe(Effect.scoped),
    120_000
  )
})
