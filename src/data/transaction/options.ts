// The options of a transaction, checked and decoded once.
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { SqlError } from "effect/sql/SqlError"
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
 * How often, and after what pauses, a transaction begins again: a random pause of at most `base` doubled each time, or
 * any `Schedule`. A pause that the time-out or the surrounding `Deadline` has no room for is not made: the error of the
 * last try passes at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryOptions<R = never> {
  /**
   * Most new tries after the first. Default: `transaction.retry_attempts`, 3; with a `schedule`, as many as the schedule
   * allows.
   */
  readonly times?: number | undefined
  /** When to begin again and when to stop, in place of `base` and `max`. Gets the error that ended the try. */
  readonly schedule?: Schedule.Schedule<unknown, SqlError, never, R> | undefined
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
  /** `false`, a number of new tries, a `Schedule`, or more in detail. Only the outermost transaction tries again. */
  readonly retry?: RetryOptions<R> | Schedule.Schedule<unknown, SqlError, never, R> | number | false | undefined
  /**
   * Settles a COMMIT whose answer was lost: succeeds with whether the transaction was committed. Failures are repeated
   * until `verifyTimeout`. `"server"` asks Postgres itself by the number of the transaction, which costs one more round
   * trip before each COMMIT and waits for a COMMIT that is still on its way. An effect of your own should look for
   * something that cannot be committed twice, such as a row by its key. Its "yes" is believed at once; its "no" only when
   * it was asked after the server had let go of the lost connection, since a COMMIT may arrive after the question. Where
   * that cannot be told (a pooler in between, another client than that of `Database`, the embedded database), a "no"
   * leaves the outcome unknown. It costs one round trip for each connection, not for each transaction. Only the outermost
   * transaction verifies.
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
  readonly schedule: Schedule.Schedule<unknown, SqlError, never, unknown> | undefined
  readonly verify: "server" | Effect.Effect<boolean, unknown, unknown> | undefined
  readonly verifyMillis: number
}

export const compile = (check: (demand: Demand.Demand) => void, options: Options<unknown> = {}): Plan => {
  check(options)
  const propagation = options.propagation ?? "required"
  if (!propagations.includes(propagation)) {
    throw new RangeError(`propagation must be one of ${propagations.join(", ")}, got ${String(propagation)}`)
  }
  const retry = retryOf(options.retry)
  if (retry.schedule !== undefined && (retry.base !== undefined || retry.max !== undefined)) {
    throw new RangeError("retry.base and retry.max must be left out with retry.schedule, which says the pauses itself")
  }
  const times = retry.times ?? (retry.schedule === undefined ? undefined : Infinity)
  const baseMillis = retry.base === undefined ? 50 : finiteMillis("retry.base", retry.base)
  return {
    name: options.name ?? "transaction",
    propagation,
    demand: options,
    timeoutMillis: options.timeout === undefined ? undefined : positiveMillis("timeout", options.timeout),
    retryTimes: times === undefined || times === Infinity ? times : integerAtLeast("retry.times", 0, times),
    deadlock: retry.deadlock,
    baseMillis,
    maxMillis: Math.max(baseMillis, retry.max === undefined ? 2_000 : finiteMillis("retry.max", retry.max)),
    schedule: retry.schedule,
    verify: options.verify,
    verifyMillis: options.verifyTimeout === undefined ? 5_000 : positiveMillis("verifyTimeout", options.verifyTimeout)
  }
}

const retryOf = (retry: Options<unknown>["retry"]): RetryOptions<unknown> => {
  if (retry === false) return { times: 0 }
  if (typeof retry === "number") return { times: retry }
  return Schedule.isSchedule(retry) ? { schedule: retry } : retry ?? {}
}
