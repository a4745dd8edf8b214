// The SqlClient that users hold. It owns no connection: every statement, transaction and stream borrows one from the
// resource's living generation, so a restart never leaves a dead client behind, and waits for what is under way.
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Acquirer, Borrower, Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { Compiler } from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import type { Operation } from "../../observability/Status.ts"
import type { Handle } from "../ManagedResource.ts"
import { ResourceError } from "../ResourceError.ts"
import { PoolExhaustedError, toSqlError } from "./errors.ts"
import { type Backend, CurrentBegin, takeWatch, type Watch, watching } from "./hooks.ts"
import type { Held, Leases } from "./leases.ts"
import type { Observers } from "./observer.ts"

/** A connection of one's own. */
export interface Lent extends Connection {
  /** Has it closed instead of lent again when it comes back: a statement is still under way on it. */
  readonly drop?: Effect.Effect<void> | undefined
  /** Asks on the connection which process of the server is behind it; `undefined` when that cannot be told. */
  readonly identify?: Effect.Effect<Backend | undefined, SqlError> | undefined
}

/** One generation's way to its connections. */
export interface Connections {
  /** Lends a connection for one statement. */
  readonly borrow: <A, E, R>(
    f: (connection: Connection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SqlError | PoolExhaustedError, R>
  /** A connection of one's own until the scope closes. */
  readonly reserve: Effect.Effect<Lent, SqlError | PoolExhaustedError, Scope.Scope>
  /** What is known of the pool, where there is one. */
  readonly gauges?: (() => Gauges) | undefined
  /** Replaces all connections: the idle ones now, those in use when they come back. */
  readonly purge?: Effect.Effect<void, SqlError> | undefined
  /** How long a connection may be held before it is logged as a possible leak. */
  readonly leakAfter?: Duration.Duration | undefined
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

/** Counts every statement into an operation of the resource's node, and tells the observers and the transaction. */
export class Recorded implements Connection {
  private readonly connection: Lent
  private readonly operation: Pick<Operation, "record">
  private readonly observers: Observers
  private readonly transaction: Watch | undefined
  private begun = false
  private underWay = 0
  private returned = false

  constructor(
    connection: Lent,
    operation: Pick<Operation, "record">,
    observers: Observers,
    transaction: Watch | undefined
  ) {
    this.connection = connection
    this.operation = operation
    this.observers = observers
    this.transaction = transaction
  }

  private watch<A>(sql: string, params: ReadonlyArray<unknown>, statement: Effect.Effect<A, SqlError>) {
    const { transaction } = this
    return Effect.withFiber<A, SqlError>((fiber) => {
      if (this.returned) return Effect.fail(wasReturned())
      const clock = fiber.getRef(Clock.Clock)
      const start = clock.monotonicTimeNanosUnsafe()
      this.underWay++
      const sent = transaction !== undefined && sql === "COMMIT" ? sending(fiber, statement, transaction) : statement
      return Effect.onExitPrimitive(sent, (exit) => {
        this.underWay--
        const duration = Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6
        const success = Exit.isSuccess(exit)
        if (success || !Exit.hasInterrupts(exit)) this.operation.record(success, duration)
        if (transaction !== undefined) transaction.ended(sql, duration, exit)
        if (this.observers.all.length > 0) this.observers.tell({ sql, params, duration, exit, fiber })
        return undefined
      })
    })
  }

  /** Work that was forked and goes on must neither use the connection nor leave it to others in the middle of an answer. */
  readonly giveBack: Effect.Effect<void> = Effect.suspend(() => {
    this.returned = true
    return this.underWay > 0 ? this.connection.drop ?? Effect.void : Effect.void
  })

  /** The first statement of a transaction, in the words of who began it: few and always the same, so it is prepared. */
  private begin<A>(run: (sql: string) => Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> | undefined {
    if (this.transaction === undefined || this.begun) return undefined
    this.begun = true
    const { begin } = this.transaction
    return this.watch(begin, [], run(begin))
  }

  execute(...[sql, params, transformRows]: Parameters<Connection["execute"]>) {
    return this.begin((begin) => this.connection.execute(begin, [], undefined)) ??
      this.watch(sql, params, this.connection.execute(sql, params, transformRows))
  }
  executeRaw(...[sql, params]: Parameters<Connection["executeRaw"]>) {
    return this.watch(sql, params, this.connection.executeRaw(sql, params))
  }
  executeStream(...[sql, params, transformRows]: Parameters<Connection["executeStream"]>) {
    return Stream.suspend(() => {
      if (this.returned) return Stream.fail(wasReturned())
      this.underWay++
      return Stream.onExit(this.connection.executeStream(sql, params, transformRows), (exit) =>
        Effect.sync(() => {
          this.underWay--
          this.transaction?.ended(sql, 0, exit)
        }))
    })
  }
  executeValues(...[sql, params]: Parameters<Connection["executeValues"]>) {
    return this.watch(sql, params, this.connection.executeValues(sql, params))
  }
  executeValuesUnprepared(...[sql, params]: Parameters<Connection["executeValuesUnprepared"]>) {
    return this.watch(sql, params, this.connection.executeValuesUnprepared(sql, params))
  }
  executeUnprepared(...[sql, params, transformRows]: Parameters<Connection["executeUnprepared"]>) {
    return this.begin((begin) => this.connection.execute(begin, [], undefined)) ??
      this.watch(sql, params, this.connection.executeUnprepared(sql, params, transformRows))
  }
}

/** Before the transaction begins, so that it has no part in it. What is wrong with the connection is seen there as well. */
const introduce = (connection: Lent, watch: Watch): Effect.Effect<void> =>
  connection.identify === undefined
    ? Effect.void
    : Effect.map(Effect.orElseSucceed(connection.identify, () => undefined), watch.connected)

const wasReturned = (): SqlError => {
  const message = "the connection was given back: forked work has to end before the transaction does"
  return new SqlError({ reason: new ConnectionError({ cause: new Error(message), message, operation: "query" }) })
}

// A failure in the very step in which COMMIT was handed to the driver cannot be an answer of the server, nor of the
// network: the driver knew already that the connection is dead. A fiber of its own shows whether anything was waited for.
const sending = <A>(
  fiber: Fiber.Fiber<unknown, unknown>,
  commit: Effect.Effect<A, SqlError>,
  transaction: Watch
): Effect.Effect<A, SqlError> => {
  const child = Effect.runForkWith(fiber.context)(commit)
  const exit = child.pollUnsafe()
  if (exit === undefined) return Fiber.join(child)
  if (Exit.isFailure(exit)) transaction.commitUnsent()
  return exit
}

type Refusal = PoolExhaustedError | ResourceError

/** Counts how long it took until there was a connection; later failures, and leaving before, are not about that. */
const timed = (operation: Operation) => {
  const record = (clock: Clock.Clock, start: bigint, success: boolean) =>
    operation.record(success, Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6)
  return <A, E, R>(
    borrow: (acquired: () => void) => Effect.Effect<A, E | Refusal, R>
  ): Effect.Effect<A, Exclude<E, Refusal> | SqlError, R> =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const start = clock.monotonicTimeNanosUnsafe()
      let acquired = false
      const borrowed = borrow(() => {
        acquired = true
        record(clock, start, true)
      })
      return Effect.mapError(borrowed, (error) => {
        if (!acquired) record(clock, start, false)
        return error instanceof PoolExhaustedError || error instanceof ResourceError
          ? toSqlError(error, "acquire")
          : error as Exclude<E, Refusal>
      })
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
      handle.use((connections) =>
        connections.borrow((connection) => {
          acquired()
          return f(new Recorded(connection, query, observers, undefined))
        })
      )
    )
  const acquire = (begins: boolean): Acquirer =>
    acquiring((acquired) =>
      Effect.flatMap(
        Effect.flatMap(handle.lease, (connections) => connections.reserve),
        (connection) =>
          Effect.withFiber((fiber) => {
            acquired()
            const watch = begins ? takeWatch(fiber.getRef(CurrentBegin)) : undefined
            const lent = new Recorded(connection, query, observers, watch)
            let held: Held | undefined
            const end = Effect.suspend(() => {
              if (held !== undefined) leases.end(held)
              return lent.giveBack
            })
            const begun = Effect.map(Scope.addFinalizer(Context.getUnsafe(fiber.context, Scope.Scope), end), () => {
              held = leases.begin(fiber)
              return lent
            })
            return watch?.identify === true ? Effect.andThen(introduce(connection, watch), begun) : begun
          })
      )
    )
  return SqlClient.make({
    acquirer: acquire(false),
    borrower: borrower as Borrower,
    transactionAcquirer: acquire(true),
    compiler: dialect.compiler,
    driver: dialect.driver,
    spanAttributes: dialect.spanAttributes,
    prepareTransactionControls: dialect.prepareTransactionControls,
    releaseSavepoint: dialect.releaseSavepoint,
    commit: dialect.commit
  }).pipe(Effect.tap((client) => Effect.sync(() => watching.add(client.transactionService))))
}
