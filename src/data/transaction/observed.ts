// Stands between a transaction and its connection: notes each statement, and what the server said about the whole.
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { isTransient, kindOf, labelOfCause, sqlErrorIn } from "./failure.ts"
import { maxOperations, type Operation, shape } from "./history.ts"

/** What is known of one try, written while it runs. */
export interface Journal {
  readonly operations: Array<Operation>
  omitted: number
  /** Whether statements are kept for the history. */
  readonly keep: boolean
  /** The serialization failure, deadlock or lost connection that has ended it, if it was not undone by a savepoint. */
  aborted: SqlError | undefined
  /** True when COMMIT failed before it could leave: the connection was dead already. */
  commitUnsent: boolean
}

export const makeJournal = (keep: boolean): Journal => ({
  operations: [],
  omitted: 0,
  keep,
  aborted: undefined,
  commitUnsent: false
})

type TransformRows = Parameters<Connection["execute"]>[2]

export class Observed implements Connection {
  private readonly connection: Connection
  private readonly journal: Journal

  constructor(connection: Connection, journal: Journal) {
    this.connection = connection
    this.journal = journal
  }

  private note(sql: string, millis: number, exit: Exit.Exit<unknown, SqlError>) {
    const { journal } = this
    if (Exit.isFailure(exit)) {
      const error = sqlErrorIn(exit.cause)
      if (error !== undefined && isTransient(kindOf(error))) journal.aborted ??= error
    } else if (
      journal.aborted !== undefined && sql.startsWith("ROLLBACK TO") && kindOf(journal.aborted) !== "ConnectionLost"
    ) {
      journal.aborted = undefined
    }
    if (!journal.keep) return
    if (journal.operations.length === maxOperations) {
      journal.omitted++
      return
    }
    journal.operations.push({
      text: shape(sql),
      duration: millis,
      failure: Exit.isSuccess(exit) ? undefined : Exit.hasInterrupts(exit) ? "interrupted" : labelOfCause(exit.cause)
    })
  }

  private watch<A>(sql: string, statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const start = clock.monotonicTimeNanosUnsafe()
      return Effect.onExitPrimitive(sql === "COMMIT" ? this.sending(statement) : statement, (exit) => {
        this.note(sql, Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6, exit)
        return undefined
      }, true)
    })
  }

  // A failure in the very step in which COMMIT was handed to the driver cannot be an answer of the server, nor of the
  // network: the driver knew already that the connection is dead. A fiber of its own shows whether anything was waited for.
  private sending<A>(commit: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> {
    return Effect.withFiber((fiber) => {
      const child = Effect.runForkWith(fiber.context)(commit)
      const exit = child.pollUnsafe()
      if (exit === undefined) return Fiber.join(child)
      if (Exit.isFailure(exit)) this.journal.commitUnsent = true
      return exit
    })
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return this.watch(sql, this.connection.execute(sql, params, transformRows))
  }
  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return this.watch(sql, this.connection.executeRaw(sql, params))
  }
  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return this.watch(sql, this.connection.executeValues(sql, params))
  }
  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.watch(sql, this.connection.executeValuesUnprepared(sql, params))
  }
  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return this.watch(sql, this.connection.executeUnprepared(sql, params, transformRows))
  }
  executeStream(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return Stream.onExit(
      this.connection.executeStream(sql, params, transformRows),
      (exit) => Effect.sync(() => this.note(sql, 0, exit))
    )
  }
}
