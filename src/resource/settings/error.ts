/**
 * What is wrong with the settings, said without showing a secret.
 *
 * @internal
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redaction from "../../security/Redaction.ts"
import type { Facts } from "./option.ts"

/**
 * One wrong option.
 *
 * @category models
 * @since 0.1.0
 */
export interface SettingsIssue {
  /** `cache.port`; for a file that cannot be read or parsed, the name of the file. */
  readonly path: string
  /** `environment CACHE_PORT`, `file app.yaml`, `code` or `default`. */
  readonly source: string
  /** What would be valid. */
  readonly expected: string
  /** The shape of what was given: never a text that was given, for it may be a secret in the wrong place. */
  readonly actual: string
  readonly hint?: string | undefined
}

const line = (issue: SettingsIssue): string =>
  `  ${issue.path} (${issue.source}): expected ${issue.expected}, got ${issue.actual}` +
  (issue.hint === undefined ? "" : `; ${issue.hint}`)

/**
 * Everything that is wrong with the settings of all sections, at once. The message is a report of one line an option.
 *
 * @category errors
 * @since 0.1.0
 */
export class SettingsError extends Data.TaggedError("SettingsError")<{
  readonly issues: ReadonlyArray<SettingsIssue>
}> {
  override get message(): string {
    const count = this.issues.length === 1 ? "one option is" : `${this.issues.length} options are`
    return [`Invalid settings: ${count} wrong.`, ...this.issues.map(line)].join("\n")
  }
}

/** An issue whose texts went through redaction, as they may hold a number or a name that is a secret elsewhere. */
export const makeIssue = (issue: SettingsIssue): SettingsIssue => ({
  path: Redaction.text(issue.path),
  source: issue.source,
  expected: issue.expected,
  actual: Redaction.text(issue.actual),
  ...issue.hint === undefined ? {} : { hint: Redaction.text(issue.hint) }
})

const count = (n: number, one: string, many: string): string => n === 1 ? `one ${one}` : `${n} ${many}`

/** Texts for options that count something. A number is short enough to be shown, and so is a duration. */
const describeCount = (text: string): string | undefined => {
  if (isNumeric(text)) return text.length <= 12 ? `the number ${text.trim()}` : undefined
  const duration = Duration.fromInput(text.trim() as Duration.Input)
  return Option.isSome(duration)
    ? `a duration of ${Duration.toSeconds(duration.value)} seconds`
    : `${describeText(text)} that is not a number`
}

const describeText = (text: string): string => `text of ${count(text.length, "character", "characters")}`

const isNumeric = (text: string): boolean => text.trim() !== "" && Number.isFinite(Number(text))

/** Says what kind of value was given without showing it. Short numbers are shown, unless the option is secret. */
export const describeShape = (value: unknown, facts?: Facts): string => {
  switch (typeof value) {
    case "string":
      if (value === "") return "an empty text"
      return (facts?.isNumber === true ? describeCount(value) : undefined) ?? describeText(value)
    case "number":
      return facts === undefined || facts.isSecret === true || String(value).length > 12
        ? "a number"
        : `the number ${value}`
    case "boolean":
      return `the boolean ${value}`
    case "undefined":
      return "nothing"
    case "object":
      if (value === null) return "nothing"
      if (Array.isArray(value)) return `a list of ${count(value.length, "item", "items")}`
      return `a group of ${count(Object.keys(value).length, "option", "options")}`
    default:
      return `a ${typeof value}`
  }
}

/** Option names that come from a file: shown only if they look like one. */
export const describeName = (name: string): string =>
  /^[\w.-]{1,64}$/.test(name) ? name : `<name of ${name.length} characters>`
