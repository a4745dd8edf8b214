// The SqlClient that users hold. It owns no connection: every statement, transaction and stream borrows one from the
// resource's living generation, so a restart never leaves a dead client behind, and waits for what is under way.
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as SqlClient from "effect/sql/SqlClient"
import type { Acquirer, Borrower, Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import type { Compiler } from "effect/sql/Statement"
import type { Operation } from "../../observability/Status.ts"
import type { Handle } from "../ManagedResource.ts"
import { asSqlError } from "./errors.ts"
import { CurrentBegin } from "./hooks.ts"
import type { Leases } from "./leases.ts"
import type { Observers } from "./observer.ts"

/** One generation's way to its connections. */
export interface Connections {
  /** Lends a connection for one statement. */
  readonly borrow: Borrower
  /** A connection of one's own until the scope closes. */
  readonly reserve: Acquirer
  /** What is known of the pool, where there is one. */
  readonly gauges?: (() => Gauges) | undefined
  /** Replaces all connections: the idle ones now, those in use when they come back. */
  readonly purge?: Effect.Effect<void, SqlError> | undefined
}

export interface Gauges {
  /** Most connections that are open at once. */
  readonly max: number
  /** Lent now. */
  readonly active: number
  /** Open and not lent. */
  readonly idle: number
  /** Callers that wait for one. */
  readonly waiting: number
}

export interface Dialect {
  readonly driver: string
  readonly compiler: Compiler
  readonly spanAttributes: ReadonlyArray<readonly [string, unknown]>
  readonly prepareTransactionControls?: boolean | undefined
  readonly releaseSavepoint?: ((name: string) => string) | undefined
  readonly commit?: ((connection: Connection) => Effect.Effect<void, SqlError>) | undefined
}

/** Counts every statement into an operation of the resource's node, and tells the observers. */
class Recorded implements Connection {
  readonly connection: Connection
  readonly operation: Operation
  readonly observers: Observers

  constructor(connection: Connection, operation: Operation, observers: Observers) {
    this.connection = connection
    this.operation = operation
    this.observers = observers
  }
  private watch<A>(sql: string, params: ReadonlyArray<unknown>, statement: Effect.Effect<A, SqlError>) {
    return Effect.withFiber<A, SqlError>((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const start = clock.monotonicTimeNanosUnsafe()
      return Effect.onExitPrimitive(statement, (exit) => {
        const duration = Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6
        const success = Exit.isSuccess(exit)
        if (success || !Exit.hasInterrupts(exit)) this.operation.record(success, duration)
        if (this.observers.all.length > 0) this.observers.tell({ sql, params, duration, exit, fiber })
        return undefined
      })
    })
  }
  readonly execute: Connection["execute"] = (sql, params, transformRows) =>
    this.watch(sql, params, this.connection.execute(sql, params, transformRows))
  readonly executeRaw: Connection["executeRaw"] = (sql, params) =>
    this.watch(sql, params, this.connection.executeRaw(sql, params))
  readonly executeStream: Connection["executeStream"] = (sql, params, transformRows) =>
    this.connection.executeStream(sql, params, transformRows)
  readonly executeValues: Connection["executeValues"] = (sql, params) =>
    this.watch(sql, params, this.connection.executeValues(sql, params))
  readonly executeValuesUnprepared: Connection["executeValuesUnprepared"] = (sql, params) =>
    this.watch(sql, params, this.connection.executeValuesUnprepared(sql, params))
  readonly executeUnprepared: Connection["executeUnprepared"] = (sql, params, transformRows) =>
    this.watch(sql, params, this.connection.executeUnprepared(sql, params, transformRows))
}

/** Counts how long it took until `self` had a connection; its other failures are not about that. */
const timed = (operation: Operation) => {
  const record = (clock: Clock.Clock, start: bigint, success: boolean) =>
    operation.record(success, Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6)
  return <A, E, R>(borrow: (acquired: () => void) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const start = clock.monotonicTimeNanosUnsafe()
      let acquired = false
      return Effect.onExitPrimitive(
        borrow(() => {
          acquired = true
          record(clock, start, true)
        }),
        (exit) => {
          if (!acquired && !Exit.hasInterrupts(exit)) record(clock, start, false)
          return undefined
        }
      )
    })
}

export const make = <C extends Connections>(
  handle: Handle<C>,
  dialect: Dialect,
  leases: Leases,
  observers: Observers
) => {
  const query = handle.node.operation("query")
  const acquiring = timed(handle.node.operation("acquire"))
  const borrower: Borrower = (f) =>
    acquiring((acquired) =>
      asSqlError(handle.use((connections) =>
        connections.borrow((connection) => {
          acquired()
          return f(new Recorded(connection, query, observers))
        })
      ))
    )
  const acquirer: Acquirer = acquiring((acquired) =>
    asSqlError(handle.lease).pipe(
      Effect.flatMap((connections) => connections.reserve),
      Effect.tap(() => leases.track),
      Effect.map((connection) => {
        acquired()
        return new Recorded(connection, query, observers)
      })
    )
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
