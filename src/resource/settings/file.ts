/**
 * Reads a settings file. Messages name file, line and column and never quote the file, which may hold secrets.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type { PlatformError } from "effect/PlatformError"
import { isRecord } from "./decode.ts"
import { describeShape, makeIssue, SettingsError } from "./error.ts"
import { jsonErrorOffset } from "./json.ts"

/** The parsed content of a file of settings. */
export interface SettingsFile {
  /** As it was named; part of each source: `file app.yaml`. */
  readonly path: string
  readonly content: Readonly<Record<string, unknown>>
}

const maximumBytes = 1_048_576
const maximumAliases = 1_000

const failure = (path: string, expected: string, actual: string, hint?: string) =>
  new SettingsError({ issues: [makeIssue({ path, source: `file ${path}`, expected, actual, hint })] })

const position = (text: string, offset: number): string => {
  const before = text.slice(0, offset).split("\n")
  return `line ${before.length}, column ${before[before.length - 1]!.length + 1}`
}

const yamlMistakes: Readonly<Record<string, string>> = {
  BAD_ALIAS: "an alias without its anchor",
  BAD_INDENT: "wrong indentation",
  BLOCK_AS_IMPLICIT_KEY: "wrong indentation or a missing quote",
  BLOCK_IN_FLOW: "a missing bracket or brace",
  DUPLICATE_KEY: "an option that is given twice",
  MISSING_CHAR: "a missing quote, bracket, brace, comma or colon",
  MULTILINE_IMPLICIT_KEY: "a missing colon, or a text that spans lines",
  MULTIPLE_DOCS: "a second document",
  TAB_AS_INDENT: "a tab in the indentation",
  TAG_RESOLVE_FAILED: "a tag that settings do not know"
}

const tooManyAliases = (path: string) => failure(path, "valid YAML", "aliases that would fill the memory")

const parseJson = (path: string, text: string): Effect.Effect<unknown, SettingsError> =>
  Effect.try({
    try: () => JSON.parse(text) as unknown,
    catch: () => failure(path, "valid JSON", `a mistake at ${position(text, jsonErrorOffset(text))}`)
  })

const parseYaml = Effect.fnUntraced(function*(path: string, text: string) {
  const yaml = yield* Effect.tryPromise({
    try: () => import("yaml"),
    catch: () =>
      failure(
        path,
        "a file that this installation can read",
        "YAML without the package that reads it",
        "npm install yaml, or use JSON"
      )
  })
  return yield* Effect.try({
    try: () => {
      // Tags such as `!!set` would give values that are no groups; those of other programs (`!vault`) mean something else.
      const document = yaml.parseDocument(text, { prettyErrors: false, merge: true, resolveKnownTags: false })
      const [mistake] = [...document.errors, ...document.warnings.filter(({ code }) => code === "TAG_RESOLVE_FAILED")]
      if (mistake !== undefined) {
        const what = yamlMistakes[mistake.code] ?? "a mistake"
        throw failure(path, "valid YAML", `${what} at ${position(text, mistake.pos[0])}`)
      }
      // To let each alias look for its anchor costs a walk through the document each.
      const anchors = new Set<string>()
      let aliases = 0
      const remember = (node: { readonly anchor?: string | undefined }) => {
        if (node.anchor !== undefined) anchors.add(node.anchor)
      }
      yaml.visit(document, {
        Alias: (_, node) => {
          if (!anchors.has(node.source)) {
            throw failure(path, "valid YAML", `${yamlMistakes["BAD_ALIAS"]} at ${position(text, node.range?.[0] ?? 0)}`)
          }
          if (++aliases > maximumAliases) throw tooManyAliases(path)
        },
        Collection: (_, node) => remember(node),
        Scalar: (_, node) => {
          remember(node)
          // A password such as 007 or 1e3 is a number to YAML: numbers that are not written as they print stay text.
          if (typeof node.value === "number" && node.source !== undefined && String(node.value) !== node.source) {
            node.value = node.source
          }
        }
      })
      return document.toJS({ maxAliasCount: 100 }) as unknown
    },
    catch: (cause) => cause instanceof SettingsError ? cause : tooManyAliases(path)
  })
})

const kindOf = (path: string): Effect.Effect<string, SettingsError> => {
  const kind = /\.(json|ya?ml)$/i.exec(path)?.[1]?.toLowerCase()
  return kind === undefined
    ? Effect.fail(failure(path, "a name that ends in .yaml, .yml or .json", "another ending"))
    : Effect.succeed(kind)
}

/** Parses the text of a file by the ending of its name. */
export const parseFile = Effect.fnUntraced(function*(path: string, text: string) {
  if (text.length > maximumBytes) {
    return yield* failure(path, "a file of at most 1 MiB", `a file of ${text.length} characters`)
  }
  const kind = yield* kindOf(path)
  // Editors on Windows put a byte order mark first.
  const content = yield* (kind === "json" ? parseJson : parseYaml)(path, text.replace(/^\uFEFF/, ""))
  if (content !== null && content !== undefined && !isRecord(content)) {
    return yield* failure(path, "sections by name, such as cache and database", describeShape(content))
  }
  return { path, content: content ?? {} } satisfies SettingsFile
})

const unreadable: Readonly<Record<string, readonly [actual: string, hint: string]>> = {
  NotFound: ["no such file", "check the path; it is relative to the working directory"],
  PermissionDenied: ["a file that this user may not read", "give read permission to the user of this process"],
  BadResource: ["a folder", "name the file in it"]
}

/** Reads and parses a file. */
export const readFile = Effect.fnUntraced(function*(path: string) {
  const fs = yield* FileSystem.FileSystem
  const refused = Effect.mapError((error: PlatformError) => {
    const [actual, hint] = unreadable[error.reason._tag] ?? ["a file that cannot be read", undefined]
    return failure(path, "a file of settings", actual, hint)
  })
  // Before reading: what is no file of settings may be large, or a device without an end.
  yield* kindOf(path)
  const { size } = yield* refused(fs.stat(path))
  if (size > 4 * maximumBytes) return yield* failure(path, "a file of at most 1 MiB", `a file of ${size} bytes`)
  return yield* parseFile(path, yield* refused(fs.readFileString(path)))
})
