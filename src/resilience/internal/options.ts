import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const invalid = (name: string, valid: string, value: unknown): RangeError =>
  new RangeError(`${name} must be ${valid}, got ${typeof value === "object" ? typeof value : String(value)}`)

const decode = (name: string, valid: string, value: Duration.Input): number => {
  const decoded = Duration.fromInput(value)
  // Effect decodes NaN as zero.
  if (Option.isNone(decoded) || Number.isNaN(value)) throw invalid(name, valid, value)
  return Duration.toMillis(decoded.value)
}

/** Milliseconds of a duration option that has to be above zero; `Infinity` is allowed. */
export const positiveMillis = (name: string, value: Duration.Input): number => {
  const millis = decode(name, "a duration above zero", value)
  if (!(millis > 0)) throw invalid(name, "a duration above zero", value)
  return millis
}

/** Milliseconds of a duration option that may be zero but not negative; `Infinity` is allowed. */
export const nonNegativeMillis = (name: string, value: Duration.Input): number => {
  const millis = decode(name, "a duration of zero or more", value)
  if (!(millis >= 0)) throw invalid(name, "a duration of zero or more", value)
  return millis
}

/** Milliseconds of a duration option that has to be finite and zero or more. */
export const finiteMillis = (name: string, value: Duration.Input): number => {
  const millis = decode(name, "a finite duration of zero or more", value)
  if (!(millis >= 0 && millis < Infinity)) throw invalid(name, "a finite duration of zero or more", value)
  return millis
}

/** A whole number option with a lower bound. */
export const integerAtLeast = (name: string, least: number, value: number): number => {
  if (!Number.isSafeInteger(value) || value < least) throw invalid(name, `a whole number of at least ${least}`, value)
  return value
}

/** A number option between two bounds, both allowed. */
export const between = (name: string, low: number, high: number, value: number): number => {
  if (!(value >= low && value <= high)) throw invalid(name, `a number from ${low} to ${high}`, value)
  return value
}
