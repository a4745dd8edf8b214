// A look at the server that changes nothing, takes little, and is not observed itself.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { CurrentBegin } from "../../resource/database/hooks.ts"
import { Unobserved } from "../../resource/database/observer.ts"

export interface Bounds {
  /** Milliseconds that each statement may take on the server. */
  readonly statementMillis: number
  /** Milliseconds that it waits for a lock of others. */
  readonly lockMillis: number
  /** Give way at once when no connection is free. */
  readonly impatient: boolean
}

export interface Ask {
  <Row extends object>(statement: string, params?: ReadonlyArray<unknown>): Effect.Effect<ReadonlyArray<Row>, SqlError>
}

/** Carries the answer out of a transaction that is to be rolled back. */
class Answer<A> {
  readonly value: A
  constructor(value: A) {
    this.value = value
  }
}

/**
 * Runs questions in a read-only transaction of their own, which is rolled back. They are neither observed nor traced, and
 * they are not part of a transaction that is open here.
 */
export const readOnly = <A>(
  sql: SqlClient.SqlClient,
  bounds: Bounds,
  work: (ask: Ask) => Effect.Effect<A, SqlError>
): Effect.Effect<A, SqlError> => {
  const plain = sql.withoutTransforms()
  const ask: Ask = (statement, params) =>
    plain.unsafe(statement, params).unprepared as Effect.Effect<ReadonlyArray<never>, SqlError>
  const settings = ask(
    "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true), set_config('plan_cache_mode', 'force_generic_plan', true)",
    [`${bounds.statementMillis}ms`, `${bounds.lockMillis}ms`]
  )
  // What is set for the begin holds for this transaction alone, and nothing is begun inside of it but savepoints.
  const transaction = sql.withTransaction(
    Effect.flatMap(Effect.andThen(settings, work(ask)), (value) => Effect.fail(new Answer(value)))
  )
  return Effect.updateContext(
    transaction,
    (context: Context.Context<never>) =>
      (Context.omit(sql.transactionService)(context) as Context.Context<never>).pipe(
        Context.add(SqlClient.BeginTransaction, "BEGIN READ ONLY"),
        Context.add(CurrentBegin, { name: "query insights", impatient: bounds.impatient }),
        Context.add(Unobserved, true),
        Context.add(References.TracerEnabled, false)
      )
  ).pipe(
    Effect.catch((error): Effect.Effect<A, SqlError> =>
      error instanceof Answer ? Effect.succeed(error.value as A) : Effect.fail(error)
    )
  )
}
