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
import type { PermitQueue } from "../internal/bulkheadQueue.ts"
import { TypeId } from "../circuit/Handle.ts"
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
      let callerLeft = false
      const settle = (exit: AnyExit): void => {
        let outcome: Any = exit
        // For a caller that was interrupted the circuit counts nothing, as for any interrupted call.
        if (!callerLeft) {
          try {
            guards.leave(generation, startedAt, exit, caller)
          } catch (defect) {
            outcome = dying(exit, defect)
          }
        }
        permits?.release()
        if (outcome === exit && exit._tag === "Success") {
          if (counts && !callerLeft) stats.end(exit, begun, caller)
          resume(exit)
        } else if (!callerLeft) {
          resume(finish(self, outcome, begun, caller))
        }
      }
      const exit = work.pollUnsafe()
      if (exit !== undefined) return settle(exit)
      const deadline = left < plan.millis
      const millis = deadline ? left : plan.millis
      const orElse = (): Exit.Exit<never, TimeoutError> => {
        if (!callerLeft) stats.timeouts++
        return Exit.fail(new TimeoutError({ strategy: plan.name, duration: Duration.millis(millis), deadline }))
      }
      // What it resumes with is the exit of the work, or that of `orElse`.
      const leave = limit(caller, settle as (effect: Any) => void, work, millis, orElse)
      return Effect.suspend(() => {
        callerLeft = true
        return leave
      })
    })
}

/** Rate limiter, bulkhead and circuit breaker around `inner`, which runs in the caller's own fiber. */
export const guarded = (parts: Parts, inner: Layer): Layer => {
  const guards = new Guards(parts)
  const slow = stack(parts, ["rateLimiter", "bulkhead", "circuitBreaker"])!
  const slowWithToken = stack(parts, ["bulkhead", "circuitBreaker"]) ?? inner
  return (self) => {
    const work = inner(self)
    // A place that is taken outside of an uninterruptible region is lost when an interruption comes before its finalizer.
    return Effect.uninterruptibleMask((restore): Any => {
      const caller = Fiber.getCurrent()!
      const generation = guards.generation()
      if (generation < 0 || !guards.token(caller)) return restore(slow(work))
      let permits: PermitQueue | undefined
      if (guards.bulkhead !== undefined) {
        permits = Bulkhead.permitsUnsafe(guards.bulkhead)
        if (permits === undefined || !permits.tryAcquire()) return restore(slowWithToken(work))
      }
      const startedAt = guards.startTime(caller)
      return Effect.onExitPrimitive(
        restore(work),
        (exit) => {
          try {
            guards.leave(generation, startedAt, exit, caller)
          } finally {
            permits?.release()
          }
          return undefined
        },
        true
      )
    })
  }
}
