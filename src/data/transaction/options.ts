// The options of a transaction, checked and decoded once.
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import { finiteMillis, integerAtLeast, positiveMillis } from "../../resilience/internal/options.ts"
import type * as Demand from "./demand.ts"
import type { Entry, History } from "./history.ts"

/**
 * How a transaction relates to one that is open already.
 *
 * - `required`: joins it, or begins one. Default.
 * - `requiresNew`: begins one of its own on another connection; refused at once when none is free.
 * - `nested`: a savepoint within it, or begins one.
 * - `mandatory`: joins it; refused when none is open.
 * - `never`: runs without one; refused when one is open.
 * - `supports`: joins it, or runs without one.
 *
 * @category models
 * @since 0.1.0
 */
export type Propagation = "required" | "requiresNew" | "nested" | "mandatory" | "never" | "supports"

const propagations: ReadonlyArray<string> = ["required", "requiresNew", "nested", "mandatory", "never", "supports"]

/**
 * How often, and after what pauses, a transaction begins again: a random pause of at most `base` doubled each time.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryOptions {
  /** Most new tries after the first. Default: `transaction.retry_attempts`, 3. */
  readonly times?: number | undefined
  /** Longest pause before the second try. Default 50 milliseconds. */
  readonly base?: Duration.Input | undefined
  /** Longest pause of all. Default 2 seconds. */
  readonly max?: Duration.Input | undefined
  /** Whether a deadlock is worth another try. Default: `transaction.deadlock_retry`, `true`. */
  readonly deadlock?: boolean | undefined
}

/**
 * What an explicit `begin` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface BeginOptions extends Demand.Demand {
  /** In errors and in the log. Default `"transaction"`. */
  readonly name?: string | undefined
  /**
   * Longest run: pauses, new tries and waiting for a connection included. A surrounding `Deadline` shortens it. Default:
   * `transaction.timeout`, 30 seconds.
   */
  readonly timeout?: Duration.Input | undefined
}

/**
 * What `run` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> extends BeginOptions {
  readonly propagation?: Propagation | undefined
  /** `false` or a number of new tries, or more in detail. Only the outermost transaction tries again. */
  readonly retry?: RetryOptions | number | false | undefined
  /**
   * Settles a COMMIT whose answer was lost: succeeds with whether the transaction was committed. Failures are repeated
   * until `verifyTimeout`. `"server"` asks Postgres itself by the number of the transaction, which costs one more round
   * trip before each COMMIT and waits for a COMMIT that is still on its way. An effect of your own should look for
   * something that cannot be committed twice, such as a row by its key: a COMMIT may reach the server after the question.
   * Only the outermost transaction verifies.
   */
  readonly verify?: "server" | Effect.Effect<boolean, unknown, R> | undefined
  /** How long to try to settle. Default 5 seconds. */
  readonly verifyTimeout?: Duration.Input | undefined
}

/** What transactions have in common where a layer of `Transaction` is provided. */
export interface Shared {
  readonly isolation: Demand.Isolation
  readonly timeoutMillis: number
  readonly retryTimes: number
  readonly deadlockRetry: boolean
  readonly history: History | undefined
  /** Told of each transaction that has ended. */
  readonly onEnd: (entry: Omit<Entry, "id">) => void
}

/** The defaults of the settings section `transaction`, without history. */
export const CurrentShared: Context.Reference<Shared> = Context.Reference<Shared>("seaworthy/Transactions", {
  defaultValue: () => ({
    isolation: "REPEATABLE_READ",
    timeoutMillis: 30_000,
    retryTimes: 3,
    deadlockRetry: true,
    history: undefined,
    onEnd: () => {}
  })
})

export interface Plan {
  readonly name: string
  readonly propagation: Propagation
  readonly demand: Demand.Demand
  readonly timeoutMillis: number | undefined
  readonly retryTimes: number | undefined
  readonly deadlock: boolean | undefined
  readonly baseMillis: number
  readonly maxMillis: number
  readonly verify: "server" | Effect.Effect<boolean, unknown, unknown> | undefined
  readonly verifyMillis: number
}

export const compile = (check: (demand: Demand.Demand) => void, options: Options<unknown> = {}): Plan => {
  check(options)
  const propagation = options.propagation ?? "required"
  if (!propagations.includes(propagation)) {
    throw new RangeError(`propagation must be one of ${propagations.join(", ")}, got ${String(propagation)}`)
  }
  const retry: RetryOptions = options.retry === false
    ? { times: 0 }
    : typeof options.retry === "number"
    ? { times: options.retry }
    : options.retry ?? {}
  const baseMillis = finiteMillis("retry.base", retry.base ?? 50)
  return {
    name: options.name ?? "transaction",
    propagation,
    demand: options,
    timeoutMillis: options.timeout === undefined ? undefined : positiveMillis("timeout", options.timeout),
    retryTimes: retry.times === undefined ? undefined : integerAtLeast("retry.times", 0, retry.times),
    deadlock: retry.deadlock,
    baseMillis,
    maxMillis: Math.max(baseMillis, finiteMillis("retry.max", retry.max ?? 2_000)),
    verify: options.verify,
    verifyMillis: positiveMillis("verifyTimeout", options.verifyTimeout ?? 5_000)
  }
}
