/**
 * The settings of an application: typed sections from environment variables over a file over defaults, with everything
 * that is wrong reported at once.
 *
 * **When to use**
 *
 * Resources read their sections from the `Settings` service. Provide `Settings.layer`, or `Settings.layerWith` to add
 * sections of your own; provide `Settings.layerFile` to it to read a file.
 *
 * **Details**
 *
 * `cache.port` is the variable `CACHE_PORT` and, in a file, `port` under `cache`. Variables are read through Effect's
 * current `ConfigProvider` (default: the environment of the process). All options and defaults: `docs/reference/settings.md`.
 * Times are numbers of seconds, or texts such as `500 millis`. Secrets are `Redacted`, have no default, and are made known
 * to `Redaction`, also the password inside a URL.
 *
 * **Gotchas**
 *
 * An empty environment variable counts as not set. The layer reads once, when it is built.
 *
 * **Example** (Two mistakes, one report)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Settings } from "seaworthy"
 *
 * const settings = await Effect.runPromise(Settings.decode({ cache: { driver: "redis", timeout: "2 seconds" } }))
 * console.log(settings.cache.port) // => 6379
 *
 * const error = await Effect.runPromise(Effect.flip(Settings.decode({ cache: { prot: 1, driver: "redsi" } })))
 * console.log(error.issues.map((issue) => `${issue.path}: ${issue.hint}`))
 * // => ["cache.prot: did you mean cache.port?", "cache.driver: did you mean redis?"]
 * ```
 *
 * @since 0.1.0
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import { decodeAll, type Given, givenBy, isRecord, type Row, unknownOptions } from "./settings/decode.ts"
import { jsonSchema as makeJsonSchema, markdown } from "./settings/docs.ts"
import { readEnvironment } from "./settings/environment.ts"
import { describeShape, SettingsError, type SettingsIssue } from "./settings/error.ts"
import { readFile, type SettingsFile } from "./settings/file.ts"
import { type AnySection, type Decoded, encodeLeaf, leavesOf } from "./settings/section.ts"
import { builtIn } from "./settings/sections.ts"

export type { Row } from "./settings/decode.ts"
export { SettingsError, type SettingsIssue } from "./settings/error.ts"
export type { SettingsFile } from "./settings/file.ts"
export {
  /**
   * Names a `Schema.Struct` of options as a section for `layerWith`. `check` sees the options that are valid and tells
   * what is wrong between them. Descriptions of the fields become the reference page.
   *
   * @category sections
   * @since 0.1.0
   */
  section
} from "./settings/section.ts"
export type { AnySection, Decoded, Problem, Section } from "./settings/section.ts"

type BuiltIn = typeof builtIn[number]
type Named<S extends { readonly name: string }, Name> = Extract<S, { readonly name: Name }>

/**
 * The built-in sections by name: their schemas, for `get` and for tools.
 *
 * @category sections
 * @since 0.1.0
 */
export const sections = Object.fromEntries(builtIn.map((section) => [section.name, section])) as {
  readonly [Name in BuiltIn["name"]]: Named<BuiltIn, Name>
}

/**
 * The decoded options of the built-in sections.
 *
 * @category models
 * @since 0.1.0
 */
export type Sections = { readonly [Name in BuiltIn["name"]]: Decoded<Named<BuiltIn, Name>> }

/**
 * What the `Settings` service holds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Shape extends Sections {
  /** Decoded options of the sections that were added with `layerWith`; read them with `get`. */
  readonly others: Readonly<Record<string, unknown>>
  /** Where each option comes from: `environment CACHE_HOST`, `file app.yaml`, `code` or `default`, by path. */
  readonly sources: Readonly<Record<string, string>>
  /** Environment variables that look like misspelt options. */
  readonly warnings: ReadonlyArray<string>
  /** See `effective`. */
  readonly rows: () => ReadonlyArray<Row>
}

/**
 * The settings as a service.
 *
 * @category services
 * @since 0.1.0
 */
