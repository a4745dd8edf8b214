import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"

/**
 * A tagged error that captures no stack, for outcomes that are frequent when a dependency is in trouble. Unlike a
 * `Rejection` it does not say that the work was left undone, so breakers count it and `Retry` may repeat it.
 *
 * It is made on the error prototype without running the `Error` constructor: capturing a stack costs microseconds, and
 * the stack would only show this library.
 */
export interface StacklessError<Tag extends string> extends Cause.YieldableError {
  readonly _tag: Tag
}

/** Makes the class of a stackless tagged error, to be extended; override the `message` getter. */
export const Class = <Tag extends string>(
  tag: Tag
): new<A extends object = {}>(fields: Readonly<A>) => StacklessError<Tag> & Readonly<A> => {
  const Tagged = function(this: object, fields: object) {
    Object.assign(this, fields)
  }
  Tagged.prototype = Object.create(Data.Error.prototype, {
    _tag: { value: tag, enumerable: true },
    name: { value: tag },
    message: { configurable: true, value: tag },
    stack: {
      configurable: true,
      get(this: Error): string {
        return `${this.name}: ${this.message}`
      },
      // Some tools write to `stack`: give the instance a property of its own instead of throwing.
      set(this: Error, value: unknown) {
        Object.defineProperty(this, "stack", { value, writable: true, configurable: true })
      }
    },
    toJSON: {
      configurable: true,
      value(this: StacklessError<Tag>): unknown {
        return { _tag: tag, message: this.message }
      }
    },
    [Symbol.for("nodejs.util.inspect.custom")]: {
      value(this: Error): string {
        return `${this.name}: ${this.message}`
      }
    }
  })
  return Tagged as unknown as new<A extends object = {}>(fields: Readonly<A>) => StacklessError<Tag> & Readonly<A>
}
