// The shared store as one cache sees it: asked within a time-out, left alone while it is away, asked again by itself; and
// the bus that tells what other processes have invalidated.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import type { CacheError } from "../../resource/cache/CacheError.ts"
import type { Meter } from "./metrics.ts"
import type { Config } from "./options.ts"
import { type Question, Questions } from "./questions.ts"
import type { Found, Message, SharedEntries } from "./Store.ts"
import type { Invalidation } from "./target.ts"
import * as Trust from "./trust.ts"

/** The answer of a store that is away. */
export const down = Symbol("seaworthy/CacheAside/down")
export type Down = typeof down

export interface Wiring {
  readonly entries: SharedEntries
  readonly config: Config<never>
  readonly meter: Meter
  /** Unlike that of any other process. */
  readonly node: string
  /** From 0 to 1, so that the processes' signs of life do not come all at once. */
  readonly spread: number
  readonly run: (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>
  /** Another process has invalidated something. */
  readonly onInvalidation: (invalidation: Invalidation) => void
  /** Invalidations may have been missed: what is being loaded must not be kept. */
  readonly onGap: () => void
}

/** More invalidations than that, made while the store is away, become one of everything. */
const maxPending = 10_000

export class Level {
  readonly wiring: Wiring
  readonly trust = Trust.make()
  /** Before this, and under the same generation, memory is believed without another thought. */
  quietUntil = -Infinity
  isDown = false
  #retryAt = 0
  #probing = false
  #beatAt = -Infinity
  #tokens = 0
  #listening = false
  readonly #beatEvery: number
  readonly #questions: Questions
  /** Invalidations that the store has not taken yet. */
  readonly #pending = new Map<string, Invalidation>()

  constructor(wiring: Wiring) {
    this.wiring = wiring
    this.#questions = new Questions(wiring.run, wiring.config.storeTimeout)
    this.#beatEvery = wiring.config.distrustAfter / 3 * (0.8 + 0.4 * wiring.spread)
  }

  token(): string {
    return `${this.wiring.node}.${(this.#tokens++).toString(36)}`
  }

  /** May what was kept under this generation be served? While the store is away, there is nothing better. */
  trusts(generation: number, now: number): boolean {
    return this.isDown ||
      generation === this.trust.generation && now < Trust.until(this.trust, this.wiring.config.distrustAfter)
  }

  /** What has to be done from time to time, at the cost of no timer: called by those who read. */
  attend(now: number): void {
    if (this.isDown) {
      if (now >= this.#retryAt && !this.#probing) this.#probe()
    } else if (now >= this.#beatAt) {
      this.#beatAt = now + this.#beatEvery
      this.wiring.run(this.ask(this.wiring.entries.announce(this.wiring.node)))
    }
    this.#settle()
  }

  #settle(): void {
    this.quietUntil = this.isDown
      ? this.#probing ? Infinity : this.#retryAt
      : Math.min(this.#beatAt, Trust.until(this.trust, this.wiring.config.distrustAfter))
  }

  /** Asks the store, unless it is away. */
  ask<A>(question: Effect.Effect<A, CacheError>): Effect.Effect<A | Down> {
    return Effect.suspend(() => {
      if (this.isDown) return Effect.succeed<A | Down>(down)
      return Effect.catch(this.#questions.ask(question), (error) => this.#failed(error))
    })
  }

  /** Looks for one entry, and calls back once, unless the question is left before. */
  look(
    key: string,
    aged: boolean,
    now: number,
    done: (answer: Found | undefined | Down) => void
  ): Question<Found | undefined> {
    const { entries } = this.wiring
    const answered = (exit: Exit.Exit<Found | undefined, CacheError>): void =>
      Exit.isSuccess(exit) ? done(exit.value) : this.#unanswered(exit.cause, done)
    if (entries.lookUnsafe !== undefined) {
      const question = this.#questions.make(now, answered)
      if (entries.lookUnsafe(key, aged, (exit) => question.finish(exit))) return question
      question.leave()
    }
    return this.#questions.fork(entries.look(key, aged), now, answered)
  }

  #unanswered(cause: Cause.Cause<CacheError>, done: (answer: Down) => void): void {
    const error = Cause.findErrorOption(cause)
    // Without an error it was interrupted, with the cache.
    if (Option.isNone(error)) return done(down)
    this.wiring.run(Effect.map(this.#failed(error.value), done))
  }

  #failed(error: CacheError): Effect.Effect<Down> {
    return Effect.withFiber((fiber) => {
      const { config, meter } = this.wiring
      meter.counters.storeErrors.value++
      this.#retryAt = monotonicMillis(fiber) + config.storeRetry
      const was = this.isDown
      this.isDown = true
      this.#settle()
      const degraded = was || meter.node === undefined
        ? Effect.void
        : meter.node.set("degraded", {
          detail: "the shared store does not answer: served from memory and by loading",
          error: error.message
        })
      return Effect.as(degraded, down)
    })
  }

  /** Looks whether the store is back; while there is something to tell it, again and again. */
  #probe(): void {
    this.#probing = true
    const { config, entries, node } = this.wiring
    const flush: Effect.Effect<void, CacheError> = Effect.suspend(() => {
      for (const [name, invalidation] of this.#pending) {
        return Effect.flatMap(this.#tell(invalidation), () => {
          this.#pending.delete(name)
          return flush
        })
      }
      return Effect.void
    })
    const once = Effect.andThen(this.#questions.ask(entries.announce(node)), flush)
    const loop: Effect.Effect<void> = Effect.matchEffect(once, {
      // An invalidation may have come since.
      onSuccess: () => this.#pending.size > 0 ? loop : this.#recovered,
      onFailure: (error) =>
        Effect.flatMap(
          this.#failed(error),
          () => this.#pending.size > 0 ? Effect.andThen(Effect.sleep(config.storeRetry), loop) : Effect.void
        )
    })
    this.wiring.run(Effect.onExitPrimitive(loop, () => {
      this.#probing = false
      this.#settle()
      return undefined
    }))
  }

  readonly #recovered: Effect.Effect<void> = Effect.suspend(() => {
    this.isDown = false
    this.#lose()
    this.#beatAt = -Infinity
    const { meter } = this.wiring
    return meter.node === undefined ? Effect.void : meter.node.set("ready")
  })

