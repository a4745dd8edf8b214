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
import * as Entry from "./entry.ts"
import type { Flight } from "./flights.ts"
import { down, type Level } from "./level.ts"
import type { Loaded, Loads } from "./loads.ts"
import * as Payload from "./payload.ts"
import type { Found, Position } from "./Store.ts"

/** Milliseconds between two looks whether another process is done: doubling from the first to the last. */
const firstPoll = 5
const lastPoll = 100

export interface SharedParts<A> {
  readonly codec: Codec<A>
  readonly level: Level
}

/** A value as it is written; `undefined`, and counted, if the schema cannot encode it. */
export const seal = <A, E>(
  { parts: { config, meter } }: Loads<A, E>,
  codec: Codec<A>,
  { delta, fresh, option, tags }: Loaded<A>,
  id: string
): { readonly payload: string; readonly life: number } | undefined => {
  const json = Option.isSome(option) ? codec.encode(option.value) : undefined
  if (json !== undefined && Result.isFailure(json)) {
    meter.counters.unencodable.value++
    return undefined
  }
  // Whole, so that the copy in memory and the original end together.
  const life = fresh > 0
    ? Math.max(1, Math.floor(fresh + Math.max(config.staleWhileRevalidate, config.staleIfError)))
    : 0
  return { life, payload: Payload.encode({ id, fresh, life, delta, tags }, json?.success) }
}

/**
 * What was written, as an entry of this process.
 *
 * @param at before the store looked, so that a copy never outlives the original
 */
export const revive = <A, E>(
  loads: Loads<A, E>,
  content: Payload.Content<A>,
  left: number,
  at: number
): Entry.Entry<A, E> => {
  // Its life began when what is gone of it had not yet gone.
  const born = content.life === Infinity ? at : at - Math.max(0, content.life - left)
  return loads.entry(content, content.id, born, at + left)
}

class SharedLoad<A, E> {
  readonly loads: Loads<A, E>
  readonly flight: Flight<A, E>
  readonly parts: SharedParts<A>
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly token: string
  /** `id` of the entry that is to be replaced; `undefined` for any. */
  seen: string | undefined
  /** May the lease be ours, for all we know? */
  leased = false

  constructor(loads: Loads<A, E>, flight: Flight<A, E>, parts: SharedParts<A>, fiber: Fiber.Fiber<unknown, unknown>) {
    this.loads = loads
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
    return this.loads.parts.config.storage === "two-level"
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
      const { lease } = this.loads.parts.config
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
    const { flight, loads } = this
    flight.how.batch?.settle(flight.key)
    if (flight.background && loads.flights.isIdle(flight)) {
      const older = loads.flights.fallback(flight, this.now())
      if (older !== undefined) {
        loads.postpone(flight.key, this.now() + lastPoll, 0)
        return Effect.sync(() => loads.flights.end(flight, older.exit))
      }
    }
    return Effect.flatMap(Effect.sleep(poll), () => this.ask(Math.min(2 * poll, lastPoll)))
  }

  /** There is an entry: enough for those who wait, or only in case the load fails. */
  found(found: Found, at: number): Effect.Effect<unknown, E> {
    const { flight, loads, parts } = this
    const content = Payload.decode(parts.codec, found.payload)
    if (content === undefined) {
      this.seen = undefined
      loads.parts.meter.counters.undecodable.value++
      return this.ask(firstPoll)
    }
    this.seen = content.id
    const entry = revive(loads, content, found.left, at)
    const action = loads.decide(flight.key, entry, at, this.fiber)
    if (action === "load") {
      flight.fallback = Entry.isGone(entry, at) ? undefined : entry
      return this.ask(firstPoll)
    }
    loads.adopt(flight, content.tags, this.keepsInMemory ? entry : undefined)
    const source = action === "serve" || action === "refresh" ? "store" : "stale"
    if (!Deferred.isDoneUnsafe(flight.answer)) flight.source = source
    if (action === "serve" || action === "stale") {
      loads.flights.end(flight, entry.exit)
      return Effect.void
    }
    loads.flights.answer(flight, entry, source)
    return this.ask(firstPoll)
  }

  /** The store is away: what memory has, or a load that only this process knows of. */
  alone(): Effect.Effect<unknown, E> {
    this.leased = false
    const { flight, loads } = this
    const now = this.now()
    const entry = loads.memory.get(flight.key)
    if (entry !== undefined && !flight.how.always) {
      const action = loads.decide(flight.key, entry, now, this.fiber)
      if (action !== "load") {
        if (!Deferred.isDoneUnsafe(flight.answer)) {
          flight.source = action === "serve" || action === "refresh" ? "memory" : "stale"
        }
        return Effect.sync(() => loads.flights.end(flight, entry.exit))
      }
      flight.fallback ??= entry
    }
    return loads.loadLocally(flight, this.keepsInMemory)
  }

  load(position: Position): Effect.Effect<unknown, E> {
    return Effect.suspend(() => {
      const { flight, loads, parts } = this
      const renewal = parts.level.wiring.run(this.renew())
      return Effect.onExitPrimitive(
        Effect.flatMap(
          Effect.onExitPrimitive(loads.load(flight), (exit) => {
            renewal.interruptUnsafe()
            if (Exit.isFailure(exit)) loads.fail(flight, exit.cause, this.now())
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
    const { lease } = this.loads.parts.config
    return Effect.flatMap(Effect.sleep(lease / 3), () =>
      Effect.flatMap(
        level.ask(level.wiring.entries.renew(this.flight.key, this.token, lease)),
        (held) => held === false ? Effect.void : this.renew()
      ))
  }

  write(loaded: Loaded<A>, position: Position): Effect.Effect<void> {
    const { flight, loads, parts, token } = this
    const { meter } = loads.parts
    const { level } = parts
    const sealed = seal(loads, parts.codec, loaded, token)
    if (sealed === undefined) return Effect.sync(() => loads.succeed(flight, loaded, undefined))
    const { life, payload } = sealed
    const { tags } = loaded
    const at = this.now()
    return Effect.map(
      level.ask(level.wiring.entries.write({ key: flight.key, token, position, payload, ttl: life, tags })),
      (written) => {
        if (written !== down) this.leased = false
        if (written === "lost" || written === "invalidated") {
          meter.counters.refusedWrites.value++
          this.loads.flights.detach(flight)
        }
        loads.succeed(flight, loaded, this.keepsInMemory ? loads.entry(loaded, token, at, at + life) : undefined)
      }
    )
  }
}

/** The program of a flight where values are shared. */
export const program = <A, E>(
  parts: SharedParts<A>
): (loads: Loads<A, E>, flight: Flight<A, E>) => Effect.Effect<unknown, E> =>
(loads, flight) => Effect.withFiber((fiber) => new SharedLoad(loads, flight, parts, fiber).run())
