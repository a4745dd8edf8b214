// Settles a COMMIT whose answer was lost.
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { SqlClient } from "effect/sql/SqlClient"
import * as Deadline from "../../resilience/Deadline.ts"
import { fullJitter } from "../../resilience/internal/backoff.ts"
import { sleepAtLeast } from "../../resilience/internal/monotonic.ts"
import type { Backend } from "../../resource/database/hooks.ts"
import type { Try } from "./attempt.ts"
import type { Plan } from "./options.ts"
import { outside } from "./state.ts"

/** Whether the transaction was committed, or why that could not be told. */
export type Answer =
  | { readonly _tag: "Told"; readonly committed: boolean }
  | { readonly _tag: "Untold"; readonly failure: unknown }

/** What Postgres remembers of a transaction. One that is still under way is a failure: to be asked again. */
const fateOf = (sql: SqlClient, xid: string | undefined): Effect.Effect<boolean, unknown> =>
  // A transaction without a number has written nothing: there is nothing that could have been lost.
  xid === undefined ? Effect.succeed(true) : Effect.flatMap(
    sql<{ readonly fate: string | null }>`SELECT pg_xact_status(${xid}::text::xid8) AS fate`,
    ([row]) => {
      const fate = row?.fate ?? "forgotten by the server"
      return fate === "committed" || fate === "aborted"
        ? Effect.succeed(fate === "committed")
        : Effect.fail(`the transaction is ${fate}`)
    }
  )

/** Whether the process that served the lost connection has ended, so that no COMMIT can reach it any more. */
const isGone = (sql: SqlClient, backend: Backend | undefined): Effect.Effect<boolean, unknown> =>
  backend === undefined ? Effect.succeed(false) : Effect.map(
    sql`SELECT 1 FROM pg_stat_get_activity(${backend.pid}::int) WHERE extract(epoch FROM backend_start)::text = ${backend.startedAt}`,
    (rows) => rows.length === 0
  )

/**
 * Asks the user's own effect. "No" is only an answer when nothing could happen any more before it was asked; otherwise it
 * is a failure: to be asked again. Whether that can be told is not worth holding up a "yes".
 */
const inquire = <R>(
  sql: SqlClient,
  backend: Backend | undefined,
  verify: Effect.Effect<boolean, unknown, R>
): Effect.Effect<boolean, unknown, R> =>
  Effect.flatMap(
    Effect.orElseSucceed(isGone(sql, backend), () => false),
    (gone) =>
      Effect.flatMap(verify, (committed) =>
        committed || gone ? Effect.succeed(committed) : Effect.fail("nothing was found, but COMMIT may still arrive"))
  )

/**
 * Asks until there is an answer or `verifyTimeout` is over. It has time of its own, since the transaction's may just have
 * run out, and runs outside the transaction.
 */
export const settle = <R>(
  sql: SqlClient,
  plan: Plan,
  { journal, xid }: Pick<Try<unknown>, "journal" | "xid">
): Effect.Effect<Answer, never, R> => {
  const verify = (plan.verify === "server" || plan.verify === undefined
    ? fateOf(sql, xid)
    : inquire(sql, journal.backend, plan.verify)) as Effect.Effect<boolean, unknown, R>
  let failure: unknown = "no answer in time"

  const pause = (tries: number) =>
    Effect.flatMap(Random.next, (draw) => sleepAtLeast(fullJitter(plan.baseMillis, 2, plan.maxMillis, tries, draw)))
  const ask = (tries: number): Effect.Effect<Answer, never, R> =>
    Effect.matchCauseEffect(verify, {
      onSuccess: (committed): Effect.Effect<Answer> => Effect.succeed({ _tag: "Told", committed }),
      onFailure: (cause) => {
        if (Cause.hasInterrupts(cause)) return Effect.failCause(cause as Cause.Cause<never>)
        failure = Cause.squash(cause)
        return Effect.flatMap(pause(tries), () => ask(tries + 1))
      }
    })
  return Deadline.without(Effect.timeoutOption(ask(1), plan.verifyMillis)).pipe(
    Effect.map(Option.getOrElse((): Answer => ({ _tag: "Untold", failure }))),
    Effect.updateContext((context: Context.Context<R>) =>
      outside(context as Context.Context<never>, sql.transactionService) as Context.Context<R>
    )
  )
}
