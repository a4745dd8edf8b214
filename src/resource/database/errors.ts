// The errors of a database's own connection handling, and how they travel in the `SqlError` that every SQL client has.
import * as Effect from "effect/Effect"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import * as Stackless from "../../resilience/internal/stackless.ts"
import { ResourceError } from "../ResourceError.ts"

/** No connection could be had from the pool. See `Database.PoolExhaustedError`. */
export class PoolExhaustedError extends Stackless.Class("PoolExhaustedError")<{
  readonly reason: "AcquireTimeout" | "TooManyWaiting" | "WouldDeadlock" | "Closed"
  readonly inUse: number
  readonly waiting: number
  readonly maxConnections: number
  readonly maxWaiting: number
  /** Milliseconds. */
  readonly waited: number
  /** Name of the pool; without one it is the database's. */
  readonly pool?: string | undefined
}> {
  override get message(): string {
    const connections = this.pool === undefined ? "database connections" : `connections of the pool "${this.pool}"`
    switch (this.reason) {
      case "AcquireTimeout": {
        const one = this.pool === undefined ? "database connection" : `connection of the pool "${this.pool}"`
        return `no ${one} was free within ${this.waited} ms (${this.inUse} of ${this.maxConnections} in use, ${this.waiting} waiting)`
      }
      case "TooManyWaiting":
        return `all ${this.maxConnections} ${connections} are in use and ${this.waiting} callers wait already (at most ${this.maxWaiting})`
      case "WouldDeadlock":
        return `all ${this.maxConnections} ${connections} are in use, and a transaction inside another does not wait for one`
      case "Closed":
        return this.pool === undefined
          ? "the database connection was closed while waiting for it"
          : `the pool "${this.pool}" is closed`
    }
  }
}

/** Users of a SQL client know one error: the others become the cause of a retryable connection error. */
export const toSqlError = (error: PoolExhaustedError | ResourceError, operation: string): SqlError =>
  new SqlError({
    reason: new ConnectionError({
      cause: error,
      message: error instanceof ResourceError ? `the database is not usable: ${error.detail}` : error.message,
      operation
    })
  })

/** Maps what a lease can fail with besides the errors of the work itself. */
export const asSqlError = <A, E, R>(
  self: Effect.Effect<A, E | PoolExhaustedError | ResourceError, R>
): Effect.Effect<A, Exclude<E, PoolExhaustedError | ResourceError> | SqlError, R> =>
  Effect.mapError(self, (error) =>
    error instanceof PoolExhaustedError || error instanceof ResourceError
      ? toSqlError(error, "acquire")
      : error as Exclude<E, PoolExhaustedError | ResourceError>)
