// Several keys at once. What is in memory is answered without another thought; what is not is read from the shared store in
// one round trip, and what is not there either is loaded: one by one, or with `loadMany` together.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Option from "effect/Option"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import { Batch } from "./batch.ts"
import type { Engine } from "./engine.ts"
import type { LoadTimeoutError } from "./errors.ts"
import type { Prefetched } from "./flights.ts"
import { down } from "./level.ts"

type Answer<A, E> = Effect.Effect<Option.Option<A>, E | LoadTimeoutError>

const none: ReadonlyMap<string, Prefetched> = new Map()

/** What the shared store has of the keys that memory cannot answer. */
const prefetch = <A, E>(
  engine: Engine<A, E>,
  keys: ReadonlyArray<string>
): Effect.Effect<ReadonlyMap<string, Prefetched>> =>
  Effect.withFiber((fiber) => {
    const { level, loads: { flights, memory } } = engine
    if (level === undefined) return Effect.succeed(none)
    const at = monotonicMillis(fiber)
    const { version } = flights
    const missing = keys.filter((key) => {
      const entry = memory.get(key)
      return entry === undefined || at >= entry.staleUntil || !level.trusts(entry.generation, at)
    })
    if (missing.length < 2) return Effect.succeed(none)
    return Effect.map(level.ask(level.wiring.entries.read(missing)), (found) =>
      found === down
        ? none
        : new Map(missing.map((key, index) => [key, { found: found[index], at, version }])))
  })

/** Asks for the keys of a list, each of them once, and does with each answer what `one` says. */
const together = <A, E, B, E2>(
  engine: Engine<A, E>,
  keys: ReadonlyArray<string>,
  concurrency: number,
  one: (key: string, answer: Answer<A, E>) => Effect.Effect<B, E2>
): Effect.Effect<ReadonlyArray<B>, E2> => {
  const { config, loadMany, run } = engine.loads.parts
  if (loadMany === undefined) {
    return Effect.flatMap(
      prefetch(engine, keys),
      (prefetched) => Effect.forEach(keys, (key) => one(key, engine.ask(key, prefetched.get(key))), { concurrency })
    )
  }
  const chunks = Array.from(
    { length: Math.ceil(keys.length / config.maxBatch) },
    (_, index) => keys.slice(index * config.maxBatch, (index + 1) * config.maxBatch)
  )
  const chunk = (keys: ReadonlyArray<string>) =>
    Effect.flatMap(prefetch(engine, keys), (prefetched) => {
      const batch = new Batch(keys, loadMany, run)
      const settled = (key: string) =>
        Effect.onExitPrimitive(engine.ask(key, prefetched.get(key), batch), () => {
          batch.settle(key)
          return undefined
        })
      const all = Effect.forEach(keys, (key) => one(key, settled(key)), { concurrency: "unbounded" })
      return Effect.onExitPrimitive(all, () => {
        batch.close()
        return undefined
      })
    })
  return Effect.map(Effect.forEach(chunks, chunk, { concurrency }), (all) => all.flat())
}

/** In the order of the keys. */
export const getMany = <A, E>(
  engine: Engine<A, E>,
  keys: Iterable<string>,
  concurrency: number
): Effect.Effect<ReadonlyArray<Option.Option<A>>, E | LoadTimeoutError> =>
  Effect.withFiber((fiber) => {
    const all = Array.from(keys)
    const now = monotonicMillis(fiber)
    const found = new Map<string, Option.Option<A>>()
    const missing = new Set<string>()
    const answers = all.map((key) => {
      const exit = engine.hit(key, now)
      if (exit !== undefined && Exit.isSuccess(exit)) return exit.value
      // A failure is met again by those who ask for it.
      missing.add(key)
      return undefined
    })
    if (missing.size === 0) return Effect.succeed(answers as ReadonlyArray<Option.Option<A>>)
    const rest = together(
      engine,
      [...missing],
      concurrency,
      (key, answer) => Effect.map(answer, (value) => void found.set(key, value))
    )
    return Effect.map(rest, () => answers.map((answer, index) => answer ?? found.get(all[index]!)!))
  })

/** Asks for each key once; never fails. */
export const askAll = <A, E>(
  engine: Engine<A, E>,
  keys: ReadonlyArray<string>,
  concurrency: number,
  onDone: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
): Effect.Effect<void> =>
  Effect.asVoid(together(engine, keys, concurrency, (_, answer) => Effect.flatMap(Effect.exit(answer), onDone)))
