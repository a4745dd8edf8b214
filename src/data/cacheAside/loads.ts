// What is loaded in this process, and what becomes of it: kept, or put off after a failure. What processes share is in
// `sharedLoad.ts`.
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import { reportUnhandled } from "../../resilience/internal/unhandled.ts"
import type { LoadMany } from "./batch.ts"
import * as Entry from "./entry.ts"
import { LoadTimeoutError } from "./errors.ts"
import { type Flight, Flights } from "./flights.ts"
import type { Level } from "./level.ts"
import { Memory } from "./memory.ts"
import type { Meter } from "./metrics.ts"
import type { Config } from "./options.ts"

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
  readonly loadMany: LoadMany<A, E> | undefined
  readonly meter: Meter
  /** In a fiber of its own, which ends with the cache. */
  readonly run: (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>
  /** How values are loaded where processes share them. */
  readonly program: ((loads: Loads<A, E>, flight: Flight<A, E>) => Effect.Effect<unknown, E>) | undefined
}

/** Keys whose pause after a failure is remembered. */
const maxBackoffs = 10_000

const random = (fiber: Fiber.Fiber<unknown, unknown>) => () => fiber.getRef(Random.Random).nextDoubleUnsafe()

export class Loads<A, E> {
  readonly parts: Parts<A, E>
  readonly memory: Memory<A, E>
  readonly flights: Flights<A, E>
  /** Set once, when the cache is made; `undefined` where nothing is shared. */
  level: Level | undefined
  readonly #backoffs = new Map<string, Backoff>()

  constructor(parts: Parts<A, E>) {
    const { config, program, run } = parts
    this.parts = parts
    this.memory = new Memory(config.capacity)
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

  decide(key: string, entry: Entry.Entry<A, E>, now: number, fiber: Fiber.Fiber<unknown, unknown>): Entry.Action {
    return Entry.decide(this.parts.config, entry, now, this.#backoffs.get(key)?.retryAt ?? -Infinity, random(fiber))
  }

  /** Calls the loader. */
  load({ how: { batch }, key }: Flight<A, E>): Effect.Effect<Loaded<A>, E> {
    const { load, meter } = this.parts
    return Effect.withFiber((fiber) => {
      const start = monotonicMillis(fiber)
      meter.counters.loads.value++
      return Effect.map(
        Effect.onExitPrimitive(Effect.suspend(() => batch === undefined ? load(key) : batch.load(key)), (exit) => {
          if (Exit.isSuccess(exit) || !Exit.hasInterrupts(exit)) {
            meter.load.record(Exit.isSuccess(exit), monotonicMillis(fiber) - start)
          }
          return undefined
        }),
        (result) => this.appraise(key, result, monotonicMillis(fiber) - start, fiber)
      )
    })
  }

  /** What a value is worth: for how long, and under which tags. */
  appraise(
    key: string,
    value: A | Option.Option<A>,
    delta: number,
    fiber: Fiber.Fiber<unknown, unknown>
  ): Loaded<A> {
    const { config } = this.parts
    const option = Option.isOption(value) ? value : Option.some(value)
    const ttl = Option.isSome(option) ? config.ttl(option.value, key) : config.absentTtl
    return {
      option,
      tags: config.tags === undefined ? [] : Array.from(new Set(config.tags(key, option))),
      fresh: ttl > 0 ? Entry.jittered(ttl, config.jitter, random(fiber)()) : 0,
      delta
    }
  }

  /** Loads, and keeps the value in this process alone. */
  loadLocally(flight: Flight<A, E>, keep = true): Effect.Effect<unknown, E> {
    return Effect.withFiber((fiber) =>
      Effect.onExitPrimitive(this.load(flight), (exit) => {
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
    this.keep(flight.key, entry)
  }

  keep(key: string, entry: Entry.Entry<A, E> | undefined): void {
    if (entry === undefined) return this.memory.remove(key)
    this.memory.put(key, entry)
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
    const present = this.memory.get(flight.key)
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

  /** Nothing is known of earlier failures any more: of one key, or of all. */
  forgive(key: string | undefined): void {
    if (key === undefined) this.#backoffs.clear()
    else this.#backoffs.delete(key)
  }
}
