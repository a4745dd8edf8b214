/**
 * Copies of values and errors that hold no secret and are bounded in depth, width and length.
 *
 * @internal
 */
import { isRedacted } from "effect/Redacted"
import { hideKnown } from "./knownSecrets.ts"
import { isSensitive, placeholder, scrub, withoutCredentials } from "./scrub.ts"

const maximumText = 262_144
const maximumMessage = 2_000
const maximumStack = 8_000
const maximumDepth = 6
const maximumWidth = 100
const maximumNodes = 2_000
const maximumCauses = 5

/** A text without secrets. What is cut off a huge text is cut with a margin, so that no half of a secret stays. */
export const redactText = (text: string): string => {
  if (text.length <= maximumText) return scrub(hideKnown(text))
  const head = scrub(hideKnown(text.slice(0, maximumText)))
  return shortened(head, Math.max(0, head.length - 8_192), text.length - maximumText + 8_192)
}

const shortened = (text: string, length: number, missing = text.length - length): string =>
  text.length <= length ? text : `${text.slice(0, length)}... (${missing} more characters)`

const redactMessage = (text: string, length = maximumMessage): string => shortened(redactText(text), length)

/** A URL without credentials. The whole text is taken as one URL, so white space and quotes do not end it. */
export const redactUrl = (url: string): string => {
  const known = hideKnown(url)
  const start = known.indexOf("://")
  return scrub(start < 0 ? known : known.slice(0, start + 3) + withoutCredentials(known.slice(start + 3)))
}

/** A property of something that may be a proxy or have a getter that throws. */
const read = (source: object, key: string): unknown => {
  try {
    return (source as Record<string, unknown>)[key]
  } catch {
    return undefined
  }
}

const readText = (source: object, key: string): string | undefined => {
  const text = read(source, key)
  return typeof text === "string" ? text : undefined
}

const isErrorLike = (u: unknown): u is object => {
  try {
    return u instanceof Error ||
      (typeof u === "object" && u !== null && typeof read(u, "message") === "string" &&
        (typeof read(u, "name") === "string" || typeof read(u, "stack") === "string" || read(u, "code") !== undefined))
  } catch {
    return false
  }
}

const define = (error: Error, key: string, value: unknown, enumerable = false): void => {
  Object.defineProperty(error, key, { value, enumerable, writable: true, configurable: true })
}

/** Creates an error without paying for a stack that is replaced anyway. */
const bareError = (message: string): Error => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return new Error(message)
  } finally {
    Error.stackTraceLimit = limit
  }
}

const labelled = (error: object): string => {
  const code = read(error, "code")
  const message = readText(error, "message")
  return message || (typeof code === "string" ? code : readText(error, "name") ?? "Error")
}

const messageOf = (error: object): string => {
  const message = readText(error, "message") ?? ""
  const errors = read(error, "errors")
  if (!Array.isArray(errors) || errors.length === 0) return message
  const parts = errors.slice(0, 5).map((inner) => isErrorLike(inner) ? labelled(inner) : typeof inner)
  const more = errors.length > 5 ? [`${errors.length - 5} more`] : []
  const summary = [...parts, ...more].join("; ")
  return message === "" ? summary : `${message} (${summary})`
}

/** Only the frames: the head of a stack repeats a message that was perhaps changed since. */
const framesOf = (error: object): string => {
  const frames = (readText(error, "stack") ?? "").slice(0, maximumText).split("\n").filter((line) =>
    /^ {4}at /.test(line)
  )
  return frames.slice(0, 30).join("\n")
}

/** A sanitized copy of whatever was thrown. */
export const redactError = (cause: unknown, depth = 0): Error => {
  if (!isErrorLike(cause)) {
    return bareError(
      typeof cause === "string" ? redactMessage(cause) : redactMessage(`Not an error: ${describe(redactValue(cause))}`)
    )
  }
  const name = redactMessage(readText(cause, "name") ?? "Error", 100)
  const message = redactMessage(messageOf(cause))
  const error = bareError(message)
  define(error, "name", name)
  const head = message === "" ? name : `${name}: ${message}`
  const frames = framesOf(cause)
  define(error, "stack", frames === "" ? head : `${head}\n${redactMessage(frames, maximumStack)}`)
  const tag = readText(cause, "_tag")
  if (tag !== undefined) define(error, "_tag", redactMessage(tag, 100), true)
  const code = read(cause, "code")
  if (typeof code === "number") define(error, "code", code, true)
  if (typeof code === "string") define(error, "code", redactMessage(code, 100), true)
  const inner = read(cause, "cause")
  if (inner !== undefined && inner !== null && inner !== cause && depth < maximumCauses) {
    define(error, "cause", redactError(inner, depth + 1))
  }
  return error
}

