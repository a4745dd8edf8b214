// What a transaction can fail with besides the errors of its work and `SqlError`.
import * as Duration from "effect/Duration"
import * as Stackless from "../../resilience/internal/stackless.ts"
import * as Rejection from "../../resilience/Rejection.ts"

/**
 * The propagation did not allow the transaction; the work was not run. `mandatory` found none open (`NoTransaction`),
 * `never` found one (`TransactionOpen`), `requiresNew` found no free connection (`PoolExhausted`) or a database with
 * one session only (`SingleSession`).
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionRefusedError extends Rejection.Class("TransactionRefusedError")<{
  readonly reason: "NoTransaction" | "TransactionOpen" | "PoolExhausted" | "SingleSession"
}> {
  override get message(): string {
    const name = `transaction "${this.strategy}"`
    switch (this.reason) {
      case "NoTransaction":
        return `${name} is mandatory, and no transaction is open`
      case "TransactionOpen":
        return `${name} must never run inside a transaction, and one is open`
      case "PoolExhausted":
        return `${name} requires a new connection while another transaction is open, and none is free`
      case "SingleSession":
        return `${name} requires a new connection while another transaction is open, and this database has one session`
    }
  }
}

/**
 * An inner transaction asks for what the open one cannot give; the work was not run.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionConflictError extends Rejection.Class("TransactionConflictError")<{
  readonly option: "isolation" | "readOnly" | "deferrable"
  readonly demanded: string
  readonly open: string
}> {
  override get message(): string {
    return `transaction "${this.strategy}" asks for ${this.option} ${this.demanded}, and the open one has ${this.open}`
  }
}

/**
 * The transaction took longer than its time-out or the surrounding `Deadline`, and was rolled back.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionTimeoutError extends Stackless.Class("TransactionTimeoutError")<{
  readonly transaction: string
  readonly duration: Duration.Duration
  /** True when a surrounding `Deadline` left less than the transaction's own time-out. */
  readonly deadline: boolean
  /** Tries begun, the first included. */
  readonly attempts: number
}> {
  override get message(): string {
    const left = this.deadline ? " (all that the deadline left)" : ""
    return `transaction "${this.transaction}" was not done within ${Duration.format(this.duration)}${left}: rolled back`
  }
}

/**
 * COMMIT was sent and no answer came: the transaction may stand or not. It is never repeated on its own; `verify` can
 * settle it.
 *
 * @category errors
 * @since 0.1.0
 */
export class CommitOutcomeUnknownError extends Stackless.Class("CommitOutcomeUnknownError")<{
  readonly transaction: string
  /** The connection was lost while COMMIT was under way, or time ran out. */
  readonly reason: "ConnectionLost" | "TimedOut"
  readonly attempts: number
  /** What the connection failed with. */
  readonly cause?: unknown
  /** What `verify` last failed with, when there is one and it could not tell. */
  readonly verification?: unknown
}> {
  override get message(): string {
    const why = this.reason === "TimedOut" ? "no answer came in time" : "the connection was lost"
    return `transaction "${this.transaction}": COMMIT was sent and ${why}, so it may have been committed or not`
  }
}

/**
 * A part that had joined the transaction failed, so the whole was rolled back although the outer work went on. Use
 * `nested` for a part whose failure the outer work shall survive.
 *
 * @category errors
 * @since 0.1.0
 */
export class RolledBackByInnerError extends Stackless.Class("RolledBackByInnerError")<{
  readonly transaction: string
  /** Name of the part that failed. */
  readonly inner: string
}> {
  override get message(): string {
    return `transaction "${this.transaction}" was rolled back, because "${this.inner}" had joined it and failed`
  }
}

/**
 * An explicit transaction was used after its end.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionEndedError extends Stackless.Class("TransactionEndedError")<{ readonly transaction: string }> {
  override get message(): string {
    return `transaction "${this.transaction}" has ended`
  }
}

/**
 * All that `run` adds to the errors of the work, besides `SqlError`.
 *
 * @category errors
 * @since 0.1.0
 */
export type TransactionError =
  | TransactionRefusedError
  | TransactionConflictError
  | TransactionTimeoutError
  | CommitOutcomeUnknownError
  | RolledBackByInnerError
