/**
 * The database inside this process: Postgres as WebAssembly, behind the same client as a server.
 *
 * **When to use**
 *
 * Provide `PgliteDatabase.layer` for development, tests, command-line tools and single-process applications; needs the
 * packages `@effect/sql-pg` and `@electric-sql/pglite`. Moving to a server later is a change of the layer.
 *
 * **Details**
 *
 * `database.data_dir` (default `./.seaworthy/database`) is created, for `memory://` nothing is kept. The first start
 * takes some seconds, since the files of the database are made. One process at a time may use a directory: a lock file
 * beside it keeps a second one out with a `Conflict`, and the lock of a process that crashed is taken over.
 *
 * **Gotchas**
 *
 * There is one session: statements outside an open transaction wait until it ends, so code that inside a transaction
 * waits for a statement outside of it waits for ever. `SET` without `LOCAL`, temporary tables and advisory locks are
 * shared by all connections. A statement blocks the thread while it runs; `statement_timeout` has no effect.
 *
 * **Example** (A transaction that is rolled back)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { SqlClient } from "effect/sql"
 * import { Status } from "seaworthy"
 * import { PgliteDatabase } from "seaworthy/pglite"
 *
 * const program = Effect.gen(function*() {
 *   const sql = yield* SqlClient.SqlClient
 *   yield* sql`CREATE TABLE boats (name text)`
 *   yield* sql.withTransaction(Effect.andThen(sql`INSERT INTO boats VALUES ('Ark')`, Effect.fail("storm"))).pipe(Effect.ignore)
 *   return (yield* sql`SELECT * FROM boats`).length
 * })
 * const DatabaseLayer = PgliteDatabase.layerWith({ data_dir: "memory://" }).pipe(Layer.provide(Status.layer))
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(DatabaseLayer)))) // => 0
 * ```
 *
 * @since 0.1.0
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import { PGlite } from "@electric-sql/pglite"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import * as fs from "node:fs"
import * as path from "node:path"
import type { Status } from "../observability/Status.ts"
import type { Database } from "../resource/Database.ts"
import type { Explanation, ResourceError } from "../resource/ResourceError.ts"
import * as Settings from "../resource/Settings.ts"
import * as DirLock from "./internal/dirLock.ts"
import * as PgDatabase from "./internal/pgDatabase.ts"
import { codeOf, Explained, messageOf, type Place } from "./internal/pgErrors.ts"
import * as Transport from "./internal/pgliteTransport.ts"

/**
 * The section `database` with every option optional, the sections that it shares with others, and what only code can set.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends NonNullable<Settings.Values["database"]>, Omit<PgDatabase.CodeOptions, "readOnly"> {
  readonly pool?: Settings.Values["connection_pool"]
  readonly monitoring?: Settings.Values["monitoring"]
  readonly lifecycle?: Settings.Values["lifecycle"]
  /** Makes the engine, for extensions and other options of PGlite. Default `PGlite.create`. No directory: in memory. */
  readonly create?: ((dataDir: string | undefined) => Promise<PGlite>) | undefined
}

interface Target {
  readonly place: Place
  /** Absolute; `undefined` for memory. */
  readonly folder: string | undefined
}

const option = "database.data_dir"

const fileProblem = (folder: string, cause: unknown): Explanation => {
  const code = codeOf(cause)
  switch (code) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return {
        reason: "PermissionDenied",
        detail: `${folder} cannot be written to (${code})`,
        option,
        remedy: "Give this process the right to write there, or set DATABASE_DATA_DIR to another directory."
      }
    case "ENOTDIR":
    case "EEXIST":
      return {
        reason: "ConfigurationInvalid",
        detail: `${folder} cannot be made: something on the way there is not a directory (${code})`,
        option,
        remedy: "Set DATABASE_DATA_DIR to a directory; it is created when missing."
      }
    case "ENOSPC":
      return { reason: "Unknown", detail: "the disk is full", option, retryable: false }
  }
  return {
    reason: "Unknown",
    detail: `the embedded database in ${folder} does not start: ${messageOf(cause) || String(cause)}`,
    option,
    remedy: "If the directory is of another version or was damaged, move it away; a new one is made.",
    retryable: false
  }
}

const inUse = (folder: string, outcome: DirLock.Outcome & { readonly locked: false }): Explanation => {
  const { holder, seen } = outcome
  const who = holder === undefined
    ? "another process"
    : holder.pid === process.pid && seen
    ? "this process already"
    : `process ${holder.pid}${seen ? "" : ` on ${holder.host}`}`
  return {
    reason: "Conflict",
    detail: `${folder} is in use by ${who}`,
    option,
    remedy: "Stop that process, set DATABASE_DATA_DIR to a directory of this one's own, or use a Postgres server.",
    // A holder that we cannot look at may be gone: its lock goes stale within seconds.
    retryable: !seen
  }
}