  #tell(invalidation: Invalidation): Effect.Effect<void, CacheError> {
    const { entries, node } = this.wiring
    const sweep = (cursor: string | undefined): Effect.Effect<void, CacheError> =>
      Effect.flatMap(
        this.#questions.ask(entries.sweep(invalidation, cursor)),
        (next) => next === undefined ? Effect.void : sweep(next)
      )
    const told = this.#questions.ask(entries.invalidate(invalidation, node))
    return invalidation.kind === "key" ? told : Effect.flatMap(told, () => sweep(undefined))
  }

  /** Never fails: what the store does not take now it is told before it is asked anything again. */
  invalidate(invalidation: Invalidation): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.isDown) {
        this.#remember(invalidation)
        return this.#probeSoon
      }
      return Effect.catch(this.#tell(invalidation), (error) => this.#untold(invalidation, error))
    })
  }

  /** Whether the store has taken the value. If not, it will be told that it has to forget the key. */
  set(request: Omit<Parameters<SharedEntries["set"]>[0], "node">): Effect.Effect<boolean> {
    const forgotten: Invalidation = { kind: "key", of: request.key }
    return Effect.suspend(() => {
      const { entries, node } = this.wiring
      return this.isDown
        ? Effect.as(this.invalidate(forgotten), false)
        : Effect.matchEffect(this.#questions.ask(entries.set({ ...request, node })), {
          onSuccess: () => Effect.succeed(true),
          onFailure: (error) => Effect.as(this.#untold(forgotten, error), false)
        })
    })
  }

  /** First it is noted, so that the store is not taken for well before it knows of it. */
  #untold(invalidation: Invalidation, error: CacheError): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#remember(invalidation)
      return Effect.andThen(this.#failed(error), this.#probeSoon)
    })
  }

  #remember(invalidation: Invalidation): void {
    this.#pending.set(`${invalidation.kind}:${invalidation.of}`, invalidation)
    if (this.#pending.size <= maxPending) return
    this.#pending.clear()
    this.#pending.set("all:", { kind: "all", of: "" })
  }

  readonly #probeSoon: Effect.Effect<void> = Effect.sync(() => {
    if (!this.#probing) this.#probe()
  })

  get pending(): number {
    return this.#pending.size
  }

  #lose(): void {
    Trust.lose(this.trust)
    this.#settle()
    this.wiring.onGap()
  }

  #hear(message: Message, now: number): void {
    const known = this.trust.epoch !== undefined
    if (Trust.hear(this.trust, message, message.invalidation !== undefined, now)) {
      if (known) this.wiring.meter.counters.gaps.value++
      this.wiring.onGap()
    }
    this.#beatAt = now + this.#beatEvery
    this.#settle()
    // One's own was done when it was made.
    if (message.invalidation !== undefined && message.node !== this.wiring.node) {
      this.wiring.onInvalidation(message.invalidation)
    }
  }

  /** Hears the bus for ever. */
  readonly listen: Effect.Effect<never> = Effect.withFiber((fiber) => {
    const { config, entries, node, run } = this.wiring
    const once = Effect.scoped(entries.listen({
      ready: () => {
        this.#listening = true
        this.#lose()
        run(this.ask(entries.announce(node)))
      },
      message: (message) => this.#hear(message, monotonicMillis(fiber))
    }))
    return Effect.forever(
      Effect.catchCause(once, () =>
        Effect.suspend(() => {
          // Once: tries that fail in a row miss no more than the first.
          if (this.#listening) this.#lose()
          this.#listening = false
          return Effect.sleep(config.storeRetry)
        }))
    )
  })
}
