import * as Effect from "effect/Effect"
import { guarded, timed } from "./Fused.ts"
import type { Kind } from "./Options.ts"
import type { Any, Layer, Parts } from "./Parts.ts"
import type { Stats } from "./Stats.ts"
import { stack, tower } from "./Tower.ts"

const identity: Layer = (self) => self

const around = (outer: Layer | undefined, inner: Layer): Layer =>
  outer === undefined ? inner : (self) => outer(inner(self))

/** Counts every call of a layer. */
const counted = (layer: Layer, stats: Stats): Layer => (self) =>
  Effect.withFiber((fiber): Any => {
    const begun = stats.begin(fiber)
    return Effect.onExitPrimitive(layer(self), (exit) => stats.end(exit, begun, fiber), true)
  })

const has = (parts: Parts, kinds: ReadonlyArray<Kind>): number =>
  kinds.filter((kind) => parts.layers[kind] !== undefined).length

// Only a retry that a first success does not concern can be left out until the first failure.
const joinsLate = ({ retry }: Parts): boolean =>
  retry !== undefined && retry.whileResult === undefined && retry.classify === undefined &&
  retry.totalDuration === undefined && retry.budget === undefined

/** A policy as a tower, for comparison. */
export const assembleTower = (parts: Parts, stats: Stats): Layer => counted(tower(parts), stats)

/**
 * Builds what a policy does to an effect: fused where that is faster, else the tower.
 *
 * Fused are limiter, bulkhead and breaker with a time-out, and then also a plain retry; or at least two of the three
 * without a time-out of their own kind (with a hedge, or a grace period). Fallback, deadline and hedge stay combinators:
 * a fallback costs a call that succeeds next to nothing, the other two have to run the work in a fiber of their own. An
 * adaptive limit makes the whole policy a tower.
 */
export const assemble = (parts: Parts, stats: Stats): Layer => {
  const { timeout } = parts
  const guards = has(parts, ["rateLimiter", "bulkhead", "circuitBreaker"])
  const outer = stack(parts, ["fallback", "deadline"])
  const retry = parts.layers.retry
  if (
    timeout !== undefined && !timeout.grace && parts.hedge === undefined && parts.adaptiveLimit === undefined &&
    guards > 0
  ) {
    const fusedRetry = joinsLate(parts) ? retry : undefined
    const outerRetry = fusedRetry === undefined ? retry : undefined
    const counts = outer === undefined && outerRetry === undefined
    const fused = timed(parts, timeout, stats, { retry: fusedRetry, counts })
    return counts ? fused : counted(around(outer, around(outerRetry, fused)), stats)
  }
  if (guards < 2 || parts.adaptiveLimit !== undefined) return assembleTower(parts, stats)
  const inner = stack(parts, ["hedge", "timeout"]) ?? identity
  return counted(around(outer, around(retry, guarded(parts, inner))), stats)
}
