// How a value is found or loaded where processes share them: the store gives the entry, or the lease to load it, or says
// that somebody else has the lease. The lease is fenced: the store takes a value only with the token of the lease that
// still stands, and only if nothing that concerns it was invalidated since the lease was given.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import type { Codec } from "../../resource/cache/typed.ts"
import type { Engine, Loaded } from "./engine.ts"
import * as Entry from "./entry.ts"
import type { Flight } from "./flights.ts"
import { down, type Level } from "./level.ts"
import * as Payload from "./payload.ts"
import type { Found, Position } from "./Store.ts"

/** Milliseconds between two looks whether another process is done: doubling from the first to the last. */
const firstPoll = 5
const lastPoll = 100

export interface SharedParts<A> {
  readonly codec: Codec<A>
  readonly level: Level
}

class SharedLoad<A, E> {
  readonly engine: Engine<A, E>
  readonly flight: Flight<A, E>
  readonly parts: SharedParts<A>
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly token: string
  /** `id` of the entry that is to be replaced; `undefined` for any. */
  seen: string | undefined
  /** May the lease be ours, for all we know? */
  leased = false

  constructor(engine: Engine<A, E>, flight: Flight<A, E>, parts: SharedParts<A>, fiber: Fiber.Fiber<unknown, unknown>) {
    this.engine = engine
    this.flight = flight
    this.parts = parts
    this.fiber = fiber
    this.token = parts.level.token()
    this.seen = flight.how.always ? undefined : flight.how.seen ? flight.how.fallback?.id ?? "" : ""
  }

  now(): number {
    return monotonicMillis(this.fiber)
  }

  get keepsInMemory(): boolean {
    return this.engine.parts.config.storage === "two-level"
  }

  run(): Effect.Effect<unknown, E> {
    const { how, version } = this.flight
    const { prefetched } = how
    // What was read before an invalidation does not count.
    const first = prefetched !== undefined && prefetched.version === version && prefetched.found !== undefined
      ? this.found(prefetched.found, prefetched.at)
      : this.ask(firstPoll)
    return Effect.onExitPrimitive(first, () => {
      if (this.leased) this.giveBack()
      return undefined
    })
  }

  giveBack(): void {
    const { level } = this.parts
    level.wiring.run(level.ask(level.wiring.entries.release(this.flight.key, this.token)))
  }

  ask(poll: number): Effect.Effect<unknown, E> {
    return Effect.suspend(() => {
      const { level } = this.parts
      const { seen, token } = this
      const at = this.now()
      this.leased = true
      const { key } = this.flight
      const { lease } = this.engine.parts.config
      return Effect.flatMap(level.ask(level.wiring.entries.acquire({ key, seen, token, lease })), (acquired) => {
        if (acquired === down) return this.alone()
        if (acquired._tag === "Lease") return this.load(acquired.position)
        this.leased = false
        return acquired._tag === "Found" ? this.found(acquired.found, at) : this.busy(poll)
      })
    })
  }

  /** Somebody else loads. */
  busy(poll: number): Effect.Effect<unknown, E> {
    const { engine, flight } = this
    if (flight.background && engine.flights.isIdle(flight)) {
      const older = engine.flights.fallback(flight, this.now())
      if (older !== undefined) {
        engine.postpone(flight.key, this.now() + lastPoll, 0)
        return Effect.sync(() => engine.flights.end(flight, older.exit))
      }
    }
    return Effect.flatMap(Effect.sleep(poll), () => this.ask(Math.min(2 * poll, lastPoll)))
  }

