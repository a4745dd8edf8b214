import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { CircuitBreakerError, type CircuitBreakerStore, type TripPolicy } from "effect/persistence/CircuitBreaker"
import type * as Store from "effect/persistence/CircuitBreaker"
import * as Scope from "effect/Scope"
import { monotonicMillis } from "../internal/monotonic.ts"
import * as Outcome from "../Outcome.ts"
import type { ManualMode } from "./Circuit.ts"
import type { Core, CoreOptions } from "./Core.ts"
import type { AnyFiber, Driver, Metrics, State, Transition } from "./Driver.ts"
import type { CircuitBreakerOpenError } from "./OpenError.ts"
import { openTimes, startAfter } from "./OpenTimes.ts"
import type { Snapshot } from "./Snapshot.ts"

/** Options of a fleet breaker, checked and in milliseconds. */
export interface FleetOptions extends CoreOptions {
  readonly policy: TripPolicy
  /** How long the store may take to answer. */
  readonly storeMillis: number
  /** How long to work locally before the store is asked again. */
  readonly awayMillis: number
  readonly storeKey: (key: string) => string
}

/** What the store answered to a call that wants in; `undefined` when it did not answer. */
type Answer = Store.Admission | CircuitBreakerError | undefined

/**
 * Circuits that several processes share through a store. `local` has the operator's states, the counters and the
 * transitions, and mirrors what the store last said of a circuit, so that it can go on from there when the store is away.
 */
export class Fleet implements Driver {
  readonly name: string
  private readonly options: FleetOptions
  private readonly store: CircuitBreakerStore["Service"]
  private readonly local: Core
  /** Until when the store is left alone after it failed; in the past when it is there. */
  private awayUntil = Number.NEGATIVE_INFINITY
  private isAway = false

  constructor(options: FleetOptions, store: CircuitBreakerStore["Service"], local: Core) {
    this.name = options.name
    this.options = options
    this.store = store
    this.local = local
  }

  run<A, E, R>(
    key: string,
    self: Effect.Effect<A, E, R>,
    classify: Outcome.Classify<A, E> = this.options.classify
  ): Effect.Effect<A, E | CircuitBreakerOpenError, R> {
    return Effect.withFiber((fiber): Effect.Effect<A, E | CircuitBreakerOpenError, R> => {
      const now = monotonicMillis(fiber)
      if (now < this.awayUntil || this.local.isManual(key, now)) return this.local.run(key, self, classify)
      return Effect.uninterruptibleMask((restore) =>
        Effect.scopedWith((scope) =>
          Effect.flatMap(restore(this.ask(key, scope)), (answer) => {
            if (answer === undefined) return restore(this.local.run(key, self, classify))
            if (answer instanceof CircuitBreakerError) return this.refuse(key, answer, fiber)
            this.local.mirror(key, undefined, fiber)
            if (answer.transition !== undefined) this.publish(key, answer.transition)
            return Effect.onExitPrimitive(restore(self), (exit) => this.record(key, answer, exit, classify))
          })
        )
      )
    })
  }

  runNotClosed<A, E, R>(
    key: string,
    self: Effect.Effect<A, E, R>,
    classify: Outcome.Classify<A, E> | undefined
  ): Effect.Effect<A, E | CircuitBreakerOpenError, R> {
    return this.run(key, self, classify)
  }

  /** Every call has to ask the store first. */
  enter(): number {
    return -1
  }

  startTime(fiber: AnyFiber): number {
    return this.local.startTime(fiber)
  }

  leave(): void {}

  get transitions(): Core["transitions"] {
    return this.local.transitions
  }

  get states(): Core["states"] {
    return this.local.states
  }

  state(key: string): Effect.Effect<State> {
    return Effect.withFiber((fiber) => {
      const now = monotonicMillis(fiber)
      if (now < this.awayUntil || this.local.isManual(key, now)) return this.local.state(key)
      return this.bounded(this.store.state(this.options.storeKey(key))).pipe(
        Effect.flatMap((answer) =>
          answer === undefined || answer instanceof CircuitBreakerError
            ? this.local.state(key)
            : Effect.succeed(stateOf(answer))
        )
      )
    })
  }

  metrics(key: string): Effect.Effect<Metrics> {
    return Effect.map(this.local.metrics(key), (metrics) => ({ ...metrics, store: this.isAway ? "Local" : "Fleet" }))
  }

  control(key: string, mode: ManualMode | "Automatic" | "Reset"): Effect.Effect<void> {
    return this.local.control(key, mode)
  }

  snapshot(key: string): Effect.Effect<Snapshot> {
    return this.local.snapshot(key)
  }

  restore(key: string, snapshot: Snapshot): Effect.Effect<void> {
    return this.local.restore(key, snapshot)
  }

  private ask(key: string, scope: Scope.Scope): Effect.Effect<Answer> {
    return this.bounded(Scope.provide(this.store.admit(this.options.storeKey(key)), scope))
  }