const describe = (u: unknown): string => {
  try {
    return typeof u === "object" && u !== null ? JSON.stringify(u) : String(u)
  } catch {
    return "a value that cannot be shown"
  }
}

interface Walk {
  nodes: number
  readonly above: Set<object>
}

/** A command object of a Redis client: `{ name: "auth", args: ["user", "password"] }`. */
const holdsCommand = (source: object): boolean =>
  /^(?:auth|hello|acl|config|migrate)$/i.test(readText(source, "name") ?? "")

const redactField = (name: string, value: unknown, walk: Walk, depth: number): unknown => {
  const isShown = value === undefined || value === null || typeof value === "boolean" || value === ""
  return isSensitive(name) && !isShown ? placeholder : redactAny(value, walk, depth)
}

const redactArray = (values: ReadonlyArray<unknown>, walk: Walk, depth: number): Array<unknown> => {
  const copy: Array<unknown> = []
  for (let i = 0; i < Math.min(values.length, maximumWidth); i++) {
    // Raw headers and entries: the name stands before its value.
    const before = values[i - 1]
    copy.push(
      typeof before === "string" ? redactField(before, values[i], walk, depth) : redactAny(values[i], walk, depth)
    )
  }
  if (values.length > maximumWidth) copy.push(`... (${values.length - maximumWidth} more)`)
  return copy
}

const redactMap = (map: ReadonlyMap<unknown, unknown>, walk: Walk, depth: number): Map<unknown, unknown> => {
  const copy = new Map<unknown, unknown>()
  for (const [key, value] of map) {
    if (copy.size === maximumWidth) {
      copy.set("...", `${map.size - maximumWidth} more`)
      break
    }
    copy.set(
      redactAny(key, walk, depth),
      typeof key === "string" ? redactField(key, value, walk, depth) : redactAny(value, walk, depth)
    )
  }
  return copy
}

const redactRecord = (source: object, walk: Walk, depth: number): Record<string, unknown> => {
  const copy: Record<string, unknown> = {}
  const hidesArguments = holdsCommand(source)
  const keys = Object.keys(source)
  for (const key of keys.slice(0, maximumWidth)) {
    const property = Object.getOwnPropertyDescriptor(source, key)
    const value = property === undefined || "value" in property ? property?.value : "<getter>"
    // Defined, not assigned: a key may be `__proto__`.
    Object.defineProperty(copy, redactMessage(key, 200), {
      value: hidesArguments && key === "args" ? placeholder : redactField(key, value, walk, depth),
      enumerable: true,
      writable: true,
      configurable: true
    })
  }
  if (keys.length > maximumWidth) copy["..."] = `${keys.length - maximumWidth} more`
  return copy
}

const redactObject = (source: object, walk: Walk, depth: number): unknown => {
  if (isRedacted(source)) return placeholder
  if (ArrayBuffer.isView(source) || source instanceof ArrayBuffer) return `<${source.byteLength} bytes>`
  if (source instanceof Error) return redactError(source)
  if (source instanceof URL) return redactUrl(source.href)
  if (source instanceof Date) return new Date(source.getTime())
  if (source instanceof RegExp) return redactMessage(String(source))
  if (depth >= maximumDepth) return Array.isArray(source) ? "<array>" : "<object>"
  if (walk.above.has(source)) return "<circular>"
  walk.above.add(source)
  const copy = Array.isArray(source)
    ? redactArray(source, walk, depth + 1)
    : source instanceof Map
    ? redactMap(source, walk, depth + 1)
    : source instanceof Set
    ? new Set(redactArray([...source], walk, depth + 1))
    : redactRecord(source, walk, depth + 1)
  walk.above.delete(source)
  return copy
}

const redactAny = (u: unknown, walk: Walk, depth: number): unknown => {
  if (++walk.nodes > maximumNodes) return "..."
  switch (typeof u) {
    case "string":
      return redactMessage(u)
    case "number":
    case "bigint": {
      // A numeric password is registered as text.
      const text = String(u)
      return hideKnown(text) === text ? u : placeholder
    }
    case "function":
      return "<function>"
    case "symbol":
      return redactMessage(String(u))
    case "object":
      if (u === null) return null
      try {
        return redactObject(u, walk, depth)
      } catch {
        return "<unreadable>"
      }
    default:
      return u
  }
}

/** A bounded copy of any value without secrets. */
export const redactValue = (u: unknown): unknown => redactAny(u, { nodes: 0, above: new Set() }, 0)
