// How the tests reach a Postgres that they have started: past the library, and as its settings.
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { Effect, Redacted } from "effect"
import type { PostgresServer } from "./Servers.ts"

/** What `PostgresDatabase.layerWith` and `PgConnection.make` take. */
export const account = (server: PostgresServer) => ({
  host: server.host,
  port: server.port,
  database: server.database,
  username: server.username,
  password: Redacted.make(server.password)
})

/** Asks on a connection of its own, past any pool and proxy. */
export const ask = (server: PostgresServer, sql: string) =>
  Effect.scoped(
    Effect.flatMap(
      PgConnection.make(account(server)),
      (session) => Effect.map(session.query(sql), ({ rows }) => rows)
    )
  )
