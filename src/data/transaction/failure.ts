// What a failure says about the fate of a transaction. Pure.
import * as Cause from "effect/Cause"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { PoolExhaustedError } from "../../resource/database/errors.ts"
import { ResourceError } from "../../resource/ResourceError.ts"

/**
 * `Serialization` and `Deadlock`: rolled back by the server, worth another try. `ConnectionLost`: the session is gone.
 * `Unavailable`: there never was one, since the pool or the resource said no. `Other`: trying again would change nothing.
 */
export type Kind = "Serialization" | "Deadlock" | "ConnectionLost" | "Unavailable" | "Other"

const maxDepth = 5

/** The error, then what it says caused it. */
const chain = function*(error: unknown): Generator<Record<string, unknown>> {
  let current: unknown = error
  for (let depth = 0; depth < maxDepth && typeof current === "object" && current !== null; depth++) {
    const step = current as Record<string, unknown>
    yield step
    current = typeof step["reason"] === "object" && step["reason"] !== null ? step["reason"] : step["cause"]
  }
}

/** The SQLSTATE or the code of the operating system closest to the origin. */
export const codeOf = (error: unknown): string | undefined => {
  let code: string | undefined
  for (const step of chain(error)) {
    if (typeof step["code"] === "string") code = step["code"]
  }
  return code
}

/** The `SqlError` that a failure is, or says it was caused by. */
export const sqlErrorOf = (error: unknown): SqlError | undefined => {
  for (const step of chain(error)) {
    if (isSqlError(step)) return step
  }
  return undefined
}

// Of the server going away (57P0x), a session cut for its age (25P03, 25P04), no room for one more (53300). Drivers leave
// them unknown. Class 08 is all about connections; 40003 says that nobody knows.
const lost = new Set(["57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300", "40003"])

const byCode = (code: string): Kind | undefined => {
  if (code === "40001") return "Serialization"
  if (code === "40P01") return "Deadlock"
  return lost.has(code) || /^08[0-9A-Z]{3}$/.test(code) ? "ConnectionLost" : undefined
}

export const kindOf = (error: SqlError): Kind => {
  for (const step of chain(error)) {
    if (step instanceof PoolExhaustedError || step instanceof ResourceError) return "Unavailable"
  }
  const code = codeOf(error)
  const known = code === undefined ? undefined : byCode(code)
  if (known !== undefined) return known
  switch (error.reason._tag) {
    case "SerializationError":
      return "Serialization"
    case "DeadlockError":
      return "Deadlock"
    case "ConnectionError":
      return "ConnectionLost"
    default:
      return "Other"
  }
}

/** The first `SqlError` in a cause: failed with, died of, or wrapped by an error of the work. */
export const sqlErrorIn = (cause: Cause.Cause<unknown>): SqlError | undefined => {
  for (const reason of cause.reasons) {
    if (Cause.isInterruptReason(reason)) continue
    const found = sqlErrorOf(Cause.isFailReason(reason) ? reason.error : reason.defect)
    if (found !== undefined) return found
  }
  return undefined
}

/** Whether a transaction that failed before COMMIT was sent is worth another try. */
export const isTransient = (kind: Kind): boolean =>
  kind === "Serialization" || kind === "Deadlock" || kind === "ConnectionLost"

/** For the log: a code where there is one, else the tag. Never a message, which may hold values of the caller. */
export const label = (error: unknown): string => {
  const sql = sqlErrorOf(error)
  if (sql !== undefined) return codeOf(sql) ?? sql.reason._tag
  if (typeof error === "object" && error !== null && "_tag" in error && typeof error._tag === "string") {
    return error._tag
  }
  return error instanceof Error ? error.name : typeof error
}

/** The same of a whole cause. */
export const labelOfCause = (cause: Cause.Cause<unknown>): string => {
  const reason = cause.reasons.find((one) => !Cause.isInterruptReason(one))
  if (reason === undefined) return "Interrupted"
  return label(Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined)
}

/**
 * Whether a failure of COMMIT is the server's word that nothing was committed. A lost connection is not, nor is an
 * answer that the driver did not understand.
 */
export const deniesCommit = (error: SqlError): boolean => {
  if (kindOf(error) === "ConnectionLost") return false
  const { reason } = error
  if (reason._tag !== "UnknownError" || reason.operation === "commit") return true
  const code = codeOf(error)
  return code !== undefined && /^(?=.*\d)[0-9A-Z]{5}$/.test(code)
}
