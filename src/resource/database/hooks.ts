// How `Transaction` takes part in the begin of a transaction: what stands around the connection, and whether to wait
// for one. Set for the begin alone and unset within the transaction, so that other connections are not touched.
import * as Context from "effect/Context"
import type { Connection } from "effect/sql/SqlConnection"

export interface Begin {
  /** Of the transaction, for a warning that it holds its connection for too long. */
  readonly name: string
  /** Stands between the transaction and its connection. */
  readonly around: (connection: Connection) => Connection
  /** Refuse at once when no connection is free: the caller holds one already, and waiting could be for itself. */
  readonly impatient: boolean
}

export const CurrentBegin: Context.Reference<Begin | undefined> = Context.Reference<Begin | undefined>(
  "seaworthy/Database/Begin",
  { defaultValue: () => undefined }
)
