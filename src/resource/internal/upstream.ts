// Which resources composition put before this one. Every managed layer leaves a mark in the context it provides; a layer
// built on it finds the marks, so the report can draw the order without anyone having listed it.
import * as Context from "effect/Context"

const prefix = "seaworthy/resource/Upstream/"

export const mark = <Out>(context: Context.Context<Out>, id: string): Context.Context<Out> =>
  Context.add(context, Context.Service<never, string>(prefix + id), id)

export const read = (context: Context.Context<never>): ReadonlyArray<string> => {
  const ids: Array<string> = []
  for (const key of context.mapUnsafe.keys()) {
    if (key.startsWith(prefix)) ids.push(key.slice(prefix.length))
  }
  return ids
}