export class Settings extends Context.Service<Settings, Shape>()("seaworthy/Settings") {}

/**
 * The parsed file that `layer` and `load` read; none by default.
 *
 * @category services
 * @since 0.1.0
 */
export const FileSource: Context.Reference<SettingsFile | undefined> = Context.Reference<SettingsFile | undefined>(
  "seaworthy/Settings/FileSource",
  { defaultValue: () => undefined }
)

/**
 * Reads a YAML (`.yaml`, `.yml`, needs the package `yaml`) or JSON (`.json`) file of at most 1 MiB for the settings below
 * it. Fails with one issue that names file, line and column where it cannot be parsed.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFile = (path: string): Layer.Layer<never, SettingsError, FileSystem.FileSystem> =>
  Layer.effect(FileSource, readFile(path))

type Sectioned = ReadonlyArray<AnySection>

const builtInSections: Sectioned = builtIn

const builtInNames: ReadonlyArray<string> = builtIn.map((section) => section.name)

const finish = (
  sections: Sectioned,
  given: ReadonlyMap<string, Given>,
  found: ReadonlyArray<SettingsIssue>,
  warnings: ReadonlyArray<string>
): Effect.Effect<Shape, SettingsError> => {
  const { issues, rows, sources, values } = decodeAll(sections, given, found)
  if (issues.length > 0) return Effect.fail(new SettingsError({ issues }))
  const own = Object.entries(values).filter(([name]) => builtInNames.includes(name))
  const others = Object.entries(values).filter(([name]) => !builtInNames.includes(name))
  return Effect.succeed({
    ...Object.fromEntries(own) as unknown as Sections,
    others: Object.fromEntries(others),
    sources,
    warnings,
    rows
  })
}

const withOwn = (own: Sectioned): Sectioned => {
  const all = [...builtInSections, ...own]
  const names = all.map((section) => section.name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw new RangeError(`sections: the name ${twice} is taken; name each section differently`)
  return all
}

/** The content of a file, or what stands for it. */
interface Base {
  readonly content: Readonly<Record<string, unknown>>
  readonly source: string
}

const read = Effect.fnUntraced(function*(sections: Sectioned, { content, source }: Base) {
  const leaves = sections.flatMap(leavesOf)
  const environment = yield* readEnvironment(leaves)
  const given = new Map(givenBy(leaves, content, source))
  for (const leaf of leaves) {
    const raw = environment.values.get(leaf.variable)
    if (raw !== undefined) given.set(leaf.path, { raw, source: `environment ${leaf.variable}`, isText: true })
  }
  const found = [...environment.issues, ...unknownOptions(leaves, content, source)]
  return yield* finish(sections, given, found, environment.warnings)
})

const readCurrent = (sections: Sectioned): Effect.Effect<Shape, SettingsError> =>
  Effect.flatMap(
    FileSource,
    (file) => read(sections, { content: file?.content ?? {}, source: `file ${file?.path ?? ""}` })
  )

/**
 * Reads and decodes the settings once: environment over file over defaults.
 *
 * @category constructors
 * @since 0.1.0
 */
export const load: Effect.Effect<Shape, SettingsError> = readCurrent(builtInSections)

/**
 * The settings from environment and file. Needs nothing; for a file, provide `layerFile`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Settings, SettingsError> = Layer.effect(Settings, load)

/**
 * As `layer`, with further sections made by `section`. A name that is taken is a `RangeError`.
 *
 * **Example** (A section of one's own)
 *
 * ```ts
 * import { ConfigProvider, Effect, Schema } from "effect"
 * import { Settings } from "seaworthy"
 *
 * const payments = Settings.section("payments", Schema.Struct({
 *   endpoint: Schema.String.annotate({ description: "Where charges go" }),
 *   attempts: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(3)))
 * }))
 * const program = Settings.get(payments).pipe(
 *   Effect.provide(Settings.layerWith({ sections: [payments] })),
 *   Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: { PAYMENTS_ENDPOINT: "https://pay" } }))
 * )
 * console.log(await Effect.runPromise(program)) // => { endpoint: "https://pay", attempts: 3 }
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: {
  readonly sections: ReadonlyArray<AnySection>
}): Layer.Layer<Settings, SettingsError> => {
  const all = withOwn(options.sections)
  return Layer.effect(Settings, readCurrent(all))
}

/**
 * The decoded options of a section, built in or added with `layerWith`. A section that was not added is a defect, for
 * the program is wired wrongly.
 *
 * @category accessors
 * @since 0.1.0
 */
