/**
 * Database transactions that join, nest, time out, begin again where that helps, and say so when the outcome is unknown.
 *
 * **When to use**
 *
 * Wrap work on `SqlClient` that has to happen as a whole with `run`. Provide `Transaction.layer` for defaults from the
 * settings and for the log; without it the same defaults hold and nothing is logged.
 *
 * **Details**
 *
 * - `propagation` decides what happens when a transaction is open already. A demand that the open one does not meet is a
 *   {@link TransactionConflictError}.
 * - Serialization failures (40001), deadlocks (40P01) and connections lost before COMMIT begin the whole again, at the
 *   outermost level only, in a new transaction, after a jittered pause or as a `Schedule` says.
 * - A connection lost during COMMIT is a {@link CommitOutcomeUnknownError}; it is never repeated unless `verify` has
 *   shown that nothing was committed, when nothing could be any more.
 * - The time-out covers all tries and pauses, waiting for a connection included; a surrounding `Deadline` shortens it.
 * - A joined part that fails undoes the whole, also when the outer work catches the failure: that is
 *   {@link RolledBackByInnerError}. Use `nested` for a part that may fail alone.
 * - {@link afterCommit} and {@link afterRollback} register work for after the end, which runs once and in order.
 *
 * **Gotchas**
 *
 * - The work can run several times: what it does outside of the database belongs into `afterCommit`.
 * - The default isolation is `REPEATABLE_READ`, stronger than the server's own default.
 * - With a `SqlClient` that is not of `Database`, the log has no statements, an error that the work swallows is only found
 *   at COMMIT, `requiresNew` waits for a connection like anybody, a connection found dead at COMMIT is unknown, and the
 *   "no" of a `verify` effect leaves it unknown.
 * - On the embedded database there is one session: `requiresNew` inside a transaction is refused.
 *
 * Built on `SqlClient.withTransaction`, so that everything that uses that one joins in; which ignores an inner isolation
 * level silently, has no time-out and no retry, and calls a lost COMMIT retryable. Propagation after Spring and JTA.
 *
 * **Example** (Hooks and a savepoint)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { SqlClient } from "effect/sql"
 * import { Status, Transaction } from "seaworthy"
 * import { PgliteDatabase } from "seaworthy/pglite"
 *
 * const program = Effect.gen(function*() {
 *   const sql = yield* SqlClient.SqlClient
 *   yield* sql`CREATE TABLE cargo (name text)`
 *   const load = (name: string) => sql`INSERT INTO cargo VALUES (${name})`
 *
 *   yield* Transaction.run(
 *     Effect.gen(function*() {
 *       yield* load("tea")
 *       yield* Transaction.afterCommit(Effect.sync(() => console.log("sailed"))) // => 'sailed'
 *       const risky = Effect.andThen(load("gunpowder"), Effect.fail("forbidden"))
 *       yield* Effect.ignore(Transaction.run(risky, { propagation: "nested" }))
 *     }),
 *     { name: "load", isolation: "SERIALIZABLE", timeout: "5 seconds" }
 *   )
 *   return yield* sql`SELECT name FROM cargo`
 * })
 *
 * const DatabaseLayer = PgliteDatabase.layerWith({ data_dir: "memory://" }).pipe(Layer.provide(Status.layer))
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(DatabaseLayer)))) // => [ { name: 'tea' } ]
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Status from "../observability/Status.ts"
import { integerAtLeast } from "../resilience/internal/options.ts"
import * as Settings from "../resource/Settings.ts"
import * as Demand from "./transaction/demand.ts"
import { type TransactionConflictError, type TransactionError, TransactionRefusedError } from "./transaction/errors.ts"
import * as Explicit from "./transaction/explicit.ts"
import type { Entry } from "./transaction/history.ts"
import { join, nest } from "./transaction/inner.ts"
import { type BeginOptions, compile, CurrentShared, type Options, type Plan } from "./transaction/options.ts"
import * as Outermost from "./transaction/outermost.ts"
import * as Shared from "./transaction/shared.ts"
import { addHook, find } from "./transaction/state.ts"

export type { Isolation } from "./transaction/demand.ts"
export {
  CommitOutcomeUnknownError,
  RolledBackByInnerError,
  TransactionConflictError,
  TransactionEndedError,
  type TransactionError,
  TransactionRefusedError,
  TransactionTimeoutError
} from "./transaction/errors.ts"
export type { Handle } from "./transaction/explicit.ts"
export type { Entry, Operation } from "./transaction/history.ts"
export type { BeginOptions, Options, Propagation, RetryOptions } from "./transaction/options.ts"

// ---------------------------------------------------------------------------------------------------------------------
// Running
// ---------------------------------------------------------------------------------------------------------------------

const apply = <A, E, R>(
  work: Effect.Effect<A, E, R>,
  plan: Plan
): Effect.Effect<A, E | SqlError | TransactionError, R | SqlClient> =>
  Effect.withFiber((fiber): Effect.Effect<A, E | SqlError | TransactionError, R> => {
    const sql = Context.getUnsafe(fiber.context, SqlClient)
    const current = find(fiber.context, sql)
    switch (plan.propagation) {
      case "required":
        return current === undefined ? Outermost.run(work, sql, plan) : join(work, sql, plan, current)
      case "nested":
        return current === undefined ? Outermost.run(work, sql, plan) : nest(work, sql, plan, current)
      case "mandatory":
        return current === undefined ? refuse(plan, "NoTransaction") : join(work, sql, plan, current)
      case "supports":
        return current === undefined ? work : join(work, sql, plan, current)
      case "never":
        return current === undefined ? work : refuse(plan, "TransactionOpen")
      case "requiresNew":
        return current !== undefined && sql.driver === "pglite"
          ? refuse(plan, "SingleSession")
          : Outermost.run(work, sql, plan)
    }
  })

const refuse = (plan: Plan, reason: TransactionRefusedError["reason"]) =>
  Effect.fail(new TransactionRefusedError({ strategy: plan.name, reason }))

/**
 * Runs the work in a transaction, as the options say.
 *
 * Fails with the errors of the work, with `SqlError`, and with {@link TransactionError}. When tries are used up, the
 * error of the last one passes unchanged. An option out of range throws a `RangeError` that names it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const run: {
  <R2 = never>(
    options?: Options<R2>
  ): <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError | TransactionError, R | R2 | SqlClient>
  <A, E, R, R2 = never>(
    work: Effect.Effect<A, E, R>,
    options?: Options<R2>
  ): Effect.Effect<A, E | SqlError | TransactionError, R | R2 | SqlClient>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second] = args as [Effect.Effect<unknown>, Options<unknown> | undefined]
  if (Effect.isEffect(first)) return apply(first, compile(Demand.check, second)) as never
  const plan = compile(Demand.check, first as Options<unknown> | undefined)
  return ((work: Effect.Effect<unknown>) => apply(work, plan)) as never
}

/**
 * Options of {@link batch}.
 *
 * @category models
 * @since 0.1.0
 */
