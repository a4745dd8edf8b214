/**
 * What every strategy answers when it refuses a call: a tagged error without a stack.
 *
 * **When to use**
 *
 * Use `isRejection` where a refusal by a strategy (circuit open, bulkhead full, rate limit reached) must be told
 * apart from a failure of the dependency, and `Rejection.Class` to give your own strategy an error of the same kind.
 *
 * **Details**
 *
 * - A rejection can be yielded, matched with `Effect.catchTag`, and is an `instanceof Error`.
 * - Breakers ignore rejections and `Retry` does not repeat them unless asked.
 * - `message` names the strategy only. A key may be personal data, so it is a field and never part of the message.
 *
 * **Gotchas**
 *
 * - Rejecting has to be cheap when a dependency is down, so no stack is captured: the object is built on the error
 *   prototype without running the `Error` constructor, which costs 20 times more even with `stackTraceLimit = 0`.
 *
 * **Example** (A rejection of one's own)
 *
 * ```ts
 * import { Duration, Effect } from "effect"
 * import { Rejection } from "seaworthy"
 *
 * class QuotaError extends Rejection.Class("QuotaError")<{ readonly used: number }> {
 *   override get message() {
 *     return `quota "${this.strategy}" is used up`
 *   }
 * }
 *
 * const call = Effect.fail(new QuotaError({ strategy: "mail", retryAfter: Duration.seconds(5), used: 10 }))
 *
 * console.log(await Effect.runPromise(Effect.flip(call).pipe(Effect.map((e) => e.message)))) // => 'quota "mail" is used up'
 * console.log(await Effect.runPromise(Effect.flip(call).pipe(Effect.map(Rejection.isRejection)))) // => true
 * ```
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import { hasProperty } from "effect/Predicate"

/** Runtime mark of a rejection. */
export const TypeId = "~seaworthy/Rejection"

/** The fields that every rejection has. */
export interface Fields {
  /** Name of the strategy instance that refused the call, as given in its options. */
  readonly strategy: string
  /** Key of the state that refused it, where the strategy keeps one state per key. */
  readonly key?: string | undefined
  /** When trying again may help, where it is known. */
  readonly retryAfter?: Duration.Duration | undefined
}

/** A refusal by a strategy: the protected effect was not run. */
export interface Rejection<Tag extends string = string> extends Cause.YieldableError, Fields {
  readonly [TypeId]: typeof TypeId
  readonly _tag: Tag
}

/** Is this value a refusal by a strategy (and so not a failure of the dependency)? */
export const isRejection = (u: unknown): u is Rejection => hasProperty(u, TypeId)

const Base = function() {}

Base.prototype = Object.create(Data.Error.prototype, {
  [TypeId]: { value: TypeId },
  message: {
    configurable: true,
    get(this: Rejection): string {
      return `"${this.strategy}" refused the call`
    }
  },
  stack: {
    configurable: true,
    get(this: Rejection): string {
      return `${this.name}: ${this.message}`
    },
    // Some tools write to `stack`: give the instance a property of its own instead of throwing.
    set(this: Rejection, value: unknown) {
      Object.defineProperty(this, "stack", { value, writable: true, configurable: true })
    }
  },
  toJSON: {
    value(this: Rejection): unknown {
      const { _tag, message, retryAfter, ...fields } = this
      return {
        _tag,
        message,
        ...fields,
        ...(retryAfter === undefined ? undefined : { retryAfterMillis: Duration.toMillis(retryAfter) })
      }
    }
  },
  [Symbol.for("nodejs.util.inspect.custom")]: {
    value(this: Rejection): string {
      return `${this.name}: ${this.message}`
    }
  }
})

/**
 * Makes the class of a strategy's rejection, to be extended. Override the `message` getter; keep keys and values of
 * the caller out of it.
 */
export const Class = <Tag extends string>(
  tag: Tag
): new<A extends object = {}>(fields: Fields & Readonly<A>) => Rejection<Tag> & Readonly<A> => {
  // `Object.assign` would take longer than all the rest of a rejection.
  const Tagged = function(this: Record<string, unknown>, fields: Fields & Record<string, unknown>) {
    this.strategy = fields.strategy
    this.key = fields.key
    this.retryAfter = fields.retryAfter
    for (const name in fields) {
      if (name !== "strategy" && name !== "key" && name !== "retryAfter") this[name] = fields[name]
    }
  }
  Tagged.prototype = Object.create(Base.prototype, {
    _tag: { value: tag, enumerable: true },
    name: { value: tag }
  })
  return Tagged as unknown as new<A extends object = {}>(fields: Fields & Readonly<A>) => Rejection<Tag> & Readonly<A>
}