  /**
   * Runs an operation of the store within its time. `undefined` when the store is away, which starts or prolongs working
   * locally; a refusal is an answer.
   */
  private bounded<A>(
    operation: Effect.Effect<A, CircuitBreakerError>
  ): Effect.Effect<A | CircuitBreakerError | undefined> {
    return Effect.interruptible(operation).pipe(
      Effect.timeout(this.options.storeMillis),
      Effect.matchCauseEffect({
        onSuccess: (answer) => Effect.as(this.came(), answer),
        onFailure: (cause): Effect.Effect<CircuitBreakerError | undefined> => {
          const error = Cause.findErrorOption(cause)
          if (error._tag === "Some" && error.value instanceof CircuitBreakerError) {
            const refusal = error.value
            if (refusal.reason._tag !== "CircuitBreakerStoreError") return Effect.as(this.came(), refusal)
          }
          return Effect.as(this.went(cause), undefined)
        }
      })
    )
  }

  private went(cause: Cause.Cause<unknown>): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      this.awayUntil = monotonicMillis(fiber) + this.options.awayMillis
      if (this.isAway) return Effect.void
      this.isAway = true
      const error = Cause.findErrorOption(cause)
      const reason = error._tag === "Some" && Cause.isTimeoutError(error.value) ? "does not answer" : "fails"
      return Effect.logWarning(`circuit breaker "${this.name}" works locally: the store of the fleet ${reason}`)
    })
  }

  private came(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.isAway) return Effect.void
      this.isAway = false
      return Effect.logInfo(`circuit breaker "${this.name}" works with the fleet again`)
    })
  }

  private refuse(
    key: string,
    { reason }: CircuitBreakerError,
    fiber: AnyFiber
  ): Effect.Effect<never, CircuitBreakerOpenError> {
    if (reason._tag !== "CircuitOpen") return this.local.reject(key, "HalfOpen", undefined)
    const millis = Duration.toMillis(reason.retryAfter)
    this.local.mirror(key, millis, fiber)
    return this.local.reject(key, "Open", millis)
  }

  private record<A, E>(
    key: string,
    admission: Store.Admission,
    exit: Exit.Exit<A, E>,
    classify: Outcome.Classify<A, E>
  ): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      const judged = judge(exit, classify)
      const outcome = Exit.isSuccess(judged) ? judged.value : Outcome.ignored
      if (outcome._tag !== "Ignored") this.local.count(outcome._tag === "Failure", false)
      const recorded = this.bounded(this.store.record({
        key: this.options.storeKey(key),
        generation: admission.generation,
        outcome: outcome._tag,
        tripPolicy: this.options.policy,
        openFor: this.openFor(outcome, admission, fiber)
      }))
      return Effect.flatMap(recorded, (transition) => {
        if (transition !== undefined && !(transition instanceof CircuitBreakerError)) {
          this.publish(key, transition)
          if (transition.to === "Open") this.local.mirror(key, Duration.toMillis(transition.retryAfter), fiber)
        }
        return Exit.isFailure(judged) ? Effect.failCause(judged.cause) : Effect.void
      })
    })
  }

  /** The open time that this outcome would begin. The store judges a rate after good calls as well. */
  private openFor(outcome: Outcome.Outcome, admission: Store.Admission, fiber: AnyFiber): Duration.Duration {
    const mayOpen = outcome._tag === "Failure" ||
      (outcome._tag === "Success" && !admission.probe && this.options.policy._tag === "Rate")
    if (!mayOpen) return Duration.zero
    const times = openTimes(this.options.openTime, fiber.context)
    const delay = times.next(startAfter(times, admission.consecutiveOpenings))
    const hint = outcome._tag === "Failure" && outcome.retryAfter !== undefined
      ? Math.min(Duration.toMillis(outcome.retryAfter), this.options.maxRetryAfterMillis)
      : 0
    return Duration.millis(Math.max(delay, hint))
  }

  private publish(key: string, transition: Store.Transition): void {
    const { from, to } = transition
    const published: Transition = {
      name: this.name,
      ...(this.options.keyed ? { key } : undefined),
      from,
      to,
      ...(transition.to === "Open" ? { retryAfter: transition.retryAfter } : undefined)
    }
    this.local.publish(published)
  }
}

/** The outcome of a call, or what its classify threw. */
const judge = <A, E>(exit: Exit.Exit<A, E>, classify: Outcome.Classify<A, E>): Exit.Exit<Outcome.Outcome> => {
  if (Outcome.isInterruption(exit)) return Exit.succeed(Outcome.ignored)
  try {
    return Exit.succeed(classify(exit))
  } catch (defect) {
    return Exit.die(defect)
  }
}

const stateOf = (state: Store.State): State => {
  switch (state._tag) {
    case "Closed":
      return { _tag: "Closed", share: 1 }
    case "Open":
      return { _tag: "Open", retryAfter: state.retryAfter, openings: state.consecutiveOpenings }
    case "HalfOpen":
      return { _tag: "HalfOpen", probes: state.probing ? 1 : 0, openings: state.consecutiveOpenings }
  }
}