export interface BatchOptions<R = never> extends Options<R> {
  /** Statements in one transaction. Default: all of them. */
  readonly size?: number | undefined
}

/**
 * Runs statements one after the other and gives their results in order: all in one transaction, or `size` at a time in
 * one transaction after another. A failure rolls back its own transaction and stops; those before stand.
 *
 * @category combinators
 * @since 0.1.0
 */
export const batch = <Statement extends Effect.Effect<unknown, unknown, unknown>, R2 = never>(
  statements: Iterable<Statement>,
  options: BatchOptions<R2> = {}
): Effect.Effect<
  Array<Effect.Success<Statement>>,
  Effect.Error<Statement> | SqlError | TransactionError,
  Effect.Services<Statement> | R2 | SqlClient
> => {
  const size = options.size === undefined ? Infinity : integerAtLeast("size", 1, options.size)
  const plan = compile(Demand.check, options as Options<unknown>)
  return Effect.suspend(() => {
    const all = Array.from(statements)
    const parts: Array<Array<Statement>> = []
    for (let at = 0; at < all.length; at += size) parts.push(all.slice(at, at + size))
    return Effect.map(Effect.forEach(parts, (part) => apply(Effect.all(part), plan)), (results) => results.flat(1))
  }) as never
}

/**
 * Begins a transaction that is ended by hand, for control flow that a combinator cannot express. When the scope closes
 * before `commit`, it is rolled back.
 *
 * It is never tried again and cannot be begun inside another transaction of the same client ({@link
 * TransactionRefusedError}). Its time-out runs from the begin.
 *
 * @category constructors
 * @since 0.1.0
 */
export const begin = (
  options: BeginOptions = {}
): Effect.Effect<
  Explicit.Handle<SqlError | TransactionError>,
  SqlError | TransactionError,
  Scope.Scope | SqlClient
