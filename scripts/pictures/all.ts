/** Every picture: its name, and the run that draws it. */
import type * as Effect from "effect/Effect"
import { circuitBreaker } from "./circuitBreaker.ts"

export const pictures: Readonly<Record<string, Effect.Effect<string, unknown>>> = {
  "circuit-breaker": circuitBreaker
}
