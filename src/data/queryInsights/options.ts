// The options of `QueryInsights`, checked and decoded once.
import type * as Duration from "effect/Duration"
import { integerAtLeast, nonNegativeMillis, positiveMillis } from "../../resilience/internal/options.ts"

/**
 * How often slow statements are explained.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExplainOptions {
  /** Shortest time between two plans of one statement. Default 10 minutes. */
  readonly every?: Duration.Input | undefined
  /** Most plans in any minute, of all statements. Default 6. */
  readonly perMinute?: number | undefined
}

/**
 * What `QueryInsights.layerWith` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A statement that takes at least this long is slow. Default 1 second. */
  readonly slowerThan?: Duration.Input | undefined
  /** Different statements that are kept, by their text without values; the one that was not slow for longest goes first. Default 200. */
  readonly maxStatements?: number | undefined
  /** Whether slow statements are explained, and how often. Default `true`. */
  readonly explain?: boolean | ExplainOptions | undefined
  /** Rows from which a table counts as large. Smaller ones get no advice. Default 10,000. */
  readonly largeTable?: number | undefined
  /** Runs of one query in one request from which it counts as repeated. Default 10. */
  readonly repeatedAt?: number | undefined
  /** Age of the server's statistics from which an index that was never used counts as unused. Default 1 day. */
  readonly statisticsAge?: Duration.Input | undefined
  /** Statements that are left out, by their text without values. It must be quick. Default: none. */
  readonly ignore?: ((text: string) => boolean) | undefined
}

export interface Plan {
  readonly slowMillis: number
  readonly maxStatements: number
  readonly explain: { readonly everyMillis: number; readonly perMinute: number } | undefined
  readonly largeTable: number
  readonly repeatedAt: number
  readonly statisticsAgeMillis: number
  readonly ignore: ((text: string) => boolean) | undefined
}

export const compile = (options: Options): Plan => {
  const explain = options.explain ?? true
  const detail = typeof explain === "boolean" ? {} : explain
  const sampling = {
    everyMillis: nonNegativeMillis("explain.every", detail.every ?? "10 minutes"),
    perMinute: integerAtLeast("explain.perMinute", 1, detail.perMinute ?? 6)
  }
  return {
    slowMillis: positiveMillis("slowerThan", options.slowerThan ?? "1 second"),
    maxStatements: integerAtLeast("maxStatements", 1, options.maxStatements ?? 200),
    explain: explain === false ? undefined : sampling,
    largeTable: integerAtLeast("largeTable", 1, options.largeTable ?? 10_000),
    repeatedAt: integerAtLeast("repeatedAt", 2, options.repeatedAt ?? 10),
    statisticsAgeMillis: nonNegativeMillis("statisticsAge", options.statisticsAge ?? "1 day"),
    ignore: options.ignore
  }
}
