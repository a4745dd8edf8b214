// An outermost transaction: tries it, settles what became of it, tries again where that may help, runs the hooks and
// writes it down.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Deadline from "../../resilience/Deadline.ts"
import { fullJitter } from "../../resilience/internal/backoff.ts"
import { monotonicMillis, sleepAtLeast } from "../../resilience/internal/monotonic.ts"
import { PoolExhaustedError } from "../../resource/database/errors.ts"
import * as Attempt from "./attempt.ts"
import { traits } from "./demand.ts"
import { CommitOutcomeUnknownError, TransactionRefusedError, TransactionTimeoutError } from "./errors.ts"
import { kindOf, labelOfCause, sqlErrorIn } from "./failure.ts"
import { CurrentShared, type Plan } from "./options.ts"
import { outside, runHooks } from "./state.ts"

/** How long a rollback is waited for when time is up or the caller was interrupted. */
const graceMillis = 1_000
const maxRetried = 16

type Failure = SqlError | TransactionRefusedError | TransactionTimeoutError | CommitOutcomeUnknownError

/** What is known of the whole, over all tries. */
interface Course {
  readonly start: number
  attempts: number
  readonly retried: Array<string>
  verified: boolean
}

export const run = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  sql: SqlClient,
  plan: Plan
): Effect.Effect<A, E | Failure, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => {
      const shared = fiber.getRef(CurrentShared)
      const clock = fiber.getRef(Clock.Clock)
      const start = monotonicMillis(fiber)
      const startedAt = clock.currentTimeMillisUnsafe()
      const left = Deadline.remainingMillisUnsafe(fiber)
      const own = plan.timeoutMillis ?? shared.timeoutMillis
      const duration = Math.max(0, Math.min(own, left))
      const setting: Attempt.Setting = {
        sql,
        name: plan.name,
        traits: traits(plan.demand, shared.isolation),
        endAt: start + duration,
        graceMillis,
        keep: shared.history !== undefined,
        identify: plan.verify === "server"
      }
      const times = plan.retryTimes ?? shared.retryTimes
      const deadlock = plan.deadlock ?? shared.deadlockRetry
      const course: Course = { start, attempts: 0, retried: [], verified: false }

      const end = (attempt: Attempt.Try<A>, outcome: "committed" | "rolledBack" | "unknown", failure?: string) => {
        const entry = {
          name: plan.name,
          startedAt,
          duration: monotonicMillis(fiber) - start,
          outcome,
          attempts: course.attempts,
          isolation: setting.traits.isolation,
          readOnly: setting.traits.readOnly,
          failure,
          retried: course.retried,
          verified: course.verified,
          operations: attempt.journal.operations,
          omitted: attempt.journal.omitted
        }
        shared.history?.add(entry)
        shared.onEnd(entry)
        return outcome === "unknown" ? Effect.void : runHooks(attempt.open, outcome)
      }

      const again = (attempt: Attempt.Try<A>, cause: Cause.Cause<unknown>): Effect.Effect<A, E | Failure, R> | undefined => {
        const error = attempt.journal.aborted ?? sqlErrorIn(cause)
        const isDeadlock = error !== undefined && kindOf(error) === "Deadlock"
        if (course.attempts > times || isDeadlock && !deadlock) return undefined
        const draw = fiber.getRef(Random.Random).nextDoubleUnsafe()
        const pause = fullJitter(plan.baseMillis, 2, plan.maxMillis, course.attempts, draw)
        if (monotonicMillis(fiber) + pause >= setting.endAt) return undefined
        if (course.retried.length === maxRetried) course.retried.shift()
        course.retried.push(error === undefined ? labelOfCause(cause) : labelOfCause(Cause.fail(error)))
        return Effect.flatMap(
          Effect.onInterrupt(restore(sleepAtLeast(pause)), () => end(attempt, "rolledBack", "Interrupted")),
          () => next
        )
      }

      const rolledBack = (attempt: Attempt.Try<A>, cause: Cause.Cause<unknown>, transient: boolean, timedOut: boolean): Effect.Effect<A, E | Failure, R> => {
        if (timedOut) {
          const error = new TransactionTimeoutError({
            transaction: plan.name,
            duration: Duration.millis(duration),
            deadline: left < own,
            attempts: course.attempts
          })
          const defects = cause.reasons.filter(Cause.isDieReason)
          return Effect.andThen(
            end(attempt, "rolledBack", "TransactionTimeoutError"),
            defects.length > 0 ? Effect.failCause(Cause.fromReasons<never>(defects)) : Effect.fail(error)
          )
        }
        const retry = transient ? again(attempt, cause) : undefined
        if (retry !== undefined) return retry
        return Effect.andThen(end(attempt, "rolledBack", labelOfCause(cause)), Effect.failCause(refusal(plan, cause)))
      }

      const unknown = (
        attempt: Attempt.Try<A>,
        ended: Attempt.Ended<A> & { readonly _tag: "Unknown" }
      ): Effect.Effect<A, E | Failure, R> => {
        const failed = (verification?: unknown): Effect.Effect<never, CommitOutcomeUnknownError> =>
          Effect.andThen(
            end(attempt, "unknown", "CommitOutcomeUnknownError"),
            Effect.fail(
              new CommitOutcomeUnknownError({
                transaction: plan.name,
                reason: ended.reason,
                attempts: course.attempts,
                cause: ended.cause === undefined ? undefined : sqlErrorIn(ended.cause) ?? Cause.squash(ended.cause),
                verification
              })
            )
          )
        if (plan.verify === undefined) return failed()
        const verify = plan.verify === "server" ? fateOf(sql, attempt.xid) : plan.verify as Effect.Effect<boolean, unknown, R>
        return Effect.flatMap(
          Effect.onInterrupt(restore(settle(verify, sql, plan)), () =>
            end(attempt, "unknown", "CommitOutcomeUnknownError")),
          (answer): Effect.Effect<A, E | Failure, R> => {
            if (answer._tag === "Failure") return failed(answer.failure)
            course.verified = true
            if (answer.success) return Effect.as(end(attempt, "committed"), ended.value)
            // Where nobody knows whether COMMIT has arrived, only the server can say that it never will.
            if (ended.reason === "TimedOut" && plan.verify !== "server") {
              course.verified = false
              return failed("nothing was found, but COMMIT may still arrive")
            }
            // It surely did not happen: as good as a connection that was lost before COMMIT.
            const cause = ended.cause ?? Cause.empty
            const retry = again(attempt, cause)
            if (retry !== undefined) return retry
            return ended.cause === undefined
              ? rolledBack(attempt, cause, false, true)
              : rolledBack(attempt, cause, false, false)
          }
        )
      }

      const next: Effect.Effect<A, E | Failure, R> = Effect.suspend(() => {
        course.attempts++
        const attempt = Attempt.makeTry<A>(setting)
        return Effect.flatMap(
          Effect.exit(restore(Attempt.run(work, setting, attempt))),
          (exit): Effect.Effect<A, E | Failure, R> => {
            const { ended } = attempt
            if (ended === undefined) return Effect.failCause(Exit.isFailure(exit) ? exit.cause : Cause.empty)
            if (Exit.isFailure(exit)) {
              const outcome = ended._tag === "Committed" ? "committed" : ended._tag === "RolledBack" ? "rolledBack" : "unknown"
              return Effect.andThen(end(attempt, outcome, "Interrupted"), Effect.failCause(exit.cause))
            }
            switch (ended._tag) {
              case "Committed":
                return Effect.as(end(attempt, "committed"), ended.value)
              case "RolledBack":
                return rolledBack(attempt, ended.cause, ended.transient, ended.timedOut)
              case "Unknown":
                return unknown(attempt, ended)
            }
          }
        )
      })
      return next
    })
  )

