/**
 * Makes secrets known to `Redaction`, those inside URLs included.
 *
 * @internal
 */
import * as Redacted from "effect/Redacted"
import * as Redaction from "../../security/Redaction.ts"
import type { Leaf } from "./section.ts"

/** The passwords in what is, or was meant to be, a URL. */
export const secretsInUrl = (text: string): ReadonlyArray<string> => {
  const rest = /^[a-z][a-z0-9+.-]{0,30}:\/\/(.*)$/is.exec(text.trim())?.[1]
  // Not a URL at all: perhaps a password in the wrong place.
  if (rest === undefined) return [text]
  const end = rest.lastIndexOf("@")
  const userInfo = rest.slice(0, Math.max(0, end))
  const colon = userInfo.indexOf(":")
  const query = /\?([^#]*)/.exec(rest.slice(end + 1))?.[1] ?? ""
  const parameters = [...new URLSearchParams(query)].filter(([name]) => Redaction.isSecretName(name))
  return [
    ...colon < 0 ? [] : [userInfo.slice(colon + 1)],
    ...parameters.map(([_, value]) => value)
  ]
}

const maximumDepth = 8

/** Whatever a value holds: the items of lists and the options of groups, at any level. */
const partsOf = (value: unknown, depth = 0): ReadonlyArray<unknown> => {
  if (typeof value !== "object" || value === null || Redacted.isRedacted(value) || depth === maximumDepth) {
    return [value]
  }
  const parts: Iterable<unknown> = Symbol.iterator in value ? value as Iterable<unknown> : Object.values(value)
  return Array.from(parts).flatMap((part) => partsOf(part, depth + 1))
}

/** Whether a decoded option is a `Redacted` or holds one. */
export const holdsSecret = (value: unknown): boolean => partsOf(value).some(Redacted.isRedacted)

/** Registers the value of a secret option, given or decoded, and every `Redacted` that an option holds. */
export const registerSecret = (leaf: Leaf, value: unknown): void => {
  for (const part of partsOf(value)) {
    if (Redacted.isRedacted(part)) register(leaf, Redacted.value(part))
    else if (leaf.facts.isSecret === true) register(leaf, part)
  }
}

const register = (leaf: Leaf, plain: unknown): void => {
  if (typeof plain !== "string" && typeof plain !== "number") return
  const text = String(plain)
  const secrets = leaf.facts.isUrl === true || /^[a-z][a-z0-9+.-]{0,30}:\/\//i.test(text)
    ? secretsInUrl(text)
    : [text, text.trim()]
  for (const secret of secrets) Redaction.register(secret)
}
