// `seaworthy insights`: what the database's own statistics say of its tables and indexes, and the SQL that would help.
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import * as QueryInsights from "../../data/QueryInsights.ts"
import * as Status from "../../observability/Status.ts"
import * as Lifecycle from "../../resource/Lifecycle.ts"
import * as ManagedResource from "../../resource/ManagedResource.ts"
import * as Settings from "../../resource/Settings.ts"
import * as Drivers from "../Drivers.ts"
import * as ExitCode from "./exitCode.ts"
import type { Output } from "./output.ts"
import { describe } from "./start.ts"

export interface InsightsOptions {
  readonly output: Output
  readonly json: boolean
  /** `undefined`: the setting `lifecycle.startup_timeout`. */
  readonly timeout: Duration.Duration | undefined
}

/** Nothing is migrated and nothing is written: it is safe to run beside the application. */
export const insights = (
  { json, output, timeout }: InsightsOptions
): Effect.Effect<number, Settings.SettingsError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function*() {
    const settings = yield* Settings.load
    for (const warning of settings.warnings) yield* output.complain(`warning: ${warning}`)
    const main = Effect.gen(function*() {
      const { report } = yield* QueryInsights.QueryInsights
      const found = yield* report
      if (json) return yield* output.json(found)
      yield* output.print(QueryInsights.render(found))
      yield* output.print(
        "Slow and repeated statements are known to the process that runs them: provide QueryInsights.layer there."
      )
    })
    const run = Lifecycle.run(QueryInsights.layer.pipe(Layer.provideMerge(Drivers.database)), {
      main,
      startupTimeout: timeout ?? settings.lifecycle.startup_timeout
    })
    return yield* Effect.matchCauseEffect(Effect.provideService(run, ManagedResource.Mode, "check"), {
      onSuccess: () => Effect.succeed(ExitCode.ok),
      onFailure: (cause) => {
        const { data, message } = describe(cause)
        return Effect.as(
          json ? output.json({ event: "failed", error: data }) : output.complain(message),
          ExitCode.notReady
        )
      }
    })
  }).pipe(Effect.scoped, Effect.provide(Status.layer))
