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
  /**
   * Runs work in the transaction. A failure of the work leaves the transaction open, though Postgres refuses further
   * statements once one has failed. Fails with `TransactionEndedError` when the transaction ends meanwhile.
   */
  readonly run: <A, E1, R>(work: Effect.Effect<A, E1, R>) => Effect.Effect<A, E1 | TransactionEndedError, R>
  /** Commits. Fails with what the transaction ended with, if it did not stand. */
  readonly commit: Effect.Effect<void, E | TransactionEndedError>
  /** Rolls back. Nothing to do when it has ended already. */
  readonly rollback: Effect.Effect<void>
}

/** How the work of a transaction that shall not stand fails. */
class RollBack {
  readonly _tag = "RollBack"
}

type Transact<E> = (work: Effect.Effect<void, RollBack>) => Effect.Effect<void, E | RollBack>

/** The services that one context has and another has not: those of the transaction. */
const difference = (inside: Context.Context<never>, outside: Context.Context<never>): ReadonlyMap<string, unknown> => {
  const added = new Map<string, unknown>()
  for (const [key, value] of inside.mapUnsafe) {
    if (!outside.mapUnsafe.has(key) || outside.mapUnsafe.get(key) !== value) added.set(key, value)
  }
  return added
}

export const begin = <E>(name: string, transact: Transact<E>): Effect.Effect<Handle<E>, E, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const outside = yield* Effect.context<never>()
      const opened = Deferred.makeUnsafe<ReadonlyMap<string, unknown>, E>()
      const word = Deferred.makeUnsafe<void, RollBack>()
      const ended = Effect.fail(new TransactionEndedError({ transaction: name }))
      let decided = false

      const work = Effect.flatMap(
        Effect.context<never>(),
        (inside) => Effect.andThen(Deferred.succeed(opened, difference(inside, outside)), Deferred.await(word))
      )
      const fiber = yield* Effect.forkDetach(transact(work), { startImmediately: true })
      fiber.addObserver((exit) => {
        // Too late to matter, unless it never got as far as being open.
        if (Exit.isFailure(exit)) Deferred.doneUnsafe(opened, exit as Exit.Exit<never, E>)
      })
      const isOver = () => decided || fiber.pollUnsafe() !== undefined
      /** Says the word, if nobody has. */
      const decide = (how: Exit.Exit<void, RollBack>): boolean => {
        if (isOver()) return false
        decided = true
        return Deferred.doneUnsafe(word, how)
      }
      const undo = Effect.uninterruptible(Effect.suspend(() => {
        decide(Exit.fail(new RollBack()))
        return Effect.asVoid(Fiber.await(fiber))
      }))
      yield* Scope.addFinalizer(scope, undo)
      const services = yield* Effect.onInterrupt(restore(Deferred.await(opened)), () => Fiber.interrupt(fiber))

      return {
        run: (effect) =>
          Effect.suspend(() =>
            isOver() ? ended : Effect.raceFirst(
              Effect.updateContext(effect, (context: Context.Context<never>) =>
                Context.makeUnsafe(new Map([...context.mapUnsafe, ...services]))),
              Effect.andThen(Fiber.await(fiber), ended)
            )
          ),
        commit: Effect.uninterruptible(Effect.suspend((): Effect.Effect<void, E | TransactionEndedError> => {
          if (!decide(Exit.void) && decided) {
            return ended
          }
          return Effect.catchIf(Fiber.join(fiber), (error) =>
            error instanceof RollBack, () => ended)
        })),
        rollback: undo
      }
    })
  )
