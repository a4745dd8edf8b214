/**
 * One point in time that everything inside has to be done by, carried in the fiber's context.
 *
 * **When to use**
 *
 * Use `within` once where a request enters. Below it, time-outs, backoffs, queue waits, limiter waits and hedges take no
 * longer than what is left, and refuse at once what could not finish. Use `Timeout` for the time of one call.
 *
 * **Details**
 *
 * - The nearer of two nested deadlines holds; an inner one cannot extend an outer one.
 * - When it passes, the work is interrupted, its end awaited, and the effect fails with {@link DeadlineExceededError}.
 * - Forked fibers inherit the deadline. {@link without} lifts it for work that shall outlive the request.
 *
 * **Gotchas**
 *
 * - `DeadlineExceededError` is a rejection: that the caller's time ran out says nothing about the dependency. Breakers do
 *   not count it and `Retry` does not repeat it. To have slow calls counted, put a `Timeout` around each.
 * - The time is the clock's monotonic time and cannot be handed to another process as it is: send {@link remaining}.
 *
 * After gRPC's deadline propagation and Go's `context.WithDeadline`.
 *
 * **Example** (What is left)
 *
 * ```ts
 * import { Duration, Effect } from "effect"
 * import { Deadline } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const left = yield* Deadline.remaining
 *   return Duration.isLessThanOrEqualTo(left, Duration.seconds(2))
 * })
 *
 * console.log(await Effect.runPromise(Deadline.within(program, "2 seconds"))) // => true
 * console.log(await Effect.runPromise(program)) // => false
 *
 * const error = await Effect.runPromise(Effect.flip(Deadline.within(Effect.never, "5 millis")))
 * console.log(error.message) // => 'deadline "deadline" passed: not done within 5ms'
 * ```
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { CurrentDeadline, remainingMillis, type State } from "./internal/deadline.ts"
import { startLimited } from "./internal/limit.ts"
import { monotonicMillis } from "./internal/monotonic.ts"
import { nonNegativeMillis, positiveMillis } from "./internal/options.ts"
import * as Rejection from "./Rejection.ts"

/** The deadline has passed, or leaves less time than is needed. */
export class DeadlineExceededError extends Rejection.Class("DeadlineExceededError")<{
  /** How much time the deadline gave in all. */
  readonly duration: Duration.Duration
  /** True when work was running and was cut off; false when it was refused before it began. */
  readonly started: boolean
  /** For a refused wait: how long it would have taken. */
  readonly needed?: Duration.Duration | undefined
}> {
  override get message(): string {
    const given = Duration.format(this.duration)
    if (this.started) return `deadline "${this.strategy}" passed: not done within ${given}`
    return this.needed === undefined
      ? `deadline "${this.strategy}" of ${given} has passed: not begun`
      : `deadline "${this.strategy}" of ${given} leaves no time for a wait of ${Duration.format(this.needed)}`
  }
}

/** A deadline with a name. */
export interface Options {
  /** Time from now: above zero. */
  readonly duration: Duration.Input
  /** Name in `DeadlineExceededError.strategy`. Default `"deadline"`. */
  readonly name?: string | undefined
}

interface Plan {
  readonly millis: number
  readonly name: string
}

const compile = (input: Duration.Input | Options): Plan =>
  typeof input === "object" && "duration" in input
    ? { millis: positiveMillis("duration", input.duration), name: input.name ?? "deadline" }
    : { millis: positiveMillis("duration", input), name: "deadline" }

const exceeded = (deadline: State, started: boolean, needed?: number): Effect.Effect<never, DeadlineExceededError> =>
  Effect.fail(
    new DeadlineExceededError({
      strategy: deadline.strategy,
      duration: Duration.millis(deadline.millis),
      started,
      ...(needed === undefined ? undefined : { needed: Duration.millis(needed) })
    })
  )

