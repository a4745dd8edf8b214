/**
 * The database on a Postgres server, through `@effect/sql-pg`.
 *
 * **When to use**
 *
 * Provide `PostgresDatabase.layer` for `Database` and `SqlClient`; needs the package `@effect/sql-pg`. Settings are the
 * sections `database` and `connection_pool` (`DATABASE_URL`, `CONNECTION_POOL_MAX_CONNECTIONS`, ...).
 *
 * **Details**
 *
 * Each connection is opened with `application_name` and `statement_timeout` in its startup packet. Connections that die
 * are replaced when they are next needed: a server that goes away and comes back needs no restart of the process. The
 * monitor asks on a connection of its own, so a pool in full use is not taken for an outage. After as many checks
 * without any answer as make the resource `down`, connections that have been silent since are cut: statements on them
 * fail instead of hanging for as long as TCP keeps them.
 *
 * **Gotchas**
 *
 * PgBouncer in transaction mode keeps neither startup parameters nor session locks: set `statement_timeout` to 0 and run
 * migrations over a direct connection. A URL wins over the separate options, part by part.
 *
 * **Example** (What a wrong URL is told; no server needed)
 *
 * ```ts
 * import { Effect, Layer, Redacted } from "effect"
 * import { Database, Status } from "seaworthy"
 * import { PostgresDatabase } from "seaworthy/postgres"
 *
 * const layer = PostgresDatabase.layerWith({ host: "127.0.0.1", port: 1, password: Redacted.make("s3cret"), retry_attempts: 0 })
 * const error = await Effect.runPromise(
 *   Database.Database.pipe(Effect.provide(layer.pipe(Layer.provide(Status.layer))), Effect.flip)
 * )
 * console.log(error.message.split("\n")[0]) // => "database did not connect: 127.0.0.1:1 refused the connection"
 * ```
 *
 * @since 0.1.0
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { SqlClient } from "effect/sql/SqlClient"
import * as Net from "node:net"
import type { Status } from "../observability/Status.ts"
import type { Database } from "../resource/Database.ts"
import type { ResourceError } from "../resource/ResourceError.ts"
import * as Settings from "../resource/Settings.ts"
import * as Redaction from "../security/Redaction.ts"
import * as PgDatabase from "./internal/pgDatabase.ts"
import * as PostgresTarget from "./internal/postgresTarget.ts"

/**
 * The section `database` with every option optional, the sections that it shares with others, and what only code can set.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends NonNullable<Settings.Values["database"]>, PgDatabase.CodeOptions {
  readonly pool?: Settings.Values["connection_pool"]
  readonly monitoring?: Settings.Values["monitoring"]
  readonly lifecycle?: Settings.Values["lifecycle"]
}

const backend: PgDatabase.Backend<PostgresTarget.Target> = {
  driver: "pg",
  renew: true,
  identify: true,
  target: (section) => {
    const target = PostgresTarget.parse(section)
    // The settings know the URL as a whole; the decoded password inside it is a secret of its own.
    if (!("explanation" in target) && target.password !== undefined) Redaction.register(target.password)
    return target
  },
  config: (target): PgConnection.Config => ({
    host: target.place.host,
    port: target.place.port,
    database: target.place.database,
    username: target.place.username,
    password: target.password,
    ssl: target.ssl,
    applicationName: target.place.application,
    startupParameters: target.startupParameters
  }),
  open: ({ path, place }) =>
    Effect.succeed({
      // Our own sockets, so that those which fall silent can be cut. Probes find a peer that vanished while idle.
      dial: () =>
        path === undefined
          ? Net.connect({
            host: place.host,
            port: place.port,
            noDelay: true,
            keepAlive: true,
            keepAliveInitialDelay: 30_000
          })
          : Net.connect({ path })
    })
}

/**
 * The database with settings from environment and file.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Database | SqlClient, ResourceError | Settings.SettingsError, Status> = PgDatabase
  .layer(
    backend,
    Settings.Settings
  ).pipe(Layer.provide(Settings.layer))

/**
 * The database with settings given in code; what is left out has its default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<Database | SqlClient, ResourceError, Status> => {
  const { lifecycle, migrationLockTimeout, migrationTimeout, monitoring, pool, readOnly, ...database } = options
  return PgDatabase.layer(
    backend,
    Settings.make({ database: { ...database, driver: "postgres" }, connection_pool: pool, lifecycle, monitoring }),
    { migrationLockTimeout, migrationTimeout, readOnly }
  )
}
