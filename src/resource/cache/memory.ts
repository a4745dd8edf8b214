// The cache store in this process's memory.
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { StatusNode } from "../../observability/Status.ts"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import type { CacheStore } from "../CacheStore.ts"
import * as Lru from "./lru.ts"
import * as Ttl from "./ttl.ts"

/** The store over one map; counts into `node`. */
export const make = (
  lru: Lru.Lru<string>,
  defaultTtl: Duration.Input | undefined,
  node: StatusNode
): CacheStore["Service"] => {
  const fallback = Ttl.millis(defaultTtl, Infinity)
  const counters = {
    hits: node.counter("hits"),
    misses: node.counter("misses"),
    undecodable: node.counter("undecodable")
  }
  const evictions = node.counter("evictions")

  /** Reading the clock costs more than the operation, which takes less than a microsecond: it is counted as 0 ms. */
  const operation = (name: string) => {
    const { record } = node.operation(name)
    return <A>(f: (now: () => number) => A): Effect.Effect<A> =>
      Effect.withFiberSucceed((fiber: Fiber.Fiber<unknown, unknown>) => {
        const result = f(() => monotonicMillis(fiber))
        record(true, 0)
        return result
      })
  }
  const run = {
    get: operation("get"),
    set: operation("set"),
    delete: operation("delete"),
    has: operation("has"),
    getMany: operation("getMany"),
    setMany: operation("setMany"),
    deleteMany: operation("deleteMany"),
    clear: operation("clear")
  }

  const get = (key: string, now: () => number): Option.Option<string> => {
    const entry = Lru.get(lru, key, now)
    if (entry === undefined) {
      counters.misses.value++
      return Option.none()
    }
    counters.hits.value++
    return Option.some(entry.value)
  }
  const set = (key: string, value: string, ttl: number, now: () => number) => {
    if (ttl === 0) {
      Lru.remove(lru, key, now)
      return
    }
    Lru.set(lru, key, value, ttl === Infinity ? Infinity : now() + ttl)
    evictions.value = lru.evicted
  }

  return {
    driver: "memory",
    counters,
    get: (key) => run.get((now) => get(key, now)),
    set: (key, value, options) => run.set((now) => set(key, value, Ttl.millis(options?.ttl, fallback), now)),
    delete: (key) => run.delete((now) => Lru.remove(lru, key, now)),
    has: (key) => run.has((now) => Lru.has(lru, key, now)),
    getMany: (keys) => run.getMany((now) => Array.from(keys, (key) => get(key, now))),
    setMany: (entries, options) =>
      run.setMany((now) => {
        const ttl = Ttl.millis(options?.ttl, fallback)
        for (const [key, value] of entries) set(key, value, ttl, now)
      }),
    deleteMany: (keys) =>
      run.deleteMany((now) => {
        let removed = 0
        for (const key of keys) if (Lru.remove(lru, key, now)) removed++
        return removed
      }),
    clear: (prefix) => run.clear((now) => Lru.clear(lru, prefix ?? "", now()))
  }
}

/** A real round trip. Only for a new, empty map: later it could push out an entry. */
export const verify = (lru: Lru.Lru<string>): Effect.Effect<void> =>
  Effect.suspend(() => {
    const never = () => 0
    Lru.set(lru, "seaworthy:probe", "ok", Infinity)
    const found = Lru.get(lru, "seaworthy:probe", never)?.value
    const removed = Lru.remove(lru, "seaworthy:probe", never)
    return found === "ok" && removed ? Effect.void : Effect.die(new Error("the probe was not found again"))
  })
