// Settings of a cache that are given in code.
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Settings from "../Settings.ts"

type Given<A> = A extends Duration.Duration ? Duration.Input : A

type Section = Settings.Sections["cache"]

/**
 * Settings in code, under the names of the section `cache`; what is left out has its default. Times may be any
 * `Duration.Input`, so a bare number is milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = { readonly [Name in keyof Section]?: Given<Section[Name]> | undefined }

const duration = (input: Duration.Input | undefined) =>
  input === undefined ? undefined : Duration.fromInputUnsafe(input)

/** All settings, with the section `cache` from code and the others by default. */
export const settings = (options: Options): Effect.Effect<Settings.Shape, Settings.SettingsError> =>
  Settings.make({
    cache: {
      ...options,
      ttl: duration(options.ttl),
      timeout: duration(options.timeout),
      command_timeout: duration(options.command_timeout),
      retry_delay: duration(options.retry_delay)
    }
  })
