// Runs the migrations of a folder on a Postgres. Each runs in a transaction together with its row in
// `seaworthy_migrations`; a session lock lets one process run them while the others wait.
//
// Why not `effect/sql/Migrator`: it runs all pending migrations in one transaction, records no checksum (a changed file
// goes unnoticed), skips a late file with a lower number in silence, waits for its LOCK TABLE without a bound, and does
// not run `.sql` files. Modules for it, a default export that is an Effect on `SqlClient`, run here unchanged.
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Reactivity } from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import type { Migration } from "../../resource/Database.ts"
import * as Plan from "./migrationPlan.ts"
import { commit, SessionConnection } from "./pgConnection.ts"
import { codeOf, Explained, messageOf } from "./pgErrors.ts"

export interface Options {
  readonly folder: string
  /** A session of its own: lock and transactions live and die together. */
  readonly open: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>
  readonly driver: string
  /** How long to wait for another process that is migrating. */
  readonly lockTimeout: Duration.Duration
}

interface LoadedFile extends Plan.MigrationFile {
  readonly kind: "sql" | "module"
  readonly content: string
  readonly absolute: string
}

const table = "seaworthy_migrations"
// Advisory locks have a number, not a name; this one is the ASCII of "seaworth".
const lockKey = "8315159452608263272"

const invalid = (detail: string, remedy: string, cause?: unknown) =>
  new Explained({
    explanation: { reason: "ConfigurationInvalid", detail, option: "database.migrations", remedy },
    cause
  })

const readFolder = (folder: string): Effect.Effect<ReadonlyArray<LoadedFile>, Explained> =>
  Effect.tryPromise({
    try: async () => {
      const absolute = path.resolve(folder)
      const names = (await fs.readdir(absolute)).sort()
      const wrong = Plan.misnamed(names)
      if (wrong !== undefined) {
        throw invalid(`${path.join(folder, wrong)} has no number`, "Name migrations like 0001_create_users.sql.")
      }
      return await Promise.all(names.flatMap((file) => {
        const parsed = Plan.parseName(file)
        if (parsed === undefined) return []
        const at = path.join(absolute, file)
        return [
          fs.readFile(at, "utf8").then((text): LoadedFile => {
            // A checkout with other line endings is the same migration.
            const same = text.replace(/\r\n/g, "\n")
            const checksum = createHash("sha256").update(same).digest("hex")
            // Editors on Windows put a byte order mark first, which SQL does not know.
            return { ...parsed, file, content: same.replace(/^\uFEFF/, ""), checksum, absolute: at }
          })
        ]
      }))
    },
    catch: (cause) =>
      cause instanceof Explained
        ? cause
        : invalid(
          `the folder of migrations ${JSON.stringify(folder)} cannot be read (${codeOf(cause) ?? messageOf(cause)})`,
          "Set DATABASE_MIGRATIONS to the folder, relative to the working directory or absolute, or leave it out.",
          cause
        )
  })

/** A SqlClient on one session. */
const clientOf = (
  session: PgConnection.PgConnection,
  driver: string
): Effect.Effect<SqlClient.SqlClient, never, Reactivity> =>
  SqlClient.make({
    acquirer: Effect.succeed(new SessionConnection(session)),
    transactionAcquirer: Effect.map(session.pin, (pinned) => new SessionConnection(pinned)),
    compiler: PgClient.makeCompiler(),
    driver,
    spanAttributes: [],
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    commit
  })

const applied = (sql: SqlClient.SqlClient): Effect.Effect<ReadonlyArray<Migration>, SqlError> =>
  Effect.flatMap(
    sql<{ readonly found: boolean }>`SELECT to_regclass(${table}) IS NOT NULL AS found`,
    (rows) =>
      rows[0]?.found === true
        ? sql<Migration>`SELECT id, name, file, checksum, applied_at AS "appliedAt", duration_ms AS "duration"
            FROM ${sql(table)} ORDER BY id`
        : Effect.succeed([])
  )

/** Two processes that create it at once can both pass IF NOT EXISTS, so this runs under the lock. */
const createTable = (sql: SqlClient.SqlClient) =>
  sql`CREATE TABLE IF NOT EXISTS ${sql(table)} (
    id integer PRIMARY KEY,
    name text NOT NULL,
    file text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    duration_ms double precision NOT NULL
  )`

