// Runs one phase: timed, bounded, retried, traced, logged and reported to the resource's status node.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Status from "../../observability/Status.ts"
import * as Redaction from "../../security/Redaction.ts"
import { type Explanation, isRetryable, type Phase, ResourceError } from "../ResourceError.ts"
import { bounded } from "./bounded.ts"
import { stateOfPhase } from "./resourceState.ts"

/** Three more tries from 1 second, doubling up to 5 seconds, each spread by a fifth either way. */
export const defaultRetry: Schedule.Schedule<unknown, ResourceError> = Schedule.min([
  Schedule.exponential("1 second"),
  Schedule.spaced("5 seconds")
]).pipe(Schedule.jittered, Schedule.upTo({ times: 3 }))

export type StartPhase = Exclude<Phase, "monitor" | "release">

export interface PhaseRun<A, E, R> {
  readonly resource: string
  readonly phase: StartPhase
  readonly node: Status.StatusNode
  readonly effect: Effect.Effect<A, E, R>
  readonly timeout: Duration.Input
  readonly retry: Schedule.Schedule<unknown, ResourceError> | undefined
  readonly explain: (error: E) => Explanation
  /** What to tell people about a time-out, which carries no error value to explain. */
  readonly onTimeout: TimeoutHint
}

export interface TimeoutHint {
  readonly option?: string | undefined
  readonly remedy?: string | undefined
}

const elapsedSince = (clock: Clock.Clock, start: bigint): number =>
  Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6

/** Whatever went wrong, as a `ResourceError` without secrets. */
export const toResourceError = <E>(
  context: { readonly resource: string; readonly phase: Phase; readonly attempts: number; readonly elapsed: number },
  cause: Cause.Cause<E>,
  explain: (error: E) => Explanation
): ResourceError => {
  const error = Cause.findErrorOption(cause)
  if (Option.isSome(error)) {
    if (error.value instanceof ResourceError) return error.value
    const explained = explain(error.value)
    return new ResourceError({
      ...context,
      ...explained,
      detail: Redaction.text(explained.detail),
      cause: Redaction.error(error.value)
    })
  }
  const defect = Redaction.error(Cause.squash(cause))
  return new ResourceError({
    ...context,
    reason: "Unknown",
    detail: `the ${context.phase} step threw: ${defect.message}`,
    retryable: false,
    remedy: "This is a defect in the resource's own code; see the cause.",
    cause: defect
  })
}

export const run = <A, E, R>(options: PhaseRun<A, E, R>): Effect.Effect<A, ResourceError, R> =>
  Effect.gen(function*() {
    const { node, phase, resource } = options
    const clock = yield* Clock.Clock
    const start = clock.monotonicTimeNanosUnsafe()
    yield* node.set(stateOfPhase[phase])
    const record = yield* node.phase(phase)
    let attempts = 0
    const fail = (cause: Cause.Cause<E>) =>
      toResourceError({ resource, phase, attempts, elapsed: elapsedSince(clock, start) }, cause, options.explain)

    const attempt = Effect.suspend(() => {
      attempts++
      return bounded(options.effect, options.timeout)
    }).pipe(
      Effect.catchCause((cause) =>
        // Only the caller's own interruption is passed on; a phase that interrupts itself has failed.
        Effect.fail(fail(cause))
      ),
      Effect.flatMap((result) =>
        Option.isSome(result) ? Effect.succeed(result.value) : Effect.fail(
          new ResourceError({
            resource,
            phase,
            reason: "TimedOut",
            detail: `no answer within ${Duration.format(Duration.fromInputUnsafe(options.timeout))}`,
            attempts,
            elapsed: elapsedSince(clock, start),
            ...options.onTimeout
          })
        )
      ),
      Effect.tapError((error) =>
        options.retry === undefined || !isRetryable(error)
          ? Effect.void
          : Effect.andThen(
            record.attempt(attempts + 1, error.detail),
            Effect.logDebug(`${resource}: ${phase} attempt ${attempts} failed: ${error.detail}`)
          )
      )
    )
    const retried = options.retry === undefined
      ? attempt
      : Effect.retry(attempt, { schedule: options.retry, while: (error: ResourceError) => isRetryable(error) })
    const result = yield* retried.pipe(
      Effect.tapError((error) => Effect.andThen(record.attempt(attempts), record.end("failed", error.detail))),
      Effect.onInterrupt(() => record.end("failed", "interrupted"))
    )
    yield* record.end("ok")
    yield* Effect.logDebug(`${resource}: ${phase} took ${Math.round(elapsedSince(clock, start))} ms`)
    return result
  }).pipe(Effect.withSpan(`seaworthy.resource.${options.phase}`, {
    attributes: { "seaworthy.resource": options.resource }
  }, { captureStackTrace: false }))
