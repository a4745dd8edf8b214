/**
 * A policy as data, and drawn from that.
 */
import * as Duration from "effect/Duration"
import * as Schedule from "effect/Schedule"
import { type Kind, order } from "./Options.ts"
import type { Parts } from "./Parts.ts"
import { type Warning, warningsOf } from "./Warnings.ts"

/** One strategy of a policy. */
export interface StrategyDescription {
  readonly kind: Kind
  readonly name: string
  /** Is it one that the policy was given, and may share with others? Its settings are then not known. */
  readonly shared: boolean
  /** What it was told, defaults included; durations as text. */
  readonly settings: Readonly<Record<string, string | number | ReadonlyArray<string>>>
  /** The settings in words. */
  readonly summary: string
}

/** A policy as data. */
export interface Description {
  readonly name: string
  /** In the canonical order, outermost first. */
  readonly strategies: ReadonlyArray<StrategyDescription>
  readonly warnings: ReadonlyArray<Warning>
}

/** What the strategies are called in pictures. */
const titles: Record<Kind, string> = {
  fallback: "fallback",
  deadline: "deadline",
  retry: "retry",
  rateLimiter: "rate limiter",
  bulkhead: "bulkhead",
  adaptiveLimit: "adaptive limit",
  circuitBreaker: "circuit breaker",
  hedge: "hedge",
  timeout: "time-out"
}

const show = (input: Duration.Input): string => Duration.format(Duration.fromInputUnsafe(input))

type Facts = Pick<StrategyDescription, "name" | "settings" | "summary"> & { readonly shared?: boolean }

const shared = (name: string): Facts => ({ name, settings: {}, summary: `"${name}", shared`, shared: true })

const percent = (share: number): string => `${Math.round(share * 1000) / 10} %`

