// Loading many keys ahead of their use.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { integerAtLeast } from "../../resilience/internal/options.ts"
import type { Engine } from "./engine.ts"
import { askAll } from "./many.ts"

/**
 * How far a warming is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly total: number
  /** Keys that are done, whatever came of it. */
  readonly done: number
  /** Those of `done` whose load failed. */
  readonly failed: number
}

/**
 * How keys are warmed.
 *
 * @category models
 * @since 0.1.0
 */
export interface WarmOptions {
  /** Loads at a time, with `loadMany` calls of it: at least 1. Default 8. */
  readonly concurrency?: number | undefined
  /** Called after each key, with what is done so far; it cannot end the warming. */
  readonly onProgress?: ((progress: Progress) => Effect.Effect<void>) | undefined
}

export const warm = <A, E>(
  engine: Engine<A, E>,
  keys: Iterable<string>,
  options: WarmOptions | undefined
): Effect.Effect<Progress> =>
  Effect.suspend(() => {
    const all = Array.from(new Set(keys))
    const concurrency = integerAtLeast("concurrency", 1, options?.concurrency ?? 8)
    let progress: Progress = { total: all.length, done: 0, failed: 0 }
    const onDone = (exit: Exit.Exit<unknown, unknown>) => {
      progress = {
        total: all.length,
        done: progress.done + 1,
        failed: progress.failed + (Exit.isFailure(exit) ? 1 : 0)
      }
      return options?.onProgress === undefined ? Effect.void : Effect.ignoreCause(options.onProgress(progress))
    }
    return Effect.map(askAll(engine, all, concurrency, onDone), () => progress)
  })
