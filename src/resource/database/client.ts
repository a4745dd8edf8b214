// The SqlClient that users hold. It owns no connection: every statement, transaction and stream borrows one from the
// resource's living generation, so a restart never leaves a dead client behind, and waits for what is under way.
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { Acquirer, Borrower, Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import type { Compiler } from "effect/sql/Statement"
import { type Operation, track } from "../../observability/Status.ts"
import type { Handle } from "../ManagedResource.ts"
import { asSqlError } from "./errors.ts"
import { CurrentBegin } from "./hooks.ts"

/** One generation's way to its connections. */
export interface Connections {
  /** Lends a connection for one statement. */
  readonly borrow: Borrower
  /** A connection of one's own until the scope closes. */
  readonly reserve: Acquirer
}

export interface Dialect {
  readonly driver: string
  readonly compiler: Compiler
  readonly spanAttributes: ReadonlyArray<readonly [string, unknown]>
  readonly prepareTransactionControls?: boolean | undefined
  readonly releaseSavepoint?: ((name: string) => string) | undefined
  readonly commit?: ((connection: Connection) => Effect.Effect<void, SqlError>) | undefined
}

/** Counts every statement into an operation of the resource's node. */
class Recorded implements Connection {
  readonly connection: Connection
  readonly operation: Operation

  constructor(connection: Connection, operation: Operation) {
    this.connection = connection
    this.operation = operation
  }
  readonly execute: Connection["execute"] = (sql, params, transformRows) =>
    track(this.connection.execute(sql, params, transformRows), this.operation)
  readonly executeRaw: Connection["executeRaw"] = (sql, params) =>
    track(this.connection.executeRaw(sql, params), this.operation)
  readonly executeStream: Connection["executeStream"] = (sql, params, transformRows) =>
    this.connection.executeStream(sql, params, transformRows)
  readonly executeValues: Connection["executeValues"] = (sql, params) =>
    track(this.connection.executeValues(sql, params), this.operation)
  readonly executeValuesUnprepared: Connection["executeValuesUnprepared"] = (sql, params) =>
    track(this.connection.executeValuesUnprepared(sql, params), this.operation)
  readonly executeUnprepared: Connection["executeUnprepared"] = (sql, params, transformRows) =>
    track(this.connection.executeUnprepared(sql, params, transformRows), this.operation)
}

export const make = <C extends Connections>(handle: Handle<C>, dialect: Dialect) => {
  const query = handle.node.operation("query")
  const borrower: Borrower = (f) =>
    asSqlError(handle.use((connections) => connections.borrow((connection) => f(new Recorded(connection, query)))))
  const acquirer: Acquirer = asSqlError(handle.lease).pipe(
    Effect.flatMap((connections) => connections.reserve),
    Effect.map((connection) => new Recorded(connection, query))
  )
  const transactionAcquirer: Acquirer = Effect.flatMap(
    acquirer,
    (connection) =>
      Effect.withFiber((fiber) => Effect.succeed(fiber.getRef(CurrentBegin)?.around(connection) ?? connection))
  )
  return SqlClient.make({
    acquirer,
    borrower: borrower as Borrower,
    transactionAcquirer,
    compiler: dialect.compiler,
    driver: dialect.driver,
    spanAttributes: dialect.spanAttributes,
    prepareTransactionControls: dialect.prepareTransactionControls,
    releaseSavepoint: dialect.releaseSavepoint,
    commit: dialect.commit
  })
}