/**
 * Holds the lock for the scope. Asks again and again instead of waiting inside the server: a waiting statement would
 * hold a snapshot open that others wait for, and could not be bounded without touching the session's options.
 */
const lock = (sql: SqlClient.SqlClient, timeout: Duration.Duration) =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const start = clock.monotonicTimeNanosUnsafe()
    for (let pause = 50;; pause = Math.min(pause * 2, 1000)) {
      const locked = yield* Effect.acquireRelease(
        Effect.map(
          sql<{ readonly locked: boolean }>`SELECT pg_try_advisory_lock(${sql.literal(lockKey)}) AS locked`,
          (rows) => rows[0]?.locked === true
        ),
        (locked) => locked ? Effect.ignore(sql`SELECT pg_advisory_unlock(${sql.literal(lockKey)})`) : Effect.void
      )
      if (locked) return
      if (pause === 50) yield* Effect.logInfo("database: another process is migrating, waiting for it")
      const waited = Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6
      if (waited >= Duration.toMillis(timeout)) return yield* (yield* stillLocked(sql, timeout))
      yield* Effect.sleep(pause)
    }
  })

const stillLocked = (sql: SqlClient.SqlClient, timeout: Duration.Duration) =>
  sql<{ readonly pid: number; readonly application: string | null; readonly client: string | null }>`
    SELECT l.pid, a.application_name AS application, host(a.client_addr) AS client
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND (l.classid::bigint << 32 | l.objid::bigint) = ${sql.literal(lockKey)}`.pipe(
    Effect.orElseSucceed(() => []),
    Effect.map(([holder]) => {
      const who = holder === undefined
        ? "another session"
        : `session ${holder.pid} (${holder.application ?? "unnamed"}${
          holder.client === null ? "" : ` from ${holder.client}`
        })`
      return new Explained({
        explanation: {
          reason: "TimedOut",
          detail: `${who} holds the lock on migrations for more than ${Duration.format(timeout)}`,
          option: "database.migrations",
          remedy: "Wait until it has migrated; if it hangs, end that session (pg_terminate_backend) and start again.",
          retryable: false
        }
      })
    })
  )

/**
 * The extended protocol, the only one `@effect/sql-pg` speaks, takes one statement at a time. EXECUTE takes any number,
 * refuses COMMIT inside them, and reports where in the text an error is.
 */
const runSql = (sql: SqlClient.SqlClient, file: LoadedFile) => {
  const quote = (name: string) => `$${name}_${file.checksum.slice(0, 16)}$`
  const [outer, inner] = [quote("do"), quote("file")]
  const statement = sql.unsafe(`DO ${outer} BEGIN EXECUTE ${inner}${file.content}${inner}; END ${outer}`).unprepared
  // The span of a statement carries its text: here a whole file, which may set passwords of roles.
  return Effect.withTracerEnabled(statement, false)
}

/** Dies when the module is none: `failed` explains failures and defects alike. */
const runModule = (file: LoadedFile): Effect.Effect<unknown, unknown, SqlClient.SqlClient> =>
  Effect.flatMap(
    Effect.promise((): Promise<{ readonly default?: unknown }> => import(pathToFileURL(file.absolute).href)),
    (module) =>
      Effect.isEffect(module.default)
        ? module.default as Effect.Effect<unknown, unknown, SqlClient.SqlClient>
        : Effect.die(new TypeError("its default export is not an Effect"))
  )

const reasonOf = (code: string | undefined): "PermissionDenied" | "Conflict" | "ConfigurationInvalid" | "Unknown" => {
  if (code === "42501" || code === "25006") return "PermissionDenied"
  // Something exists already, or data in the way violates a constraint.
  if (code === undefined) return "Unknown"
  if (/^(42P0[4-7]|42710|42701|42723|23)/.test(code)) return "Conflict"
  return code.startsWith("42") ? "ConfigurationInvalid" : "Unknown"
}

