// What Postgres and the embedded database have in common: pool, migrations, verification, check and explanations.
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Reactivity } from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { SqlError } from "effect/sql/SqlError"
import type { Duplex } from "node:stream"
import type { Status } from "../../observability/Status.ts"
import * as Database from "../../resource/Database.ts"
import { asSqlError } from "../../resource/database/errors.ts"
import { resourceOptions } from "../../resource/internal/settingsOptions.ts"
import type { Explanation, Phase, ResourceError } from "../../resource/ResourceError.ts"
import type * as Settings from "../../resource/Settings.ts"
import * as Migrations from "./migrations.ts"
import { commit } from "./pgConnection.ts"
import { explain, Explained, type Place, readOnly, silence } from "./pgErrors.ts"
import * as PgPool from "./pgPool.ts"

/** What only code can set. */
export interface CodeOptions {
  /** Time for all pending migrations together. Default 10 minutes. */
  readonly migrationTimeout?: Duration.Input | undefined
  /** How long to wait for another process that is migrating. Default 1 minute. */
  readonly migrationLockTimeout?: Duration.Input | undefined
  /** Accept a database that cannot be written to, such as a replica. Migrations do not run. Default `false`. */
  readonly readOnly?: boolean | undefined
}

export interface Transport {
  readonly dial: () => Duplex
  /** Instead of a question on the monitor's own connection. */
  readonly check?: Effect.Effect<void, Explained> | undefined
}

export interface Backend<Target extends { readonly place: Place }> {
  readonly driver: string
  readonly target: (section: Settings.Settings["Service"]["database"]) => Target | Explained
  readonly config: (target: Target) => PgConnection.Config
  readonly open: (target: Target) => Effect.Effect<Transport, Explained, Scope.Scope>
  /** Time to open, where it is not `database.timeout`. */
  readonly openTimeout?: Duration.Input | undefined
  /** Whether idle and old connections are replaced. */
  readonly renew: boolean
  /** Whether each connection has a process of the server to itself, that can be asked for. */
  readonly identify: boolean
  /** First chance to explain an error or, without one, a time-out. */
  readonly explain?: ((error: unknown, target: Target | undefined, phase: Phase) => Explanation | undefined) | undefined
}

interface Validated<Target> {
  readonly all: Settings.Settings["Service"]
  readonly target: Target
}

interface Connections extends PgPool.PgConnections {
  migrations: ReadonlyArray<Database.Migration>
  readonly transport: Transport
}

type Failure = SqlError | Explained | Settings.SettingsError

export const layer = <Target extends { readonly place: Place }, E extends Settings.SettingsError, R>(
  backend: Backend<Target>,
  settings: Effect.Effect<Settings.Settings["Service"], E, R>,
  code: CodeOptions = {}
): Layer.Layer<
  Database.Database | SqlClient,
  ResourceError,
  Exclude<Exclude<R, Scope.Scope>, Reactivity> | Exclude<Status, Reactivity>
> => {
  // Errors are explained with the place, which only the settings know.
  let target: Target | undefined
  const allowReadOnly = code.readOnly === true

  return Database.layerFrom<Validated<Target>, Connections, Failure, R | Reactivity>(
    {
      id: "database",
      kind: "database",
      validate: Effect.flatMap(settings, (all) => {
        const parsed = backend.target(all.database)
        if (parsed instanceof Explained) return Effect.fail(parsed)
        target = parsed
        return Effect.succeed({ all, target: parsed })
      }),
      connect: ({ all, target }) => connect(backend, all, target),
      initialize: (connections, { all }) => {
        const folder = all.database.migrations
        if (folder === undefined || allowReadOnly) return Effect.void
        return Effect.map(
          Migrations.run({
            folder,
            open: connections.open(),
            driver: backend.driver,
            lockTimeout: Duration.fromInputUnsafe(code.migrationLockTimeout ?? "1 minute")
          }),
          (migrations) => {
            connections.migrations = migrations
          }
        )
      },
      verify: (connections, { target }) => verify(connections, target.place, allowReadOnly),
      check: (connections, { target }) =>
        connections.transport.check ??
          connections.probe((session) => askReadOnly(session, target.place, allowReadOnly)),
      explain: (error, phase) => explainFailure(backend, error, target, phase),
      explainTimeout: (phase) => {
        const own = backend.explain?.(undefined, target, phase)
        if (own !== undefined) return own
        if (phase === "initialize") {
          return {
            option: "database.migrations",
            remedy: "Find out what a migration waits for (pg_locks), or allow it more time with `migrationTimeout`."
          }
        }
        return target === undefined ? {} : silence(target.place)
      },
      options: ({ all }) => {
        const base = resourceOptions(all, all.database)
        return {
          ...base,
          phases: {
            ...base.phases,
            connect: { ...base.phases?.connect, timeout: backend.openTimeout ?? base.phases?.connect?.timeout },
            initialize: { timeout: code.migrationTimeout ?? "10 minutes" }
          }
        }
      }
    },
    {
      driver: backend.driver,
      compiler: PgClient.makeCompiler(),
      spanAttributes: [["db.system.name", "postgresql"]],
      prepareTransactionControls: true,
      releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
      commit
    }
  )
}

