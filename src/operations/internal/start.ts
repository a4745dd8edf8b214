// `up` and `check`: start the built-in resources, show it, and end with the right code.
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as FileSystem from "effect/FileSystem"
import type * as Path from "effect/Path"
import * as Status from "../../observability/Status.ts"
import * as Lifecycle from "../../resource/Lifecycle.ts"
import * as ManagedResource from "../../resource/ManagedResource.ts"
import { ResourceError } from "../../resource/ResourceError.ts"
import * as Settings from "../../resource/Settings.ts"
import * as Supervisor from "../../resource/Supervisor.ts"
import * as Redaction from "../../security/Redaction.ts"
import * as Drivers from "../Drivers.ts"
import * as ExitCode from "./exitCode.ts"
import type { Output } from "./output.ts"
import * as View from "./view.ts"

export interface StartOptions {
  readonly output: Output
  readonly json: boolean
  readonly only: ReadonlyArray<Drivers.ResourceId>
  /** `undefined`: the setting `lifecycle.startup_timeout`. */
  readonly timeout: Duration.Duration | undefined
  /** `up` serves until interrupted, `once` releases when ready, `check` skips the initialize phase and releases. */
  readonly mode: "up" | "once" | "check"
  readonly source: string
}

const titles = {
  up: "seaworthy up",
  once: "seaworthy up --once",
  check: "seaworthy check: validate, connect, verify, release"
} as const

const hints = {
  up: "Ctrl-C drains and releases.",
  once: "Releasing.",
  check: "Nothing was initialized. Releasing."
} as const

/** What may be said of a failure: a message for people, and data for programs. */
export const describe = (cause: Cause.Cause<unknown>): { readonly message: string; readonly data: unknown } => {
  const error = cause.reasons.find(Cause.isFailReason)?.error
  if (error instanceof ResourceError) {
    const { attempts, detail, elapsed, option, phase, reason, remedy, resource } = error
    return {
      message: error.message,
      data: { type: "ResourceError", resource, phase, reason, detail, option, remedy, attempts, elapsed }
    }
  }
  const safe = Redaction.error(error ?? Cause.squash(cause))
  return { message: safe.message, data: { type: safe.name, message: safe.message } }
}

export const start = (
  options: StartOptions
): Effect.Effect<number, Settings.SettingsError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function*() {
    const settings = yield* Settings.load
    const status = yield* Status.Status
    const { output } = options
    for (const warning of settings.warnings) yield* output.complain(`warning: ${warning}`)
    const view = yield* View.make(status, output, {
      json: options.json,
      title: `${
        titles[options.mode]
      } (${options.source}; cache: ${settings.cache.driver}, database: ${settings.database.driver})`
    })
    for (const id of options.only) yield* status.expect({ id, kind: id })

    const main = Effect.gen(function*() {
      const lifecycle = yield* Lifecycle.Lifecycle
      yield* Effect.forkDetach(Effect.andThen(lifecycle.draining, view.draining), { startImmediately: true })
      yield* view.ready(hints[options.mode])
      if (options.mode === "up") return yield* Effect.never
    })
    const run = Lifecycle.run(Drivers.layerOnly(options.only), {
      main,
      startupTimeout: options.timeout ?? settings.lifecycle.startup_timeout,
      drainDelay: settings.lifecycle.drain_delay,
      drainTimeout: settings.lifecycle.drain_timeout
    }).pipe(
      Effect.provideService(ManagedResource.Mode, options.mode === "check" ? "check" : "start"),
      Effect.provide(Supervisor.layer())
    )
    return yield* Effect.onExit(
      Effect.matchCauseEffect(run, {
        onSuccess: () => Effect.succeed(ExitCode.ok),
        onFailure: (cause) => Effect.as(view.failed(describe(cause)), ExitCode.notReady)
      }),
      (exit) =>
        Exit.isSuccess(exit) && exit.value === ExitCode.ok || Exit.hasInterrupts(exit) ? view.ended : Effect.void
    )
  }).pipe(Effect.scoped, Effect.provide(Status.layer))
