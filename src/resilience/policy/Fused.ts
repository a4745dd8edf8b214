/**
 * Several strategies in one operation of the fiber.
 *
 * The usual case is that a token, a place and a closed circuit are there, and that the work succeeds. Then all that the
 * separate combinators would do happens in the step that starts the work and in the step that ends it. Whatever is not
 * usual (a wait, a refusal, a circuit that is not closed, a retry) is left to the tower, before anything was taken.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Bulkhead from "../Bulkhead.ts"
import { TypeId } from "../circuit/Handle.ts"
import type { PermitQueue } from "../internal/bulkheadQueue.ts"
import { remainingMillis } from "../internal/deadline.ts"
import { limit } from "../internal/limit.ts"
import * as RateLimiter from "../RateLimiter.ts"
import { TimeoutError } from "../Timeout.ts"
import type { Any, Layer, Parts, TimeoutPlan } from "./Parts.ts"
import type { Stats } from "./Stats.ts"
import { stack } from "./Tower.ts"

type AnyExit = Exit.Exit<unknown, unknown>

/** Rate limiter, bulkhead and circuit breaker: what has to admit a call. */
class Guards {
  private readonly takeToken: ((fiber: Fiber.Fiber<unknown, unknown>) => boolean) | undefined
  readonly bulkhead: Bulkhead.Bulkhead | undefined
  private readonly circuit: Parts["circuitBreaker"]

  constructor({ bulkhead, circuitBreaker, rateLimiter }: Parts) {
    this.takeToken = rateLimiter && RateLimiter.tryTakeUnsafe(rateLimiter)
    this.bulkhead = bulkhead
    this.circuit = circuitBreaker
  }

  /** Negative unless the circuit is closed and admits every call. Asking changes nothing. */
  generation(): number {
    return this.circuit === undefined ? 0 : this.circuit[TypeId].enter(this.circuit.key)
  }

  token(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    return this.takeToken === undefined || this.takeToken(fiber)
  }

  startTime(fiber: Fiber.Fiber<unknown, unknown>): number {
    return this.circuit === undefined ? 0 : this.circuit[TypeId].startTime(fiber)
  }

  /** Tells the circuit how the call ended. Throws what a `classify` throws. */
  leave(generation: number, startedAt: number, exit: AnyExit, fiber: Fiber.Fiber<unknown, unknown>): void {
    const circuit = this.circuit
    if (circuit !== undefined) circuit[TypeId].leave(circuit.key, generation, startedAt, exit, undefined, fiber)
  }
}

/** A finalizer that throws makes the call die with what it threw, beside the failure that there was. */
const dying = (exit: AnyExit, defect: unknown): Any =>
  Effect.onExitPrimitive(exit, () => {
    throw defect
  })

/** A retry whose first attempt is `first`, and every other one `attempt`. */
const retrying = (retry: Layer | undefined, first: Any, attempt: Any): Any => {
  if (retry === undefined) return first
  let begun = false
  return retry(Effect.suspend(() => {
    if (begun) return attempt
    begun = true
    return first
  }))
}

/**
 * Rate limiter, bulkhead, circuit breaker and time-out of an attempt in one operation, and around it the retry and the
 * counting of calls as far as they are given: they cost a call that succeeds at once next to nothing.
 */
