import * as Effect from "effect/Effect"
import type { Any, Layer, Parts } from "./Parts.ts"
import type { Stats } from "./Stats.ts"
import { tower } from "./Tower.ts"

/** Counts every call of a layer. */
const counted = (layer: Layer, stats: Stats): Layer => (self) =>
  Effect.withFiber((fiber): Any => {
    const begun = stats.begin(fiber)
    return Effect.onExitPrimitive(layer(self), (exit) => stats.end(exit, begun, fiber), true)
  })

/** Builds what a policy does to an effect. */
export const assemble = (parts: Parts, stats: Stats): Layer => counted(tower(parts), stats)
