// An outermost transaction: tries it, settles what became of it, tries again where that may help, runs the hooks and
// writes it down.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { SqlClient } from "effect/sql/SqlClient"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import * as Deadline from "../../resilience/Deadline.ts"
import { monotonicMillis, sleepAtLeast } from "../../resilience/internal/monotonic.ts"
import { PoolExhaustedError } from "../../resource/database/errors.ts"
import * as Attempt from "./attempt.ts"
import { traits } from "./demand.ts"
import { CommitOutcomeUnknownError, TransactionRefusedError, TransactionTimeoutError } from "./errors.ts"
import { kindOf, label, labelOfCause, sqlErrorIn } from "./failure.ts"
import type { Entry } from "./history.ts"
import { CurrentShared, type Plan, type Shared } from "./options.ts"
import { Pauses } from "./pauses.ts"
import { runHooks } from "./state.ts"
import { settle } from "./verify.ts"

/** How long a rollback is waited for when time is up or the caller was interrupted. */
const graceMillis = 1_000
const maxRetried = 16

type Failure = SqlError | TransactionRefusedError | TransactionTimeoutError | CommitOutcomeUnknownError

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

export const run = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  sql: SqlClient,
  plan: Plan
): Effect.Effect<A, E | Failure, R> =>
  Effect.uninterruptibleMask((restore) => new Course<A, E, R>(work, sql, plan, Fiber.getCurrent()!, restore).next())

/** One transaction over all its tries. Its methods run uninterruptibly, but for what they restore. */
class Course<A, E, R> {
  private readonly work: Effect.Effect<A, E, R>
  private readonly sql: SqlClient
  private readonly plan: Plan
  private readonly fiber: Fiber.Fiber<unknown, unknown>
  private readonly restore: Restore
  private readonly shared: Shared
  private readonly setting: Attempt.Setting
  private readonly startedAt: number
  private readonly start: number
  private readonly millis: number
  /** Whether a surrounding deadline is what limits it. */
  private readonly deadline: boolean
  private attempts = 0
  private readonly retried: Array<string> = []
  private readonly pauses: Pauses<R>

  constructor(
    work: Effect.Effect<A, E, R>,
    sql: SqlClient,
    plan: Plan,
    fiber: Fiber.Fiber<unknown, unknown>,
    restore: Restore
  ) {
    this.work = work
    this.sql = sql
    this.plan = plan
    this.fiber = fiber
    this.restore = restore
    this.pauses = new Pauses(plan)
    this.shared = fiber.getRef(CurrentShared)
    this.startedAt = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
    this.start = monotonicMillis(fiber)
    const own = plan.timeoutMillis ?? this.shared.timeoutMillis
    const left = Deadline.remainingMillisUnsafe(fiber)
    this.deadline = left < own
    this.millis = Math.max(0, Math.min(own, left))
    this.setting = {
      sql,
      name: plan.name,
      traits: traits(plan.demand, this.shared.isolation),
      endAt: this.start + this.millis,
      graceMillis,
      keep: this.shared.history !== undefined,
      identify: plan.verify === undefined ? undefined : plan.verify === "server" ? "transaction" : "backend"
    }
  }

  next(): Effect.Effect<A, E | Failure, R> {
    this.attempts++
    const attempt = Attempt.makeTry<A>(this.setting)
    return Effect.flatMap(
      Effect.exit(this.restore(Attempt.run(this.work, this.setting, attempt))),
      (exit): Effect.Effect<A, E | Failure, R> => {
        const { ended } = attempt
        if (ended === undefined) return Effect.failCause(Exit.isFailure(exit) ? exit.cause : Cause.empty)
        if (Exit.isFailure(exit)) {
          return Effect.andThen(this.end(attempt, outcomeOf[ended._tag], "Interrupted"), Effect.failCause(exit.cause))
        }
        switch (ended._tag) {
          case "Committed":
            return Effect.as(this.end(attempt, "committed"), ended.value)
          case "RolledBack":
            return ended.timedOut
              ? this.late(attempt, ended.cause)
              : ended.transient
              ? this.again(attempt, ended.cause)
              : this.fail(attempt, ended.cause)
          case "Unknown":
            return this.unknown(attempt, ended)
        }
      }
    )
  }