const facts: { readonly [K in Kind]: (parts: Parts) => Facts | undefined } = {
  fallback: ({ fallback, name }) => {
    if (fallback === undefined) return undefined
    const strategies = fallback.strategies.map((strategy) => strategy.name)
    return { name, settings: { strategies }, summary: strategies.join(", then ") }
  },
  deadline: ({ deadline }) =>
    deadline && {
      name: deadline.name,
      settings: { duration: show(deadline.millis) },
      summary: `${show(deadline.millis)} for everything`
    },
  retry: ({ name, retry }) => {
    if (retry === undefined) return undefined
    const delays = retry.schedule === undefined ? "full jitter from 100ms to 5s" : "own schedule"
    return {
      name: retry.name ?? name,
      settings: {
        ...(retry.times === undefined ? undefined : { times: retry.times }),
        delays,
        ...(retry.totalDuration === undefined ? undefined : { totalDuration: show(retry.totalDuration) }),
        ...(retry.budget === undefined ? undefined : { budget: retry.budget.name })
      },
      summary: retry.times === undefined ? delays : `up to ${retry.times} times, ${delays}`
    }
  },
  rateLimiter: ({ made, rateLimiter }) => {
    if (rateLimiter === undefined) return undefined
    if (made.rateLimiter === undefined) return shared(rateLimiter.name)
    const { algorithm, maxWait = 0 } = made.rateLimiter
    const window = Duration.format(Duration.millis(algorithm.windowMicros / 1000))
    return {
      name: rateLimiter.name,
      settings: { algorithm: algorithm._tag, limit: algorithm.limit, window, maxWait: show(maxWait) },
      summary: `${algorithm.limit} in ${window}`
    }
  },
  bulkhead: ({ bulkhead, made }) => {
    if (bulkhead === undefined) return undefined
    if (made.bulkhead === undefined) return shared(bulkhead.name)
    const { maxConcurrent, maxQueue = 0, maxWait = "30 seconds" } = made.bulkhead
    return {
      name: bulkhead.name,
      settings: { maxConcurrent, maxQueue, maxWait: show(maxWait) },
      summary: `${maxConcurrent} at once, queue of ${maxQueue}`
    }
  },
  adaptiveLimit: ({ adaptiveLimit, made }) => {
    if (adaptiveLimit === undefined) return undefined
    if (made.adaptiveLimit === undefined) return shared(adaptiveLimit.name)
    const { algorithm, maxQueue = 0, maxWait = "30 seconds" } = made.adaptiveLimit
    const bounds = algorithm && { algorithm: algorithm._tag, min: algorithm.min, max: algorithm.max }
    return {
      name: adaptiveLimit.name,
      settings: { ...bounds, maxQueue, maxWait: show(maxWait) },
      summary: `${
        bounds === undefined ? "gradient" : `${bounds.algorithm}, ${bounds.min} to ${bounds.max}`
      } at once, queue of ${maxQueue}`
    }
  },
  circuitBreaker: ({ circuitBreaker, made }) => {
    if (circuitBreaker === undefined) return undefined
    if (made.circuitBreaker === undefined) return shared(circuitBreaker.name)
    const { openTime = "1 minute", trip } = made.circuitBreaker
    const opens: Array<string> = []
    if (trip?._tag === "Consecutive") opens.push(`${trip.failures} failures in a row`)
    else if (trip !== undefined) {
      const window = trip.window._tag === "Count" ? `${trip.window.calls} calls` : show(trip.window.millis)
      if (trip.failures !== undefined) opens.push(`${percent(trip.failures)} failures in ${window}`)
      if (trip.slow !== undefined) opens.push(`${percent(trip.slow.threshold)} slow calls in ${window}`)
    }
    const open = Schedule.isSchedule(openTime) ? "own schedule" : show(openTime)
    return {
      name: circuitBreaker.name,
      settings: { trip: opens.join(" or "), openTime: open },
      summary: `opens at ${opens.join(" or ")}, for ${open}`
    }
  },
  hedge: ({ hedge, name }) => {
    if (hedge === undefined) return undefined
    const { delayMillis, maxHedges } = hedge
    const after = delayMillis === undefined ? "a learned percentile" : show(delayMillis)
    return { name, settings: { delay: after, maxHedges }, summary: `a copy after ${after}, up to ${maxHedges}` }
  },
  timeout: ({ timeout }) =>
    timeout && {
      name: timeout.name,
      settings: { duration: show(timeout.millis) },
      summary: `${show(timeout.millis)} for an attempt`
    }
}

/** The description of a policy. */
export const describeParts = (parts: Parts): Description => ({
  name: parts.name,
  strategies: order.flatMap((kind) => {
    const found = facts[kind](parts)
    return found === undefined ? [] : [{ kind, shared: false, ...found }]
  }),
  warnings: warningsOf(parts)
})

// A name of the user's must not break out of its line or its quotes.
const line = (text: string): string => text.replace(/[\r\n]+/g, " ")

const quoted = (text: string): string => `"${line(text).replace(/"/g, "#quot;").replace(/</g, "#lt;")}"`

/** As lines of text, from the outermost strategy to the work. */
export const drawText = ({ name, strategies, warnings }: Description): string =>
  [
    `policy "${line(name)}"`,
    ...[...strategies.map(({ kind, summary }) => `${titles[kind]}: ${line(summary)}`), "the work"].map(
      (text, depth) => `${"   ".repeat(depth)}└─ ${text}`
    ),
    ...warnings.map(({ message }) => `! ${line(message)}`)
  ].join("\n")

/** As a Mermaid flow chart, from the caller to the work. */
export const drawMermaid = ({ name, strategies }: Description): string => {
  const nodes = strategies.map(({ kind, summary }) => ({
    id: kind,
    box: `${kind}["${titles[kind]}<br/>${quoted(summary).slice(1, -1)}"]`
  }))
  return [
    "flowchart LR",
    `  caller([${quoted(name)}])`,
    ...nodes.map(({ box }) => `  ${box}`),
    "  work([\"the work\"])",
    `  ${["caller", ...nodes.map(({ id }) => id), "work"].join(" --> ")}`
  ].join("\n")
}
