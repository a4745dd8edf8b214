// Who asked: the request, the transaction, the named functions and the spans around a statement.
import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { CurrentTransaction } from "../transaction/state.ts"

const maxNames = 8
const maxName = 100

// Spans that `effect/sql` puts around every statement and transaction: they tell nothing of the caller.
const ofTheClient = new Set(["sql.execute", "sql.transaction", "postgresql"])

/** Innermost first; `unnamed` without any. */
export const callerOf = (fiber: Fiber.Fiber<unknown, unknown>): string => {
  const names: Array<string> = []
  const add = (name: string) => {
    const short = name.slice(0, maxName)
    if (!names.includes(short)) names.push(short)
  }
  const transaction = fiber.getRef(CurrentTransaction)
  if (transaction !== undefined && !transaction.open.ended) add(`transaction "${transaction.open.name}"`)
  let frame = fiber.getRef(References.CurrentStackFrame)
  for (; frame !== undefined && names.length < maxNames; frame = frame.parent) {
    // `Effect.fn` has one frame for the call and one for where it was defined.
    if (!frame.name.endsWith(" (definition)")) add(frame.name)
  }
  let span = Context.getOrUndefined(fiber.context, Tracer.ParentSpan)
  while (span !== undefined && span._tag === "Span" && names.length < maxNames) {
    const attributes = span.attributes
    if (!ofTheClient.has(span.name) && !attributes.has("db.system.name")) add(span.name)
    span = span.parent._tag === "Some" ? span.parent.value : undefined
  }
  return names.length === 0 ? "unnamed" : names.join(" < ")
}
