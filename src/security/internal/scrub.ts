/**
 * Finds secrets by the places where they stand: URLs, `password=...`, headers, Redis commands, tokens.
 *
 * Every expression here is linear in the length of the text: a repetition is never followed by something that the
 * repetition also matches, and what looks ahead or starts inside a word is bounded.
 *
 * @internal
 */

/** What stands where a secret stood. */
export const placeholder = "<redacted>"

// A value in quotes, closed or cut off; then one in quotes that are themselves escaped, as in JSON inside JSON.
const doubleQuoted = String.raw`"(?:\\[\s\S]|[^"\\])*(?:"|\\?$)`
const singleQuoted = String.raw`'(?:\\[\s\S]|''|[^'\\])*(?:'|\\?$)`
const escapedQuoted = String.raw`(?<escape>\\{1,8})"[\s\S]*?(?:(?<!\\)\k<escape>"|$)`
const list = String.raw`\[(?:[^\]"']|${doubleQuoted}|${singleQuoted})*\]?`
const record = String.raw`\{(?:[^}"']|${doubleQuoted}|${singleQuoted})*\}?`
// Unquoted: up to white space, a quote or the next `name=` of a query string or connection string.
const bare = String.raw`(?:${placeholder}|[^\s&;"<>${"`"}]|[&;](?![\w.%-]{1,64}=))+`
const quoted = `${doubleQuoted}|${singleQuoted}|${escapedQuoted}`
const value = `${quoted}|${list}|${record}|${bare}`
const scheme = String.raw`(?:(?:bearer|basic|digest|negotiate|token|apikey)[ \t]{1,8})?`

const names = [
  "passwords?",
  "passwd",
  "passphrase",
  "passcode",
  "(?<![a-z])pass",
  "(?:require|auth_?|user)pass",
  "masterauth",
  "pwd",
  "secrets?",
  "secret[_-]?(?:access[_-]?)?key",
  "token",
  "api[_-]?key",
  "access[_-]?key(?:[_-]?id)?",
  "private[_-]?key",
  "credentials?",
  "(?<=[?&])(?:sig|signature|key|auth|jwt|session|sid)"
].join("|")
const separator = String.raw`\\{0,8}["'\]]{0,2}\s{0,4}(?:[:=]{1,2}>?|%3[ad])\s{0,4}`

