// Loads that are made together by one call of `loadMany`. Each has a flight, and where values are shared a lease, of its
// own: the batch waits until each of its keys either wants to be loaded or turns out not to need it, and then loads.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

export type LoadMany<A, E> = (
  keys: ReadonlyArray<string>
) => Effect.Effect<Iterable<readonly [string, A | Option.Option<A>]>, E>

type Run = (effect: Effect.Effect<unknown, unknown>) => Fiber.Fiber<unknown, unknown>

interface Call<A, E> {
  readonly asked: Map<string, (answer: Effect.Effect<A | Option.Option<A>, E>) => void>
  fiber: Fiber.Fiber<ReadonlyMap<string, A | Option.Option<A>>, E> | undefined
}

const makeCall = <A, E>(): Call<A, E> => ({ asked: new Map(), fiber: undefined })

export class Batch<A, E> {
  readonly #loadMany: LoadMany<A, E>
  readonly #run: Run
  /** Of these it is not known yet whether they have to be loaded. */
  readonly #open: Set<string>
  readonly #call = makeCall<A, E>()
  #begun = false

  constructor(keys: Iterable<string>, loadMany: LoadMany<A, E>, run: Run) {
    this.#open = new Set(keys)
    this.#loadMany = loadMany
    this.#run = run
  }

  /** The batch does not wait for the key any longer. */
  settle(key: string): void {
    if (this.#open.delete(key)) this.#beginIfReady()
  }

  /** The batch waits for no key any longer. */
  close(): void {
    this.#open.clear()
    this.#beginIfReady()
  }

  load(key: string): Effect.Effect<A | Option.Option<A>, E> {
    return Effect.callback((resume) => {
      // Too late for the others: another process was to load it, and did not.
      const alone = this.#begun
      const call = alone ? makeCall<A, E>() : this.#call
      call.asked.set(key, resume)
      if (alone) this.#begin(call)
      else this.settle(key)
      return Effect.sync(() => {
        call.asked.delete(key)
        if (call.asked.size === 0) call.fiber?.interruptUnsafe()
      })
    })
  }

  #beginIfReady(): void {
    if (this.#begun || this.#open.size > 0) return
    this.#begun = true
    if (this.#call.asked.size > 0) this.#begin(this.#call)
  }

  #begin(call: Call<A, E>): void {
    const { asked } = call
    const keys = [...asked.keys()]
    const load = Effect.map(Effect.suspend(() => this.#loadMany(keys)), (pairs) => new Map(pairs))
    const fiber = this.#run(load) as NonNullable<typeof call.fiber>
    call.fiber = fiber
    fiber.addObserver((exit) => {
      for (const [key, resume] of asked) resume(valueOf(exit, key))
    })
  }
}

const valueOf = <A, E>(
  exit: Exit.Exit<ReadonlyMap<string, A | Option.Option<A>>, E>,
  key: string
): Exit.Exit<A | Option.Option<A>, E> =>
  Exit.map(exit, (values) => values.has(key) ? values.get(key) as A | Option.Option<A> : Option.none<A>())