export const get = <S extends { readonly name: string }>(section: S): Effect.Effect<Decoded<S>, never, Settings> =>
  Effect.flatMap(Settings, (settings) => {
    const all: object = builtInNames.includes(section.name) ? settings : settings.others
    return Object.hasOwn(all, section.name)
      ? Effect.succeed((all as Readonly<Record<string, unknown>>)[section.name] as Decoded<S>)
      : Effect.die(new RangeError(`section ${section.name} is not loaded: add it to Settings.layerWith({ sections })`))
  })

/**
 * Decodes what a file would hold, without reading environment or file: for tests and for settings kept elsewhere.
 * `environment` stands for environment variables, `path` for the name of the file.
 *
 * @category constructors
 * @since 0.1.0
 */
export const decode = (
  raw: unknown,
  options?: {
    readonly environment?: Readonly<Record<string, string>> | undefined
    readonly path?: string | undefined
    readonly sections?: ReadonlyArray<AnySection> | undefined
  }
): Effect.Effect<Shape, SettingsError> =>
  Effect.suspend(() => {
    const source = options?.path === undefined ? "code" : `file ${options.path}`
    const content = raw ?? {}
    if (!isRecord(content)) {
      const issue = { path: "settings", source, expected: "sections by name", actual: describeShape(content) }
      return Effect.fail(new SettingsError({ issues: [issue] }))
    }
    const environment = ConfigProvider.fromEnv({ env: { ...options?.environment } })
    return read(withOwn(options?.sections ?? []), { content, source }).pipe(
      Effect.provideService(ConfigProvider.ConfigProvider, environment)
    )
  })

/**
 * Decoded options of some sections; what is left out has its default.
 *
 * @category models
 * @since 0.1.0
 */
export type Values = {
  readonly [Name in keyof Sections]?:
    | {
      readonly [Option in keyof Sections[Name]]?: Sections[Name][Option] | undefined
    }
    | undefined
}

/**
 * Settings from decoded values (`Duration`, `Redacted`, numbers) given in code, validated like all others; what is left
 * out has its default. Reads neither environment nor file. Sources read `code`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (values: Values): Effect.Effect<Shape, SettingsError> =>
  Effect.suspend(() => {
    const all = builtInSections
    const given = new Map<string, Given>()
    for (const leaf of all.flatMap(leavesOf)) {
      const value = givenBy([leaf], values, "code").get(leaf.path)
      // What cannot be encoded is not of the option's type: decoding reports it.
      if (value !== undefined) given.set(leaf.path, { ...value, raw: encodeLeaf(leaf, value.raw) ?? value.raw })
    }
    return finish(all, given, [], [])
  })

/**
 * Every option in force with its source, in the order of the reference page, secrets shown as `<redacted>`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const effective = (settings: Shape): ReadonlyArray<Row> => settings.rows()

/**
 * A JSON Schema (draft 2020-12) of a settings file, for editors and for checks before a release.
 *
 * @category documentation
 * @since 0.1.0
 */
export const jsonSchema = (
  options?: { readonly sections?: ReadonlyArray<AnySection> | undefined }
): { [key: string]: unknown } => makeJsonSchema(withOwn(options?.sections ?? []))

/**
 * The reference page in Markdown.
 *
 * @category documentation
 * @since 0.1.0
 */
export const docs = (
  options?: { readonly sections?: ReadonlyArray<AnySection> | undefined }
): string => markdown(withOwn(options?.sections ?? []))
