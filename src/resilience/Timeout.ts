/**
 * A limit on how long an effect may take.
 *
 * **When to use**
 *
 * Use `timeout` around every call that leaves the process. For the time that a whole request may take, whatever it
 * tries, use `Deadline`.
 *
 * **Details**
 *
 * - The work is interrupted, and the caller goes on only when it has ended: its finalizers have run, and permits and
 *   connections it held are free. Work that never gives up (an uninterruptible region) is waited for.
 * - With `grace`, the work is first told through {@link signal} (or {@link expired}) that its time is up; what it then
 *   answers within the grace period is the outcome. After that it is interrupted.
 * - `onTimeout` replaces the outcome and removes `TimeoutError` from the type.
 * - Time-outs nest: the shorter wins, and `TimeoutError.strategy` and `duration` say which. Under a `Deadline` with less
 *   time left, the limit is what is left, and `deadline` is true.
 * - Work that ends without waiting never gets a timer. No timer and no fiber is left after the call.
 *
 * **Gotchas**
 *
 * - The work runs in a fiber of its own, as with `Effect.timeout`: children that it forks end with it.
 * - A success that comes after the limit (from an uninterruptible region) is not returned. A defect is.
 * - Code that blocks the thread cannot be interrupted.
 *
 * Built on fibers rather than on `Effect.timeout`, which always starts two fibers and a timer, does not name the limit,
 * and has neither grace nor nesting.
 *
 * **Example** (The shorter limit wins and is named)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Timeout } from "seaworthy"
 *
 * const slow = Effect.never.pipe(
 *   Timeout.timeout({ duration: "10 millis", name: "call" }),
 *   Timeout.timeout({ duration: "1 minute", name: "request" })
 * )
 *
 * const error = await Effect.runPromise(Effect.flip(slow))
 * console.log(error.message) // => 'time-out "call": no answer within 10ms'
 * console.log(await Effect.runPromise(Timeout.timeout(Effect.succeed("quick"), "1 second"))) // => 'quick'
 * ```
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { remainingMillis } from "./internal/deadline.ts"
import { type Grace, startLimited } from "./internal/limit.ts"
import { positiveMillis } from "./internal/options.ts"
import { Class } from "./internal/stackless.ts"

/**
 * The work took longer than it was given.
 *
 * A failure of the dependency: breakers count it and `Retry` may repeat it.
 */
export class TimeoutError extends Class("TimeoutError")<{
  /** Name of the time-out that ran out, from its options. */
  readonly strategy: string
  /** How long the work was given. */
  readonly duration: Duration.Duration
  /** True when a surrounding `Deadline` left less time than the time-out's own duration. */
  readonly deadline: boolean
}> {
  override get message(): string {
    return `time-out "${this.strategy}": no answer within ${Duration.format(this.duration)}` +
      (this.deadline ? " (all that the deadline left)" : "")
  }
}

/** How long the work may take, and what happens then. */
export interface Options {
  /** How long the work may take: above zero. `Infinity` leaves only a surrounding `Deadline`. */
  readonly duration: Duration.Input
  /** Name in `TimeoutError.strategy`. Default `"timeout"`. */
  readonly name?: string | undefined
  /** How long the work may go on after the signal before it is interrupted. Default: interrupted at once, no signal. */
  readonly grace?: Duration.Input | undefined
}

/** Options with an effect that replaces the outcome of work that took too long. It runs when the work has ended. */
export interface HandlerOptions<B, E, R> extends Options {
  readonly onTimeout: (error: TimeoutError) => Effect.Effect<B, E, R>
}

const neverAborted = new AbortController().signal

const CurrentSignal = Context.Reference<AbortSignal>("seaworthy/Timeout/Signal", { defaultValue: () => neverAborted })

/**
 * Inside work with `grace`: the signal that is aborted when the time is up, to hand to `fetch` and the like, or to poll.
 * It is aborted too when a surrounding time-out with `grace` runs out. Elsewhere it is never aborted.
 */
export const signal: Effect.Effect<AbortSignal> = Effect.withFiber((fiber) =>
  Effect.succeed(fiber.getRef(CurrentSignal))
)

