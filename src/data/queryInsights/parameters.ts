// What kind of thing each parameter was. Never what it was. Pure.
import * as Redacted from "effect/Redacted"

const maxParameters = 20
const uuid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i

const kindOf = (value: unknown): string => {
  switch (typeof value) {
    case "string":
      return value.length === 36 && uuid.test(value) ? "uuid" : `text(${value.length})`
    case "number":
      return Number.isInteger(value) ? "int" : "float"
    case "bigint":
      return "bigint"
    case "boolean":
      return "bool"
    case "object":
      if (value === null) return "null"
      if (Redacted.isRedacted(value)) return "redacted"
      if (value instanceof Date) return "timestamp"
      if (value instanceof Uint8Array) return `bytes(${value.byteLength})`
      return Array.isArray(value) ? `array(${value.length})` : "object"
    default:
      return typeof value === "undefined" ? "null" : typeof value
  }
}

export const describe = (params: ReadonlyArray<unknown>): ReadonlyArray<string> => {
  const kinds: Array<string> = []
  for (let i = 0; i < params.length && i < maxParameters; i++) kinds.push(kindOf(params[i]))
  if (params.length > maxParameters) kinds.push(`and ${params.length - maxParameters} more`)
  return kinds
}

const largeOffset = 10_000

/** Whether a query skips so many rows that reading them costs. The number itself is not kept. */
export const skipsMany = (sql: string, text: string, params: ReadonlyArray<unknown>): boolean => {
  const [, skipped] = /\boffset (\$\d+|\?)/i.exec(text) ?? []
  if (skipped === undefined) return false
  const offset = skipped === "?" ? /\boffset\s+(\d+)/i.exec(sql)?.[1] : params[Number(skipped.slice(1)) - 1]
  return Number(offset) >= largeOffset
}