const connect = <Target extends { readonly place: Place }>(
  backend: Backend<Target>,
  all: Settings.Settings["Service"],
  target: Target
): Effect.Effect<Connections, SqlError | Explained, Scope.Scope> =>
  Effect.gen(function*() {
    const transport = yield* backend.open(target)
    const { connection_pool: pool, database, monitoring } = all
    const connections = yield* PgPool.make({
      config: {
        ...backend.config(target),
        connectTimeout: database.timeout,
        maxConnections: pool.max_connections,
        minConnections: pool.min_connections,
        idleTimeout: backend.renew ? pool.idle_timeout : Duration.infinity,
        connectionTTL: backend.renew ? pool.max_lifetime : undefined
      },
      dial: transport.dial,
      limits: {
        maxConnections: pool.max_connections,
        maxWaiting: pool.max_waiting,
        acquireTimeout: pool.acquire_timeout
      },
      validationInterval: backend.renew ? pool.validation_interval : Duration.infinity,
      silentChecks: monitoring.failure_threshold,
      identify: backend.identify
    })
    // The pool opens connections when they are asked for; here one is.
    yield* Effect.scoped(asSqlError(connections.reserve))
    return { ...connections, transport, migrations: [], leakAfter: pool.leak_after }
  })

/** The same question finds a server that became a standby, and one that was made read-only by an option. */
const askReadOnly = (
  session: PgConnection.PgConnection,
  place: Place,
  allowed: boolean
): Effect.Effect<void, SqlError | Explained> =>
  Effect.flatMap(
    session.query("SHOW transaction_read_only", [], false),
    ({ rows }) =>
      rows[0]?.["transaction_read_only"] === "on" && !allowed
        ? Effect.fail(new Explained({ explanation: readOnly(place) }))
        : Effect.void
  )

const statements = [
  "BEGIN",
  "CREATE TEMPORARY TABLE seaworthy_verify (n integer) ON COMMIT DROP",
  "INSERT INTO seaworthy_verify VALUES (1)"
]

/** Writes, reads back and rolls back. */
const verify = (connections: Connections, place: Place, allowReadOnly: boolean) =>
  Effect.scoped(Effect.gen(function*() {
    const { session } = yield* asSqlError(connections.reserve)
    if (allowReadOnly) return yield* askReadOnly(session, place, true)
    const ask = (sql: string) => session.query(sql, [], false)
    yield* Effect.gen(function*() {
      for (const statement of statements) yield* ask(statement)
      const { rows } = yield* ask("SELECT n FROM seaworthy_verify")
      if (rows[0]?.["n"] !== 1) {
        return yield* Effect.fail(
          new Explained({
            explanation: { reason: "Unknown", detail: "a row read back differently from what was written" }
          })
        )
      }
    }).pipe(
      Effect.ensuring(Effect.ignore(ask("ROLLBACK"))),
      // Temporary tables can be forbidden to a role that may write to its own tables.
      Effect.catchIf(
        (error) => error instanceof SqlError && error.reason._tag === "AuthorizationError",
        () => askReadOnly(session, place, false)
      )
    )
  }))

const explainFailure = <Target extends { readonly place: Place }>(
  backend: Backend<Target>,
  error: Failure,
  target: Target | undefined,
  phase: Phase
): Explanation => {
  if (error._tag === "Explained") return error.explanation
  if (error._tag === "SettingsError") return { reason: "ConfigurationInvalid", detail: error.message }
  const own = backend.explain?.(error, target, phase)
  if (own !== undefined) return own
  return target === undefined
    ? { reason: "Unknown", detail: error.message }
    : explain(error, target.place, phase === "connect")
}
