// One load a key, however many callers wait for it; who leaves does not end it for the others, and the last one does.
//
// Invalidation by version: a flight knows the version at which it began. An invalidation of its key detaches it: those who
// wait get its value (they asked before), nobody joins it any more, and its value is not kept. Its tags are known only
// when the value is there: then a flight that was hit is `late`, and those who joined after an invalidation ask again.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import { monotonicMillis, sleepAtLeast } from "../../resilience/internal/monotonic.ts"
import type { Batch } from "./batch.ts"
import { type Entry, isGone } from "./entry.ts"
import type { LoadTimeoutError } from "./errors.ts"
import type { Found } from "./Store.ts"
import type { Invalidation } from "./target.ts"

/** How a flight begins. */
export interface How<A, E> {
  /** Does it go on when nobody waits? */
  readonly background: boolean
  /** Does it load whatever the shared store holds? */
  readonly always: boolean
  /** The older value, if there is one. */
  readonly fallback: Entry<A, E> | undefined
  /** Is `fallback` known to be the latest of the shared store? */
  readonly seen: boolean
  /** What a batch has read for it. */
  readonly prefetched?: Prefetched | undefined
  /** The loads that are made together with this one. */
  readonly batch?: Batch<A, E> | undefined
}

/** An entry of the shared store that was read for several keys at once. */
export interface Prefetched {
  readonly found: Found | undefined
  /** Monotonic milliseconds before it was read. */
  readonly at: number
  /** Version of the cache before it was read. */
  readonly version: number
}

export interface Flight<A, E> {
  readonly key: string
  /** The version of the cache when it began. */
  readonly version: number
  readonly how: How<A, E>
  /** What those who `get` receive: perhaps an older value, before the load has ended. */
  answer: Deferred.Deferred<Option.Option<A>, E | LoadTimeoutError>
  /** What the load gave. */
  readonly outcome: Deferred.Deferred<Option.Option<A>, E | LoadTimeoutError>
  /** Where `answer` came from. */
  source: "load" | "store" | "memory" | "stale"
  /** The older value, in case the load fails or is slow. */
  fallback: Entry<A, E> | undefined
  waiters: number
  /** Does it go on when nobody waits? */
  background: boolean
  detached: boolean
  late: boolean
  ended: boolean
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  timer: Fiber.Fiber<unknown, unknown> | undefined
}

export interface Hooks<A, E> {
  readonly run: (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>
  readonly softTimeout: number
  readonly hardTimeout: number
  /** Loads, and ends the flight. */
  readonly program: (flight: Flight<A, E>) => Effect.Effect<unknown, unknown>
  readonly onSoftTimeout: (flight: Flight<A, E>, now: number) => void
  /** Ends the flight. */
  readonly onHardTimeout: (flight: Flight<A, E>, now: number) => void
}

/** More tags than that, invalidated while loads run, count as an invalidation of everything that is being loaded. */
const maxTags = 1_000

export class Flights<A, E> {
  /** Those that can be joined. */
  readonly joinable = new Map<string, Flight<A, E>>()
  readonly hooks: Hooks<A, E>
  version = 0
  readonly #live = new Set<Flight<A, E>>()
  /** The version of the last invalidation, for tags that were invalidated while loads ran. */
  readonly #tags = new Map<string, number>()

  constructor(hooks: Hooks<A, E>) {
    this.hooks = hooks
  }

  get running(): number {
    return this.#live.size
  }

  /** Begins a load that nobody waits for yet. */
  start(key: string, how: How<A, E>): Flight<A, E> {
    const flight: Flight<A, E> = {
      key,
      version: this.version,
      how,
      answer: Deferred.makeUnsafe(),
      outcome: Deferred.makeUnsafe(),
      source: "load",
      fallback: how.fallback,
      waiters: 0,
      background: how.background,
      detached: false,
      late: false,
      ended: false,
      fiber: undefined,
      timer: undefined
    }
    this.joinable.set(key, flight)
    this.#live.add(flight)
    flight.fiber = this.hooks.run(this.hooks.program(flight))
    // Most often it has not ended; a load that needs no waiting needs no timer.
    if (!flight.ended && (this.hooks.hardTimeout < Infinity || this.hooks.softTimeout < Infinity)) {
      const timer = this.hooks.run(this.#timeouts(flight))
      if (flight.ended) timer.interruptUnsafe()
      else flight.timer = timer
    }
    return flight
  }

  #timeouts(flight: Flight<A, E>): Effect.Effect<void> {
    const { hardTimeout, onHardTimeout, onSoftTimeout, softTimeout } = this.hooks
    const at = (call: (flight: Flight<A, E>, now: number) => void) =>
      Effect.withFiber((fiber) => {
        if (!flight.ended) call(flight, monotonicMillis(fiber))
        return Effect.void
      })
    const hard = (after: number) =>
      hardTimeout === Infinity ? Effect.void : Effect.andThen(sleepAtLeast(hardTimeout - after), at(onHardTimeout))
    return softTimeout < hardTimeout
      ? Effect.andThen(Effect.andThen(sleepAtLeast(softTimeout), at(onSoftTimeout)), hard(softTimeout))
      : hard(0)
  }

