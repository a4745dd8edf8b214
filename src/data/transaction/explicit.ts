// A transaction that is begun and ended by hand. It is an ordinary one whose work waits for the word: a parked fiber holds
// it open, and what runs in it runs with the services that the parked fiber got.
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TransactionEndedError } from "./errors.ts"

/**
 * An open transaction, made by `begin`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handle<E> {
  /** Runs work in the transaction. A failure leaves the transaction open; Postgres refuses more after a failed statement. */
  readonly run: <A, E1, R>(work: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | TransactionEndedError, R>
  /** Commits. Fails with what the transaction ended with, if it did not stand. */
  readonly commit: Effect.Effect<void, E | TransactionEndedError>
  /** Rolls back. Nothing to do when it has ended already. */
  readonly rollback: Effect.Effect<void>
}

const rollback = Symbol("rollback")

type Begun<E> = <R>(work: Effect.Effect<void, typeof rollback, R>) => Effect.Effect<void, E | typeof rollback, R>

/** The services that a fiber has and another has not: those of the transaction. */
const difference = (inside: Context.Context<never>, outside: Context.Context<never>): ReadonlyMap<string, unknown> => {
  const added = new Map<string, unknown>()
  for (const [key, value] of inside.mapUnsafe) {
    if (!outside.mapUnsafe.has(key) || outside.mapUnsafe.get(key) !== value) added.set(key, value)
  }
  return added
}

export const begin = <E, R>(name: string, transact: Begun<E>): Effect.Effect<Handle<E>, E, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const outside = yield* Effect.context<never>()
      const opened = Deferred.makeUnsafe<ReadonlyMap<string, unknown>, E>()
      const word = Deferred.makeUnsafe<void, typeof rollback>()
      let decided = false

      const work = Effect.flatMap(Effect.context<never>(), (inside) =>
        Effect.andThen(Deferred.succeed(opened, difference(inside, outside)), Deferred.await(word)))
      const fiber = yield* Effect.forkDetach(
        Effect.onExit(transact(work), (exit) =>
          Exit.isFailure(exit)
            ? Deferred.failCause(opened, exit.cause as Exit.Failure<never, E>["cause"])
            : Effect.void),
        { startImmediately: true }
      )
      const ended = new TransactionEndedError({ transaction: name })

      const decide = (how: Effect.Effect<void, typeof rollback>) =>
        Effect.suspend(() => {
          if (decided || fiber.pollUnsafe() !== undefined) return Effect.succeed(false)
          decided = true
          return Effect.as(Deferred.done(word, Effect.runSyncExit(how)), true)
        })
      const undo = Effect.uninterruptible(
        Effect.andThen(decide(Effect.fail(rollback)), Effect.asVoid(Fiber.await(fiber)))
      )
      yield* Scope.addFinalizer(scope, undo)
      const services = yield* Effect.onInterrupt(restore(Deferred.await(opened)), () => Fiber.interrupt(fiber))

      return {
        run: (effect) =>
          Effect.suspend(() =>
            decided || fiber.pollUnsafe() !== undefined ? Effect.fail(ended) : Effect.raceFirst(
              Effect.updateContext(effect, (context: Context.Context<never>) =>
                Context.makeUnsafe(new Map([...context.mapUnsafe, ...services]))),
              Effect.andThen(Fiber.await(fiber), Effect.fail(ended))
            )
          ),
        commit: Effect.uninterruptible(Effect.flatMap(decide(Effect.void), (mine) =>
          mine || !decided
            ? Effect.catchIf(Fiber.join(fiber), (error) => error === rollback, () => Effect.fail(ended))
            : Effect.fail(ended))) as Effect.Effect<void, E | TransactionEndedError>,
        rollback: undo
      }
    })
  )
