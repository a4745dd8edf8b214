import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as References from "effect/References"

/** Reports a failure that has no caller to receive it, at `References.UnhandledLogLevel`, as Effect's own modules do. */
export const reportUnhandled = (message: string, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const level = fiber.getRef(References.UnhandledLogLevel)
    return level === undefined ? Effect.void : Effect.logWithLevel(level)(message, cause)
  })
