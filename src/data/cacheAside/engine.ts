// The cache in this process: what a `get` is answered, what is loaded for it, and what becomes of that. What processes
// share is in `sharedLoad.ts`.
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { Counter } from "../../observability/Status.ts"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import { reportUnhandled } from "../../resilience/internal/unhandled.ts"
import * as Entry from "./entry.ts"
import { LoadTimeoutError } from "./errors.ts"
import { type Flight, Flights, type Prefetched } from "./flights.ts"
import type { Level } from "./level.ts"
import * as Memory from "./memory.ts"
import type { Meter } from "./metrics.ts"
import type { Config } from "./options.ts"
import type { Invalidation } from "./target.ts"

/** What a load has brought. */
export interface Loaded<A> {
  readonly option: Option.Option<A>
  readonly tags: ReadonlyArray<string>
  /** Milliseconds that it is fresh. */
  readonly fresh: number
  /** Milliseconds that the load took. */
  readonly delta: number
}

interface Backoff {
  readonly failures: number
  readonly retryAt: number
}

export interface Parts<A, E> {
  readonly config: Config<A>
  readonly load: (key: string) => Effect.Effect<A | Option.Option<A>, E>
  readonly meter: Meter
  /** In a fiber of its own, which ends with the cache. */
  readonly run: (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>
  /** How values are loaded where processes share them. */
  readonly program: ((engine: Engine<A, E>, flight: Flight<A, E>) => Effect.Effect<unknown, E>) | undefined
}

/** Keys whose pause after a failure is remembered. */
const maxBackoffs = 10_000

const random = (fiber: Fiber.Fiber<unknown, unknown>) => () => fiber.getRef(Random.Random).nextDoubleUnsafe()

export class Engine<A, E> {
  readonly parts: Parts<A, E>
  readonly memory: Memory.Memory<A, E>
  readonly flights: Flights<A, E>
  /** Set once, when the cache is made; `undefined` where nothing is shared. */
  level: Level | undefined
  readonly #backoffs = new Map<string, Backoff>()
  readonly #entries: ReadonlyMap<string, Entry.Entry<A, E>>
  readonly #hits: Counter

