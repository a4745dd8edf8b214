// What a cache counts; shown by its status node where there is a `Status`.
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { type Counter, type Operation, Status, type StatusNode } from "../../observability/Status.ts"

/**
 * What a cache has done so far, in this process. Every `get` is one of `hits`, `stale` and `misses`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Metrics {
  /** Served fresh, from memory or from the shared store. */
  readonly hits: number
  /** Those of `hits` that came from the shared store. */
  readonly storeHits: number
  /** Those of `hits` that said that there is no value, or gave a cached failure. */
  readonly negativeHits: number
  /** Served although the time to live was over: while it was loaded anew, or because loading failed or was slow. */
  readonly stale: number
  /** Had to wait for a load, whoever made it. */
  readonly misses: number
  /** Loads that were begun. */
  readonly loads: number
  readonly loadFailures: number
  readonly loadTimeouts: number
  /** Those of `loads` that nobody waited for at their start. */
  readonly backgroundLoads: number
  readonly invalidations: number
  /** Values that the application has set. */
  readonly sets: number
  readonly evictions: number
  /** Bytes of the shared store that were not a value of the schema: each was a miss. */
  readonly undecodable: number
  /** Values that the schema could not encode: they were served and not shared. */
  readonly unencodable: number
  /** Questions that the shared store did not answer. */
  readonly storeErrors: number
  /** Loaded values that the shared store refused: the lease was lost, or an invalidation came during the load. */
  readonly refusedWrites: number
  /** How often the memory level was distrusted after a gap in the invalidation bus. */
  readonly gaps: number
}

export type Counters = { readonly [Name in keyof Metrics]: Counter }

const names = [
  "hits",
  "storeHits",
  "negativeHits",
  "stale",
  "misses",
  "loads",
  "loadFailures",
  "loadTimeouts",
  "backgroundLoads",
  "invalidations",
  "sets",
  "evictions",
  "undecodable",
  "unencodable",
  "storeErrors",
  "refusedWrites",
  "gaps"
] as const satisfies ReadonlyArray<keyof Metrics>

export interface Meter {
  readonly node: StatusNode | undefined
  readonly counters: Counters
  readonly load: Operation
}

const record = <B>(f: (name: keyof Metrics) => B) =>
  Object.fromEntries(names.map((name) => [name, f(name)])) as { readonly [Name in keyof Metrics]: B }

/** Counts into a node of the status tree, where there is one. Two caches of one name are a defect. */
export const make = (name: string): Effect.Effect<Meter, never, Scope.Scope> =>
  Effect.gen(function*() {
    const status = yield* Effect.serviceOption(Status)
    if (Option.isNone(status)) {
      return { node: undefined, counters: record((): Counter => ({ value: 0 })), load: { record: () => {} } }
    }
    const node = yield* Effect.orDie(status.value.register({ id: `cache-aside:${name}`, kind: "strategy" }))
    yield* node.set("ready")
    return { node, counters: record((name) => node.counter(name)), load: node.operation("load") }
  })

export const read = (counters: Counters): Metrics => record((name) => counters[name].value)
