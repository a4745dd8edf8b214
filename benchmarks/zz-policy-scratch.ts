import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Policy from "/work/main/src/resilience/Policy.ts"
import * as Bulkhead from "/work/main/src/resilience/Bulkhead.ts"
import * as CircuitBreaker from "/work/main/src/resilience/CircuitBreaker.ts"
import * as Retry from "/work/main/src/resilience/Retry.ts"
import * as Timeout from "/work/main/src/resilience/Timeout.ts"
import * as Floor from "/work/main/benchmarks/floors/policy.ts"
import * as Work from "/work/main/benchmarks/harness/work.ts"
import { effectLoop } from "/work/main/benchmarks/harness/loops.ts"

const scope = Scope.makeUnsafe()
const run = <A>(e: Effect.Effect<A, never, Scope.Scope>) => Effect.runPromise(Scope.provide(e, scope))
const policy = await run(Policy.make("p", { retry: { times: 3 }, circuitBreaker: { trip: CircuitBreaker.consecutive(5) }, bulkhead: { maxConcurrent: 10 }, timeout: "2 seconds", repeatable: true }))
const ours = Policy.protect(policy)
const breaker = CircuitBreaker.protect(await run(CircuitBreaker.make({ name: "ours", trip: CircuitBreaker.consecutive(5) })))
const bulkhead = Bulkhead.protect(await run(Bulkhead.make({ maxConcurrent: 10 })))
const timeout = Timeout.timeout("2 seconds")
const retry = Retry.retry({ times: 3 })
const floor = Floor.make({ times: 3, millis: 2000, failures: 5, places: 10 })
const which = process.argv[2] ?? "quick"
const work = which === "quick" ? Work.quick : Work.waiting
const cases: Record<string, (n: number) => Promise<void>> = {
  policy: effectLoop(() => ours(work)),
  pipe: effectLoop(() => work.pipe(timeout, breaker, bulkhead, retry)),
  floor: effectLoop(() => floor(work)),
  timeout: effectLoop(() => timeout(work)),
  bare: effectLoop(() => work)
}
const n = which === "quick" ? 40000 : 15000
const results: Record<string, number[]> = {}
for (let round = 0; round < 15; round++) {
  for (const [name, f] of Object.entries(cases)) {
    const c0 = process.cpuUsage()
    await f(n)
    const c = process.cpuUsage(c0)
    ;(results[name] ??= []).push((c.user + c.system) * 1000 / n)
  }
}
for (const [name, xs] of Object.entries(results)) {
  xs.splice(0, 3); xs.sort((a, b) => a - b)
  console.log(name.padEnd(10), "median", xs[xs.length >> 1]!.toFixed(0), "min", xs[0]!.toFixed(0))
}
await Effect.runPromise(Scope.close(scope, (await import("effect/Exit")).void))