export const timed = (
  parts: Parts,
  plan: TimeoutPlan,
  stats: Stats,
  around: { readonly retry: Layer | undefined; readonly counts: boolean }
): Layer => {
  const { counts, retry } = around
  const guards = new Guards(parts)
  const slow = stack(parts, ["rateLimiter", "bulkhead", "circuitBreaker", "timeout"])!
  const slowWithToken = stack(parts, ["bulkhead", "circuitBreaker", "timeout"])!
  const attempts = counts || retry !== undefined
    ? timed(parts, plan, stats, { retry: undefined, counts: false })
    : undefined

  // All that does not end in the usual way.
  const finish = (self: Any, first: Any, begun: number, caller: Fiber.Fiber<unknown, unknown>): Any => {
    if (attempts === undefined) return first
    const tried = retrying(retry, first, attempts(self))
    return counts ? Effect.onExitPrimitive(tried, (exit) => stats.end(exit, begun, caller), true) : tried
  }

  return (self) =>
    Effect.callback<unknown, unknown, unknown>((resume) => {
      const caller = Fiber.getCurrent()!
      const begun = counts ? stats.begin(caller) : 0
      const generation = guards.generation()
      const left = remainingMillis(caller)
      if (generation < 0 || left <= 0 || !guards.token(caller)) {
        return resume(finish(self, slow(self), begun, caller))
      }
      let permits: PermitQueue | undefined
      if (guards.bulkhead !== undefined) {
        permits = Bulkhead.permitsUnsafe(guards.bulkhead)
        if (permits === undefined || !permits.tryAcquire()) {
          return resume(finish(self, slowWithToken(self), begun, caller))
        }
      }
      // From here on a permit is held, until the work has ended. Nothing in between can yield or throw.
      const startedAt = guards.startTime(caller)
      const work = Effect.runForkWith(caller.context as never)(self as Effect.Effect<unknown, unknown>)
      // Settled by the end of the work, or by a caller that was interrupted: whatever comes first.
      let settled = false
      const settle = (exit: AnyExit): void => {
        if (settled) return
        settled = true
        let outcome: Any = exit
        try {
          guards.leave(generation, startedAt, exit, caller)
        } catch (defect) {
          outcome = dying(exit, defect)
        }
        permits?.release()
        if (outcome === exit && exit._tag === "Success") {
          if (counts) stats.end(exit, begun, caller)
          resume(exit)
        } else {
          resume(finish(self, outcome, begun, caller))
        }
      }
      const exit = work.pollUnsafe()
      if (exit !== undefined) return settle(exit)
      const deadline = left < plan.millis
      const millis = deadline ? left : plan.millis
      const orElse = (): Exit.Exit<never, TimeoutError> => {
        if (!settled) stats.timeouts++
        return Exit.fail(new TimeoutError({ strategy: plan.name, duration: Duration.millis(millis), deadline }))
      }
      // What it resumes with is the exit of the work, or that of `orElse`.
      const interrupted = limit(caller, settle as (effect: Any) => void, work, millis, orElse)
      // A caller that was interrupted counts for nothing, and is gone only when the work has ended and the place is free.
      return Effect.suspend(() => {
        if (settled) return Effect.void
        settled = true
        return Effect.map(interrupted, () => permits?.release())
      })
    })
}

/** Rate limiter, bulkhead and circuit breaker around `inner`, which runs in the caller's own fiber. */
export const guarded = (parts: Parts, inner: Layer): Layer => {
  const guards = new Guards(parts)
  const slow = stack(parts, ["rateLimiter", "bulkhead", "circuitBreaker"])!
  const slowWithToken = stack(parts, ["bulkhead", "circuitBreaker"]) ?? ((self: Any) => self)
  const { bulkhead } = guards

  const judged = (work: Any, generation: number, caller: Fiber.Fiber<unknown, unknown>): Any => {
    if (parts.circuitBreaker === undefined) return work
    const startedAt = guards.startTime(caller)
    return Effect.onExitPrimitive(
      work,
      (exit) => {
        guards.leave(generation, startedAt, exit, caller)
        return undefined
      },
      true // an interrupted call counts for nothing: its finalizer may be skipped
    )
  }

  const admit = (self: Any, restore: Layer): Any => {
    const caller = Fiber.getCurrent()!
    const work = inner(self)
    const generation = guards.generation()
    if (generation < 0 || !guards.token(caller)) return restore(slow(work))
    if (bulkhead === undefined) return judged(work, generation, caller)
    const permits = Bulkhead.permitsUnsafe(bulkhead)
    if (permits === undefined || !permits.tryAcquire()) return restore(slowWithToken(work))
    return Effect.onExitPrimitive(
      restore(judged(work, generation, caller)),
      () => {
        permits.release()
        return undefined
      },
      true
    )
  }

  // A place that is taken outside of an uninterruptible region is lost when an interruption comes before its finalizer.
  return bulkhead === undefined
    ? (self) => Effect.suspend(() => admit(self, (effect) => effect))
    : (self) => Effect.uninterruptibleMask((restore) => admit(self, restore))
}
