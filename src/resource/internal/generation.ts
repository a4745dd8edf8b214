// One life of a resource's connection: from connect to release. A restart begins the next one. Borrowers are counted so
// that a release waits for the work that is using it.
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { bounded } from "./bounded.ts"

export interface Generation<Connection> {
  readonly connection: Connection
  readonly scope: Scope.Closeable
  borrowers: number
  idle: Deferred.Deferred<void> | undefined
}

export const make = <Connection>(connection: Connection, scope: Scope.Closeable): Generation<Connection> => ({
  connection,
  scope,
  borrowers: 0,
  idle: undefined
})

/** Runs `f` with the living connection and counts it as in use, whatever way `f` ends; `absent` when there is none. */
export const borrow = <Connection, A, E, R, E2, R2>(
  current: () => Generation<Connection> | undefined,
  f: (connection: Connection) => Effect.Effect<A, E, R>,
  absent: Effect.Effect<A, E2, R2>
): Effect.Effect<A, E | E2, R | R2> =>
  // The count is a reservation: outside the mask an interruption between the two steps would leak it. Looking and
  // counting are one step: between two, the connection could be released.
  Effect.uninterruptibleMask((restore): Effect.Effect<A, E | E2, R | R2> => {
    const self = current()
    if (self === undefined) return restore(absent)
    self.borrowers++
    return Effect.onExitPrimitive(restore(Effect.suspend(() => f(self.connection))), () => {
      giveBack(self)
      return undefined
    }, true)
  })

/** Counts the living connection as in use until the scope closes; `absent` when there is none. */
export const lease = <Connection, E, R>(
  current: () => Generation<Connection> | undefined,
  absent: Effect.Effect<Connection, E, R>
): Effect.Effect<Connection, E, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.scope, (scope): Effect.Effect<Connection, E, R> => {
      const self = current()
      if (self === undefined) return restore(absent)
      self.borrowers++
      return Effect.as(Scope.addFinalizer(scope, Effect.sync(() => giveBack(self))), self.connection)
    })
  )

const giveBack = <Connection>(self: Generation<Connection>): void => {
  self.borrowers--
  if (self.borrowers === 0 && self.idle !== undefined) Deferred.doneUnsafe(self.idle, Exit.void)
}

export type Released = "clean" | "hung" | "failed"

/** Waits for borrowers (at most `drain`), then closes the scope (at most `budget`); says how it went. */
export const release = <Connection>(
  self: Generation<Connection>,
  options: { readonly drain: Duration.Input; readonly budget: Duration.Input }
): Effect.Effect<{ readonly outcome: Released; readonly cut: number; readonly cause: unknown }> =>
  Effect.gen(function*() {
    if (self.borrowers > 0) {
      self.idle = Deferred.makeUnsafe<void>()
      yield* bounded(Deferred.await(self.idle), options.drain)
    }
    const cut = self.borrowers
    const closed = yield* bounded(Effect.exit(Scope.close(self.scope, Exit.void)), options.budget)
    if (Option.isNone(closed)) return { outcome: "hung", cut, cause: undefined }
    return Exit.isSuccess(closed.value)
      ? { outcome: "clean", cut, cause: undefined }
      : { outcome: "failed", cut, cause: closed.value.cause }
  })
