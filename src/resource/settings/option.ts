/**
 * The kinds of option that sections are made of. Each is a Schema that accepts what a file holds as well as the text of
 * an environment variable, and carries what error messages and the reference page say about it.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

/** What messages and the reference page say about an option. */
export interface Facts {
  /** One line for the reference page, with the unit. */
  readonly meaning: string
  /** Completes "expected ...". */
  readonly expected: string
  readonly isSecret?: boolean | undefined
  /** A URL whose credentials are secret, not its host. */
  readonly isUrl?: boolean | undefined
  readonly isNumber?: boolean | undefined
  /** A number or a boolean where text is wanted was meant as text. */
  readonly isText?: boolean | undefined
  readonly choices?: ReadonlyArray<string> | undefined
  /** Whether one item of a list is valid. */
  readonly isItem?: ((item: unknown) => boolean) | undefined
  readonly hint?: string | undefined
}

const factsKey = "seaworthy/settings"

/** The facts of an option made here; `undefined` for any other schema. */
export const factsOf = SchemaAST.resolveAt<Facts>(factsKey)

const option = <To extends Schema.Constraint, From extends Schema.Constraint>(
  from: From,
  to: To,
  facts: Facts,
  parse: (raw: From["Type"]) => To["Encoded"] | undefined,
  print: (value: To["Encoded"]) => From["Type"]
) =>
  Schema.decodeTo<To, From>(to, {
    decode: SchemaGetter.transformEffect((raw: From["Type"]) => {
      const value = parse(raw)
      return value === undefined
        ? Effect.fail(new SchemaIssue.InvalidValue({ expected: facts.expected }))
        : Effect.succeed(value)
    }),
    encode: SchemaGetter.transform(print)
  })(from).annotate({ description: facts.meaning, expected: facts.expected, [factsKey]: facts })

/** The option may be left out and then has this value, written as in a file. */
export const withDefault = <S extends Schema.Constraint>(schema: S, value: S["Encoded"]) =>
  Schema.withDecodingDefaultKey<S>(Effect.succeed(value))(schema)

const TextOrNumber = Schema.Union([Schema.String, Schema.Finite])

/** A user name of digits is a number to YAML. Numbers that may have lost digits on the way are refused. */
const textOf = (raw: string | number): string | undefined =>
  typeof raw === "string" ? raw : Number.isSafeInteger(raw) ? String(raw) : undefined