const named = new RegExp(String.raw`((?:${names})(?:${separator}|[ \t]{1,3}(?=["'])))${scheme}(?<value>${value})`, "gi")
const option = new RegExp(String.raw`(--(?:${names})[ \t]{1,4})(?<value>${quoted}|[^\s"']+)`, "gi")
const identified = new RegExp(String.raw`(\bidentified by\s{1,4})(?<value>${quoted}|\S+)`, "gi")
// An unquoted header goes on to the end of its line: `Digest username="a", response="b"`.
const header = new RegExp(
  String.raw`((?:authorization|\bcookie|\bset-cookie)${separator})(?<value>${quoted}|${list}|[^\r\n]+)`,
  "gi"
)
const bearer = /\b(bearer|basic)([ \t]{1,8})(?=[^\s"']{0,200}[0-9=._])[\w.~+/=-]{8,}/gi

// `AUTH [user] password` as typed, as Redis prints it in MONITOR, on the wire, and as a driver's command object.
const word = String.raw`(?:${doubleQuoted}|${singleQuoted}|[^\s"'<]\S*)`
const redisTyped = new RegExp(String.raw`\b(AUTH|requirepass|masterauth)([ \t]{1,4})${word}(?:[ \t]{1,4}${word})?`, "g")
const redisQuoted = new RegExp(
  String.raw`((["'])auth\2)(?:[\s,]{1,4}(?:${doubleQuoted}|${singleQuoted})){1,2}`,
  "gi"
)
const redisWire = /(AUTH)(\\r\\n|\r\n)(?:\$\d{1,10}\2(?:(?!\2)[\s\S])*(?:\2|$)){1,2}/gi
const redisCommand = new RegExp(
  String.raw`(\bname["']?:\s{0,4}["'](?:auth|hello|acl|config|migrate)["'],\s{0,8}["']?args["']?:\s{0,4})${list}`,
  "gi"
)

const privateKey = /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g
const issued = /\b(?:gh[pousr]_|github_pat_|sk-|xox[abprs]-|AKIA)[\w-]{16,}/g
const tokenRun = /[\w.-]{20,}/g

const hideToken = (run: string): string => {
  const start = run.indexOf("eyJ")
  if (start < 0) return run
  const dot = run.indexOf(".", start)
  return dot < start + 8 || run.length - dot < 6 ? run : run.slice(0, start) + placeholder
}

const urlRun = new RegExp(String.raw`(:\\?/\\?/)((?:${placeholder}|[^\s"<>${"`"}])+)`, "g")
const encodedUrlRun = /(%3A%2F%2F)([^\s"<>`&]+)/gi
const withoutScheme = /(?<![\w.%+/-])[\w.%+-]{0,64}:[^\s/@\\"'<>:]{1,256}@(?=[\w.[])/g

/**
 * What stands before the host, given what follows `://`.
 *
 * An unencoded `@`, `/`, `?` or `#` in a password is a mistake that people make, so credentials end at the last `@`
 * of the whole run as soon as the part before the first slash cannot be a plain host and port.
 */
export const withoutCredentials = (rest: string): string => {
  const authority = /^[^/?#\\]*/.exec(rest)![0]
  const isPlain = !/@|:(?!\d*$)/.test(authority.replace(/^\[[\da-f:.%]*\]/i, ""))
  if (isPlain) return rest
  const end = rest.lastIndexOf("@")
  // Without any `@` the text was cut, or the password holds white space: better no host than half a password.
  return placeholder + rest.slice(end < 0 ? authority.length : end)
}

const withoutEncodedCredentials = (rest: string): string => {
  const end = rest.toUpperCase().lastIndexOf("%40")
  return end < 0 ? rest : `${placeholder}${rest.slice(end)}`
}

type Groups = { readonly value: string }

const closing: Readonly<Record<string, string>> = { "[": "]", "{": "}" }

/** Keeps what stands before a value, and its quotes or brackets, so that JSON stays readable. */
const hideValue = (_: string, start: string, ...rest: ReadonlyArray<unknown>): string => {
  const { value } = rest[rest.length - 1] as Groups
  const opening = /^(?:\\{0,8}["']|[[{])/.exec(value)?.[0] ?? ""
  return start + opening + placeholder + (closing[opening] ?? opening)
}

/** Hides what stands where secrets stand. */
export const scrub = (text: string): string =>
  text
    .replace(privateKey, placeholder)
    .replace(urlRun, (_, start: string, rest: string) => start + withoutCredentials(rest))
    .replace(encodedUrlRun, (_, start: string, rest: string) => start + withoutEncodedCredentials(rest))
    .replace(withoutScheme, `${placeholder}@`)
    .replace(redisCommand, `$1[${placeholder}]`)
    .replace(redisWire, `$1 ${placeholder}`)
    .replace(redisQuoted, `$1 "${placeholder}"`)
    .replace(redisTyped, `$1$2${placeholder}`)
    .replace(header, hideValue)
    .replace(named, hideValue)
    .replace(option, hideValue)
    .replace(identified, hideValue)
    .replace(bearer, `$1$2${placeholder}`)
    .replace(issued, placeholder)
    .replace(tokenRun, hideToken)

const sensitiveName =
  /password|passwd|passphrase|passcode|pwd|secret|token(?!s)|apikey|accesskey|privatekey|credential|authorization|cookie|^(?:pass|auth|masterauth|requirepass|jwt|sid|sig|signature)$|(?:auth|user|require)pass$/

/** Whether a field, header or parameter of this name holds a secret: `x-api-key`, `clientSecret`, `PGPASSWORD`. */
export const isSensitive = (name: string): boolean =>
  sensitiveName.test(name.slice(0, 200).toLowerCase().replace(/[^a-z0-9]/g, ""))
