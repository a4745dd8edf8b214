// The cache in this process: what a `get` is answered, and what is forgotten. What is loaded is in `loads.ts`.
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type { Counter } from "../../observability/Status.ts"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import type { Batch } from "./batch.ts"
import * as Entry from "./entry.ts"
import type { LoadTimeoutError } from "./errors.ts"
import type { Flight, Prefetched } from "./flights.ts"
import type { Level } from "./level.ts"
import { Loads, type Parts } from "./loads.ts"
import { type Memory, negative, used } from "./memory.ts"
import { Reads } from "./reads.ts"
import { seal, type SharedParts } from "./sharedLoad.ts"
import type { Invalidation } from "./target.ts"

type Answer<A, E> = Effect.Effect<Option.Option<A>, E | LoadTimeoutError>

export class Engine<A, E> {
  readonly loads: Loads<A, E>
  readonly memory: Memory<A, E>
  /** `undefined` where nothing is shared, as the two below. */
  level: Level | undefined
  #shared: SharedParts<A> | undefined
  #reads: Reads<A, E> | undefined
  readonly hits: Counter

  constructor(parts: Parts<A, E>) {
    this.loads = new Loads(parts)
    this.memory = this.loads.memory
    this.hits = parts.meter.counters.hits
  }

  /** To be called once, before anything is asked. */
  share(shared: SharedParts<A>): void {
    this.level = shared.level
    this.loads.level = shared.level
    this.#shared = shared
    this.#reads = new Reads(this.loads, shared, (key, prefetched) => this.#wait(key, undefined, prefetched))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Asking
  // -------------------------------------------------------------------------------------------------------------------

  get(key: string): Answer<A, E> {
    return Effect.withFiber((fiber) => {
      const now = monotonicMillis(fiber)
      return this.hit(key, now) ?? this.#consider(key, now, fiber, undefined, undefined)
    })
  }

  /** The same with what was read of the shared store, or for a batch of loads. */
  ask(key: string, prefetched: Prefetched | undefined, batch?: Batch<A, E>): Answer<A, E> {
    return Effect.withFiber((fiber) => this.#consider(key, monotonicMillis(fiber), fiber, prefetched, batch))
  }

  /** What memory has, if a hit is all that it is. */
  hit(key: string, now: number): Exit.Exit<Option.Option<A>, E> | undefined {
    const { level, memory } = this
    const slot = memory.slots.get(key)
    return slot !== undefined && now < memory.quiet[slot]! && (level === undefined || now < level.quietUntil)
      ? this.#served(slot)
      : undefined
  }

  #served(slot: number): Exit.Exit<Option.Option<A>, E> {
    const { flags } = this.memory
    // A write to each would cost more than the look at it.
    if (flags[slot] !== used) this.#mark(slot)
    this.hits.value++
    return this.memory.exits[slot]!
  }

  #mark(slot: number): void {
    const { flags } = this.memory
    if ((flags[slot]! & negative) !== 0) this.loads.parts.meter.counters.negativeHits.value++
    flags[slot]! |= used
  }