  /** Begins anew after a pause, if there is a try and time left for one. */
  private again(attempt: Attempt.Try<A>, cause: Cause.Cause<unknown>): Effect.Effect<A, E | Failure, R> {
    const { fiber, plan, retried, shared } = this
    const error = attempt.journal.aborted ?? sqlErrorIn(cause) ?? lostIn(cause)
    const allowed = kindOf(error) !== "Deadlock" || (plan.deadlock ?? shared.deadlockRetry)
    if (!allowed || this.attempts > (plan.retryTimes ?? shared.retryTimes)) return this.fail(attempt, cause)
    const pause = Effect.flatMap(this.pauses.next(fiber, this.attempts, error), (millis) => {
      const inTime = monotonicMillis(fiber) + millis < this.setting.endAt
      return inTime ? Effect.as(sleepAtLeast(millis), true) : Effect.succeed(false)
    })
    return Effect.flatMap(
      Effect.onError(this.restore(pause), (stopped) => this.end(attempt, "rolledBack", labelOfCause(stopped))),
      (again) => {
        if (!again) return this.fail(attempt, cause)
        if (retried.length === maxRetried) retried.shift()
        retried.push(label(error))
        return this.next()
      }
    )
  }

  private fail(attempt: Attempt.Try<A>, cause: Cause.Cause<unknown>): Effect.Effect<never, E | Failure> {
    return Effect.andThen(
      this.end(attempt, "rolledBack", labelOfCause(cause)),
      Effect.failCause(
        (isRefused(cause)
          ? Cause.fail(new TransactionRefusedError({ strategy: this.plan.name, reason: "PoolExhausted" }))
          : cause) as Cause.Cause<E | Failure>
      )
    )
  }

  /** Time ran out and it was rolled back. A defect that was raised on the way stays one. */
  private late(attempt: Attempt.Try<A>, cause: Cause.Cause<unknown>): Effect.Effect<never, TransactionTimeoutError> {
    const defects = cause.reasons.filter(Cause.isDieReason)
    const error = new TransactionTimeoutError({
      transaction: this.plan.name,
      duration: Duration.millis(this.millis),
      deadline: this.deadline,
      attempts: this.attempts
    })
    return Effect.andThen(
      this.end(attempt, "rolledBack", "TransactionTimeoutError"),
      defects.length > 0 ? Effect.failCause(Cause.fromReasons<never>(defects)) : Effect.fail(error)
    )
  }

  private unknown(
    attempt: Attempt.Try<A>,
    ended: Attempt.Ended<A> & { readonly _tag: "Unknown" }
  ): Effect.Effect<A, E | Failure, R> {
    const { plan, sql } = this
    const write = this.end(attempt, "unknown", "CommitOutcomeUnknownError")
    const stays = (verification?: unknown) =>
      Effect.andThen(
        write,
        Effect.fail(
          new CommitOutcomeUnknownError({
            transaction: plan.name,
            reason: ended.reason,
            attempts: this.attempts,
            cause: ended.cause === undefined ? undefined : sqlErrorIn(ended.cause) ?? Cause.squash(ended.cause),
            verification
          })
        )
      )
    if (plan.verify === undefined) return stays()
    return Effect.flatMap(
      Effect.onInterrupt(this.restore(settle<R>(sql, plan, attempt)), () => write),
      (answer): Effect.Effect<A, E | Failure, R> => {
        if (answer._tag === "Untold") return stays(answer.failure)
        attempt.verified = true
        if (answer.committed) return Effect.as(this.end(attempt, "committed"), ended.value)
        // It surely did not happen: as good as a connection that was lost before COMMIT.
        return ended.cause === undefined ? this.late(attempt, Cause.empty) : this.again(attempt, ended.cause)
      }
    )
  }

  /** Writes down how it ended, and runs the hooks. */
  private end(attempt: Attempt.Try<A>, outcome: Entry["outcome"], failure?: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const entry = {
        name: this.plan.name,
        startedAt: this.startedAt,
        duration: monotonicMillis(this.fiber) - this.start,
        outcome,
        attempts: this.attempts,
        isolation: this.setting.traits.isolation,
        readOnly: this.setting.traits.readOnly,
        failure,
        retried: this.retried,
        verified: attempt.verified,
        operations: attempt.journal.operations.slice(),
        omitted: attempt.journal.omitted
      }
      this.shared.history?.add(entry)
      this.shared.onEnd(entry)
      return outcome === "unknown" ? Effect.void : runHooks(attempt.open, outcome)
    })
  }
}

/** The connection was lost without the driver having an error for it. */
const lostIn = (cause: Cause.Cause<unknown>): SqlError =>
  new SqlError({
    reason: new ConnectionError({
      cause: Cause.squash(cause),
      message: "the connection was lost while COMMIT was under way",
      operation: "commit"
    })
  })

const outcomeOf = { Committed: "committed", RolledBack: "rolledBack", Unknown: "unknown" } as const

/** A pool that was full for a transaction inside another is a refusal of that transaction, not a lost connection. */
const isRefused = (cause: Cause.Cause<unknown>): boolean => {
  const origin = sqlErrorIn(cause)?.reason.cause
  return origin instanceof PoolExhaustedError && origin.reason === "WouldDeadlock"
}
