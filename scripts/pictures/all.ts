/** Every picture: its name, and the run that draws it. */
import type * as Effect from "effect/Effect"
import { adaptiveLimit } from "./adaptiveLimit.ts"
import { budget } from "./budget.ts"
import { bulkhead } from "./bulkhead.ts"
import { circuitBreaker } from "./circuitBreaker.ts"
import { deadline } from "./deadline.ts"
import { fallback } from "./fallback.ts"
import { hedge } from "./hedge.ts"
import { rateLimiter } from "./rateLimiter.ts"
import { retry } from "./retry.ts"
import { timeout } from "./timeout.ts"

/** The file of each is `docs/images/strategy-NAME.svg`. */
export const pictures: Readonly<Record<string, Effect.Effect<string, unknown>>> = {
  "circuit-breaker": circuitBreaker,
  retry,
  budget,
  timeout,
  deadline,
  hedge,
  fallback,
  bulkhead,
  "adaptive-limit": adaptiveLimit,
  "rate-limiter": rateLimiter
}
