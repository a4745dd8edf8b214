import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { IdleKeys } from "./bulkheadKeys.ts"
import { integerAtLeast, nonNegativeMillis } from "./options.ts"

/** How many keys are held, and for how long. */
export interface KeyOptions {
  /** Default 10,000. */
  readonly maxKeys?: number | undefined
  /** Default 10 minutes. */
  readonly idleTimeToLive?: Duration.Input | undefined
}

/** A strategy with one state a key. */
export class Keyed<S> {
  readonly name: string
  readonly keys: IdleKeys<S>
  /** Makes the state that a key begins with. */
  readonly begin: (key: string, onIdle?: () => void) => S

  constructor(
    name: string,
    options: KeyOptions,
    clock: Clock.Clock,
    begin: (key: string, onIdle?: () => void) => S
  ) {
    let current = clock
    this.name = name
    this.begin = begin
    this.keys = new IdleKeys({
      maxKeys: integerAtLeast("maxKeys", 1, options.maxKeys ?? 10_000),
      idleMillis: nonNegativeMillis("idleTimeToLive", options.idleTimeToLive ?? "10 minutes"),
      make: begin,
      now: () => {
        // A permit can come back where no fiber runs: then the clock of the last one has to do.
        current = Fiber.getCurrent()?.getRef(Clock.Clock) ?? current
        return Number(current.monotonicTimeNanosUnsafe()) / 1_000_000
      }
    })
  }
}

/** One key of it. It holds no state: the state is looked up when a call is made. */
export class View<S> {
  readonly keyed: Keyed<S>
  readonly key: string

  constructor(keyed: Keyed<S>, key: string) {
    this.keyed = keyed
    this.key = key
  }

  get name(): string {
    return this.keyed.name
  }

  /** The state, to be used at once; `undefined` when all keys are in use. */
  get gate(): S | undefined {
    return this.keyed.keys.use(this.key)
  }

  /** The state as it is, or as the key would begin. */
  get shown(): S {
    return this.keyed.keys.peek(this.key) ?? this.keyed.begin(this.key)
  }
}

/** The implementation of every `forKey`. */
export const forKey = (...args: ReadonlyArray<unknown>): never => {
  if (args.length === 1) return ((keyed: Keyed<unknown>) => new View(keyed, args[0] as string)) as never
  return new View(args[0] as Keyed<unknown>, args[1] as string) as never
}

/** What `f` shows of every key that is held. */
export const byKey = <S, A>({ keys }: Keyed<S>, f: (state: S) => A): Effect.Effect<ReadonlyMap<string, A>> =>
  Effect.sync(() => new Map(Array.from(keys.states(), ({ key, state }) => [key, f(state)])))
