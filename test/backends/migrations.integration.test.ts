import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { fileURLToPath } from "node:url"
import { spawnCommand } from "../support/Command.ts"
import { eventually } from "../support/Live.ts"
import * as Servers from "../support/Servers.ts"
import { folderWith } from "./migrationSuite.ts"

const fixture = fileURLToPath(new URL("./startsDatabase.fixture.ts", import.meta.url))
const bound = { within: "2 minutes" } as const

Servers.describeWith(["postgres"], "Migrations by several processes", () => {
  const world = Effect.gen(function*() {
    const server = yield* Servers.postgres()
    const session = yield* PgConnection.make({
      host: server.host,
      port: server.port,
      username: server.username,
      database: server.database,
      password: Redacted.make(server.password)
    })
    const query = (sql: string) => Effect.map(session.query(sql), ({ rows }) => rows)
    const start = (folder: string, name = "seaworthy") =>
      spawnCommand(["--import", "tsx", fixture, "postgres"], {
        env: { DATABASE_URL: server.url, DATABASE_MIGRATIONS: folder, DATABASE_APPLICATION_NAME: name }
      })
    return { query, start }
  })

  it.live("that start at once run each migration once, and all are ready after it", () =>
    Effect.gen(function*() {
      const { query, start } = yield* world
      const folder = yield* folderWith({
        "0001_boats.sql": `
          CREATE TABLE boats (n serial);
          INSERT INTO boats DEFAULT VALUES;
          -- Goes on when both processes are there, and then lets the other one come to the lock.
          DO $$ BEGIN
            WHILE (SELECT count(DISTINCT application_name) FROM pg_stat_activity WHERE application_name LIKE 'twin%') < 2 LOOP
              PERFORM pg_sleep(0.05);
              PERFORM pg_stat_clear_snapshot();
            END LOOP;
            PERFORM pg_sleep(0.5);
          END $$;`,
        "0002_more.sql": "INSERT INTO boats DEFAULT VALUES;"
      })
      const processes = yield* Effect.all([start(folder, "twin 1"), start(folder, "twin 2")])
      for (const each of processes) {
        assert.strictEqual(yield* each.waitForLine(/^ready|^failed/, bound), "ready with 0001_boats.sql 0002_more.sql")
      }
      assert.deepStrictEqual(yield* query("SELECT n FROM boats ORDER BY n"), [{ n: 1 }, { n: 2 }])
      assert.deepStrictEqual(yield* query("SELECT id FROM seaworthy_migrations ORDER BY id"), [{ id: 1 }, { id: 2 }])
      assert.deepStrictEqual(yield* query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"), [])
    }), 300_000)

  it.live(
    "of which one is killed halfway leave nothing half done, and the next one finishes",
    () =>
      Effect.gen(function*() {
        const { query, start } = yield* world
        const folder = yield* folderWith({
          "0001_boats.sql": "CREATE TABLE boats (n serial);",
          "0002_slow.sql":
            "CREATE TABLE captains (n serial); SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM patience) THEN 600 ELSE 0 END);"
        })
        yield* query("CREATE TABLE patience AS SELECT 1 AS n")
        const first = yield* start(folder)
        const migrating = query(
          "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'DO %' AND query LIKE '%captains%' AND pid <> pg_backend_pid()"
        )
        yield* eventually(migrating, { ...bound, until: (rows) => rows.length === 1 })
        yield* first.signal("SIGKILL")
        yield* first.exit()
        assert.deepStrictEqual(
          yield* query("SELECT to_regclass('boats')::text AS one, to_regclass('captains')::text AS two"),
          [
            { one: "boats", two: null }
          ]
        )
        yield* query("DELETE FROM patience")
        // The server notices that the process is gone while its statement still runs, and gives the lock back.
        const second = yield* start(folder)
        assert.strictEqual(
          yield* second.waitForLine(/^ready|^failed/, bound),
          "ready with 0001_boats.sql 0002_slow.sql"
        )
        assert.deepStrictEqual(yield* query("SELECT to_regclass('captains')::text AS two"), [{ two: "captains" }])
      }),
    300_000
  )
})
