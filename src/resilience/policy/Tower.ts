import { type Kind, order } from "./Options.ts"
import type { Layer, Parts } from "./Parts.ts"

/** One combinator around the other, the first kind outermost. `undefined` when none of the kinds is there. */
export const stack = (parts: Parts, kinds: ReadonlyArray<Kind>): Layer | undefined => {
  const layers = kinds.flatMap((kind) => parts.layers[kind] ?? []).reverse()
  const [first, ...others] = layers
  if (first === undefined || others.length === 0) return first
  return (self) => others.reduce((inner, layer) => layer(inner), first(self))
}

/** A policy as a tower of the separate combinators: what a fused policy has to be equal to. */
export const tower = (parts: Parts): Layer => stack(parts, order) ?? ((self) => self)
