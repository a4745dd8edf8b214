// Who hears of statements that have ended. With nobody to hear, a statement pays one look at an empty list.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"

/** One statement that has ended. */
export interface Statement {
  readonly sql: string
  /** May hold secrets: not to be kept, logged or shown. */
  readonly params: ReadonlyArray<unknown>
  /** Milliseconds; without waiting for a connection. */
  readonly duration: number
  /** Interrupted ones included. The value is that of the driver: for most statements its rows. */
  readonly exit: Exit.Exit<unknown, SqlError>
  /** Of the caller: for its context. */
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

/** Called in the caller's step: it must be quick and must not throw. Streams are not told. */
export type Observer = (statement: Statement) => void

export class Observers {
  readonly all: Array<Observer> = []

  /** Hears until the scope closes. */
  readonly add = (observer: Observer): Effect.Effect<void, never, Scope.Scope> =>
    Effect.acquireRelease(
      Effect.sync(() => {
        this.all.push(observer)
      }),
      () =>
        Effect.sync(() => {
          this.all.splice(this.all.indexOf(observer), 1)
        })
    )

  tell(statement: Statement): void {
    if (statement.fiber.getRef(Unobserved)) return
    for (const observer of this.all) observer(statement)
  }
}

/** Set around statements that observers make themselves. */
export const Unobserved: Context.Reference<boolean> = Context.Reference<boolean>("seaworthy/Database/Unobserved", {
  defaultValue: () => false
})
