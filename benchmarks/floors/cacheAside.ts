/** What a careful engineer writes without a library for it: an LRU cache, and a map of the loads that run. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { LRUCache } from "lru-cache"

type Load<A> = (key: string) => Promise<A>

/** In promises. */
export const promised = <A extends object>(load: Load<A>, options: { readonly max: number; readonly ttl: number }) => {
  const lru = new LRUCache<string, A>(options)
  const running = new Map<string, Promise<A>>()
  const miss = (key: string): Promise<A> => {
    let one = running.get(key)
    if (one === undefined) {
      one = load(key).then((value) => {
        lru.set(key, value)
        return value
      }).finally(() => running.delete(key))
      running.set(key, one)
    }
    return one
  }
  return { lru, get: (key: string): A | Promise<A> => lru.get(key) ?? miss(key) }
}

/** The same in effects. The first caller loads; if it is interrupted, so are those who wait for it. */
export const effects = <A extends object>(
  load: (key: string) => Effect.Effect<A>,
  options: { readonly max: number; readonly ttl: number }
) => {
  const lru = new LRUCache<string, A>(options)
  const running = new Map<string, Deferred.Deferred<A>>()
  const miss = (key: string): Effect.Effect<A> => {
    const one = running.get(key)
    if (one !== undefined) return Deferred.await(one)
    const deferred = Deferred.makeUnsafe<A>()
    running.set(key, deferred)
    return Effect.onExitPrimitive(load(key), (exit) => {
      running.delete(key)
      if (exit._tag === "Success") lru.set(key, exit.value)
      Deferred.doneUnsafe(deferred, exit)
      return undefined
    })
  }
  return {
    lru,
    get: (key: string): Effect.Effect<A> =>
      Effect.suspend(() => {
        const value = lru.get(key)
        return value === undefined ? miss(key) : Effect.succeed(value)
      })
  }
}
