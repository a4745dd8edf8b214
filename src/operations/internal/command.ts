// The command line of `seaworthy`: flags, sources of settings, exit codes.
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import type { Environment } from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Settings from "../../resource/Settings.ts"
import { type ResourceId, resources } from "../Drivers.ts"
import { config } from "./configCommand.ts"
import * as ExitCode from "./exitCode.ts"
import { insights } from "./insights.ts"
import * as Output from "./output.ts"
import { start } from "./start.ts"
import { version } from "./version.ts"

export interface Run {
  readonly args: ReadonlyArray<string>
  readonly environment: Readonly<Record<string, string | undefined>>
}

const file = Flag.File("file", { mustExist: false }).pipe(
  Flag.withAlias("f"),
  Flag.withDescription("Settings file, YAML or JSON. Default: the environment variable SEAWORTHY_CONFIG, or none"),
  Flag.optional
)

const json = Flag.Boolean("json").pipe(
  Flag.withDescription("One JSON object a line on standard output"),
  Flag.withDefault(false)
)

const only = Flag.String("only").pipe(
  Flag.withDescription(`Only these resources, separated by commas: ${resources.join(",")}`),
  Flag.mapEffect((text) => {
    const names = text.split(",").map((name) => name.trim()).filter((name) => name !== "")
    const unknown = names.find((name) => !resources.some((id) => id === name))
    return unknown === undefined && names.length > 0
      ? Effect.succeed(names as ReadonlyArray<ResourceId>)
      : Effect.fail(
        new CliError.InvalidValue({
          option: "only",
          value: unknown ?? text,
          expected: `some of ${resources.join(", ")}, separated by commas`,
          kind: "flag"
        })
      )
  }),
  Flag.withDefault(resources as ReadonlyArray<ResourceId>)
)

const timeout = Flag.String("timeout").pipe(
  Flag.withAlias("t"),
  Flag.withDescription(
    "Time to become ready: seconds, or a duration such as \"90 seconds\". Default: lifecycle.startup_timeout"
  ),
  Flag.mapEffect((text) => {
    const seconds = Number(text)
    const parsed = text.trim() !== "" && Number.isFinite(seconds)
      ? Option.some(Duration.seconds(seconds))
      : Duration.fromInput(text as Duration.Input)
    return Option.isSome(parsed) && Duration.toMillis(parsed.value) > 0
      ? Effect.succeed(parsed.value)
      : Effect.fail(
        new CliError.InvalidValue({
          option: "timeout",
          value: text,
          expected: "a number of seconds above 0, or a duration such as \"90 seconds\"",
          kind: "flag"
        })
      )
  }),
  Flag.optional
)

/** Runs the command and gives the exit code. */
export const run = ({ args, environment }: Run): Effect.Effect<number, never, Environment> => {
  const output = Output.make(environment)
  const wantsJson = args.includes("--json")
  let code: number = ExitCode.ok

  const withFile = <A, E, R>(named: Option.Option<string>, f: (source: string) => Effect.Effect<A, E, R>) => {
    const path = Option.getOrUndefined(named) ?? environment["SEAWORTHY_CONFIG"]
    return path === undefined || path === ""
      ? f("environment and defaults")
      : Effect.provide(f(`settings from ${path}`), Settings.layerFile(path))
  }

  const starting = (
    flags: {
      readonly file: Option.Option<string>
      readonly json: boolean
      readonly only: ReadonlyArray<ResourceId>
      readonly timeout: Option.Option<Duration.Duration>
    },
    mode: "up" | "once" | "check"
  ) =>
    withFile(flags.file, (source) =>
      start({
        output,
        json: flags.json,
        only: flags.only,
        timeout: Option.getOrUndefined(flags.timeout),
        mode,
        source
      })).pipe(Effect.map((result) => {
        code = result
      }))

  const up = Command.make("up", {
    file,
    json,
    only,
    timeout,
    once: Flag.Boolean("once").pipe(
      Flag.withDescription("Release and exit as soon as everything is ready"),
      Flag.withDefault(false)
    )
  }, (flags) => starting(flags, flags.once ? "once" : "up")).pipe(
    Command.withDescription("Start filesystem, cache and database in order, show it, and serve until Ctrl-C"),
    Command.withExamples([
      { command: "seaworthy up", description: "Embedded defaults: no server needed" },
      {
        command: "CACHE_DRIVER=redis CACHE_HOST=10.0.0.5 seaworthy up --only filesystem,cache",
        description: "A real Redis, without the database"
      }
    ])
  )

  const check = Command.make("check", { file, json, only, timeout }, (flags) => starting(flags, "check")).pipe(
    Command.withDescription(
      "Validate settings, connect, verify and release, without migrations: for CI and init containers"
    )
  )

  const configuration = Command.make("config", {
    file,
    json,
    schema: Flag.Boolean("schema").pipe(
      Flag.withDescription("Print the JSON Schema of all settings instead"),
      Flag.withDefault(false)
    ),
    docs: Flag.Boolean("docs").pipe(
      Flag.withDescription("Print the reference of all settings as Markdown instead"),
      Flag.withDefault(false)
    )
  }, (flags) => withFile(flags.file, () => config(output, flags))).pipe(
    Command.withDescription("Show the effective settings and where each comes from, secrets hidden")
  )

  const queryInsights = Command.make(
    "insights",
    { file, json, timeout },
    (flags) =>
      withFile(flags.file, () => insights({ output, json: flags.json, timeout: Option.getOrUndefined(flags.timeout) }))
        .pipe(
          Effect.map((result) => {
            code = result
          })
        )
  ).pipe(
    Command.withDescription(
      "Ask the database which indexes are missing, unused or broken, and print advice with the SQL that would help"
    )
  )

  const root = Command.make("seaworthy").pipe(
    Command.withDescription("Start resources in order, keep them up, release them in reverse"),
    Command.withSubcommands([up, check, configuration, queryInsights])
  )

  return Command.runWith(root, { version })(args).pipe(
    Effect.matchEffect({
      onSuccess: () => Effect.succeed(code),
      onFailure: (error) =>
        error instanceof Settings.SettingsError
          ? Effect.as(
            wantsJson
              ? output.json({ event: "invalid", issues: error.issues })
              : output.complain(error.message),
            ExitCode.invalid
          )
          // The parser has said what is wrong; asking for help is not a mistake.
          : Effect.succeed(
            CliError.isCliError(error) && error._tag === "ShowHelp" && error.errors.length === 0
              ? ExitCode.ok
              : ExitCode.invalid
          )
    }),
    Effect.provide(Output.logger(wantsJson)),
    Effect.provideService(References.MinimumLogLevel, "Warn")
  )
}
