// The connection that `effect/sql` runs statements on, over one session of `@effect/sql-pg`. Its own adapter is private
// to `PgClient`, which keeps the pool to itself; we need the pool to bound it and to watch its sockets.
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type { Connection } from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { Lent } from "../../resource/database/client.ts"
import type { Backend } from "../../resource/database/hooks.ts"
import { reclassify } from "./pgErrors.ts"

type TransformRows = (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

const rowsOf = (result: PgConnection.Result) => result.rows

export class SessionConnection implements Lent {
  readonly session: PgConnection.PgConnection
  readonly drop: Effect.Effect<void> | undefined
  readonly identify: Lent["identify"]

  constructor(session: PgConnection.PgConnection, reserved?: Pick<Lent, "drop" | "identify">) {
    this.session = session
    this.drop = reserved?.drop
    this.identify = reserved?.identify
  }

  private query(sql: string, params: ReadonlyArray<unknown>, prepare: boolean) {
    const query = Effect.mapError(this.session.query(sql, params, prepare), reclassify)
    // The server has rolled back a transaction whose connection is gone. `effect/sql` would turn the failed ROLLBACK
    // into a defect that hides the error which caused it.
    return sql.startsWith("ROLLBACK") || sql.startsWith("RELEASE") ? Effect.catch(query, ignoreLost) : query
  }
  execute(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const rows = Effect.map(this.query(sql, params, true), rowsOf)
    return transformRows === undefined ? rows : Effect.map(rows, transformRows)
  }
  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return this.query(sql, params, true)
  }
  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return Effect.mapError(this.session.queryValues(sql, params), reclassify)
  }
  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return Effect.mapError(this.session.queryValues(sql, params, false), reclassify)
  }
  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const rows = Effect.map(this.query(sql, params, false), rowsOf)
    return transformRows === undefined ? rows : Effect.map(rows, transformRows)
  }
  executeStream(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const rows = Stream.mapError(this.session.stream(sql, params), reclassify)
    return transformRows === undefined
      ? rows
      : Stream.mapArray(rows, (chunk) => transformRows(chunk) as Arr.NonEmptyReadonlyArray<PgConnection.Row>)
  }
}

const who =
  "SELECT pg_backend_pid() AS pid, extract(epoch FROM backend_start)::text AS started_at FROM pg_stat_get_activity(pg_backend_pid())"

/**
 * Asks a session once which process serves it. The number that the driver was told at the start is that of a pooler, if
 * there is one: then the process behind may be another for each transaction.
 */
export const makeIdentify = (): (
  session: PgConnection.PgConnection
) => Effect.Effect<Backend | undefined, SqlError> => {
  const known = new WeakMap<PgConnection.PgConnection, Backend | "unknown">()
  const told = (backend: Backend | "unknown") => backend === "unknown" ? undefined : backend
  return (session) =>
    Effect.suspend(() => {
      const before = known.get(session)
      if (before !== undefined) return Effect.succeed(told(before))
      return Effect.map(Effect.mapError(session.query(who, [], false), reclassify), ({ rows: [row] }) => {
        const startedAt = row?.["started_at"]
        const direct = row?.["pid"] === session.processId && typeof startedAt === "string"
        const backend = direct ? { pid: session.processId, startedAt } : "unknown"
        known.set(session, backend)
        return told(backend)
      })
    })
}

const nothing: PgConnection.Result = { command: "ROLLBACK", rowCount: 0, oid: null, rows: [], fields: [] }

const ignoreLost = (error: SqlError): Effect.Effect<PgConnection.Result, SqlError> =>
  error.reason._tag === "ConnectionError" ? Effect.succeed(nothing) : Effect.fail(error)

/** Postgres answers COMMIT of an aborted transaction with ROLLBACK and no error. */
export const commit = (connection: Connection): Effect.Effect<void, SqlError> =>
  Effect.flatMap(
    connection.executeRaw("COMMIT", []) as Effect.Effect<PgConnection.Result, SqlError>,
    (result) =>
      result.command === "ROLLBACK"
        ? Effect.fail(
          new SqlError({
            reason: new UnknownError({
              cause: new Error("COMMIT rolled back an aborted transaction"),
              message: "COMMIT rolled back an aborted transaction: one of its statements had failed",
              operation: "commit"
            })
          })
        )
        : Effect.void
  )
