import * as PgConnection from "@effect/sql-pg/PgConnection"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { PGlite } from "@electric-sql/pglite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SqlClient } from "effect/sql/SqlClient"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as DirLock from "../../src/backends/internal/dirLock.ts"
import { Session } from "../../src/backends/internal/pgliteTransport.ts"
import * as PgliteDatabase from "../../src/backends/PgliteDatabase.ts"
import * as Status from "../../src/observability/Status.ts"
import { startError, suite, suiteOptions } from "../resource/databaseSuite.ts"
import * as MigrationSuite from "./migrationSuite.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "seaworthy-pglite-"))
const data = path.join(folder, "made", "data")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

suite("PGlite", PgliteDatabase.layerWith({ ...suiteOptions, data_dir: data }), "pglite")

describe("PGlite's directory", () => {
  it("is made with the directories above it, and its lock is gone after the release", () => {
    assert.deepStrictEqual(fs.readdirSync(path.dirname(data)), ["data"])
    assert.include(fs.readdirSync(data), "PG_VERSION")
  })

  it.live("of another process is a Conflict that names the process", () =>
    Effect.gen(function*() {
      // The parent of the test process surely runs.
      fs.writeFileSync(`${data}.lock`, JSON.stringify({ ...DirLock.self(), pid: process.ppid, started: "" }))
      const error = yield* startError(PgliteDatabase.layerWith({ data_dir: data, retry_attempts: 0 }))
      fs.rmSync(`${data}.lock`)
      assert.strictEqual(error.reason, "Conflict")
      assert.strictEqual(error.phase, "connect")
      assert.strictEqual(error.option, "database.data_dir")
      assert.include(error.message, `${data} is in use by process ${process.ppid}`)
    }))

  it.live("is one directory by whatever links one comes to it", () =>
    Effect.gen(function*() {
      fs.symlinkSync(data, path.join(folder, "alias"))
      fs.symlinkSync(path.dirname(data), path.join(folder, "above"))
      fs.writeFileSync(`${data}.lock`, JSON.stringify({ ...DirLock.self(), pid: process.ppid, started: "" }))
      for (const alias of ["alias", "above/data"]) {
        const other = path.join(folder, alias)
        const error = yield* startError(PgliteDatabase.layerWith({ data_dir: other, retry_attempts: 0 }))
        assert.strictEqual(error.reason, "Conflict")
        assert.include(error.message, `${other} is in use by process ${process.ppid}`)
      }
      fs.rmSync(`${data}.lock`)
    }))

  it.live(
    "that a killed process left half made is made anew, in the same folder, which may be a disk of its own",
    () =>
      Effect.gen(function*() {
        const half = path.join(folder, "half")
        fs.cpSync(data, half, { recursive: true })
        fs.rmSync(path.join(half, "global"), { recursive: true })
        fs.rmSync(path.join(half, "base"), { recursive: true })
        fs.writeFileSync(`${half}.unfinished`, "")
        const opened = fs.openSync(half, "r")
        const rows = yield* Effect.provide(
          Effect.flatMap(SqlClient, (sql) => sql`SELECT 1 AS n`),
          Layer.provide(PgliteDatabase.layerWith({ data_dir: half }), Status.layer)
        )
        assert.deepStrictEqual(rows, [{ n: 1 }])
        assert.isFalse(fs.existsSync(`${half}.unfinished`))
        // A folder that was removed has no links any more.
        assert.isAbove(fs.fstatSync(opened).nlink, 0)
        fs.closeSync(opened)
      }),
    300_000
  )

  it.live("that cannot be made is told with the option and what to do", () =>
    Effect.gen(function*() {
      const file = path.join(folder, "file")
      fs.writeFileSync(file, "")
      const error = yield* startError(PgliteDatabase.layerWith({ data_dir: path.join(file, "data") }))
      assert.strictEqual(error.reason, "ConfigurationInvalid")
      assert.match(
        error.message,
        /cannot be made: something on the way there is not a directory[^]*option: database\.data_dir\n.*remedy: Set DATABASE_DATA_DIR/
      )
    }))
})

// Opened when the suite above has released the directory.
let engine: Promise<PGlite> | undefined
const session = Effect.runSync(Effect.cached(Effect.map(
  Effect.promise(() => engine = PGlite.create({ dataDir: data })),
  (engine) => new Session(engine)
)))
afterAll(async () => (await engine)?.close())

MigrationSuite.suite(
  "Migrations on PGlite",
  "pglite",
  Effect.flatMap(session, ({ dial }) => PgConnection.make({ stream: dial, username: "postgres", database: "postgres" }))
)