const apply = <A, E, R>(self: Effect.Effect<A, E, R>, plan: Plan): Effect.Effect<A, E | DeadlineExceededError, R> =>
  Effect.callback<A, E | DeadlineExceededError, R>((resume) => {
    const caller = Fiber.getCurrent()!
    const now = monotonicMillis(caller)
    const outer = caller.getRef(CurrentDeadline)
    if (outer !== undefined && outer.at <= now) return resume(exceeded(outer, false))
    const own: State = { strategy: plan.name, at: now + plan.millis, millis: plan.millis }
    // The outer deadline is enforced where it was set, except for fibers that have left it: those need a limit here.
    const deadline = outer !== undefined && outer.at <= own.at ? outer : own
    const context = Context.add(caller.context as Context.Context<R>, CurrentDeadline, deadline)
    return startLimited(caller, resume, self, context, deadline.at - now, () => exceeded(deadline, true))
  })

/**
 * Runs the work under a deadline: this one, or the surrounding one if that is nearer.
 *
 * Takes a duration or {@link Options}. A duration that is not above zero throws a `RangeError` that names the option.
 */
export const within: {
  (
    options: Duration.Input | Options
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E | DeadlineExceededError, R>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    options: Duration.Input | Options
  ): Effect.Effect<A, E | DeadlineExceededError, R>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second] = args as [Effect.Effect<unknown>, Options]
  if (Effect.isEffect(first)) return apply(first, compile(second)) as never
  const plan = compile(first)
  return ((self: Effect.Effect<unknown>) => apply(self, plan)) as never
}

/** Runs the work without the surrounding deadline: for what shall go on when the request is over. */
export const without = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(self, CurrentDeadline, undefined)

/** The time that is left: `Duration.infinity` without a deadline, zero once it has passed. */
export const remaining: Effect.Effect<Duration.Duration> = Effect.withFiber((fiber) =>
  Effect.succeed(Duration.millis(Math.max(0, remainingMillis(fiber))))
)

/**
 * The longest wait that makes sense: `duration`, or what is left if that is less. For waits whose length is not known
 * beforehand (a place in a queue). Fails when nothing is left.
 */
export const clip = (duration: Duration.Input): Effect.Effect<Duration.Duration, DeadlineExceededError> => {
  const millis = nonNegativeMillis("duration", duration)
  return Effect.withFiber((fiber) => {
    const deadline = fiber.getRef(CurrentDeadline)
    if (deadline === undefined) return Effect.succeed(Duration.millis(millis))
    const left = deadline.at - monotonicMillis(fiber)
    return left <= 0 ? exceeded(deadline, false) : Effect.succeed(Duration.millis(Math.min(left, millis)))
  })
}

/**
 * Refuses a wait of a known length (a rate limiter's) that would not be over before the deadline. Waiting until the very
 * deadline is refused too: no time for work would be left.
 */
export const requireTime = (duration: Duration.Input): Effect.Effect<void, DeadlineExceededError> => {
  const millis = nonNegativeMillis("duration", duration)
  return Effect.withFiber((fiber) => {
    const deadline = fiber.getRef(CurrentDeadline)
    return deadline === undefined || millis < deadline.at - monotonicMillis(fiber)
      ? Effect.void
      : exceeded(deadline, false, millis)
  })
}

/**
 * For strategies: what is left in milliseconds, without an effect. `Infinity` without a deadline, 0 or less once it has
 * passed.
 */
export const remainingMillisUnsafe = (fiber: Fiber.Fiber<unknown, unknown>): number => remainingMillis(fiber)

/** For strategies: the error of a refused wait, or `undefined` when there is no deadline. */
export const refusalUnsafe = (
  fiber: Fiber.Fiber<unknown, unknown>,
  neededMillis?: number | undefined
): DeadlineExceededError | undefined => {
  const deadline = fiber.getRef(CurrentDeadline)
  return deadline === undefined ? undefined : new DeadlineExceededError({
    strategy: deadline.strategy,
    duration: Duration.millis(deadline.millis),
    started: false,
    ...(neededMillis === undefined ? undefined : { needed: Duration.millis(neededMillis) })
  })
}