const between = (minimum: number, maximum: number): string =>
  maximum === Infinity ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`

const numberOf = (raw: string | number): number | undefined => {
  if (typeof raw === "number") return raw
  const text = raw.trim()
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?$/i.test(text) ? Number(text) : undefined
}

/** Any text of at most 1000 characters on one line; `pattern` narrows it. */
export const text = (meaning: string, options?: { readonly expected: string; readonly pattern: RegExp }) =>
  option(
    TextOrNumber,
    Schema.String,
    { meaning, expected: options?.expected ?? "text of 1 to 1000 characters on one line", isText: true },
    (raw) => {
      const text = textOf(raw)
      return text !== undefined && (options?.pattern ?? /^[^\0\r\n]{1,1000}$/).test(text) ? text : undefined
    },
    (value) => value
  )

/** A text that may be empty. */
export const textOrNothing = (meaning: string) =>
  text(meaning, { expected: "text of at most 1000 characters on one line", pattern: /^[^\0\r\n]{0,1000}$/ })

/** A host name or an IP address. */
export const host = (meaning: string) =>
  text(meaning, {
    expected: "a host name or an address, without scheme, port or credentials",
    pattern: /^(?:[\w.-]{1,253}|\[?[\da-fA-F:.]{2,45}(?:%\w{1,15})?\]?|\/[\w./-]{1,250})$/
  })

/** A whole number. */
export const integer = (meaning: string, minimum: number, maximum: number) =>
  option(
    TextOrNumber,
    Schema.Number,
    { meaning, expected: `an integer ${between(minimum, maximum)}`, isNumber: true },
    (raw) => {
      const value = numberOf(raw)
      return value !== undefined && Number.isInteger(value) && value >= minimum && value <= maximum ? value : undefined
    },
    (value) => value
  )

/** A share from 0 to 1. */
export const fraction = (meaning: string, minimum: number) =>
  option(
    TextOrNumber,
    Schema.Number,
    { meaning, expected: `a number ${between(minimum, 1)}`, isNumber: true },
    (raw) => {
      const value = numberOf(raw)
      return value !== undefined && value >= minimum && value <= 1 ? value : undefined
    },
    (value) => value
  )

/** Node's timers cannot wait longer: 2^31 - 1 milliseconds. */
export const longestTimer = 2_147_483

/** A time span: a number of seconds, or the text of an Effect duration. */
export const seconds = (meaning: string, minimum: number, maximum = longestTimer) =>
  option(
    TextOrNumber,
    Schema.Duration,
    {
      meaning: `${meaning} (seconds)`,
      expected: `seconds ${between(minimum, maximum)}, or a duration such as "500 millis"`,
      isNumber: true
    },
    (raw) => {
      const count = numberOf(raw)
      const duration = count !== undefined
        ? Duration.seconds(count)
        : Option.getOrUndefined(Duration.fromInput(String(raw).trim() as Duration.Input))
      if (duration === undefined) return undefined
      const length = Duration.toSeconds(duration)
      return length >= minimum && length <= maximum ? duration : undefined
    },
    Duration.toSeconds
  )

const yes = /^(?:true|yes|on|1)$/i
const no = /^(?:false|no|off|0)$/i

/** A switch. */
export const boolean = (meaning: string) =>
  option(
    Schema.Union([Schema.Boolean, Schema.String]),
    Schema.Boolean,
    { meaning, expected: "true or false (also yes, no, on, off, 1, 0)" },
    (raw) => {
      if (typeof raw === "boolean") return raw
      const text = raw.trim()
      return yes.test(text) ? true : no.test(text) ? false : undefined
    },
    (value) => value
  )

/** Upper and lower case, `-`, `_` and space are the same. */
const folded = (text: string): string => text.trim().toLowerCase().replace(/[ _-]/g, "")

const chosen = <const L extends string>(choices: ReadonlyArray<L>, raw: string): L | undefined =>
  choices.find((choice) => folded(choice) === folded(raw))

const quotedList = (choices: ReadonlyArray<string>): string =>
  choices.length === 1
    ? choices[0]!
    : `${choices.slice(0, -1).join(", ")} or ${choices[choices.length - 1]}`

/** One of a few words. */
export const choice = <const L extends string>(meaning: string, choices: ReadonlyArray<L>) =>
  option(
    Schema.String,
    Schema.Literals(choices),
    { meaning, expected: quotedList(choices), choices },
    (raw) => chosen(choices, raw),
    (value) => value
  )

const TextOrList = Schema.Union([Schema.Array(TextOrNumber), Schema.String])

/** A list in one text is separated by commas, or a list of texts and numbers in JSON. */
export const splitItems = (text: string): ReadonlyArray<string> =>
  itemsOfJson(text) ?? text.split(",").map((item) => item.trim()).filter((item) => item !== "")

const itemsOfJson = (text: string): ReadonlyArray<string> | undefined => {
  if (!/^\s*\[.*\]\s*$/s.test(text)) return undefined
  try {
    const items: unknown = JSON.parse(text)
    const plain = Array.isArray(items) && items.every((item) => typeof item === "string" || typeof item === "number")
    return plain ? items.map(String) : undefined
  } catch {
    return undefined
  }
}

const itemsOf = (raw: string | ReadonlyArray<string | number>): ReadonlyArray<string | number> =>
  typeof raw === "string" ? splitItems(raw) : raw

const maximumItems = 1_000

const list = <To extends Schema.Constraint, A extends To["Encoded"]>(
  item: To,
  facts: Facts,
  parse: (item: string) => A | undefined
) => {
  const parseItem = (raw: string | number): A | undefined => {
    const text = textOf(raw)
    return text === undefined ? undefined : parse(text)
  }
  return option(
    TextOrList,
    Schema.Array(item),
    {
      ...facts,
      isItem: (raw) => (typeof raw === "string" || typeof raw === "number") && parseItem(raw) !== undefined
    },
    (raw): ReadonlyArray<A> | undefined => {
      const items = itemsOf(raw)
      const parsed = items.flatMap((item) => parseItem(item) ?? [])
      return parsed.length === items.length && items.length <= maximumItems ? parsed as ReadonlyArray<A> : undefined
    },
    (value) => value as ReadonlyArray<string>
  )
}

/** A list of texts; in an environment variable separated by commas. */
export const texts = (meaning: string, options: { readonly expected: string; readonly pattern: RegExp }) =>
  list(
    Schema.String,
    { meaning, expected: options.expected },
    (item) => options.pattern.test(item) ? item : undefined
  )

/** A list of a few words, in an order that means something. */
export const choices = <const L extends string>(meaning: string, words: ReadonlyArray<L>) =>
  list(
    Schema.Literals(words),
    { meaning, expected: `a list of ${words.join(", ")}`, choices: words },
    (item) => chosen(words, item)
  )

/**
 * Permission bits. The digits are read as `chmod` reads them, whether they come as text or as a number: YAML 1.2 takes
 * `0755` for the decimal number 755, and nobody who writes it means that.
 */
export const permissions = (meaning: string) =>
  option(
    TextOrNumber,
    Schema.Number,
    { meaning, expected: "octal permissions such as 0755", hint: "write three or four octal digits, as for chmod" },
    (raw) => {
      const digits = /^(?:0o)?([0-7]{3,5})$/i.exec(String(raw).trim())?.[1]
      const value = digits === undefined ? Number.NaN : Number.parseInt(digits, 8)
      return value <= 0o7777 ? value : undefined
    },
    (value) => `0${value.toString(8).padStart(3, "0")}`
  )

/** A secret. It has no default and is never shown. */
export const secret = (meaning: string) =>
  option(
    TextOrNumber,
    Schema.Redacted(Schema.String),
    { meaning: `${meaning} (secret)`, expected: "text of 1 to 4096 characters", isSecret: true, isText: true },
    (raw) => {
      const text = textOf(raw)
      return text !== undefined && /^[^\0]{1,4096}$/.test(text) ? Redacted.make(text) : undefined
    },
    Redacted.value
  )

/** A URL that may hold credentials; secret as a whole. */
export const secretUrl = (meaning: string, schemes: ReadonlyArray<string>) =>
  option(
    Schema.String,
    Schema.Redacted(Schema.String),
    {
      meaning: `${meaning} (secret)`,
      expected: `a URL with a host that starts with ${quotedList(schemes.map((scheme) => `${scheme}://`))}`,
      isSecret: true,
      isUrl: true,
      hint: "percent-encode @ : / ? # and % in the user name and the password"
    },
    (raw) => {
      const text = raw.trim()
      return isUrl(text, schemes) ? Redacted.make(text) : undefined
    },
    Redacted.value
  )

const isUrl = (text: string, schemes: ReadonlyArray<string>): boolean => {
  if (text.length > 4_096 || /\s/.test(text) || !URL.canParse(text)) return false
  const url = new URL(text)
  if (!schemes.includes(url.protocol.slice(0, -1)) || url.hostname === "" || url.port === "0") return false
  try {
    decodeURIComponent(url.username + url.password)
  } catch {
    return false
  }
  // A second `@` means that a password was not encoded and the host is not what it seems.
  return !/@/.test(url.host + url.pathname)
}
