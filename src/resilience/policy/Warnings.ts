/**
 * Known mistakes, found by looking at the options of a policy.
 */
import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import { BulkheadFullError } from "../Bulkhead.ts"
import type * as CircuitBreaker from "../CircuitBreaker.ts"
import type { Kind } from "./Options.ts"
import type { Parts } from "./Parts.ts"

/** What kind of mistake it is. */
export type WarningCode =
  | "retry-not-repeatable"
  | "hedge-not-repeatable"
  | "timeout-exceeds-deadline"
  | "hedge-after-timeout"
  | "no-time-limit"
  | "breaker-counts-rejections"
  | "retry-repeats-rejections"
  | "lease-within-timeout"
  | "slow-call-beyond-timeout"
  | "queue-wait-exceeds-deadline"
  | "fallback-unreachable"

/** A mistake that a policy seems to make. */
export interface Warning {
  readonly code: WarningCode
  /** The strategies that it is about. */
  readonly strategies: ReadonlyArray<Kind>
  readonly message: string
}

const show = (millis: number): string => Duration.format(Duration.millis(millis))

const rejection = new BulkheadFullError({
  strategy: "probe",
  reason: "queue-full",
  maxConcurrent: 1,
  maxQueue: 0
})

// A `classify` of the user's that does not expect the question says nothing.
const countsRejections = (classify: CircuitBreaker.Options["classify"]): boolean => {
  try {
    return classify !== undefined && classify(Exit.fail(rejection))._tag === "Failure"
  } catch {
    return false
  }
}

const slowMillis = (breaker: CircuitBreaker.Options): number =>
  breaker.trip?._tag === "Rate" && breaker.trip.slow !== undefined ? breaker.trip.slow.millis : 0

/** A duration option that was checked when the strategy was made. */
const millisOf = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))

/** The mistakes of a policy, in the canonical order of what they are about. */
export const warningsOf = (parts: Parts): ReadonlyArray<Warning> => {
  const found: Array<Warning> = []
  const warn = (code: WarningCode, strategies: ReadonlyArray<Kind>, message: string) => {
    found.push({ code, strategies, message })
  }
  const { adaptiveLimit, bulkhead, circuitBreaker: breaker, rateLimiter } = parts.made
  const { deadline, fallback, hedge, retry, timeout } = parts
  const attempt = timeout?.millis ?? Infinity
  const total = deadline?.millis ?? Infinity

  const answers = fallback?.strategies ?? []
  const last = answers.findIndex((strategy) => strategy._tag === "Value")
  if (last >= 0 && last < answers.length - 1) {
    warn("fallback-unreachable", ["fallback"], `no fallback after "${answers[last]!.name}" is ever tried`)
  }
  const held = (["retry", "bulkhead", "circuitBreaker"] as const).filter((kind) => parts[kind] !== undefined)
  if (held.length > 0 && !Number.isFinite(attempt) && !Number.isFinite(total)) {
    warn("no-time-limit", held, "neither timeout nor deadline: a call that hangs is never given up")
  }
  if (retry !== undefined && !parts.repeatable) {
    warn(
      "retry-not-repeatable",
      ["retry"],
      "retry repeats the work: say `repeatable: true` if doing it twice does no harm, or leave retry out"
    )
  }
  if (retry?.rejections === true) {
    warn(
      "retry-repeats-rejections",
      ["retry"],
      "retry repeats what an open circuit or a full bulkhead has refused: most often that adds load and nothing else"
    )
  }
  const queueWait = (
    queue: { readonly maxQueue?: number | undefined; readonly maxWait?: Duration.Input | undefined }
  ) => queue.maxQueue === undefined || queue.maxQueue === 0 ? 0 : queue.maxWait ?? "30 seconds"
  const waits = [
    ["rateLimiter", rateLimiter?.maxWait ?? 0],
    ["bulkhead", queueWait(bulkhead ?? {})],
    ["adaptiveLimit", queueWait(adaptiveLimit ?? {})]
  ] as const
  for (const [kind, maxWait] of waits) {
    const wait = millisOf(maxWait)
    if (wait >= total && Number.isFinite(wait) && wait > 0) {
      warn(
        "queue-wait-exceeds-deadline",
        [kind, "deadline"],
        `a wait of ${show(wait)} takes as long as the deadline of ${show(total)}: no time for the work would be left`
      )
    }
  }
  if (breaker !== undefined) {
    if (countsRejections(breaker.classify)) {
      warn(
        "breaker-counts-rejections",
        ["circuitBreaker"],
        "classify calls a rejection by another strategy a failure, though the dependency was not called"
      )
    }
    const lease = millisOf(breaker.halfOpen?.lease ?? "30 seconds")
    if (Number.isFinite(attempt) && lease <= attempt) {
      warn(
        "lease-within-timeout",
        ["circuitBreaker", "timeout"],
        `a probe loses its place after ${show(lease)}, while an attempt may take ${show(attempt)}`
      )
    }
    const slow = slowMillis(breaker)
    if (slow >= attempt) {
      warn(
        "slow-call-beyond-timeout",
        ["circuitBreaker", "timeout"],
        `no call that succeeds takes the ${show(slow)} of a slow one: it is cut off after ${show(attempt)}`
      )
    }
  }
  if (hedge !== undefined && !parts.repeatable) {
    warn(
      "hedge-not-repeatable",
      ["hedge"],
      "hedge does the work twice at once: say `repeatable: true` if that does no harm, or leave hedge out"
    )
  }
  if (hedge?.delayMillis !== undefined && hedge.delayMillis >= attempt) {
    warn(
      "hedge-after-timeout",
      ["hedge", "timeout"],
      `a hedge after ${show(hedge.delayMillis)} comes too late: the attempt has ended after ${show(attempt)}`
    )
  }
  if (Number.isFinite(attempt) && attempt >= total) {
    warn(
      "timeout-exceeds-deadline",
      ["timeout", "deadline"],
      `one attempt may take ${show(attempt)}, and everything together ${show(total)}: no other attempt fits in`
    )
  }
  return found
}