/** Inside work with `grace`: waits until the time is up. Elsewhere it waits for ever. */
export const expired: Effect.Effect<void> = Effect.flatMap(
  signal,
  (signal) =>
    signal === neverAborted ? Effect.never : Effect.callback<void>((resume) => {
      if (signal.aborted) return resume(Effect.void)
      const onAbort = () => resume(Effect.void)
      signal.addEventListener("abort", onAbort, { once: true })
      return Effect.sync(() => signal.removeEventListener("abort", onAbort))
    })
)

interface Plan {
  readonly millis: number
  readonly name: string
  readonly graceMillis: number | undefined
  readonly onTimeout: (error: TimeoutError) => Effect.Effect<unknown, unknown, unknown>
}

const isOptions = (input: Duration.Input | Options): input is Options =>
  typeof input === "object" && "duration" in input

const compile = (input: Duration.Input | Options | HandlerOptions<unknown, unknown, unknown>): Plan => {
  if (!isOptions(input)) {
    return {
      millis: positiveMillis("duration", input),
      name: "timeout",
      graceMillis: undefined,
      onTimeout: Effect.fail
    }
  }
  return {
    millis: positiveMillis("duration", input.duration),
    name: input.name ?? "timeout",
    graceMillis: input.grace === undefined ? undefined : positiveMillis("grace", input.grace),
    onTimeout: "onTimeout" in input && input.onTimeout !== undefined ? input.onTimeout : Effect.fail
  }
}

interface Warning extends Grace {
  readonly signal: AbortSignal
  readonly unlink: () => void
}

// Aborted by its own time-out and, through the listener, by a surrounding one.
const makeWarning = (outer: AbortSignal, millis: number): Warning => {
  const controller = new AbortController()
  const warn = () => controller.abort()
  if (outer.aborted) warn()
  else if (outer !== neverAborted) outer.addEventListener("abort", warn, { once: true })
  return { signal: controller.signal, warn, millis, unlink: () => outer.removeEventListener("abort", warn) }
}

const apply = <A, E, R>(self: Effect.Effect<A, E, R>, plan: Plan): Effect.Effect<unknown, unknown, unknown> =>
  Effect.callback<unknown, unknown, unknown>((resume) => {
    const caller = Fiber.getCurrent()!
    const context = caller.context as Context.Context<R>
    const left = remainingMillis(caller)
    const deadline = left < plan.millis
    const millis = deadline ? left : plan.millis
    // Suspended: it is asked for where no fiber runs, and a handler that throws has to end in the caller.
    const orElse = () =>
      Effect.suspend(() =>
        plan.onTimeout(
          new TimeoutError({ strategy: plan.name, duration: Duration.millis(millis < 0 ? 0 : millis), deadline })
        )
      )
    if (millis <= 0) return resume(orElse())
    if (plan.graceMillis === undefined) return startLimited(caller, resume, self, context, millis, orElse)
    const warning = makeWarning(caller.getRef(CurrentSignal), plan.graceMillis)
    const work = Effect.ensuring(self, Effect.sync(warning.unlink))
    const warned = Context.add(context, CurrentSignal, warning.signal)
    return startLimited(caller, resume, work, warned, millis, orElse, warning)
  })

/**
 * Gives the work a limited time, then interrupts it and fails with {@link TimeoutError}, or runs `onTimeout`.
 *
 * Takes a duration or {@link Options}. A duration that is not above zero throws a `RangeError` that names the option.
 */
export const timeout: {
  <B, E2, R2>(
    options: HandlerOptions<B, E2, R2>
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A | B, E | E2, R | R2>
  (
    options: Duration.Input | Options
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | TimeoutError, R>
  <A, E, R, B, E2, R2>(
    self: Effect.Effect<A, E, R>,
    options: HandlerOptions<B, E2, R2>
  ): Effect.Effect<A | B, E | E2, R | R2>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    options: Duration.Input | Options
  ): Effect.Effect<A, E | TimeoutError, R>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second] = args as [Effect.Effect<unknown>, Options]
  if (Effect.isEffect(first)) return apply(first, compile(second)) as never
  const plan = compile(first)
  return ((self: Effect.Effect<unknown>) => apply(self, plan)) as never
}