  constructor(parts: Parts<A, E>) {
    const { config, program, run } = parts
    this.parts = parts
    this.memory = Memory.make(config.capacity)
    this.#entries = this.memory.entries
    this.#hits = parts.meter.counters.hits
    this.flights = new Flights({
      run,
      softTimeout: config.softTimeout,
      hardTimeout: config.hardTimeout,
      program: program === undefined ? (flight) => this.loadLocally(flight) : (flight) => program(this, flight),
      onSoftTimeout: (flight, now) => {
        const entry = this.flights.fallback(flight, now)
        if (entry !== undefined) this.flights.answer(flight, entry, "stale")
      },
      onHardTimeout: (flight, now) => {
        this.parts.meter.counters.loadTimeouts.value++
        const after = Duration.millis(config.hardTimeout)
        this.fail(flight, Cause.fail(new LoadTimeoutError({ cache: config.name, after })), now)
        flight.fiber?.interruptUnsafe()
      }
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Asking
  // -------------------------------------------------------------------------------------------------------------------

  get(key: string, prefetched?: Prefetched): Effect.Effect<Option.Option<A>, E | LoadTimeoutError> {
    return Effect.withFiber((fiber) => {
      const entry = this.#entries.get(key)
      const now = monotonicMillis(fiber)
      const { level } = this
      if (
        entry !== undefined && now < entry.quietUntil &&
        (level === undefined || now < level.quietUntil && entry.generation === level.trust.generation)
      ) return this.#hit(entry)
      return this.#consider(key, entry, now, fiber, prefetched)
    })
  }

  #hit(entry: Entry.Entry<A, E>): Exit.Exit<Option.Option<A>, E> {
    // A write to each entry would cost more than the look at it.
    if (!entry.used) entry.used = true
    this.#hits.value++
    if (entry.kind !== "value") this.parts.meter.counters.negativeHits.value++
    return entry.exit
  }

  #consider(
    key: string,
    entry: Entry.Entry<A, E> | undefined,
    now: number,
    fiber: Fiber.Fiber<unknown, unknown>,
    prefetched: Prefetched | undefined
  ): Effect.Effect<Option.Option<A>, E | LoadTimeoutError> {
    const { level, parts } = this
    level?.attend(now)
    const trusted = entry !== undefined && (level === undefined || level.trusts(entry.generation, now))
    if (trusted) {
      const action = this.decide(key, entry, now, fiber)
      if (action === "refresh" || action === "revalidate") this.#startInBackground(key, entry, now)
      if (action === "serve" || action === "refresh") return this.#hit(entry)
      if (action === "stale" || action === "revalidate") {
        entry.used = true
        parts.meter.counters.stale.value++
        return entry.exit
      }
    }
    const fallback = trusted && !Entry.isGone(entry, now) ? entry : undefined
    return this.flights.wait(
      (now) =>
        this.flights.find(key, now) ??
          this.flights.start(key, {
            background: false,
            always: false,
            fallback,
            seen: fallback !== undefined,
            prefetched
          }),
      false,
      (flight) => {
        const { counters } = parts.meter
        if (flight.source === "stale") counters.stale.value++
        else if (flight.source === "load") counters.misses.value++
        else {
          counters.hits.value++
          if (flight.source === "store") counters.storeHits.value++
        }
      }
    )
  }

  decide(key: string, entry: Entry.Entry<A, E>, now: number, fiber: Fiber.Fiber<unknown, unknown>): Entry.Action {
    return Entry.decide(this.parts.config, entry, now, this.#backoffs.get(key)?.retryAt ?? -Infinity, random(fiber))
  }

  #startInBackground(key: string, entry: Entry.Entry<A, E>, now: number): void {
    if (this.flights.find(key, now) !== undefined) return
    this.parts.meter.counters.backgroundLoads.value++
    this.flights.start(key, { background: true, always: false, fallback: entry, seen: true })
  }

  /** Loads whatever is there; fails if the load does, and leaves what is there. */
  refresh(key: string): Effect.Effect<Option.Option<A>, E | LoadTimeoutError> {
    return this.flights.wait(
      (now) => {
        const running = this.flights.find(key, now)
        if (running !== undefined) {
          // Where values are shared, the other may end without a load.
          if (running.how.always || this.level === undefined) return running
          this.flights.detach(running)
        }
        const entry = this.memory.entries.get(key)
        const fallback = entry !== undefined && !Entry.isGone(entry, now) ? entry : undefined
        return this.flights.start(key, { background: false, always: true, fallback, seen: false })
      },
      true,
      () => {}
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Loading
  // -------------------------------------------------------------------------------------------------------------------

  /** Calls the loader. */
  load(key: string): Effect.Effect<Loaded<A>, E> {
    const { config, load, meter } = this.parts
    return Effect.withFiber((fiber) => {
      const start = monotonicMillis(fiber)
      meter.counters.loads.value++
      return Effect.map(
        Effect.onExitPrimitive(Effect.suspend(() => load(key)), (exit) => {
          if (Exit.isSuccess(exit) || !Exit.hasInterrupts(exit)) {
            meter.load.record(Exit.isSuccess(exit), monotonicMillis(fiber) - start)
          }
          return undefined
        }),
        (result) => {
          const option = Option.isOption(result) ? result : Option.some(result)
          const ttl = Option.isSome(option) ? config.ttl(option.value, key) : config.absentTtl
          return {
            option,
            tags: config.tags === undefined ? [] : Array.from(new Set(config.tags(key, option))),
            fresh: ttl > 0 ? Entry.jittered(ttl, config.jitter, random(fiber)()) : 0,
            delta: monotonicMillis(fiber) - start
          }
        }
      )
    })
  }

  /** Loads, and keeps the value in this process alone. */
  loadLocally(flight: Flight<A, E>, keep = true): Effect.Effect<unknown, E> {
    return Effect.withFiber((fiber) =>
      Effect.onExitPrimitive(this.load(flight.key), (exit) => {
        const now = monotonicMillis(fiber)
        if (Exit.isFailure(exit)) this.fail(flight, exit.cause, now)
        else this.succeed(flight, exit.value, keep ? this.entry(exit.value, "", now, Infinity) : undefined)
        return undefined
      })
    )
  }

  /** A loaded value, as it is kept from `at` on. */
  entry(loaded: Loaded<A>, id: string, at: number, goneAt: number): Entry.Entry<A, E> {
    const { delta, fresh, option, tags } = loaded
    return Entry.make<A, E>(this.parts.config, {
      exit: Exit.succeed(option),
      kind: Option.isSome(option) ? "value" : "absent",
      id,
      tags,
      delta,
      at,
      fresh,
      goneAt,
      generation: this.level?.trust.generation ?? 0
    })
  }

  /** The load brought a value; `entry` is what is to be kept in memory. */
  succeed(flight: Flight<A, E>, loaded: Loaded<A>, entry: Entry.Entry<A, E> | undefined): void {
    if (flight.ended) return
    this.#backoffs.delete(flight.key)
    if (!Deferred.isDoneUnsafe(flight.answer)) flight.source = "load"
    this.adopt(flight, loaded.tags, loaded.fresh > 0 ? entry : undefined)
    this.flights.end(flight, Exit.succeed(loaded.option))
  }

  /** Keeps what a flight has found in memory, unless it was invalidated meanwhile; nothing is what replaces too. */
  adopt(flight: Flight<A, E>, tags: ReadonlyArray<string>, entry: Entry.Entry<A, E> | undefined): void {
    flight.late = this.flights.isLate(flight, tags)
    if (flight.detached || flight.late) return
    if (entry === undefined) Memory.remove(this.memory, flight.key)
    else Memory.put(this.memory, flight.key, entry)
    this.parts.meter.counters.evictions.value = this.memory.evicted
  }

  /** The load failed. What is there stays, and is served to those who may have it. */
  fail(flight: Flight<A, E>, cause: Cause.Cause<E | LoadTimeoutError>, now: number): void {
    if (flight.ended) return
    const { config, meter, run } = this.parts
    const error = Cause.hasDies(cause) ? Option.none() : Cause.findErrorOption(cause)
    const exit = Exit.failCause(cause)
    if (!Cause.hasInterruptsOnly(cause)) {
      meter.counters.loadFailures.value++
      const failures = (this.#backoffs.get(flight.key)?.failures ?? 0) + 1
      this.postpone(flight.key, now + Entry.backoff(config.errorBackoff, config.maxErrorBackoff, failures), failures)
      if (flight.background && this.flights.isIdle(flight)) {
        run(reportUnhandled(`cache "${config.name}": a load in the background failed`, cause))
      }
    }
    const older = Option.isSome(error) ? this.flights.fallback(flight, now) : undefined
    if (older !== undefined) {
      flight.source = "stale"
      this.flights.end(flight, exit, older.exit)
      return
    }
    if (Option.isSome(error) && config.failureTtl > 0) this.#keepFailure(flight, exit, now)
    this.flights.end(flight, exit)
  }

  #keepFailure(flight: Flight<A, E>, exit: Exit.Exit<never, E | LoadTimeoutError>, now: number): void {
    const { config } = this.parts
    const present = this.memory.entries.get(flight.key)
    if (present !== undefined && !Entry.isGone(present, now)) return
    this.adopt(
      flight,
      [],
      Entry.make<A, E>(config, {
        // A hit gives it to callers of `get`, which fails with a time-out too.
        exit: exit as Exit.Exit<never, E>,
        kind: "failure",
        id: "",
        tags: [],
        delta: 0,
        at: now,
        fresh: config.failureTtl,
        goneAt: Infinity,
        generation: this.level?.trust.generation ?? 0
      })
    )
  }

  /** No load before that time, for callers that can be served an older value. */
  postpone(key: string, retryAt: number, failures: number): void {
    this.#backoffs.delete(key)
    if (this.#backoffs.size >= maxBackoffs) {
      for (const oldest of this.#backoffs.keys()) {
        this.#backoffs.delete(oldest)
        break
      }
    }
    this.#backoffs.set(key, { retryAt, failures })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Invalidating
  // -------------------------------------------------------------------------------------------------------------------

  /** In this process, at once. */
  invalidateLocally(invalidation: Invalidation): void {
    const { kind, of } = invalidation
    this.flights.invalidate(invalidation)
    if (kind === "key") {
      Memory.remove(this.memory, of)
      this.#backoffs.delete(of)
    } else if (kind === "tag") Memory.removeTag(this.memory, of)
    else if (kind === "prefix") Memory.removePrefix(this.memory, of)
    else {
      Memory.clear(this.memory)
      this.#backoffs.clear()
    }
  }

  invalidate(invalidation: Invalidation): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.parts.meter.counters.invalidations.value++
      this.invalidateLocally(invalidation)
      const { level } = this
      if (level === undefined) return Effect.void
      // Once more afterwards: a read may have found the old value before the store had removed it. It goes on when the
      // caller leaves, so that it is never half done.
      const shared = Effect.map(level.invalidate(invalidation), () => this.invalidateLocally(invalidation))
      return Effect.asVoid(Fiber.await(this.parts.run(shared)))
    })
  }
}
