/**
 * A policy in the status tree: a node for the policy, and one below it for each of its strategies.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Status from "../../observability/Status.ts"
import * as AdaptiveLimit from "../AdaptiveLimit.ts"
import * as Bulkhead from "../Bulkhead.ts"
import * as CircuitBreaker from "../CircuitBreaker.ts"
import * as RateLimiter from "../RateLimiter.ts"
import type { DefaultsConfig } from "./Defaults.ts"
import { type Kind, order } from "./Options.ts"
import type { Parts } from "./Parts.ts"
import type { Counts, Stats } from "./Stats.ts"

/** What a policy and those of its strategies that keep a state have done, and do at the moment. */
export interface Metrics {
  readonly calls: Counts
  readonly rateLimiter?: RateLimiter.Metrics
  readonly bulkhead?: Bulkhead.Metrics
  readonly adaptiveLimit?: AdaptiveLimit.Metrics
  readonly circuitBreaker?: CircuitBreaker.Metrics
}

export const metricsOf = (
  { adaptiveLimit, bulkhead, circuitBreaker, rateLimiter }: Parts,
  stats: Stats
): Effect.Effect<Metrics> =>
  Effect.gen(function*() {
    return {
      calls: stats.counts,
      ...(rateLimiter && { rateLimiter: yield* RateLimiter.metrics(rateLimiter) }),
      ...(bulkhead && { bulkhead: yield* Bulkhead.metrics(bulkhead) }),
      ...(adaptiveLimit && { adaptiveLimit: yield* AdaptiveLimit.metrics(adaptiveLimit) }),
      ...(circuitBreaker && { circuitBreaker: yield* CircuitBreaker.metrics(circuitBreaker) })
    }
  })

/**
 * `degraded` while the circuit is not closed: the dependency is in trouble, but this process is not, and still answers.
 */
export const healthOf = (tag: CircuitBreaker.StateTag): "up" | "degraded" =>
  tag === "Open" || tag === "HalfOpen" || tag === "ForcedOpen" ? "degraded" : "up"

const stateNames: Record<CircuitBreaker.StateTag, string> = {
  Closed: "closed",
  Open: "open",
  HalfOpen: "half-open",
  ForcedOpen: "forced-open",
  Disabled: "disabled",
  MetricsOnly: "metrics-only"
}

type Read = (() => Readonly<Record<string, number>>) | undefined

// The counts are kept by the strategies: reading them is synchronous, and costs a call nothing.
const readers = (parts: Parts, stats: Stats): Effect.Effect<Partial<Record<Kind, Read>>> =>
  Effect.map(Effect.context<never>(), (context) => {
    const run = Effect.runSyncExitWith(context)
    const read = <A extends object>(metrics: Effect.Effect<A>): A | undefined =>
      Option.getOrUndefined(Exit.getSuccess(run(metrics)))
    const { adaptiveLimit, bulkhead, circuitBreaker, rateLimiter } = parts
    return {
      fallback: () => ({ answers: stats.fallbacks }),
      retry: () => ({ retries: stats.retries }),
      timeout: () => ({ timeouts: stats.timeouts }),
      rateLimiter: rateLimiter && (() => ({ ...read(RateLimiter.metrics(rateLimiter)) })),
      bulkhead: bulkhead && (() => ({ ...read(Bulkhead.metrics(bulkhead)) })),
      adaptiveLimit: adaptiveLimit && (() => ({ ...read(AdaptiveLimit.metrics(adaptiveLimit)) })),
      circuitBreaker: circuitBreaker && (() => ({ ...read(CircuitBreaker.metrics(circuitBreaker))?.total }))
    }
  })

const followCircuit = (
  breaker: CircuitBreaker.CircuitBreaker,
  policy: Status.StatusNode,
  strategy: Status.StatusNode
): Effect.Effect<unknown, never, Scope.Scope> => {
  const show = (tag: CircuitBreaker.StateTag) => {
    const health = healthOf(tag)
    const detail = health === "up" ? undefined : `circuit ${stateNames[tag]}`
    return Effect.andThen(
      strategy.set(stateNames[tag], { health }),
      policy.set(health === "up" ? "ready" : "degraded", { detail })
    )
  }
  const follow = Stream.runForEach(
    CircuitBreaker.transitions(breaker),
    ({ key = "", to }) => key === breaker.key ? show(to) : Effect.void
  )
  const first = Effect.flatMap(CircuitBreaker.state(breaker), ({ _tag }) => show(_tag))
  // In fibers of their own: the circuit of a fleet has to ask its store, and nobody shall wait for that.
  return Effect.andThen(
    Effect.forkScoped(follow, { startImmediately: true }),
    Effect.forkScoped(first, { startImmediately: true })
  )
}

/** Registers a policy in the status tree, if there is one, until the scope closes. */
export const report = (
  parts: Parts,
  stats: Stats,
  defaults: DefaultsConfig
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const found = yield* Effect.serviceOption(Status.Status)
    if (Option.isNone(found) || !defaults.enableHealthChecks) return
    const { name } = parts
    const counters = defaults.enableMetrics ? yield* readers(parts, stats) : {}
    const register = Effect.fnUntraced(function*(options: Status.RegisterOptions) {
      const node = yield* Effect.orDie(found.value.register(options))
      yield* node.set("ready")
      return node
    })
    const policy = yield* register({
      id: name,
      kind: "policy",
      counters: defaults.enableMetrics ? () => ({ ...stats.counts }) : undefined
    })
    if (defaults.enableMetrics) stats.operation = policy.operation("call")
    for (const kind of order) {
      if (parts.layers[kind] === undefined) continue
      const strategy = yield* register({
        id: `${name}/${kind}`,
        kind: "strategy",
        parent: name,
        counters: counters[kind]
      })
      if (kind === "circuitBreaker" && parts.circuitBreaker !== undefined) {
        yield* followCircuit(parts.circuitBreaker, policy, strategy)
      }
    }
  })
