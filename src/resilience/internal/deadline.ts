import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import { monotonicMillis } from "./monotonic.ts"

/** The deadline that a fiber works under. */
export interface State {
  /** Name given to `Deadline.within`. */
  readonly strategy: string
  /** When it passes, in monotonic milliseconds. */
  readonly at: number
  /** How much time it gave, in milliseconds. */
  readonly millis: number
}

export const CurrentDeadline: Context.Reference<State | undefined> = Context.Reference<State | undefined>(
  "seaworthy/Deadline",
  { defaultValue: () => undefined }
)

/** What is left in milliseconds: `Infinity` without a deadline, 0 or less once it has passed. */
export const remainingMillis = (fiber: Fiber.Fiber<unknown, unknown>): number => {
  const deadline = fiber.getRef(CurrentDeadline)
  return deadline === undefined ? Infinity : deadline.at - monotonicMillis(fiber)
}
