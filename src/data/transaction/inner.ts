// A part inside an open transaction: joined to it, or a savepoint of its own.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Timeout from "../../resilience/Timeout.ts"
import * as Demand from "./demand.ts"
import { type TransactionConflictError, TransactionTimeoutError } from "./errors.ts"
import type { Plan } from "./options.ts"
import { type Current, CurrentTransaction, type Level, makeOpen, runHooks } from "./state.ts"

type Limited = SqlError | TransactionConflictError | TransactionTimeoutError

/** Runs the work as part of what is open. Its failure undoes the whole, also when the outer work survives it. */
export const join = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  sql: SqlClient,
  plan: Plan,
  current: Current | "foreign"
): Effect.Effect<A, E | Limited, R> =>
  Effect.andThen(
    satisfied(sql, plan, current),
    current === "foreign" ? adopted(limited(work, plan), sql, plan) : Effect.onExitPrimitive(
      limited(work, plan),
      (exit) => {
        if (Exit.isFailure(exit)) current.open.failedPart ??= plan.name
        return undefined
      }
    )
  )

/** Runs the work between a savepoint and its release, or a rollback to it. */
export const nest = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  sql: SqlClient,
  plan: Plan,
  current: Current | "foreign"
): Effect.Effect<A, E | Limited, R> =>
  Effect.andThen(
    satisfied(sql, plan, current),
    Effect.suspend(() => {
      if (current === "foreign") return sql.withTransaction(adopted(limited(work, plan), sql, plan))
      const level: Level = { parent: current.level, undone: false }
      const inside = Effect.provideService(limited(work, plan), CurrentTransaction, { ...current, level })
      return Effect.onExitPrimitive(sql.withTransaction(inside), (exit) => {
        if (Exit.isFailure(exit)) level.undone = true
        return undefined
      })
    })
  )

const limited = <A, E, R>(work: Effect.Effect<A, E, R>, plan: Plan): Effect.Effect<A, E | TransactionTimeoutError, R> =>
  plan.timeoutMillis === undefined ? work : Timeout.timeout(work, {
    duration: plan.timeoutMillis,
    onTimeout: ({ deadline, duration }) =>
      Effect.fail(new TransactionTimeoutError({ transaction: plan.name, duration, deadline, attempts: 1 }))
  })

/**
 * Work in a transaction that somebody else began with `sql.withTransaction`: hooks after a commit are handed to that
 * client, hooks after a rollback run when this work fails.
 */
const adopted = <A, E, R>(work: Effect.Effect<A, E, R>, sql: SqlClient, plan: Plan): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const open = makeOpen(sql.transactionService, plan.name, undefined)
    const current: Current = {
      open,
      level: { parent: undefined, undone: false },
      outer: Context.get(fiber.context, CurrentTransaction)
    }
    return Effect.onExitPrimitive(
      Effect.provideService(work, CurrentTransaction, current),
      (exit) => {
        open.ended = true
        return Exit.isFailure(exit)
          ? runHooks(open, "rolledBack")
          : sql.afterCommit(Effect.suspend(() => runHooks(open, "committed")))
      },
      true
    )
  })

/** Fails unless what is open gives what is asked for. */
const satisfied = (
  sql: SqlClient,
  plan: Plan,
  current: Current | "foreign"
): Effect.Effect<void, SqlError | TransactionConflictError> => {
  if (!Demand.isDemanding(plan.demand)) return Effect.void
  const known = current === "foreign" ? undefined : current.open.traits
  return Effect.flatMap(known === undefined ? askTraits(sql) : Effect.succeed(known), (traits) => {
    const conflict = Demand.conflict(plan.name, plan.demand, traits)
    return conflict === undefined ? Effect.void : Effect.fail(conflict)
  })
}

/** Somebody else began it: only the server knows how. */
const askTraits = (sql: SqlClient): Effect.Effect<Demand.Traits, SqlError> =>
  Effect.map(
    sql<{ readonly isolation: string; readonly access: string; readonly deferrable: string }>`SELECT
      current_setting('transaction_isolation') AS isolation,
      current_setting('transaction_read_only') AS access,
      current_setting('transaction_deferrable') AS deferrable`,
    ([row]) => ({
      isolation: Demand.levels.find((level) => level === row?.isolation.toUpperCase().replace(" ", "_")) ??
        "READ_UNCOMMITTED",
      readOnly: row?.access === "on",
      deferrable: row?.deferrable === "on"
    })
  )
