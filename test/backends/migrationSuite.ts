/**
 * What migrations promise, run against the embedded database and a server.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Migrations from "../../src/backends/internal/migrations.ts"
import { Explained } from "../../src/backends/internal/pgErrors.ts"

type Open = Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>

/** A folder with the given files, gone with the scope. */
export const folderWith = (files: Readonly<Record<string, string>>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), "seaworthy-migrations-"))
      for (const [name, content] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), content)
      return folder
    }),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )

const two = {
  "0001_create_boats.sql":
    "-- Two statements; and a ' in a comment.\nCREATE TABLE boats (name text PRIMARY KEY);\nINSERT INTO boats VALUES ('Ark; $do$');\n",
  "0002_add-year.sql": "ALTER TABLE boats ADD COLUMN year int;\nUPDATE boats SET year = 2026;",
  "README.md": "not a migration"
}

/** `open` gives sessions on a database in which tables can be made and dropped. */
export const suite = (name: string, driver: string, open: Open): void => {
  const run = (folder: string) =>
    Migrations.run({ folder, open, driver, lockTimeout: Duration.seconds(20) }).pipe(Effect.provide(Reactivity.layer))
  const query = (sql: string) =>
    Effect.scoped(Effect.flatMap(open, (session) => Effect.map(session.query(sql), ({ rows }) => rows)))
  const clean = query("DROP TABLE IF EXISTS seaworthy_migrations, boats, captains CASCADE")
  const refused = (folder: string) =>
    Effect.map(Effect.flip(run(folder)), (error) => {
      assert.instanceOf(error, Explained)
      return (error as Explained).explanation
    })
  const test = (title: string, body: Effect.Effect<void, unknown, Scope.Scope>) =>
    it.live(title, () => Effect.andThen(clean, body), 60_000)

  describe(name, () => {
    test(
      "run in order, each once, and are recorded with file, checksum and duration",
      Effect.gen(function*() {
        const folder = yield* folderWith(two)
        const applied = yield* run(folder)
        assert.deepStrictEqual(applied.map(({ file, id, name }) => [id, name, file]), [
          [1, "create_boats", "0001_create_boats.sql"],
          [2, "add-year", "0002_add-year.sql"]
        ])
        assert.match(applied[0]!.checksum, /^[0-9a-f]{64}$/)
        assert.instanceOf(applied[0]!.appliedAt, Date)
        assert.isAtLeast(applied[0]!.duration, 0)
        assert.deepStrictEqual(yield* query("SELECT name, year FROM boats"), [{ name: "Ark; $do$", year: 2026 }])
        assert.deepStrictEqual(yield* run(folder), applied)
      })
    )

    test(
      "may be modules whose default export is an Effect on SqlClient",
      Effect.gen(function*() {
        const effect = new URL("../../node_modules/effect/dist/", import.meta.url).href
        const folder = yield* folderWith({
          "0001_captains.mjs": `
            import * as Effect from "${effect}Effect.js"
            import { SqlClient } from "${effect}sql/SqlClient.js"
            export default Effect.gen(function*() {
              const sql = yield* SqlClient
              yield* sql\`CREATE TABLE captains (name text)\`
              yield* sql\`INSERT INTO captains \${sql.insert([{ name: "Nemo" }])}\`
            })`
        })
        yield* run(folder)
        assert.deepStrictEqual(yield* query("SELECT name FROM captains"), [{ name: "Nemo" }])
      })
    )

    test(
      "are the same with other line endings",
      Effect.gen(function*() {
        const folder = yield* folderWith(two)
        const applied = yield* run(folder)
        const other = Object.fromEntries(
          Object.entries(two).map(([name, text]) => [name, text.replaceAll("\n", "\r\n")])
        )
        assert.deepStrictEqual(yield* run(yield* folderWith(other)), applied)
      })
    )

    test(
      "may be empty, hold only comments or quotes of any kind, end in a comment, and begin with a byte order mark",
      Effect.gen(function*() {
        const folder = yield* folderWith({
          "0001_empty.sql": "",
          "0002_comments.sql": "-- nothing\n/* to /* be */ done */\n;;",
          "0003_quotes.sql": "CREATE TABLE boats (name text); INSERT INTO boats VALUES ($do_0$a $$ b $file$ c$do_0$);",
          "0004_mark.sql": "\uFEFFINSERT INTO boats VALUES ('marked') -- the end"
        })
        assert.strictEqual((yield* run(folder)).length, 4)
        assert.deepStrictEqual(yield* query("SELECT name FROM boats ORDER BY 1"), [
          { name: "a $$ b $file$ c" },
          { name: "marked" }
        ])
      })
    )

    test(
      "may set the search path and the role, as the output of pg_dump does: neither outlives its migration",
      Effect.gen(function*() {
        const folder = yield* folderWith({
          "0001_dump.sql":
            "SELECT pg_catalog.set_config('search_path', '', false);\nCREATE TABLE public.boats (name text);",
          "0002_role.sql": "SET ROLE pg_read_all_data; SET search_path TO pg_catalog;",
          "0003_more.sql": "INSERT INTO boats VALUES (current_user = session_user)"
        })
        yield* run(folder)
        assert.deepStrictEqual(yield* query("SELECT name FROM boats"), [{ name: "true" }])
        assert.deepStrictEqual((yield* run(folder)).length, 3)
      })
    )

    test(
      "that were changed after they had been applied are a Conflict that names the file",
      Effect.gen(function*() {
        yield* run(yield* folderWith(two))
        const explanation = yield* refused(
          yield* folderWith({ ...two, "0001_create_boats.sql": "CREATE TABLE boats ()" })
        )
        assert.strictEqual(explanation.reason, "Conflict")
        assert.strictEqual(explanation.option, "database.migrations")
        assert.match(explanation.detail, /0001_create_boats\.sql was changed after it had been applied/)
      })
    )

    test(
      "that fail leave nothing of themselves behind, say file, line and reason, and keep those before",
      Effect.gen(function*() {
        const folder = yield* folderWith({
          ...two,
          "0003_broken.sql":
            "CREATE TABLE captains (name text);\n\nINSERT INTO captains VALUES ('Ahab');\nSELECT colour FROM boats;"
        })
        const explanation = yield* refused(folder)
        assert.match(
          explanation.detail,
          /^migration 0003_broken\.sql failed at line 4, column 8: column "colour" does not exist \(42703\)/
        )
        assert.strictEqual(explanation.reason, "ConfigurationInvalid")
        assert.deepStrictEqual(yield* query("SELECT to_regclass('captains') AS t"), [{ t: null }])
        assert.deepStrictEqual(yield* query("SELECT id FROM seaworthy_migrations ORDER BY id"), [{ id: 1 }, { id: 2 }])
        fs.writeFileSync(path.join(folder, "0003_broken.sql"), "CREATE TABLE captains (name text)")
        assert.strictEqual((yield* run(folder)).length, 3)
      })
    )

    test(
      "cannot end their transaction halfway",
      Effect.gen(function*() {
        const explanation = yield* refused(
          yield* folderWith({ "0001_commit.sql": "CREATE TABLE boats (n int);\nCOMMIT;\nSELECT 1/0;" })
        )
        assert.match(explanation.detail, /0001_commit\.sql failed.*transaction/)
        assert.deepStrictEqual(yield* query("SELECT to_regclass('boats') AS t"), [{ t: null }])
      })
    )

    test(
      "of a newer version of the application are left alone",
      Effect.gen(function*() {
        yield* run(yield* folderWith(two))
        const older = yield* folderWith({ "0001_create_boats.sql": two["0001_create_boats.sql"] })
        assert.deepStrictEqual((yield* run(older)).map(({ id }) => id), [1, 2])
      })
    )

    test(
      "in a folder that is missing or with a file that has no number are refused",
      Effect.gen(function*() {
        const missing = yield* refused("/nowhere/migrations")
        assert.match(missing.detail, /"\/nowhere\/migrations" cannot be read \(ENOENT\)/)
        assert.strictEqual(missing.reason, "ConfigurationInvalid")
        assert.match((yield* refused(yield* folderWith({ "users.sql": "" }))).detail, /users\.sql has no number/)
      })
    )
  })
}
