// The transaction that a fiber is in, carried in its context, and the hooks that wait for its end.
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { reportUnhandled } from "../../resilience/internal/unhandled.ts"
import type { Traits } from "./demand.ts"

/** The outermost level, or a savepoint. */
export interface Level {
  readonly parent: Level | undefined
  undone: boolean
}

interface Hook {
  readonly on: "commit" | "rollback"
  readonly level: Level
  readonly effect: Effect.Effect<void>
}

/** One try of one transaction. */
export interface Open {
  readonly client: SqlClient["transactionService"]
  readonly name: string
  /** `undefined` when somebody else began it: then the server has to be asked. */
  readonly traits: Traits | undefined
  readonly hooks: Array<Hook>
  /** Name of a part that had joined it and failed. */
  failedPart: string | undefined
  ended: boolean
}

export interface Current {
  readonly open: Open
  readonly level: Level
  /** Of another client, or one that a `requiresNew` has set aside. */
  readonly outer: Current | undefined
}

export const CurrentTransaction: Context.Reference<Current | undefined> = Context.Reference<Current | undefined>(
  "seaworthy/Transaction",
  { defaultValue: () => undefined }
)

export const makeOpen = (client: Open["client"], name: string, traits: Traits | undefined): Open => ({
  client,
  name,
  traits,
  hooks: [],
  failedPart: undefined,
  ended: false
})

/**
 * What the context says of this client: `undefined` outside, and `foreign` in a transaction that was not begun here
 * (with `sql.withTransaction`, say).
 */
export const find = (context: Context.Context<never>, sql: SqlClient): Current | "foreign" | undefined => {
  if (Context.getOrUndefined(context, sql.transactionService) === undefined) return undefined
  let current: Current | undefined = Context.get(context as Context.Context<never>, CurrentTransaction)
  while (current !== undefined && (current.open.client.key !== sql.transactionService.key || current.open.ended)) {
    current = current.outer
  }
  return current ?? "foreign"
}

const isUndone = (level: Level): boolean => level.undone || level.parent !== undefined && isUndone(level.parent)

/** Keeps a hook with the services that are there now, the transaction left out. */
export const addHook = <R>(
  current: Current,
  on: Hook["on"],
  effect: Effect.Effect<void, never, R>
): Effect.Effect<void, never, R> =>
  Effect.withFiber((fiber) => {
    if (current.open.ended) {
      return Effect.die(new Error(`transaction "${current.open.name}" has ended: no hook can wait`))
    }
    const context = outside(fiber.context, current.open.client) as Context.Context<R>
    current.open.hooks.push({ on, level: current.level, effect: Effect.provideContext(effect, context) })
    return Effect.void
  })

/** A context without the transaction of this client. */
export const outside = (context: Context.Context<never>, client: Open["client"]): Context.Context<never> =>
  Context.omit(client)(context) as Context.Context<never>

/** Runs the hooks that the outcome calls for, in the order in which they were registered. One that dies is reported. */
export const runHooks = (open: Open, outcome: "committed" | "rolledBack"): Effect.Effect<void> => {
  if (open.hooks.length === 0) return Effect.void
  const due = open.hooks.splice(0).filter(({ level, on }) =>
    on === (outcome === "committed" && !isUndone(level) ? "commit" : "rollback")
  )
  return due.length === 0 ? Effect.void : Effect.forEach(
    due,
    ({ effect }) => Effect.catchCause(effect, (cause) => reportUnhandled("a hook of a transaction failed", cause)),
    { discard: true }
  )
}