  /** There is an entry: enough for those who wait, or only in case the load fails. */
  found(found: Found, at: number): Effect.Effect<unknown, E> {
    const { engine, flight, parts } = this
    const content = Payload.decode(parts.codec, found.payload)
    if (content === undefined) {
      this.seen = undefined
      engine.parts.meter.counters.undecodable.value++
      return this.ask(firstPoll)
    }
    this.seen = content.id
    // Its life began when what is gone of it had not yet gone. `at` is before the store looked, so that a copy never
    // outlives the original.
    const born = content.life === Infinity ? at : at - Math.max(0, content.life - found.left)
    const entry = engine.entry(content, content.id, born, at + found.left)
    const action = engine.decide(flight.key, entry, at, this.fiber)
    if (action === "load") {
      flight.fallback = Entry.isGone(entry, at) ? undefined : entry
      return this.ask(firstPoll)
    }
    engine.adopt(flight, content.tags, this.keepsInMemory ? entry : undefined)
    const source = action === "serve" || action === "refresh" ? "store" : "stale"
    if (!Deferred.isDoneUnsafe(flight.answer)) flight.source = source
    if (action === "serve" || action === "stale") {
      engine.flights.end(flight, entry.exit)
      return Effect.void
    }
    engine.flights.answer(flight, entry, source)
    return this.ask(firstPoll)
  }

  /** The store is away: what memory has, or a load that only this process knows of. */
  alone(): Effect.Effect<unknown, E> {
    this.leased = false
    const { engine, flight } = this
    const now = this.now()
    const entry = engine.memory.entries.get(flight.key)
    if (entry !== undefined && !flight.how.always) {
      const action = engine.decide(flight.key, entry, now, this.fiber)
      if (action !== "load") {
        if (!Deferred.isDoneUnsafe(flight.answer)) {
          flight.source = action === "serve" || action === "refresh" ? "memory" : "stale"
        }
        return Effect.sync(() => engine.flights.end(flight, entry.exit))
      }
      flight.fallback ??= entry
    }
    return engine.loadLocally(flight, this.keepsInMemory)
  }

  load(position: Position): Effect.Effect<unknown, E> {
    return Effect.suspend(() => {
      const { engine, flight, parts } = this
      const renewal = parts.level.wiring.run(this.renew())
      return Effect.onExitPrimitive(
        Effect.flatMap(
          Effect.onExitPrimitive(engine.load(flight.key), (exit) => {
            renewal.interruptUnsafe()
            if (Exit.isFailure(exit)) engine.fail(flight, exit.cause, this.now())
            return undefined
          }),
          (loaded) => this.write(loaded, position)
        ),
        () => {
          renewal.interruptUnsafe()
          return undefined
        }
      )
    })
  }

  /** Says that the loader is alive, three times in the time of a lease; a lease that was lost is not taken again. */
  renew(): Effect.Effect<void> {
    const { level } = this.parts
    const { lease } = this.engine.parts.config
    return Effect.flatMap(Effect.sleep(lease / 3), () =>
      Effect.flatMap(
        level.ask(level.wiring.entries.renew(this.flight.key, this.token, lease)),
        (held) => held === false ? Effect.void : this.renew()
      ))
  }

  write(loaded: Loaded<A>, position: Position): Effect.Effect<void> {
    const { engine, flight, parts, token } = this
    const { config, meter } = engine.parts
    const { level } = parts
    const { delta, fresh, option, tags } = loaded
    const json = Option.isSome(option) ? parts.codec.encode(option.value) : undefined
    if (json !== undefined && Result.isFailure(json)) {
      meter.counters.unencodable.value++
      return Effect.sync(() => engine.succeed(flight, loaded, undefined))
    }
    // Whole, so that the copy in memory and the original end together.
    const life = fresh > 0
      ? Math.max(1, Math.floor(fresh + Math.max(config.staleWhileRevalidate, config.staleIfError)))
      : 0
    const payload = Payload.encode({ id: token, fresh, life, delta, tags }, json?.success)
    const at = this.now()
    return Effect.map(
      level.ask(level.wiring.entries.write({ key: flight.key, token, position, payload, ttl: life, tags })),
      (written) => {
        if (written !== down) this.leased = false
        if (written === "lost" || written === "invalidated") {
          meter.counters.refusedWrites.value++
          this.engine.flights.detach(flight)
        }
        engine.succeed(flight, loaded, this.keepsInMemory ? engine.entry(loaded, token, at, at + life) : undefined)
      }
    )
  }
}

/** The program of a flight where values are shared. */
export const program = <A, E>(
  parts: SharedParts<A>
): (engine: Engine<A, E>, flight: Flight<A, E>) => Effect.Effect<unknown, E> =>
(engine, flight) => Effect.withFiber((fiber) => new SharedLoad(engine, flight, parts, fiber).run())