/** A pool that was full for a transaction inside another is a refusal of that transaction, not a lost connection. */
const refusal = (plan: Plan, cause: Cause.Cause<unknown>): Cause.Cause<never> => {
  const error = sqlErrorIn(cause)
  const origin = error?.reason.cause
  return (origin instanceof PoolExhaustedError && origin.reason === "WouldDeadlock"
    ? Cause.fail(new TransactionRefusedError({ strategy: plan.name, reason: "PoolExhausted" }))
    : cause) as Cause.Cause<never>
}

/** What Postgres remembers of a transaction. One that is still under way is asked for again. */
const fateOf = (sql: SqlClient, xid: string | undefined): Effect.Effect<boolean, unknown> =>
  // A transaction without a number has written nothing: there is nothing that could have been lost.
  xid === undefined ? Effect.succeed(true) : Effect.flatMap(
    sql<{ readonly fate: string | null }>`SELECT pg_xact_status(${xid}::text::xid8) AS fate`,
    ([row]) =>
      row?.fate === "committed"
        ? Effect.succeed(true)
        : row?.fate === "aborted"
        ? Effect.succeed(false)
        : Effect.fail(`the transaction is ${row?.fate ?? "forgotten"}`)
  )

type Answer =
  | { readonly _tag: "Success"; readonly success: boolean }
  | { readonly _tag: "Failure"; readonly failure: unknown }

/** Asks until there is an answer or time is up. It has time of its own: the caller's may just have run out. */
const settle = <R>(
  verify: Effect.Effect<boolean, unknown, R>,
  sql: SqlClient,
  plan: Plan
): Effect.Effect<Answer, never, R> => {
  let last: unknown = "no answer in time"
  const ask = (tries: number): Effect.Effect<Answer, never, R> =>
    Effect.matchCauseEffect(verify, {
      onSuccess: (success): Effect.Effect<Answer> => Effect.succeed({ _tag: "Success", success }),
      onFailure: (cause) => {
        if (Cause.hasInterrupts(cause)) return Effect.failCause(cause as Cause.Cause<never>)
        last = Cause.squash(cause)
        return Effect.withFiber((fiber) =>
          Effect.flatMap(
            sleepAtLeast(
              fullJitter(plan.baseMillis, 2, plan.maxMillis, tries, fiber.getRef(Random.Random).nextDoubleUnsafe())
            ),
            () => ask(tries + 1)
          )
        )
      }
    })
  return Deadline.without(Effect.timeoutOption(ask(1), plan.verifyMillis)).pipe(
    Effect.map(Option.getOrElse((): Answer => ({ _tag: "Failure", failure: last }))),
    Effect.updateContext((context: Context.Context<R>) =>
      outside(context as Context.Context<never>, sql.transactionService) as Context.Context<R>
    )
  )
}
