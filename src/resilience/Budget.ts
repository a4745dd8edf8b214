/**
 * A bound on the extra load that retries and hedges may put on a dependency, shared by everybody who calls it.
 *
 * **When to use**
 *
 * Make one budget a dependency and give it to every `Retry` and `Hedge` around calls to it. Retries that help against
 * single failures would multiply the traffic of a dependency that fails as a whole; a budget keeps the extra calls to a
 * share of the normal ones.
 *
 * **Details**
 *
 * - In a sliding window, at most `ratio` x calls + `minPerSecond` x window retries and hedges are launched.
 * - A retry is set aside before its backoff, and counts while it sleeps, however long. An interrupted sleeper gives it back.
 * - A retry that the budget refuses ends with {@link RetryBudgetExhaustedError}: the original error, marked. An outer
 *   `Retry` sees the mark and does not repeat it. A hedge that is refused is simply not launched.
 *
 * **Gotchas**
 *
 * - The budget counts the calls that pass through the strategies it was given to, no others; a call that passes through
 *   several of them, once.
 * - The floor of a whole window may be used at once.
 *
 * The scheme and the defaults are those of Finagle's `RetryBudget` (20 %, 10 a second, 10 seconds).
 *
 * **Example** (One retry is allowed, the second is not)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Budget, Retry } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const budget = yield* Budget.make({ ratio: 0, minPerSecond: 0.1, window: "10 seconds" })
 *   const call = Effect.fail("down").pipe(Retry.retry({ schedule: Retry.fixed("1 millis"), times: 5, budget }))
 *   return yield* Effect.flip(call)
 * })
 *
 * const error = await Effect.runPromise(program)
 * console.log(error.message) // => 'budget "budget" allows no retry now: gave up after 2 attempts'
 * console.log(error.error) // => 'down'
 * ```
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Window from "./internal/budgetWindow.ts"
import { monotonicMillis } from "./internal/monotonic.ts"
import { between, positiveMillis } from "./internal/options.ts"
import { Class } from "./internal/stackless.ts"

/** Marks an error that would have been retried, had the budget allowed it. The original error is in `error`. */
export class RetryBudgetExhaustedError<out E> extends Class("RetryBudgetExhaustedError")<{
  /** Name of the budget, from its options. */
  readonly strategy: string
  /** The error of the last attempt, unchanged. */
  readonly error: E
  /** How many attempts were made. */
  readonly attempts: number
}> {
  override get message(): string {
    const attempts = this.attempts === 1 ? "1 attempt" : `${this.attempts} attempts`
    return `budget "${this.strategy}" allows no retry now: gave up after ${attempts}`
  }
}

/** What a budget allows. */
export interface Options {
  /** Name in `RetryBudgetExhaustedError.strategy`. Default `"budget"`. */
  readonly name?: string | undefined
  /** Retries and hedges as a share of calls, from 0 to 1000. Default 0.2. */
  readonly ratio?: number | undefined
  /** Retries and hedges a second that are allowed whatever the traffic. Default 10. */
  readonly minPerSecond?: number | undefined
  /** The time that shares are counted over: above zero, finite. Default 10 seconds. */
  readonly window?: Duration.Input | undefined
}

/** A shared budget, made by {@link make}. */
export interface Budget {
  readonly name: string
  /** The counters. For strategies; read them with {@link snapshot}. */
  readonly window: Window.BudgetWindow
}

/** The counters of a budget at one moment. */
export interface Snapshot {
  /** Calls in the window. */
  readonly calls: number
  /** Retries and hedges launched in the window. */
  readonly spent: number
  /** Retries set aside whose backoff is not over. */
  readonly waiting: number
  /** Whole retries or hedges that are allowed now. */
  readonly available: number
}

/**
 * Makes a budget. An option that is out of range is a defect: a `RangeError` that names it.
 */
export const make = (options?: Options): Effect.Effect<Budget> =>
  Effect.sync(() => {
    const windowMillis = positiveMillis("window", options?.window ?? "10 seconds")
    if (windowMillis === Infinity) throw new RangeError("window must be finite")
    const ratio = between("ratio", 0, 1000, options?.ratio ?? 0.2)
    const minPerSecond = between("minPerSecond", 0, 1_000_000, options?.minPerSecond ?? 10)
    return {
      name: options?.name ?? "budget",
      window: Window.make(windowMillis, ratio, minPerSecond * windowMillis / 1000)
    }
  })

/** Reads the counters. */
export const snapshot = (self: Budget): Effect.Effect<Snapshot> =>
  Effect.withFiber((fiber) => {
    const available = Window.available(self.window, monotonicMillis(fiber))
    return Effect.succeed({
      calls: self.window.totalCalls,
      spent: self.window.totalSpent,
      waiting: self.window.waiting,
      available: Math.max(0, Math.floor(available + 1e-9))
    })
  })
