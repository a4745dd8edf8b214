// How `Transaction` takes part in a transaction of a database's client: what it begins with, whether to wait for a
// connection, and who hears of its statements.
import * as Context from "effect/Context"
import type * as Exit from "effect/Exit"
import type { SqlError } from "effect/sql/SqlError"

/** The process of the server behind one connection: its number, which is used again, and when it began. */
export interface Backend {
  readonly pid: number
  readonly startedAt: string
}

/** Hears of the statements of one transaction. */
export interface Watch {
  /** What the transaction begins with, instead of what the client would send. */
  readonly begin: string
  /** Whether `connected` is to be told what is behind the connection. */
  readonly identify: boolean
  /** What is behind the connection; `undefined` when it cannot be told, as with a pooler in between. */
  readonly connected: (backend: Backend | undefined) => void
  /** A statement that has ended, and how many milliseconds it took. Must not throw. */
  readonly ended: (sql: string, millis: number, exit: Exit.Exit<unknown, SqlError>) => void
  /** COMMIT failed before it could leave: the connection was dead already. */
  readonly commitUnsent: () => void
}

/** A transaction that is to be begun. */
export interface Begin {
  /** For a warning that it holds its connection for too long. */
  readonly name: string
  /** Refuse at once when no connection is free: the caller holds one already, and waiting could be for itself. */
  impatient: boolean
  /** Taken by the connection that the transaction gets. */
  watch?: Watch | undefined
}

export const CurrentBegin: Context.Reference<Begin | undefined> = Context.Reference<Begin | undefined>(
  "seaworthy/Database/Begin",
  { defaultValue: () => undefined }
)

/** What is begun later, within the transaction, has it in its context too and is not meant. */
export const takeWatch = (begin: Begin | undefined): Watch | undefined => {
  if (begin === undefined) return undefined
  const { watch } = begin
  begin.watch = undefined
  begin.impatient = false
  return watch
}

/** The transaction services of the clients that take the watch. */
export const watching = new WeakSet<object>()
