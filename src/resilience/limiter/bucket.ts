/**
 * Arithmetic of the token bucket, and of GCRA, which is the same seen from the other side: what is counted is the debt,
 * the tokens that are missing from a full bucket.
 *
 * All numbers are whole, so that a token is there at the very microsecond: a token is `perToken` units, and a
 * microsecond pays `perMicro` units back, in the lowest terms of window : limit.
 */
export interface Bucket {
  readonly perToken: number
  readonly perMicro: number
  /** Units in a full bucket. */
  readonly capacity: number
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))

export const bucket = (options: {
  readonly limit: number
  readonly windowMicros: number
  readonly capacity: number
}): Bucket => {
  const divisor = gcd(options.windowMicros, options.limit)
  const perToken = options.windowMicros / divisor
  return { perToken, perMicro: options.limit / divisor, capacity: options.capacity * perToken }
}

/** The debt of `at`, as it is now. A clock that went back changes nothing. */
export const debtNow = (b: Bucket, debt: number, at: number, now: number): number => {
  if (now <= at) return debt
  const left = debt - (now - at) * b.perMicro
  return left > 0 ? left : 0
}

/** Microseconds until `cost` tokens are there: 0 is now, Infinity is never. */
export const wait = (b: Bucket, debt: number, cost: number): number => {
  const units = cost * b.perToken
  if (units > b.capacity) return Infinity
  const excess = debt + units - b.capacity
  return excess <= 0 ? 0 : Math.ceil(excess / b.perMicro)
}

export const take = (b: Bucket, debt: number, cost: number): number => debt + cost * b.perToken

export const refund = (b: Bucket, debt: number, cost: number): number => Math.max(0, debt - cost * b.perToken)

/** Whole tokens that are there. */
export const remaining = (b: Bucket, debt: number): number => Math.max(0, Math.floor((b.capacity - debt) / b.perToken))

/** Microseconds until the bucket is full. */
export const reset = (b: Bucket, debt: number): number => Math.ceil(debt / b.perMicro)
