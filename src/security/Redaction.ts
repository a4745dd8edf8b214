/**
 * Takes secrets out of texts, URLs, headers, values and driver errors before anybody sees them.
 *
 * **When to use**
 *
 * Pass whatever comes from a driver, a user or a URL through it before it becomes a message, a log line, a span, a metric
 * or a status. The library does so at each of its own edges; use it at yours.
 *
 * **Details**
 *
 * Secrets are found in two ways: by value, for each one that was registered (`Settings` registers every `Redacted` that
 * it decodes, and the password inside every URL), and by the place where they stand: credentials in URLs, `password=...`
 * and its relatives in text, JSON, query strings and connection strings, `Authorization` headers, Redis `AUTH` and
 * `HELLO`, JSON Web Tokens, private keys. What is hidden reads `<redacted>`. It hides too much rather than too little.
 *
 * **Gotchas**
 *
 * An unregistered secret in the middle of prose cannot be recognized. Time grows linearly with the length of the text.
 *
 * **Example** (A driver's message and its error)
 *
 * ```ts
 * import { Redaction } from "seaworthy"
 *
 * Redaction.register("hunter2")
 * console.log(Redaction.text("redis://app:s3cret@cache:6379 refused hunter2"))
 * // => "redis://<redacted>@cache:6379 refused <redacted>"
 *
 * const thrown = Object.assign(new Error("WRONGPASS"), { code: "E1", command: { name: "auth", args: ["hunter2"] } })
 * console.log(Object.entries(Redaction.error(thrown)))
 * // => [["code", "E1"]]
 * ```
 *
 * @since 0.1.0
 */
import * as Redacted from "effect/Redacted"
import * as KnownSecrets from "./internal/knownSecrets.ts"
import { redactError, redactText, redactUrl, redactValue } from "./internal/redactValue.ts"
import { isSensitive, placeholder } from "./internal/scrub.ts"

/**
 * Makes a secret known by value: from now on it is hidden wherever it stands, plain, percent-encoded (also by the rules
 * of URLs and forms) or escaped as in JSON. A percent-encoded secret is also hidden in its decoded form.
 *
 * Values of fewer than 4 characters are ignored: replacing them everywhere would garble every message. At most 1000
 * secrets are kept (the oldest goes first), and the first 4096 characters of each.
 *
 * @category registration
 * @since 0.1.0
 */
export const register = (secret: string | Redacted.Redacted<string>): void =>
  KnownSecrets.add(typeof secret === "string" ? secret : Redacted.value(secret))

/**
 * Forgets a registered secret, after it was rotated or in a test.
 *
 * @category registration
 * @since 0.1.0
 */
export const unregister = (secret: string | Redacted.Redacted<string>): void =>
  KnownSecrets.remove(typeof secret === "string" ? secret : Redacted.value(secret))

/**
 * A text without secrets, of at most about 256 thousand characters.
 *
 * @category redaction
 * @since 0.1.0
 */
export const text: (text: string) => string = redactText

/**
 * A URL without user name, password and secret query parameters, valid or not. The whole text is taken as one URL, so
 * use `text` for URLs within a text.
 *
 * @category redaction
 * @since 0.1.0
 */
export const url: (url: string | URL) => string = (url) => redactUrl(typeof url === "string" ? url : url.href)

/**
 * A copy of a record of headers: the values of `authorization`, `cookie`, `x-api-key` and other secret names hidden, all
 * others passed through `text`.
 *
 * @category redaction
 * @since 0.1.0
 */
export const headers = (
  headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
): Record<string, string | Array<string>> => {
  const copy: Record<string, string | Array<string>> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined) continue
    copy[name] = isSensitive(name) ? placeholder : typeof value === "string" ? text(value) : value.map(text)
  }
  return copy
}

/**
 * A copy of any value without secrets: fields with secret names and `Redacted` values are hidden, texts passed through
 * `text`, errors through `error`, bytes replaced by their count, class instances by plain records of their fields.
 * Getters are not called. Cycles read `<circular>`.
 *
 * Bounded: 6 levels, 100 entries a level, 2000 values, 2000 characters a text.
 *
 * @category redaction
 * @since 0.1.0
 */
export const value: (value: unknown) => unknown = redactValue

/**
 * A sanitized copy of anything that was thrown: name, `_tag`, `code`, message and stack without secrets, and nested
 * causes up to 5 levels. All other properties are dropped (`ioredis` keeps the password in `command.args`). The errors
 * inside an `AggregateError` are told in the message. Messages have at most 2000 characters.
 *
 * @category redaction
 * @since 0.1.0
 */
export const error: (cause: unknown) => Error = (cause) => redactError(cause)

/**
 * Whether a field, header, parameter or option of this name holds a secret: `x-api-key`, `clientSecret`, `PGPASSWORD`.
 *
 * @category guards
 * @since 0.1.0
 */
export const isSecretName: (name: string) => boolean = isSensitive