  /**
   * Waits for the flight that `find` gives.
   *
   * @param outcome what the load gave, rather than what callers are answered
   * @param onDone hears how a caller that was not interrupted was served
   */
  wait(
    find: (now: number) => Flight<A, E>,
    outcome: boolean,
    onDone: (flight: Flight<A, E>) => void
  ): Effect.Effect<Option.Option<A>, E | LoadTimeoutError> {
    return Effect.suspend(() => {
      let again = false
      const once: Effect.Effect<Option.Option<A>, E | LoadTimeoutError> = Effect.uninterruptibleMask((restore) =>
        Effect.withFiber((fiber) => {
          const flight = find(monotonicMillis(fiber))
          flight.waiters++
          const joined = this.version
          return Effect.onExitPrimitive(
            restore(Deferred.await(outcome ? flight.outcome : flight.answer)),
            (exit) => {
              const served = exit._tag === "Success" || flight.ended
              this.#leave(flight)
              again = exit._tag === "Success" && flight.late && joined > flight.version
              if (served && !again) onDone(flight)
              return undefined
            },
            true
          )
        })
      )
      return Effect.flatMap(once, (value) => again ? this.wait(find, outcome, onDone) : Effect.succeed(value))
    })
  }

  #leave(flight: Flight<A, E>): void {
    flight.waiters--
    if (flight.waiters > 0 || flight.background || flight.ended) return
    this.#finish(flight)
    flight.fiber?.interruptUnsafe()
  }

  #finish(flight: Flight<A, E>): void {
    flight.ended = true
    this.#live.delete(flight)
    if (this.joinable.get(flight.key) === flight) this.joinable.delete(flight.key)
    if (this.#live.size === 0) this.#tags.clear()
    flight.timer?.interruptUnsafe()
    flight.how.batch?.settle(flight.key)
  }

  /** The load has ended: with `exit`, or for those who still wait for an answer with `answer`. */
  end(flight: Flight<A, E>, exit: Exit.Exit<Option.Option<A>, E | LoadTimeoutError>, answer = exit): void {
    if (flight.ended) return
    this.#finish(flight)
    Deferred.doneUnsafe(flight.answer, answer)
    Deferred.doneUnsafe(flight.outcome, exit)
  }

  /** Gives those who wait an older value, or one that will soon be old, while the load goes on. */
  answer(flight: Flight<A, E>, entry: Entry<A, E>, source: "store" | "stale"): void {
    flight.background = true
    if (Deferred.isDoneUnsafe(flight.answer)) return
    flight.source = source
    flight.fallback = entry
    Deferred.doneUnsafe(flight.answer, entry.exit)
  }

  /** Does nobody wait for the load? */
  isIdle(flight: Flight<A, E>): boolean {
    return flight.waiters === 0 || Deferred.isDoneUnsafe(flight.answer) && !flight.how.always
  }

  /** The flight that a caller may join who comes now, if there is one. */
  find(key: string, now: number): Flight<A, E> | undefined {
    const flight = this.joinable.get(key)
    // What others were answered with may be too old for this caller.
    if (flight !== undefined && flight.source !== "load" && this.fallback(flight, now) === undefined) {
      flight.answer = Deferred.makeUnsafe()
      flight.source = "load"
    }
    return flight
  }

  /** The older value, if it may still be served. */
  fallback(flight: Flight<A, E>, now: number): Entry<A, E> | undefined {
    const entry = flight.fallback
    if (entry === undefined || flight.detached || isGone(entry, now) || this.isLate(flight, entry.tags)) {
      return undefined
    }
    return entry
  }

  /** Nobody joins it any more, and what it brings is not kept. */
  detach(flight: Flight<A, E>): void {
    flight.detached = true
    if (this.joinable.get(flight.key) === flight) this.joinable.delete(flight.key)
  }

  invalidate({ kind, of }: Invalidation): void {
    this.version++
    if (this.#live.size === 0) return
    if (kind === "tag") {
      this.#tags.set(of, this.version)
      if (this.#tags.size <= maxTags) return
      this.#tags.clear()
    }
    for (const flight of this.#live) {
      if (kind === "key" ? flight.key === of : kind !== "prefix" || flight.key.startsWith(of)) {
        this.detach(flight)
      }
    }
  }

  /** Was one of the tags invalidated since the flight began? */
  isLate(flight: Flight<A, E>, tags: ReadonlyArray<string>): boolean {
    return tags.some((tag) => (this.#tags.get(tag) ?? 0) > flight.version)
  }
}