  #consider(
    key: string,
    now: number,
    fiber: Fiber.Fiber<unknown, unknown>,
    prefetched: Prefetched | undefined,
    batch: Batch<A, E> | undefined
  ): Answer<A, E> {
    const { level, loads, memory } = this
    level?.attend(now)
    const entry = memory.get(key)
    const trusted = entry !== undefined && (level === undefined || level.trusts(entry.generation, now))
    if (trusted) {
      const action = loads.decide(key, entry, now, fiber)
      if (action === "refresh" || action === "revalidate") this.#startInBackground(key, entry, now)
      if (action !== "load") {
        const { hits, negativeHits, stale } = loads.parts.meter.counters
        memory.touch(key)
        if (action === "stale" || action === "revalidate") stale.value++
        else {
          hits.value++
          if (entry.kind !== "value") negativeHits.value++
        }
        return entry.exit
      }
    }
    const fallback = trusted && !Entry.isGone(entry, now) ? entry : undefined
    // What memory has ended with its original, so that there is nothing to be read.
    if (fallback === undefined && !loads.flights.joinable.has(key)) {
      const read = this.#read(key, now, fiber, prefetched, batch)
      if (read !== undefined) return read
    }
    return this.#wait(key, fallback, prefetched, batch)
  }

  #read(
    key: string,
    now: number,
    fiber: Fiber.Fiber<unknown, unknown>,
    prefetched: Prefetched | undefined,
    batch: Batch<A, E> | undefined
  ): Answer<A, E> | undefined {
    const reads = this.#reads
    if (reads === undefined) return undefined
    if (prefetched !== undefined) {
      // What was read before an invalidation does not count.
      if (prefetched.version !== this.loads.flights.version) return undefined
      const exit = reads.serve(key, prefetched, fiber)
      return exit === undefined ? undefined : reads.count(exit)
    }
    return batch !== undefined || this.level!.isDown ? undefined : reads.ask(key, now, fiber)
  }

  /** Waits for the load of the key. */
  #wait(
    key: string,
    fallback: Entry.Entry<A, E> | undefined,
    prefetched: Prefetched | undefined,
    batch?: Batch<A, E>
  ): Answer<A, E> {
    const { flights } = this.loads
    return flights.wait(
      (now) => {
        const running = flights.find(key, now)
        if (running === undefined) {
          const seen = fallback !== undefined
          return flights.start(key, { background: false, always: false, fallback, seen, prefetched, batch })
        }
        batch?.settle(key)
        return running
      },
      false,
      this.#count
    )
  }

  readonly #count = (flight: Flight<A, E>): void => {
    const { counters } = this.loads.parts.meter
    if (flight.source === "stale") counters.stale.value++
    else if (flight.source === "load") counters.misses.value++
    else {
      counters.hits.value++
      if (flight.source === "store") counters.storeHits.value++
    }
  }

  #startInBackground(key: string, entry: Entry.Entry<A, E>, now: number): void {
    const { flights, parts } = this.loads
    if (flights.find(key, now) !== undefined) return
    parts.meter.counters.backgroundLoads.value++
    flights.start(key, { background: true, always: false, fallback: entry, seen: true })
  }

  /** Loads whatever is there; fails if the load does, and leaves what is there. */
  refresh(key: string): Answer<A, E> {
    const { flights } = this.loads
    return flights.wait(
      (now) => {
        const running = flights.find(key, now)
        if (running !== undefined) {
          // Where values are shared, the other may end without a load.
          if (running.how.always || this.level === undefined) return running
          flights.detach(running)
        }
        const entry = this.memory.get(key)
        const fallback = entry !== undefined && !Entry.isGone(entry, now) ? entry : undefined
        return flights.start(key, { background: false, always: true, fallback, seen: false })
      },
      true,
      () => {}
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Forgetting and setting
  // -------------------------------------------------------------------------------------------------------------------

  /** In this process, at once. */
  invalidateLocally(invalidation: Invalidation): void {
    const { kind, of } = invalidation
    const { loads, memory } = this
    loads.flights.invalidate(invalidation)
    this.#reads?.invalidate(invalidation)
    if (kind === "key") {
      memory.remove(of)
      loads.forgive(of)
    } else if (kind === "tag") memory.removeTag(of)
    else if (kind === "prefix") memory.removePrefix(of)
    else {
      memory.clear()
      loads.forgive(undefined)
    }
  }

  /** Invalidations may have been missed: memory is looked at anew, and what is being loaded is not kept. */
  distrust(): void {
    const all: Invalidation = { kind: "all", of: "" }
    this.memory.disturb()
    this.loads.flights.invalidate(all)
    this.#reads?.invalidate(all)
  }

  invalidate(invalidation: Invalidation): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.loads.parts.meter.counters.invalidations.value++
      this.invalidateLocally(invalidation)
      const { level } = this
      // Once more afterwards: a read may have found the old value before the store had removed it.
      return level === undefined
        ? Effect.void
        : this.#toTheEnd(Effect.map(level.invalidate(invalidation), () => this.invalidateLocally(invalidation)))
    })
  }

  /** It goes on when the caller leaves, so that it is never half done. */
  #toTheEnd(work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.asVoid(Fiber.await(this.loads.parts.run(work)))
  }

  /** Replaces what is there; loads that had begun before do not replace it again. */
  set(key: string, value: A | Option.Option<A>): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      const { loads } = this
      const { config, meter } = loads.parts
      const forgotten: Invalidation = { kind: "key", of: key }
      const loaded = loads.appraise(key, value, 0, fiber)
      const at = monotonicMillis(fiber)
      meter.counters.sets.value++
      this.invalidateLocally(forgotten)
      if (this.#shared === undefined) {
        if (loaded.fresh > 0) loads.keep(key, loads.entry(loaded, "", at, Infinity))
        return Effect.void
      }
      const { codec, level } = this.#shared
      const { version } = loads.flights
      const id = level.token()
      const sealed = seal(loads, codec, loaded, id)
      // What cannot be shared must not hide behind an older value.
      if (sealed === undefined) return this.invalidate(forgotten)
      const { life, payload } = sealed
      const shared = level.set({ key, payload, ttl: life, tags: loaded.tags })
      return this.#toTheEnd(Effect.map(shared, () => {
        const kept = config.storage === "two-level" && loaded.fresh > 0 && loads.flights.version === version
        // Once more: a read may have found the older value.
        this.invalidateLocally(forgotten)
        if (kept) loads.keep(key, loads.entry(loaded, id, at, at + life))
      }))
    })
  }
}
