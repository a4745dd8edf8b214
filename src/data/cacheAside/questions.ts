// Questions to the shared store, each bounded in time. All have the same time, so the oldest is always the first to be over
// and one timer is enough for all: a timer a question would cost more than the rest of it.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import { CacheError } from "../../resource/cache/CacheError.ts"

export type Done<A> = (exit: Exit.Exit<A, CacheError>) => void

type Run = (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>

const timedOut = () =>
  new CacheError({
    operation: "ask",
    reason: "TimedOut",
    detail: "the shared store did not answer in time",
    retryable: true
  })

export class Question<A> {
  over = false
  /** Monotonic milliseconds. */
  readonly until: number
  readonly #done: Done<A>
  /** Ends what was begun for it. */
  end: (() => void) | undefined

  constructor(until: number, done: Done<A>) {
    this.until = until
    this.#done = done
  }

  finish(exit: Exit.Exit<A, CacheError>): void {
    if (this.over) return
    this.over = true
    this.#done(exit)
  }

  leave(): void {
    this.over = true
    this.end?.()
  }

  giveUp(): void {
    this.finish(Exit.fail(timedOut()))
    this.end?.()
  }
}

export class Questions {
  readonly #run: Run
  /** Milliseconds. */
  readonly #timeout: number
  readonly #queue: Array<Question<never>> = []
  #head = 0
  #watching = false

  constructor(run: Run, timeout: number) {
    this.#run = run
    this.#timeout = timeout
  }

  /**
   * A question whose answer goes to `finish`; `done` is called once: with that, or when its time is up. After `leave` it is
   * not called any more.
   */
  make<A>(now: number, done: Done<A>): Question<A> {
    if (this.#head < this.#queue.length && this.#queue[this.#head]!.over) this.#dropFinished()
    const one = new Question(now + this.#timeout, done)
    this.#queue.push(one as Question<never>)
    if (!this.#watching) this.#watch(this.#timeout)
    return one
  }

  /** Asks in a fiber of its own. */
  fork<A>(question: Effect.Effect<A, CacheError>, now: number, done: Done<A>): Question<A> {
    const one = this.make(now, done)
    const fiber = this.#run(question) as Fiber.Fiber<A, CacheError>
    one.end = () => fiber.interruptUnsafe()
    fiber.addObserver((exit) => one.finish(exit))
    return one
  }

  ask<A>(question: Effect.Effect<A, CacheError>): Effect.Effect<A, CacheError> {
    return Effect.withFiber((fiber) =>
      Effect.callback<A, CacheError>((resume) => {
        const one = this.fork(question, monotonicMillis(fiber), resume)
        return Effect.sync(() => one.leave())
      })
    )
  }

  #dropFinished(): void {
    const queue = this.#queue
    while (this.#head < queue.length && queue[this.#head]!.over) this.#head++
    if (this.#head === queue.length || (this.#head > 1_024 && this.#head * 2 > queue.length)) {
      queue.splice(0, this.#head)
      this.#head = 0
    }
  }

  /** None is left when a time-out has passed without questions. */
  #watch(millis: number): void {
    this.#watching = true
    // One more turn of the event loop: where this process was held up, the answer may be there already.
    const wait = Effect.andThen(Effect.sleep(Math.ceil(millis)), Effect.yieldNow)
    this.#run(Effect.andThen(wait, Effect.withFiber((fiber) => Effect.sync(() => this.#sweep(monotonicMillis(fiber))))))
  }

  #sweep(now: number): void {
    this.#watching = false
    for (;;) {
      this.#dropFinished()
      const oldest = this.#queue[this.#head]
      if (oldest === undefined) return
      if (oldest.until > now) return this.#watch(oldest.until - now)
      oldest.giveUp()
    }
  }
}
