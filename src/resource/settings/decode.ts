/**
 * Decodes all options of all sections and collects everything that is wrong.
 *
 * @internal
 */
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Redaction from "../../security/Redaction.ts"
import { describeName, describeShape, makeIssue, type SettingsIssue } from "./error.ts"
import { splitItems } from "./option.ts"
import { holdsSecret, registerSecret } from "./secrets.ts"
import { type AnySection, decodeAbsent, encodeLeaf, type Leaf, leavesOf } from "./section.ts"
import { nearest } from "./suggest.ts"

/** The value of an option as it was given, and by whom. */
export interface Given {
  readonly raw: unknown
  readonly source: string
  /** Texts of an environment; a file and code have values. */
  readonly isText: boolean
}

/** One option as it is in force. */
export interface Row {
  /** `cache.port` */
  readonly path: string
  /** `CACHE_PORT` */
  readonly variable: string
  /** As a file would hold it; `<redacted>` for a secret, `null` for an option that is not set. */
  readonly value: unknown
  /** `environment CACHE_PORT`, `file app.yaml`, `code` or `default`. */
  readonly source: string
}

/** What came of decoding: meaningful only if there are no issues. */
export interface Result {
  readonly values: Readonly<Record<string, unknown>>
  readonly sources: Readonly<Record<string, string>>
  /** Made when asked for: few programs show their settings. */
  readonly rows: () => ReadonlyArray<Row>
  readonly issues: ReadonlyArray<SettingsIssue>
}

type Group = Record<string, unknown>

/** Whether it is a group of options. */
export const isRecord = (u: unknown): u is Readonly<Group> => typeof u === "object" && u !== null && !Array.isArray(u)

const valueAt = (root: unknown, keys: ReadonlyArray<string>): unknown =>
  keys.reduce<unknown>(
    (group, key) => isRecord(group) && Object.hasOwn(group, key) ? group[key] : undefined,
    root
  )

/** The options that a file or a program gives. `null`, as of a YAML key with nothing behind it, counts as not given. */
export const givenBy = (leaves: ReadonlyArray<Leaf>, content: unknown, source: string): ReadonlyMap<string, Given> => {
  const given = new Map<string, Given>()
  for (const leaf of leaves) {
    const raw = valueAt(content, leaf.keys)
    if (raw !== undefined && raw !== null) given.set(leaf.path, { raw, source, isText: false })
  }
  return given
}

/** Names in a file that no section knows, and values where there should be groups. */
export const unknownOptions = (
  leaves: ReadonlyArray<Leaf>,
  content: Readonly<Group>,
  source: string
): ReadonlyArray<SettingsIssue> => {
  const visit = (group: Readonly<Group>, prefix: ReadonlyArray<string>): ReadonlyArray<SettingsIssue> => {
    const here = leaves.filter((leaf) => prefix.every((key, i) => leaf.keys[i] === key))
    const names = [...new Set(here.map((leaf) => leaf.keys[prefix.length]!))]
    const shown = (name: string) => [...prefix, name].join(".")
    return Object.entries(group).flatMap(([name, value]) => {
      if (!names.includes(name)) {
        // As in compose files: a place for what several sections share.
        if (prefix.length === 0 && name.startsWith("x-")) return []
        const meant = nearest(name, names)
        const expected = prefix.length === 0 ? "the name of a section" : `an option of ${prefix.join(".")}`
        return [makeIssue({
          path: shown(describeName(name)),
          source,
          expected,
          actual: "an unknown name",
          hint: meant === undefined ? `there are ${names.join(", ")}` : `did you mean ${shown(meant)}?`
        })]
      }
      const isLeaf = here.some((leaf) => leaf.keys[prefix.length] === name && leaf.keys.length === prefix.length + 1)
      if (isLeaf || value === null || value === undefined) return []
      return isRecord(value)
        ? visit(value, [...prefix, name])
        : [makeIssue({ path: shown(name), source, expected: "a group of options", actual: describeShape(value) })]
    })
  }
  return visit(content, [])
}

const decodeWith = (schema: Schema.Constraint, raw: unknown): Exit.Exit<unknown, unknown> =>
  Schema.decodeUnknownExit(schema as Schema.Codec<unknown>)(raw)

const isArrayCodec = (leaf: Leaf): boolean => SchemaAST.toEncoded(leaf.schema.ast)._tag === "Arrays"

/** Options of a user's own schemas: text where the source is text, JSON otherwise, and text again if that fails. */
const decodeForeign = (leaf: Leaf, given: Given): Exit.Exit<unknown, unknown> => {
  const { raw } = given
  const texts = Schema.toCodecStringTree(leaf.schema)
  const fromText = (text: string) => decodeWith(texts, isArrayCodec(leaf) ? splitItems(text) : text)
  if (given.isText) return typeof raw === "string" ? fromText(raw) : decodeWith(texts, raw)
  const exit = decodeWith(Schema.toCodecJson(leaf.schema), raw)
  return Exit.isFailure(exit) && (typeof raw === "string" || typeof raw === "number") ? fromText(String(raw)) : exit
}

