// What is known of one try of a transaction, written while it runs: its statements, and what the server said about the
// whole.
import * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"
import type { Backend, Watch } from "../../resource/database/hooks.ts"
import { begin, type Traits } from "./demand.ts"
import { isTransient, kindOf, labelOfCause, sqlErrorIn } from "./failure.ts"
import { maxOperations, type Operation, raw } from "./history.ts"

export class Journal implements Watch {
  readonly begin: string
  readonly operations: Array<Operation> = []
  omitted = 0
  /** The serialization failure, deadlock or lost connection that has ended it, if it was not undone by a savepoint. */
  aborted: SqlError | undefined
  /** True when COMMIT failed before it could leave: the connection was dead already. */
  unsent = false
  /** True when the server has said that it is committed, whatever happens to the connection afterwards. */
  committed = false
  readonly identify: boolean
  /** The server's process behind the connection, when it was asked for and can be told. */
  backend: Backend | undefined
  private readonly keep: boolean

  /** `keep` tells whether statements are kept for the history. */
  constructor(traits: Traits, keep: boolean, identify: boolean) {
    this.begin = begin(traits)
    this.keep = keep
    this.identify = identify
  }

  readonly connected = (backend: Backend | undefined): void => {
    this.backend = backend
  }
  ended(sql: string, millis: number, exit: Exit.Exit<unknown, SqlError>): void {
    if (Exit.isFailure(exit)) {
      const error = sqlErrorIn(exit.cause)
      if (error !== undefined && isTransient(kindOf(error))) this.aborted ??= error
    } else if (sql === "COMMIT") {
      this.committed = !isRollback(exit.value)
    } else if (
      this.aborted !== undefined && sql.startsWith("ROLLBACK TO") && kindOf(this.aborted) !== "ConnectionLost"
    ) {
      this.aborted = undefined
    }
    if (!this.keep) return
    if (this.operations.length === maxOperations) {
      this.omitted++
      return
    }
    this.operations.push({
      text: raw(sql),
      duration: millis,
      failure: Exit.isSuccess(exit) ? undefined : Exit.hasInterrupts(exit) ? "interrupted" : labelOfCause(exit.cause)
    })
  }
  commitUnsent(): void {
    this.unsent = true
  }
}

/** Postgres answers COMMIT of a transaction whose statement had failed with ROLLBACK and no error. */
const isRollback = (result: unknown): boolean =>
  typeof result === "object" && result !== null && "command" in result && result.command === "ROLLBACK"