/** Without symbolic links on the way, so that a directory has one lock by whatever name it is reached. */
const withoutLinks = (folder: string): string => {
  const real = path.join(fs.realpathSync(path.dirname(folder)), path.basename(folder))
  return fs.existsSync(real) ? fs.realpathSync(real) : real
}

/** Holds the lock of a directory, and renews it. Gives the directory without symbolic links on the way. */
const lock = (folder: string): Effect.Effect<string, Explained, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.try({
        try: () => {
          fs.mkdirSync(path.dirname(folder), { recursive: true })
          const real = withoutLinks(folder)
          return { real, outcome: DirLock.acquire(`${real}.lock`, now) }
        },
        catch: (cause) => new Explained({ explanation: fileProblem(folder, cause), cause })
      })).pipe(
        Effect.flatMap(({ outcome, real }) =>
          outcome.locked
            ? Effect.succeed({ ...outcome, real })
            : Effect.fail(new Explained({ explanation: inUse(folder, outcome) }))
        )
      ),
    ({ release }) => Effect.ignoreCause(Effect.sync(release))
  ).pipe(
    Effect.flatMap(({ real, renew }) => {
      const again = Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.ignoreCause(Effect.sync(() => renew(now)), { log: "Warn" }))
      return Effect.as(Effect.forkScoped(Effect.forever(Effect.delay(again, DirLock.renewEvery))), real)
    })
  )

type Create = NonNullable<Options["create"]>

const createPlain: Create = (dataDir) => dataDir === undefined ? PGlite.create() : PGlite.create({ dataDir })

/** A process that is killed while the files are made leaves some of them: the mark says that they are no database. */
const open = async (folder: string, create: Create): Promise<PGlite> => {
  const mark = `${folder}.unfinished`
  // What is in the folder, and not the folder: it may be a disk of its own, which cannot be removed.
  if (fs.existsSync(mark) && fs.existsSync(folder)) {
    for (const name of fs.readdirSync(folder)) fs.rmSync(path.join(folder, name), { recursive: true, force: true })
  }
  const isNew = !fs.existsSync(folder) || fs.readdirSync(folder).length === 0
  if (isNew) fs.writeFileSync(mark, "")
  const engine = await create(folder)
  if (isNew) fs.rmSync(mark, { force: true })
  return engine
}

const start = (folder: string | undefined, create: Create): Effect.Effect<PGlite, Explained, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => folder === undefined ? create(undefined) : open(folder, create),
      catch: (cause) => new Explained({ explanation: fileProblem(folder ?? "memory", cause), cause })
    }),
    (engine) => Effect.promise(() => engine.closed ? Promise.resolve() : engine.close())
  )

const backend = (create: Create): PgDatabase.Backend<Target> => ({
  driver: "pglite",
  // Connections cost nothing, and what a closed one had prepared would stay in the session.
  renew: false,
  identify: false,
  // Making the files cannot be broken off, and a second try beside it would only find the directory in use.
  openTimeout: "5 minutes",
  target: (section) => ({
    place: {
      where: "the embedded database",
      host: "localhost",
      port: 0,
      database: "postgres",
      username: "postgres",
      application: section.application_name
    },
    folder: section.data_dir.startsWith("memory://")
      ? undefined
      : path.resolve(section.data_dir.replace(/^file:\/\//, ""))
  }),
  config: (target): PgConnection.Config => ({
    database: target.place.database,
    username: target.place.username,
    ssl: false,
    applicationName: target.place.application
  }),
  open: (target) =>
    Effect.gen(function*() {
      const folder = target.folder === undefined ? undefined : yield* lock(target.folder)
      const session = new Transport.Session(yield* start(folder, create))
      const check = Effect.suspend(() =>
        session.broken === undefined ? Effect.void : Effect.fail(
          new Explained({
            explanation: { reason: "Unknown", detail: `the embedded database has failed: ${session.broken.message}` },
            cause: session.broken
          })
        )
      )
      return { dial: session.dial, check }
    }),
  explain: (error, target, phase) => {
    if (phase !== "initialize" && error === undefined) {
      return {
        reason: "TimedOut",
        detail: "the embedded database did not answer in time",
        option,
        remedy: `Look at the load of this machine and of the disk under ${target?.folder ?? "memory"}.`
      }
    }
    return undefined
  }
})

/**
 * The embedded database with settings from environment and file.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Database | SqlClient, ResourceError | Settings.SettingsError, Status> = PgDatabase
  .layer(
    backend(createPlain),
    Settings.Settings
  ).pipe(Layer.provide(Settings.layer))

/**
 * The embedded database with settings given in code; what is left out has its default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<Database | SqlClient, ResourceError, Status> => {
  const { create, lifecycle, migrationLockTimeout, migrationTimeout, monitoring, pool, ...database } = options
  return PgDatabase.layer(
    backend(create ?? createPlain),
    Settings.make({ database: { ...database, driver: "pglite" }, connection_pool: pool, lifecycle, monitoring }),
    { migrationLockTimeout, migrationTimeout }
  )
}
