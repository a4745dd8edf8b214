// What the parts of a pool hand to each other.
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { PoolExhaustedError } from "../database/errors.ts"
import type { Entry as ShelfEntry, Waiter as ShelfWaiter } from "./shelf.ts"

/** What a kind of connection can do; nothing that it needs is left open. */
export interface Kind<C, E> {
  readonly acquire: Effect.Effect<C, E, Scope.Scope>
  readonly validate: ((connection: C) => Effect.Effect<unknown, unknown>) | undefined
  readonly reset: (connection: C) => Effect.Effect<unknown, unknown> | undefined
  readonly isBroken: (cause: Cause.Cause<unknown>, connection: C) => boolean
}

export interface Entry<C> extends ShelfEntry<C> {
  /** Monotonic milliseconds. */
  readonly openedAt: number
  readonly scope: Scope.Closeable
}

export interface Waiter<C, E> extends ShelfWaiter<Entry<C>> {
  outcome: Effect.Effect<void, E | PoolExhaustedError> | undefined
  /** Set when it has begun to listen. */
  wake: ((outcome: Effect.Effect<void, E | PoolExhaustedError>) => void) | undefined
}

/** It may not have begun to listen. */
export const settle = <C, E>(waiter: Waiter<C, E>, outcome: Effect.Effect<void, E | PoolExhaustedError>): void => {
  waiter.outcome = outcome
  waiter.wake?.(outcome)
}
