// One try of an outermost transaction, and what became of it.
//
// The transaction runs in a fiber of its own, so that its end can be given up on: while COMMIT or ROLLBACK is under way
// Effect's transactions cannot be interrupted, and on a line that went dead they would be waited for without end. What is
// given up on keeps its connection until the driver lets go of it, so nobody else is handed a line with a stray answer.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as SqlClient from "effect/sql/SqlClient"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import { CurrentBegin, watching } from "../../resource/database/hooks.ts"
import * as Alarm from "./alarm.ts"
import type { Traits } from "./demand.ts"
import { RolledBackByInnerError } from "./errors.ts"
import { deniesCommit, isTransient, kindOf, sqlErrorIn } from "./failure.ts"
import { Journal } from "./journal.ts"
import { type Current, CurrentTransaction, makeOpen, type Open, outside } from "./state.ts"

/** How a try ended. */
export type Ended<A> =
  | { readonly _tag: "Committed"; readonly value: A }
  | {
    readonly _tag: "RolledBack"
    readonly cause: Cause.Cause<unknown>
    /** A new transaction may fare better. */
    readonly transient: boolean
    readonly timedOut: boolean
  }
  | {
    readonly _tag: "Unknown"
    readonly value: A
    readonly reason: "ConnectionLost" | "TimedOut"
    readonly cause: Cause.Cause<unknown> | undefined
  }

export interface Try<A> {
  readonly open: Open
  readonly journal: Journal
  /** The server's number of the transaction, when it was asked for. */
  xid: string | undefined
  /** True when `verify` has settled how it ended. */
  verified: boolean
  ended: Ended<A> | undefined
}

export interface Setting {
  readonly sql: SqlClient.SqlClient
  readonly name: string
  readonly traits: Traits
  /** When it has to be done by, in monotonic milliseconds. */
  readonly endAt: number
  /** How long a rollback, or a COMMIT whose caller was interrupted, is waited for. */
  readonly graceMillis: number
  /** Whether statements are kept for the history. */
  readonly keep: boolean
  /**
   * What is asked for, so that the outcome can be found out when the answer to COMMIT is lost: the number of the
   * transaction, before COMMIT, or the process of the server, before BEGIN.
   */
  readonly identify: "transaction" | "backend" | undefined
}

type Phase = "begin" | "work" | "commit"

interface Progress<A> {
  phase: Phase
  value: A | undefined
}

export const makeTry = <A>(setting: Setting): Try<A> => ({
  open: makeOpen(setting.sql.transactionService, setting.name, setting.traits),
  journal: new Journal(setting.traits, setting.keep, setting.identify === "backend"),
  xid: undefined,
  verified: false,
  ended: undefined
})

/** Runs the try. It never fails: how it ended is in `attempt.ended`, also when the caller is interrupted. */
export const run = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  setting: Setting,
  attempt: Try<A>
): Effect.Effect<void, never, R> =>
  Effect.callback<void, never, R>((resume) => {
    const caller = Fiber.getCurrent()!
    const progress: Progress<A> = { phase: "begin", value: undefined }
    const fiber = Effect.runForkWith(contextOf<R>(caller.context, setting, attempt))(
      transaction(work, caller.context, setting, attempt, progress)
    )
    const alarm = Alarm.of(caller.getRef(Clock.Clock))
    const calls: Array<Alarm.Call> = []
    let timedOut = false
    let waiting: (() => void) | undefined = () => resume(Effect.void)

    const settle = (ended: Ended<A>) => {
      if (attempt.ended !== undefined) return
      attempt.ended = ended
      attempt.open.ended = true
      for (const call of calls) alarm.remove(call, caller)
      waiting?.()
    }
    const ring = (at: number, then: () => void) => {
      if (attempt.ended !== undefined) return
      const call = new Alarm.Call(at, then)
      calls.push(call)
      alarm.add(call)
    }
    // No answer: for COMMIT that leaves everything open, for anything before it the transaction cannot stand.
    const giveUp = () =>
      settle(
        progress.phase === "commit"
          ? { _tag: "Unknown", value: progress.value as A, reason: "TimedOut", cause: undefined }
          : { _tag: "RolledBack", cause: Cause.interrupt(caller.id), transient: false, timedOut }
      )
    const stop = () => {
      if (progress.phase !== "commit") fiber.interruptUnsafe(caller.id)
      ring(monotonicMillis(caller) + setting.graceMillis, giveUp)
    }

    fiber.addObserver((exit) => settle(judge(exit, progress, attempt, timedOut)))
    if (attempt.ended !== undefined) return
    ring(setting.endAt, () => {
      timedOut = true
      if (progress.phase === "commit") giveUp()
      else stop()
    })
    return Effect.callback<void>((done) => {
      if (attempt.ended !== undefined) return done(Effect.void)
      waiting = () => done(Effect.void)
      stop()
    })
  })