> => {
  const plan = compile(Demand.check, { ...options, retry: false })
  return Effect.flatMap(SqlClient, (sql) =>
    Effect.withFiber((fiber) =>
      find(fiber.context, sql) === undefined
        ? Explicit.begin(plan.name, (work) => Outermost.run(work, sql, plan))
        : refuse(plan, "TransactionOpen")
    ))
}

// ---------------------------------------------------------------------------------------------------------------------
// Hooks
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs the effect once, after the outermost transaction has been committed and its connection given back; at once when no
 * transaction is open. Not after a rollback of that transaction or of the savepoint that it was registered in, and not
 * while the outcome is unknown.
 *
 * Hooks run uninterruptibly, in the order in which they were registered, and the transaction's caller waits for them:
 * keep them short. They see the services of where they were registered, without the transaction. A hook that dies is
 * logged, and the others run. What must happen even if the process dies belongs in a table written in the transaction.
 *
 * @category hooks
 * @since 0.1.0
 */
export const afterCommit = <R>(effect: Effect.Effect<void, never, R>): Effect.Effect<void, never, R | SqlClient> =>
  hook("commit", effect)

/**
 * Runs the effect once, after the transaction has been rolled back for good: not for a try that is repeated. A hook
 * registered in a savepoint that was rolled back runs too, at the end of the outermost transaction. Outside a
 * transaction it never runs.
 *
 * @category hooks
 * @since 0.1.0
 */
export const afterRollback = <R>(effect: Effect.Effect<void, never, R>): Effect.Effect<void, never, R | SqlClient> =>
  hook("rollback", effect)

const hook = <R>(
  on: "commit" | "rollback",
  effect: Effect.Effect<void, never, R>
): Effect.Effect<void, never, R | SqlClient> =>
  Effect.flatMap(SqlClient, (sql) =>
    Effect.withFiber((fiber): Effect.Effect<void, never, R> => {
      const current = find(fiber.context, sql)
      if (current !== undefined && current !== "foreign") return addHook(current, on, effect)
      return on === "commit" ? sql.afterCommit(effect) : Effect.void
    }))

/**
 * Whether a transaction of the current `SqlClient` is open here.
 *
 * @category guards
 * @since 0.1.0
 */
export const isOpen: Effect.Effect<boolean, never, SqlClient> = Effect.flatMap(
  SqlClient,
  (sql) => Effect.withFiber((fiber) => Effect.succeed(find(fiber.context, sql) !== undefined))
)

// ---------------------------------------------------------------------------------------------------------------------
// Log
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The transactions that have ended, oldest first; empty without a layer of this module.
 *
 * @category log
 * @since 0.1.0
 */
export const history: Effect.Effect<ReadonlyArray<Entry>> = Effect.withFiber((fiber) =>
  Effect.succeed(fiber.getRef(CurrentShared).history?.read() ?? [])
)

/**
 * Forgets the transactions that have ended.
 *
 * @category log
 * @since 0.1.0
 */
export const clearHistory: Effect.Effect<void> = Effect.withFiber((fiber) =>
  Effect.sync(() => fiber.getRef(CurrentShared).history?.clear())
)

/**
 * Options of the layers.
 *
 * @category models
 * @since 0.1.0
 */
export interface LayerOptions {
  /** Transactions kept in the log; 0 keeps none. Default 100. */
  readonly history?: number | undefined
}

const defaultHistory = 100

/**
 * Defaults from the settings section `transaction`, the log, and the node `transactions` in the status tree with counters
 * `committed`, `rolledBack`, `unknown`, `repeated` and the latency of the operation `transaction`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, Settings.SettingsError | Status.DuplicateIdError, Status.Status> = Layer.effect(
  CurrentShared,
  Effect.flatMap(Settings.get(Settings.sections.transaction), (section) => Shared.make(section, defaultHistory))
).pipe(Layer.provide(Settings.layer))

/**
 * The same with settings given in code; what is left out has its default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: NonNullable<Settings.Values["transaction"]> & LayerOptions = {}
): Layer.Layer<never, Settings.SettingsError | Status.DuplicateIdError, Status.Status> => {
  const { history, ...transaction } = options
  return Layer.effect(
    CurrentShared,
    Effect.flatMap(Settings.make({ transaction }), (all) => Shared.make(all.transaction, history ?? defaultHistory))
  )
}
