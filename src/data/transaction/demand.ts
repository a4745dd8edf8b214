// What a transaction asks for, whether an open one satisfies it, and how Postgres is told. Pure.
import { TransactionConflictError } from "./errors.ts"

/** Isolation levels of the SQL standard, weakest first. */
export const levels = ["READ_UNCOMMITTED", "READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE"] as const

export type Isolation = typeof levels[number]

export interface Demand {
  readonly isolation?: Isolation | undefined
  readonly readOnly?: boolean | undefined
  readonly deferrable?: boolean | undefined
}

/** What an open transaction is. */
export interface Traits {
  readonly isolation: Isolation
  readonly readOnly: boolean
  readonly deferrable: boolean
}

const valid = `one of ${levels.join(", ")}`

export const check = ({ deferrable, isolation, readOnly }: Demand): void => {
  if (isolation !== undefined && !levels.includes(isolation)) {
    throw new RangeError(`isolation must be ${valid}, got ${String(isolation)}`)
  }
  if (deferrable === true && (readOnly !== true || isolation !== undefined && isolation !== "SERIALIZABLE")) {
    throw new RangeError("deferrable must be used with readOnly and isolation SERIALIZABLE: elsewhere it does nothing")
  }
}

export const traits = (demand: Demand, isolation: Isolation): Traits => ({
  isolation: demand.isolation ?? (demand.deferrable === true ? "SERIALIZABLE" : isolation),
  readOnly: demand.readOnly ?? false,
  deferrable: demand.deferrable ?? false
})

/** The statement that begins it. The isolation is one of our own words, so nothing foreign gets into the text. */
export const begin = (open: Traits): string =>
  `BEGIN ISOLATION LEVEL ${open.isolation.replace("_", " ")}${open.readOnly ? " READ ONLY" : ""}${
    open.deferrable ? " DEFERRABLE" : ""
  }`

const access = (readOnly: boolean): string => readOnly ? "read-only" : "read-write"

/** The first demand that the open transaction does not meet. A stronger isolation than asked for is no conflict. */
export const conflict = (name: string, demand: Demand, open: Traits): TransactionConflictError | undefined => {
  const { deferrable, isolation, readOnly } = demand
  if (isolation !== undefined && levels.indexOf(isolation) > levels.indexOf(open.isolation)) {
    return new TransactionConflictError({
      strategy: name,
      option: "isolation",
      demanded: isolation,
      open: open.isolation
    })
  }
  if (readOnly !== undefined && readOnly !== open.readOnly) {
    return new TransactionConflictError({
      strategy: name,
      option: "readOnly",
      demanded: access(readOnly),
      open: access(open.readOnly)
    })
  }
  if (deferrable === true && !open.deferrable) {
    return new TransactionConflictError({
      strategy: name,
      option: "deferrable",
      demanded: "deferrable",
      open: "not deferrable"
    })
  }
  return undefined
}

/** Whether anything is asked for that an open transaction could lack. */
export const isDemanding = ({ deferrable, isolation, readOnly }: Demand): boolean =>
  isolation !== undefined || readOnly !== undefined || deferrable === true
