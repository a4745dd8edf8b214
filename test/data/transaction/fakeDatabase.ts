/**
 * A database in memory with transactions and savepoints, behind a real `SqlClient`: for what cannot be brought about on a
 * server at will, such as an interruption at every step or a COMMIT that hangs on a clock that stands still.
 */
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import * as SqlError from "effect/sql/SqlError"
import { makeCompilerSqlite } from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { Recorded } from "../../../src/resource/database/client.ts"
import { type Backend, CurrentBegin, takeWatch, watching } from "../../../src/resource/database/hooks.ts"
import { Observers } from "../../../src/resource/database/observer.ts"

export interface FakeDatabase {
  readonly sql: SqlClient.SqlClient
  /** What has been committed, in order. */
  readonly stored: Array<string>
  /** Every statement, in order. */
  readonly statements: Array<string>
  /** Connections lent now. */
  lent: number
  /** What is said to be behind each connection; the default is that it cannot be told. */
  backend: Backend | undefined
  /** Asked whether a backend is still there; the default is no. */
  isAlive: () => boolean
  /** Asked before each statement runs; the default says nothing. */
  script: (statement: string) => Effect.Effect<void, SqlError.SqlError> | undefined
}

const props = { cause: new Error("made by a test"), message: "made by a test", operation: "query" }

/** An error that the server answers with. */
export const serverError = (code: string): SqlError.SqlError =>
  new SqlError.SqlError({
    reason: new SqlError.UnknownError({ ...props, cause: Object.assign(new Error("made by a test"), { code }) })
  })

export const lostConnection = new SqlError.SqlError({ reason: new SqlError.ConnectionError(props) })

/** The statement that adds a word. */
export const put = (sql: SqlClient.SqlClient, word: string): Effect.Effect<void, SqlError.SqlError> =>
  Effect.asVoid(sql.unsafe(`PUT ${word}`))

const uncounted = { record: () => {} }

export const make: Effect.Effect<FakeDatabase> = Effect.gen(function*() {
  const database: { -readonly [K in keyof FakeDatabase]: FakeDatabase[K] } = {
    sql: undefined as never,
    stored: [],
    statements: [],
    lent: 0,
    backend: undefined,
    isAlive: () => false,
    script: () => undefined
  }

  const connection = (): Connection => {
    let pending: Array<string> = []
    const savepoints: Array<{ readonly name: string; readonly length: number }> = []
    const obey = (statement: string) => {
      const name = /effect_sql_\d+/.exec(statement)?.[0]
      const at = savepoints.findLastIndex((savepoint) => savepoint.name === name)
      if (statement.startsWith("PUT ")) pending.push(statement.slice(4))
      else if (statement === "COMMIT") database.stored.push(...pending.splice(0))
      else if (statement === "ROLLBACK") pending = []
      else if (statement.startsWith("SAVEPOINT")) savepoints.push({ name: name!, length: pending.length })
      else if (statement.startsWith("ROLLBACK TO")) pending.length = savepoints[at]!.length
      else if (statement.startsWith("RELEASE")) savepoints.length = at
    }
    const run = (statement: string) =>
      Effect.suspend(() => {
        const scripted = database.script(statement) ?? Effect.yieldNow
        database.statements.push(statement)
        return Effect.andThen(
          scripted,
          Effect.sync(() => {
            obey(statement)
            return statement.includes("pg_stat_get_activity") && database.isAlive() ? [[1]] : []
          })
        )
      })
    return {
      execute: run,
      executeRaw: run,
      executeValues: run,
      executeValuesUnprepared: run,
      executeUnprepared: run,
      executeStream: (statement) => Stream.fromEffectDrain(run(statement))
    }
  }

  const acquirer = Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => {
        database.lent++
        return connection()
      }),
      () =>
        Effect.sync(() => {
          database.lent--
        })
    ),
    (lent) =>
      Effect.withFiber((fiber) => {
        const watch = takeWatch(fiber.getRef(CurrentBegin))
        if (watch?.identify === true) watch.connected(database.backend)
        return Effect.succeed(new Recorded(lent, uncounted, new Observers(), watch))
      })
  )
  database.sql = yield* Effect.provide(
    SqlClient.make({
      acquirer,
      transactionAcquirer: acquirer,
      compiler: makeCompilerSqlite(),
      driver: "fake",
      spanAttributes: [],
      releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`
    }),
    Reactivity.layer
  )
  watching.add(database.sql.transactionService)
  return database
})