/** The first item of a list that is not valid; the list itself may be a text. */
const wrongItem = (leaf: Leaf, raw: unknown): readonly [index: number, item: unknown] | undefined => {
  const items: ReadonlyArray<unknown> = typeof raw === "string" ? splitItems(raw) : Array.isArray(raw) ? raw : []
  const index = leaf.facts.isItem === undefined ? -1 : items.findIndex((item) => leaf.facts.isItem?.(item) === false)
  return index < 0 ? undefined : [index, items[index]]
}

const hintFor = (leaf: Leaf, raw: unknown): string | undefined => {
  const { choices, hint, isText } = leaf.facts
  const meant = choices !== undefined && typeof raw === "string" ? nearest(raw, choices) : undefined
  if (meant !== undefined) return `did you mean ${meant}?`
  return isText === true && (typeof raw === "number" || typeof raw === "boolean") ? "put it in quotes" : hint
}

const wrongValue = (leaf: Leaf, given: Given | undefined): SettingsIssue => {
  const { expected } = leaf.facts
  if (given === undefined) {
    return makeIssue({ path: leaf.path, source: "default", expected, actual: "nothing", hint: `set ${leaf.variable}` })
  }
  const item = wrongItem(leaf, given.raw)
  const shape = describeShape(given.raw, leaf.facts)
  return makeIssue({
    path: leaf.path,
    source: given.source,
    expected,
    actual: item === undefined ? shape : `${shape}, of which item ${item[0] + 1} is not valid`,
    hint: hintFor(leaf, item === undefined ? given.raw : item[1])
  })
}

const assign = (root: Group, keys: ReadonlyArray<string>, value: unknown): void => {
  const name = keys[keys.length - 1]!
  let group = root
  for (const key of keys.slice(0, -1)) group = (group[key] ??= {}) as Group
  if (value !== undefined) group[name] = value
}

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

/** What a section's own Schema checks, and its `check`, say about options that are each valid. */
const problemsOf = (section: AnySection, value: Readonly<Group>, isComplete: boolean): ReadonlyArray<SettingsIssue> => {
  const path = (option: string) => option === "" ? section.name : `${section.name}.${option}`
  const problems = (section.check?.(value as never) ?? []).map((problem) => ({
    ...problem,
    path: path(problem.option),
    source: ""
  }))
  if (!isComplete || section.schema.ast.checks === undefined) return problems
  const exit = Schema.decodeUnknownExit(Schema.toType(section.schema))(value)
  const error = Exit.findErrorOption(exit)
  if (error._tag === "None") return problems
  return [
    ...problems,
    ...formatIssues(error.value.issue).issues.map((issue) => ({
      path: path((issue.path ?? []).map(String).join(".")),
      source: "",
      expected: Redaction.text(issue.message),
      actual: "options that do not fit together"
    }))
  ]
}

const shown = (leaf: Leaf, value: unknown): unknown =>
  value === undefined
    ? null
    : leaf.facts.isSecret === true || Redacted.isRedacted(value)
    ? "<redacted>"
    : holdsSecret(value)
    ? Redaction.value(value)
    : Redaction.value(encodeLeaf(leaf, value))

/** Decodes what was given over the defaults. */
export const decodeAll = (
  sections: ReadonlyArray<AnySection>,
  given: ReadonlyMap<string, Given>,
  found: ReadonlyArray<SettingsIssue> = []
): Result => {
  const leaves = sections.map((section) => [section, leavesOf(section)] as const)
  // Before anything is said about any option.
  for (const leaf of leaves.flatMap(([_, leaves]) => leaves)) registerSecret(leaf, given.get(leaf.path)?.raw)
  const values: Group = {}
  const sources: Record<string, string> = {}
  const issues: Array<SettingsIssue> = []
  for (const [section, options] of leaves) {
    const before = issues.length
    for (const leaf of options) {
      const from = given.get(leaf.path)
      const exit = from === undefined
        ? decodeAbsent(leaf)
        : leaf.isOwn
        ? decodeWith(leaf.schema, from.raw)
        : decodeForeign(leaf, from)
      const value = Exit.isSuccess(exit) ? exit.value : undefined
      if (Exit.isFailure(exit)) issues.push(wrongValue(leaf, from))
      registerSecret(leaf, value)
      assign(values, leaf.keys, value)
      sources[leaf.path] = from?.source ?? "default"
    }
    const isComplete = issues.length === before
    const value = (values[section.name] ??= {}) as Group
    for (const problem of problemsOf(section, value, isComplete)) {
      // An option that is wrong by itself is reported once.
      if (issues.some((issue) => issue.path === problem.path)) continue
      issues.push(makeIssue({ ...problem, source: given.get(problem.path)?.source ?? "default" }))
    }
  }
  // Made anew: a secret may have become known after the first issues were found.
  const rows = () =>
    leaves.flatMap(([_, options]) => options).map((leaf) => ({
      path: leaf.path,
      variable: leaf.variable,
      value: shown(leaf, valueAt(values, leaf.keys)),
      source: sources[leaf.path]!
    }))
  return { values, sources, rows, issues: [...found, ...issues].map(makeIssue) }
}
