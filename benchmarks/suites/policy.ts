import * as Cockatiel from "cockatiel"
import * as Effect from "effect/Effect"
import * as Peer from "effect/persistence/CircuitBreaker"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Bulkhead from "../../src/resilience/Bulkhead.ts"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as Policy from "../../src/resilience/Policy.ts"
import * as Retry from "../../src/resilience/Retry.ts"
import * as Timeout from "../../src/resilience/Timeout.ts"
import * as Floor from "../floors/policy.ts"
import { group } from "../harness/loops.ts"
import type { Case, Suite } from "../harness/Suite.ts"
import * as Work from "../harness/work.ts"

const groups = { quick: "work that does not wait", waiting: "work that waits for a microtask" }

/** A policy of four strategies. */
const policy = () =>
  Effect.runPromise(
    Policy.make("ours", {
      retry: { times: 3 },
      bulkhead: { maxConcurrent: 10 },
      circuitBreaker: { trip: CircuitBreaker.consecutive(5) },
      timeout: "2 seconds",
      repeatable: true
    }).pipe(Scope.provide(Scope.makeUnsafe()))
  )

/** A pipe of our four combinators. */
const pipe = async () => {
  const breaker = CircuitBreaker.protect(
    await Effect.runPromise(CircuitBreaker.make({ name: "ours", trip: CircuitBreaker.consecutive(5) }))
  )
  const bulkhead = Bulkhead.protect(await Effect.runPromise(Bulkhead.make({ maxConcurrent: 10 })))
  const timeout = Timeout.timeout("2 seconds")
  const retry = Retry.retry({ times: 3 })
  return <A, E>(work: Effect.Effect<A, E>) => work.pipe(timeout, bulkhead, breaker, retry)
}

/** Effect's own pieces. */
const tower = async () => {
  const breaker = await Effect.runPromise(
    Peer.make({ tripPolicy: Peer.consecutive(5), openDuration: "1 minute" }).pipe(
      Effect.provide(Peer.layerStoreMemory()),
      Scope.provide(Scope.makeUnsafe())
    )
  )
  const semaphore = Semaphore.makeUnsafe(10)
  return <A, E>(work: Effect.Effect<A, E>) =>
    work.pipe(
      Effect.timeout("2 seconds"),
      semaphore.withPermit,
      breaker.execute({ key: "key" }),
      Effect.retry({ times: 3 })
    )
}

const cockatiel = () =>
  Cockatiel.wrap(
    Cockatiel.retry(Cockatiel.handleAll, { maxAttempts: 3, backoff: new Cockatiel.ExponentialBackoff() }),
    Cockatiel.circuitBreaker(Cockatiel.handleAll, {
      halfOpenAfter: 60_000,
      breaker: new Cockatiel.ConsecutiveBreaker(5)
    }),
    Cockatiel.bulkhead(10, 0),
    Cockatiel.timeout(2000, Cockatiel.TimeoutStrategy.Aggressive)
  )

const cases = async (
  name: string,
  work: Effect.Effect<number, Error>,
  promised: () => Promise<number>
): Promise<Array<Case>> => {
  const { effect, promise } = group(name)
  const ours = await policy()
  const piped = await pipe()
  const floor = Floor.make({ times: 3, millis: 2000, failures: 5, places: 10 })
  const theirs = await tower()
  const other = cockatiel()
  return [
    effect("seaworthy, a policy", "ours", () => Policy.protect(work, ours)),
    effect("seaworthy, four in a pipe", "ours", () => piped(work)),
    effect("floor, fused by hand", "floor", () => floor(work)),
    effect("no policy", "bare", () => work),
    effect("effect's own four", "peer", () => theirs(work)),
    promise("cockatiel", "peer", () => other.execute(promised))
  ]
}

export const suite: Suite = {
  about: "Retry, circuit breaker, bulkhead and time-out around one call that succeeds.",
  metric: "cpu",
  goals: [
    { group: groups.quick, ratio: 2 },
    { group: groups.quick, against: "effect's own four", ratio: 1 / 8 },
    { group: groups.quick, against: "cockatiel", ratio: 1 / 10 },
    { group: groups.waiting, ratio: 2 }
  ],
  make: async () => ({
    cases: [
      ...await cases(groups.quick, Work.quick, Work.quickPromise),
      ...await cases(groups.waiting, Work.waiting, Work.waitingPromise)
    ]
  })
}
