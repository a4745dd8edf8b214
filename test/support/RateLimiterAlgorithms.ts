import * as RateLimiter from "../../src/resilience/RateLimiter.ts"

/** All algorithms, by name. Those without a burst take no notice of it. */
export const algorithms: Record<string, (o: RateLimiter.BurstOptions) => RateLimiter.Algorithm> = {
  "token bucket": RateLimiter.tokenBucket,
  GCRA: RateLimiter.gcra,
  "fixed window": RateLimiter.fixedWindow,
  "sliding window log": RateLimiter.slidingWindowLog,
  "sliding window counter": RateLimiter.slidingWindowCounter
}