const failed = (file: LoadedFile, cause: Cause.Cause<unknown>): Explained => {
  const error = Option.getOrElse(Cause.findErrorOption(cause), () => Cause.squash(cause))
  const code = codeOf(error)
  const origin = originOf(error)
  const at = file.kind === "sql" && origin.internalQuery === file.content && origin.internalPosition !== undefined
    ? Plan.lineOf(file.content, Number(origin.internalPosition))
    : undefined
  return new Explained({
    explanation: {
      reason: reasonOf(code),
      detail: `migration ${file.file} failed${at === undefined ? "" : ` at line ${at.line}, column ${at.column}`}: ${
        messageOf(error)
      }${code === undefined ? "" : ` (${code})`}; nothing of it was kept`,
      option: "database.migrations",
      remedy: "Correct the file and start again. The migrations before it are applied.",
      retryable: false
    },
    cause: error
  })
}

const originOf = (error: unknown): { readonly internalQuery?: string; readonly internalPosition?: string } => {
  let current = error
  for (let depth = 0; depth < 5 && typeof current === "object" && current !== null; depth++) {
    if ("internalQuery" in current) return current as { readonly internalQuery?: string }
    const { cause, reason } = current as Record<string, unknown>
    current = reason !== undefined && typeof reason === "object" ? reason : cause
  }
  return {}
}

const sessionOf = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<{ readonly role: string; readonly path: string }>`
      SELECT current_setting('role') AS role, current_setting('search_path') AS path`,
    ([row]) => row ?? { role: "none", path: "" }
  )

const runOne = (sql: SqlClient.SqlClient, file: LoadedFile) =>
  Effect.gen(function*() {
    yield* Effect.logInfo(`database: running migration ${file.file}`)
    const clock = yield* Clock.Clock
    const start = clock.monotonicTimeNanosUnsafe()
    const work: Effect.Effect<unknown, unknown> = file.kind === "sql"
      ? runSql(sql, file)
      : Effect.provideService(runModule(file), SqlClient.SqlClient, sql)
    yield* sql.withTransaction(Effect.gen(function*() {
      // The phase has a time-out of its own; a long migration is no runaway statement.
      yield* sql`SET LOCAL statement_timeout = 0`
      const own = yield* sessionOf(sql)
      yield* work
      // The output of pg_dump empties the search path: the row below, and what comes after, would find no table.
      yield* sql`SELECT pg_catalog.set_config('role', ${own.role}, false),
        pg_catalog.set_config('search_path', ${own.path}, false)`
      const millis = Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6
      yield* sql`INSERT INTO ${sql(table)} ${
        sql.insert({ id: file.id, name: file.name, file: file.file, checksum: file.checksum, duration_ms: millis })
      }`
    }))
  }).pipe(
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause as Cause.Cause<never>) : Effect.fail(failed(file, cause))
    ),
    Effect.withSpan("seaworthy.database.migration", { attributes: { migration: file.file } })
  )

/** Brings the database up to the folder and gives everything that is applied. */
export const run = (
  options: Options
): Effect.Effect<ReadonlyArray<Migration>, SqlError | Explained, Reactivity> =>
  Effect.scoped(Effect.gen(function*() {
    const files = yield* readFolder(options.folder)
    const session = yield* options.open
    const sql = yield* clientOf(session, options.driver)
    const planned = (rows: ReadonlyArray<Migration>) => {
      const plan = Plan.plan(files, rows)
      return plan.ok ? Effect.succeed(plan) : Effect.fail(new Explained({ explanation: plan.problem }))
    }
    // Nothing to do needs neither lock nor the right to create tables.
    const before = yield* applied(sql)
    const first = yield* planned(before)
    if (first.newer.length > 0) {
      yield* Effect.logWarning(
        `database: ${first.newer.length} migrations of a newer version are applied, the newest ${
          first.newer.at(-1)?.file
        }`
      )
    }
    if (first.pending.length === 0) return before
    // Lets the server notice within seconds that a migrating process was killed (Postgres 14 and later).
    yield* Effect.ignore(sql`SELECT set_config('client_connection_check_interval', '2s', false)`)
    return yield* Effect.scoped(Effect.gen(function*() {
      yield* lock(sql, options.lockTimeout)
      yield* createTable(sql)
      // Another process may have migrated while this one waited.
      const { pending } = yield* planned(yield* applied(sql))
      yield* Effect.forEach(pending, (file) => runOne(sql, file), { discard: true })
      return yield* applied(sql)
    }))
  }))