const transaction = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  outer: Context.Context<never>,
  { identify, sql }: Setting,
  attempt: Try<A>,
  progress: Progress<A>
): Effect.Effect<A, E | SqlError | RolledBackByInnerError, R> => {
  const watched = watching.has(sql.transactionService)
  const whole = Effect.suspend(() => {
    progress.phase = "work"
    return Effect.flatMap(work, (value): Effect.Effect<A, SqlError | RolledBackByInnerError> => {
      const { journal, open } = attempt
      if (open.failedPart !== undefined) {
        return Effect.fail(new RolledBackByInnerError({ transaction: open.name, inner: open.failedPart }))
      }
      // A swallowed error: Postgres would answer COMMIT with a rollback, so it need not be asked.
      if (journal.aborted !== undefined) return Effect.fail(journal.aborted)
      // The last step of the work: from here on nobody interrupts this fiber.
      const ready = Effect.sync(() => {
        progress.value = value
        progress.phase = "commit"
        return value
      })
      const told = watched ? ready : Effect.andThen(tellCommit(sql, journal), ready)
      return identify === "transaction" ? Effect.andThen(identifyOn(sql, attempt), told) : told
    })
  })
  return sql.withTransaction(
    watched
      ? whole
      // Meant for this one transaction: what is begun inside has its own.
      : Effect.provideService(whole, SqlClient.BeginTransaction, Context.get(outer, SqlClient.BeginTransaction))
  )
}

/** Without a connection that tells: runs when COMMIT was answered, whatever happens to the connection afterwards. */
const tellCommit = (sql: SqlClient.SqlClient, journal: Journal): Effect.Effect<void> =>
  sql.afterCommit(Effect.sync(() => {
    journal.committed = true
  }))

const identifyOn = <A>(sql: SqlClient.SqlClient, attempt: Try<A>): Effect.Effect<void, SqlError> =>
  Effect.flatMap(
    sql<{ readonly xid: string | null }>`SELECT pg_current_xact_id_if_assigned()::text AS xid`,
    ([row]) => {
      if (row === undefined) {
        const message = "the server did not tell the number of the transaction"
        return Effect.fail(
          new SqlError({ reason: new UnknownError({ cause: new Error(message), message, operation: "identify" }) })
        )
      }
      attempt.xid = row.xid ?? undefined
      return Effect.void
    }
  )

const contextOf = <R>(outer: Context.Context<never>, setting: Setting, attempt: Try<unknown>): Context.Context<R> => {
  const { name, sql } = setting
  const { journal, open } = attempt
  const within = Context.getOrUndefined(outer, sql.transactionService) !== undefined
  const current: Current = {
    open,
    level: { parent: undefined, undone: false },
    outer: Context.get(outer, CurrentTransaction)
  }
  const context = Context.add(
    within ? outside(outer, sql.transactionService) : outer,
    CurrentTransaction,
    current
  ) as unknown as Context.Context<R>
  return watching.has(sql.transactionService)
    ? Context.add(context, CurrentBegin, { name, impatient: within, watch: journal })
    : Context.add(context, SqlClient.BeginTransaction, journal.begin)
}

const judge = <A>(
  exit: Exit.Exit<A, unknown>,
  progress: Progress<A>,
  { journal }: Try<A>,
  timedOut: boolean
): Ended<A> => {
  if (Exit.isSuccess(exit)) return { _tag: "Committed", value: exit.value }
  if (journal.committed) return { _tag: "Committed", value: progress.value as A }
  const found = sqlErrorIn(exit.cause)
  if (progress.phase === "commit" && !journal.unsent && (found === undefined || !deniesCommit(found))) {
    return { _tag: "Unknown", value: progress.value as A, reason: "ConnectionLost", cause: exit.cause }
  }
  const error = journal.aborted ?? found
  return {
    _tag: "RolledBack",
    cause: exit.cause,
    transient: !timedOut && error !== undefined && isTransient(kindOf(error)),
    timedOut
  }
}
