import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { Operation } from "../../observability/Status.ts"
import { monotonicMillis } from "../internal/monotonic.ts"
import * as Outcome from "../Outcome.ts"

/** What a policy has done since it was made. An interrupted call is neither a success nor a failure. */
export interface Counts {
  readonly successes: number
  readonly failures: number
  /** Attempts after the first of a call. */
  readonly retries: number
  /** Attempts that were cut off. */
  readonly timeouts: number
  /** Answers by a fallback. They are successes too. */
  readonly fallbacks: number
}

/** Counts, and the operation in the status tree that gets how long calls took, where there is one. */
export class Stats implements Counts {
  successes = 0
  failures = 0
  retries = 0
  timeouts = 0
  fallbacks = 0
  operation: Operation | undefined

  get counts(): Counts {
    const { failures, fallbacks, retries, successes, timeouts } = this
    return { successes, failures, retries, timeouts, fallbacks }
  }

  /** When a call begins: 0 where nobody asks how long it takes. */
  begin(fiber: Fiber.Fiber<unknown, unknown>): number {
    return this.operation === undefined ? 0 : monotonicMillis(fiber)
  }

  end(exit: Exit.Exit<unknown, unknown>, begun: number, fiber: Fiber.Fiber<unknown, unknown>): undefined {
    const success = exit._tag === "Success"
    if (success) this.successes++
    else if (Outcome.isInterruption(exit)) return
    else this.failures++
    if (this.operation !== undefined) this.operation.record(success, monotonicMillis(fiber) - begun)
  }
}
