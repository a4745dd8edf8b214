// Several keys at once: what memory does not have is read from the shared store in one round trip.
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import type { Engine } from "./engine.ts"
import type { LoadTimeoutError } from "./errors.ts"
import type { Prefetched } from "./flights.ts"
import { down } from "./level.ts"

const none: ReadonlyMap<string, Prefetched> = new Map()

/** What the shared store has of the keys that memory cannot answer. */
const prefetch = <A, E>(
  engine: Engine<A, E>,
  keys: ReadonlyArray<string>
): Effect.Effect<ReadonlyMap<string, Prefetched>> =>
  Effect.withFiber((fiber) => {
    const { flights, level, memory } = engine
    if (level === undefined) return Effect.succeed(none)
    const at = monotonicMillis(fiber)
    const { version } = flights
    const missing = keys.filter((key) => {
      const entry = memory.entries.get(key)
      return entry === undefined || at >= entry.staleUntil || !level.trusts(entry.generation, at)
    })
    if (missing.length < 2) return Effect.succeed(none)
    return Effect.map(level.ask(level.wiring.entries.read(missing)), (found) =>
      found === down
        ? none
        : new Map(missing.map((key, index) => [key, { found: found[index], at, version }])))
  })

export const getMany = <A, E>(
  engine: Engine<A, E>,
  keys: Iterable<string>,
  concurrency: number
): Effect.Effect<ReadonlyArray<Option.Option<A>>, E | LoadTimeoutError> => {
  const all = Array.from(keys)
  const unique = Array.from(new Set(all))
  return Effect.flatMap(prefetch(engine, unique), (prefetched) =>
    Effect.map(
      Effect.forEach(
        unique,
        (key) => Effect.map(engine.get(key, prefetched.get(key)), (found) => [key, found] as const),
        { concurrency }
      ),
      (found) => {
        const byKey = new Map(found)
        return all.map((key) => byKey.get(key)!)
      }
    ))
}
