/**
 * Runs a program as a process: signals, exit code, and no way to hang on the way out.
 *
 * **When to use**
 *
 * As the last line of an application, around `Lifecycle.run(AppLayer)`. It replaces `NodeRuntime.runMain`, which waits for
 * ever when a finalizer hangs and only interrupts again on a second signal.
 *
 * **Details**
 *
 * The first SIGINT or SIGTERM interrupts the program, which then drains and releases; the second leaves at once. Exit
 * codes: 0 success, 1 failure or defect, 130 interrupted. `process.exit` is called when the program has ended, so that a
 * driver's forgotten socket cannot keep the process alive.
 *
 * **Gotchas**
 *
 * Nothing after it runs.
 *
 * **Example** (The last line of an application)
 *
 * ```ts no-run
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect, Layer } from "effect"
 * import { FileStore, Lifecycle, Status } from "seaworthy"
 * import { Main } from "seaworthy/operations"
 *
 * const AppLayer = FileStore.layer.pipe(Layer.provide(NodeServices.layer))
 *
 * Main.runMain(Lifecycle.run(AppLayer).pipe(Effect.provide(Status.layer)))
 * ```
 *
 * **Example** (Exit codes)
 *
 * ```ts
 * import { Exit } from "effect"
 * import { Main } from "seaworthy/operations"
 *
 * console.log([Exit.void, Exit.fail("no"), Exit.interrupt(1)].map(Main.exitCodeOf)) // => [ 0, 1, 130 ]
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redaction from "../security/Redaction.ts"

/**
 * How the process ends; every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A, E> {
  /** Default {@link exitCodeOf}. */
  readonly exitCode?: ((exit: Exit.Exit<A, E>) => number) | undefined
  /** Says a failure to people. Default: the sanitized message on standard error; nothing for an interruption. */
  readonly onFailure?: ((cause: Cause.Cause<E>) => void) | undefined
}

/**
 * 0 for success, 130 when interrupted, 1 otherwise.
 *
 * @category conversions
 * @since 0.1.0
 */
export const exitCodeOf = (exit: Exit.Exit<unknown, unknown>): number =>
  Exit.isSuccess(exit) ? 0 : Cause.hasInterruptsOnly(exit.cause) ? 130 : 1

const sayFailure = (cause: Cause.Cause<unknown>): void => {
  if (Cause.hasInterruptsOnly(cause)) return
  process.stderr.write(`${Redaction.error(Cause.squash(cause)).message}\n`)
}

/**
 * Runs the program and ends the process with it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const runMain = <A, E>(effect: Effect.Effect<A, E>, options?: Options<A, E>): void => {
  // Not the terminal's own handling: a signal must not end the process before it has drained.
  let signals = 0
  const onSignal = (signal: NodeJS.Signals) => {
    signals++
    if (signals === 1) {
      Effect.runFork(Fiber.interrupt(fiber))
      return
    }
    process.stderr.write(`${signal} again: leaving at once\n`)
    process.exit(130)
  }
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
  // Output that cannot be written (a full disk) must not end the process before it has drained, and a reader that goes
  // away (`| head`) is not worth a word.
  process.stderr.on("error", () => {})
  let said = false
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE" || said) return
    said = true
    process.stderr.write(`standard output cannot be written (${error.code ?? "unknown error"})\n`)
  })
  // After all that: a program that says it is ready is heard at once.
  const fiber = Effect.runFork(effect)
  fiber.addObserver((exit) => {
    if (Exit.isFailure(exit)) (options?.onFailure ?? sayFailure)(exit.cause)
    flushAndExit((options?.exitCode ?? exitCodeOf)(exit))
  })
}

/** Pipes are asynchronous: what was written must reach the reader before the process ends. */
const flushAndExit = (code: number): void => {
  process.exitCode = code
  process.stderr.write("", () => process.stdout.write("", () => process.exit(code)))
}
