// What the shared store has is read without a load in mind: those who ask for a key at the same time share one question,
// and no lease is taken. Only who finds nothing that may be served goes on to a load.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Entry } from "./entry.ts"
import type { LoadTimeoutError } from "./errors.ts"
import type { Prefetched } from "./flights.ts"
import { down } from "./level.ts"
import type { Loads } from "./loads.ts"
import * as Payload from "./payload.ts"
import type { Question } from "./questions.ts"
import { revive, type SharedParts } from "./sharedLoad.ts"
import type { Found } from "./Store.ts"
import type { Invalidation } from "./target.ts"

type Answer<A, E> = Effect.Effect<Option.Option<A>, E | LoadTimeoutError>

/** For those who find nothing that may be served: loads, given what was found. */
type Otherwise<A, E> = (key: string, prefetched: Prefetched | undefined) => Answer<A, E>

interface Reading<A, E> {
  /** Of the cache, when it began. */
  readonly version: number
  /** Tags that were invalidated since it began. */
  tags: Set<string> | undefined
  /** Was it invalidated otherwise, or is it not known any more what was? */
  old: boolean
  readonly waiters: Array<(answer: Answer<A, E>) => void>
  question: Question<Found | undefined> | undefined
}

export class Reads<A, E> {
  readonly #loads: Loads<A, E>
  readonly #parts: SharedParts<A>
  readonly #otherwise: Otherwise<A, E>
  readonly #running = new Map<string, Reading<A, E>>()
  /** Does it not matter how old an entry is, as long as it is there? */
  readonly #ageless: boolean

  constructor(loads: Loads<A, E>, parts: SharedParts<A>, otherwise: Otherwise<A, E>) {
    const { earlyExpiry, eagerRefresh, staleIfError, staleWhileRevalidate, storage } = loads.parts.config
    this.#loads = loads
    this.#parts = parts
    this.#otherwise = otherwise
    this.#ageless = storage === "redis" && earlyExpiry === 0 && eagerRefresh === 1 &&
      staleIfError === 0 && staleWhileRevalidate === 0
  }

  /** Asks the store. */
  ask(key: string, now: number, fiber: Fiber.Fiber<unknown, unknown>): Answer<A, E> {
    return Effect.callback((resume) => {
      const running = this.#running.get(key)
      // Who comes after an invalidation does not join what was begun before.
      const joined = running !== undefined && !running.old && running.tags === undefined
      const reading = joined ? running : this.#begin(key, running)
      // An answer that is there at once must find who waits for it.
      reading.waiters.push(resume)
      if (!joined) this.#question(key, reading, now, fiber)
      return Effect.sync(() => {
        reading.waiters.splice(reading.waiters.indexOf(resume), 1)
        if (reading.waiters.length > 0) return
        this.#end(key, reading)
        reading.question?.leave()
      })
    })
  }

  #begin(key: string, before: Reading<A, E> | undefined): Reading<A, E> {
    if (before !== undefined) before.old = true
    const { version } = this.#loads.flights
    const reading: Reading<A, E> = { version, tags: undefined, old: false, waiters: [], question: undefined }
    this.#running.set(key, reading)
    return reading
  }

  #end(key: string, reading: Reading<A, E>): void {
    if (this.#running.get(key) === reading) this.#running.delete(key)
  }

  /** What is being read may be old: it is for those who have asked, and is not kept. */
  invalidate({ kind, of }: Invalidation): void {
    for (const [key, reading] of this.#running) {
      if (kind === "tag") (reading.tags ??= new Set()).add(of)
      else if (kind === "key" ? key === of : kind !== "prefix" || key.startsWith(of)) reading.old = true
    }
  }

  #question(key: string, reading: Reading<A, E>, at: number, fiber: Fiber.Fiber<unknown, unknown>): void {
    const { version, waiters } = reading
    reading.question = this.#parts.level.look(key, !this.#ageless, at, (answer) => {
      this.#end(key, reading)
      const found = answer === down ? undefined : answer
      const aged = found !== undefined && !Number.isNaN(found.left)
      const exit = aged
        ? this.#serve(key, found, at, fiber, (tags) => !reading.old && !tags.some((tag) => reading.tags?.has(tag)))
        : found === undefined
        ? undefined
        : this.#fresh(found.payload)
      const served = Effect.suspend(() =>
        exit === undefined ? this.#otherwise(key, aged ? { found, at, version } : undefined) : this.count(exit)
      )
      for (const resume of waiters) resume(served)
    })
  }

  /** What is there is fresh, if who wrote it did not mean to serve it afterwards. */
  #fresh(payload: string): Exit.Exit<Option.Option<A>, E> | undefined {
    const content = Payload.decode(this.#parts.codec, payload)
    return content !== undefined && content.life <= content.fresh ? Exit.succeed(content.option) : undefined
  }

  /** What is served of what was found, kept in memory too if that may be; `undefined` if it takes more than that. */
  #serve(
    key: string,
    found: Found,
    at: number,
    fiber: Fiber.Fiber<unknown, unknown>,
    mayKeep: (tags: ReadonlyArray<string>) => boolean
  ): Exit.Exit<Option.Option<A>, E> | undefined {
    const content = Payload.decode(this.#parts.codec, found.payload)
    if (content === undefined) return undefined
    const loads = this.#loads
    const entry: Entry<A, E> = revive(loads, content, found.left, at)
    if (loads.decide(key, entry, at, fiber) !== "serve") return undefined
    if (loads.parts.config.storage === "two-level" && mayKeep(content.tags)) loads.keep(key, entry)
    return entry.exit
  }

  /** The same for what was read for several keys at once, before any invalidation. */
  serve(
    key: string,
    { at, found }: Prefetched,
    fiber: Fiber.Fiber<unknown, unknown>
  ): Exit.Exit<Option.Option<A>, E> | undefined {
    return found === undefined ? undefined : this.#serve(key, found, at, fiber, () => true)
  }

  /** A hit of one caller. */
  count(exit: Exit.Exit<Option.Option<A>, E>): Exit.Exit<Option.Option<A>, E> {
    const { hits, negativeHits, storeHits } = this.#loads.parts.meter.counters
    hits.value++
    storeHits.value++
    if (Exit.isSuccess(exit) && Option.isNone(exit.value)) negativeHits.value++
    return exit
  }
}
