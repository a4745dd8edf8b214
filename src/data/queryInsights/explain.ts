// Asks the server how it would run a statement, without running it and without any value of the caller.
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { withoutValues } from "../internal/sqlText.ts"
import { type PlanFacts, readPlan } from "./plan.ts"
import { readOnly } from "./session.ts"

// Longer ones are made by programs, and their plans are not read by people.
const maxSql = 20_000
const maxParameters = 1_000

/**
 * Whether a statement can have a plan: one query or one change of rows. Commands cannot, and of several statements in
 * one text nobody knows which was slow.
 */
export const isExplainable = (sql: string, params: ReadonlyArray<unknown>): boolean => {
  if (sql.length > maxSql || params.length > maxParameters) return false
  const text = withoutValues(sql).replace(/[\s;]+$/, "")
  return /^[(\s]*(?:select|with|values|table|insert|update|delete|merge)\b/i.test(text) && !text.includes(";")
}

const bounds = { statementMillis: 1_000, lockMillis: 100, impatient: true }

/**
 * The plan for any values, in a read-only transaction that is rolled back: `PREPARE` and `EXPLAIN EXECUTE`, which work on
 * every supported version. (`EXPLAIN (GENERIC_PLAN)` is of Postgres 16.) `ANALYZE`, which runs the statement, is never
 * asked for: also a query can call functions that write, lock or take for ever.
 */
export const explain = (
  sql: SqlClient,
  name: string,
  statement: string,
  parameters: number
): Effect.Effect<PlanFacts | undefined, SqlError> =>
  readOnly(sql, bounds, (ask) => {
    const values = parameters === 0 ? "" : `(${Array.from({ length: parameters }, () => "NULL").join(", ")})`
    const plan = ask<{ readonly "QUERY PLAN": unknown }>(
      `EXPLAIN (FORMAT JSON, VERBOSE, COSTS) EXECUTE ${name}${values}`
    )
    return Effect.andThen(
      ask(`PREPARE ${name} AS ${statement.replace(/[\s;]+$/, "")}`),
      // In a savepoint: what was prepared outlives the transaction and has to be given up also when the plan fails.
      Effect.onExit(sql.withTransaction(plan), () => Effect.ignore(ask(`DEALLOCATE ${name}`)))
    ).pipe(Effect.map(([row]) => {
      const json = row?.["QUERY PLAN"]
      return readPlan(typeof json === "string" ? JSON.parse(json) : json)
    }))
  })
