/**
 * The secrets that the process knows by value, and one regular expression that finds all of them.
 *
 * @internal
 */
import { placeholder } from "./scrub.ts"

/** Shorter values are ignored: replacing `a` everywhere would garble every message and, by the holes, tell the secret. */
export const minimumLength = 4
/** The oldest secret is forgotten beyond this many. */
export const maximumCount = 1_000
/** Longer values are cut to this many characters, so the first part is still found. */
export const maximumLength = 4_096

const bySecret = new Map<string, ReadonlyArray<string>>()
let pattern: RegExp | undefined

/** `undefined` where the text is not what the function can read, as a lone `%` is not for `decodeURIComponent`. */
const attempt = (f: () => string): string | undefined => {
  try {
    return f()
  } catch {
    return undefined
  }
}

const lowerHex = (encoded: string): string => encoded.replace(/%[0-9A-F]{2}/g, (hex) => hex.toLowerCase())

const strictlyEncoded = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*~._-]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)

/** As `new URL("http://host")` writes a password that was assigned to it: fewer characters are encoded there. */
const userInfoEncoded = (text: string): string => {
  const url = new URL("http://host")
  url.password = text
  return url.password
}

const jsonEscaped = (text: string): string => JSON.stringify(text).slice(1, -1)

/** As languages write JSON that keep to ASCII. */
const asciiOnly = (json: string): ReadonlyArray<string> =>
  [(hex: string) => hex, (hex: string) => hex.toUpperCase()].map((write) =>
    json.replace(/[^\x20-\x7e]/g, (c) => `\\u${write(c.charCodeAt(0).toString(16).padStart(4, "0"))}`)
  )

const formsOf = (secret: string): ReadonlyArray<string> => {
  const decoded = attempt(() => decodeURIComponent(secret))
  const plain = decoded === undefined || decoded === secret ? [secret] : [secret, decoded]
  const forms = plain.flatMap((text) => [
    text,
    jsonEscaped(text),
    jsonEscaped(jsonEscaped(text)),
    ...asciiOnly(jsonEscaped(text)),
    // As `inspect` writes it: it takes quotes that the text does not hold.
    jsonEscaped(text).replaceAll("\\\"", "\""),
    // A lone surrogate cannot be encoded.
    ...[
      attempt(() => encodeURIComponent(text)),
      attempt(() => encodeURIComponent(encodeURIComponent(text))),
      attempt(() => encodeURI(text)),
      attempt(() => strictlyEncoded(text)),
      attempt(() => encodeURIComponent(text).replace(/[!'()*]/g, (c) => strictlyEncoded(c))),
      attempt(() => new URLSearchParams([["", text]]).toString().slice(1)),
      attempt(() => userInfoEncoded(text))
    ].flatMap((form) => form === undefined ? [] : [form, lowerHex(form)])
  ])
  return [...new Set(forms)].filter((form) => form.length >= minimumLength)
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")

const compiled = (): RegExp => {
  if (pattern === undefined) {
    const forms = [...new Set([...bySecret.values()].flat())].sort((a, b) => b.length - a.length)
    // The placeholder is consumed first so that a secret such as "redacted" does not change what is already hidden.
    pattern = new RegExp([placeholder, ...forms].map(escaped).join("|"), "g")
  }
  return pattern
}

/** Remembers a secret; the newest is kept longest. */
export const add = (secret: string): void => {
  if (secret.length < minimumLength) return
  const kept = secret.slice(0, maximumLength)
  if (bySecret.has(kept)) {
    const forms = bySecret.get(kept)!
    bySecret.delete(kept)
    bySecret.set(kept, forms)
    return
  }
  bySecret.set(kept, formsOf(kept))
  if (bySecret.size > maximumCount) bySecret.delete(bySecret.keys().next().value!)
  pattern = undefined
}

/** Forgets a secret. */
export const remove = (secret: string): void => {
  if (bySecret.delete(secret.slice(0, maximumLength))) pattern = undefined
}

/** Replaces every form of every known secret. */
export const hideKnown = (text: string): string => bySecret.size === 0 ? text : text.replace(compiled(), placeholder)
