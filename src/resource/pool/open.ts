// Opens a pool: checks its options, gives what it calls the services that they need, and ends it with the scope.
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { makeOperation } from "../../observability/internal/statusNode.ts"
import type { OperationSnapshot } from "../../observability/Status.ts"
import { type Gauges, Lending } from "./lending.ts"
import { decode, type Limits, type Options } from "./options.ts"
import type { Kind } from "./parts.ts"

export interface Opened<C, E> {
  readonly limits: Limits
  readonly lending: Lending<C, E>
  readonly stats: () => Gauges & { readonly acquire: OperationSnapshot; readonly leaks: number }
}

const isBrokenByDefault = (cause: Cause.Cause<unknown>): boolean => Cause.hasInterrupts(cause) || Cause.hasDies(cause)

/** @param record hears how each acquisition went and how many milliseconds it took. */
export const open = <C, E, R, R2 = never>(
  options: Options<C, E, R, R2>,
  record: (success: boolean, millis: number) => void
): Effect.Effect<Opened<C, E>, never, Exclude<R, Scope.Scope> | R2 | Scope.Scope> =>
  Effect.gen(function*() {
    const { acquire, isBroken, reset, validate } = options
    const limits = yield* Effect.sync(() => decode(options))
    const context = yield* Effect.context<Exclude<R, Scope.Scope> | R2>()
    const inContext = <A, E2>(effect: Effect.Effect<A, E2, R2>): Effect.Effect<A, E2> =>
      Effect.provideContext(effect, context as Context.Context<R2>)
    const kind: Kind<C, E> = {
      // The scope of the connection wins over the one that the pool was made in.
      acquire: Effect.updateContext(
        acquire,
        (own: Context.Context<Scope.Scope>) => Context.merge(context, own) as Context.Context<R>
      ),
      validate: validate === undefined ? undefined : (connection) => inContext(validate(connection)),
      reset: (connection) => {
        const effect = reset?.(connection)
        return effect === undefined ? undefined : inContext(effect)
      },
      isBroken: isBroken ?? isBrokenByDefault
    }
    const acquiring = makeOperation()
    const lending = yield* Effect.acquireRelease(
      Effect.sync(() =>
        new Lending(limits, kind, context as Context.Context<never>, (success, millis) => {
          acquiring.record(success, millis)
          record(success, millis)
        })
      ),
      (lending) => lending.close
    )
    return { limits, lending, stats: () => ({ ...lending.gauges(), acquire: acquiring.read(), leaks: lending.leaks }) }
  })
