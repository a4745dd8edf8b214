/**
 * Why a resource did not start, is not usable, or did not stop: one error for every phase of every resource.
 *
 * **When to use**
 *
 * Catch it with `Effect.catchTag("ResourceError", ...)` around `Effect.provide(AppLayer)`; read `resource`, `phase` and
 * `reason` to decide, show `message` to people. It is safe to log: driver errors are copied without their secrets.
 *
 * **Example** (The message names resource, phase, option and remedy)
 *
 * ```ts
 * import { ResourceError } from "seaworthy"
 *
 * const error = new ResourceError.ResourceError({
 *   resource: "cache", phase: "connect", reason: "ConnectionFailed", detail: "localhost:6379 refused the connection",
 *   attempts: 4, elapsed: 3120, option: "cache.port", remedy: "Start Redis, or set CACHE_PORT to where it listens."
 * })
 * console.log(error.message.split("\n")[0])
 * // => "cache did not connect: localhost:6379 refused the connection (4 attempts in 3.12 s)"
 * ```
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * The phases of a start, and the two things that can go wrong later.
 *
 * @category models
 * @since 0.1.0
 */
export type Phase = "validate" | "connect" | "initialize" | "verify" | "monitor" | "release"

/**
 * What kind of failure it is. `ConfigurationInvalid`, `PermissionDenied` and `Conflict` do not go away by waiting and
 * are never retried.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason =
  | "ConfigurationInvalid"
  | "ConnectionFailed"
  | "PermissionDenied"
  | "Conflict"
  | "TimedOut"
  | "Unknown"

/**
 * What a resource's author can say about a failure; the framework adds resource, phase, attempts and elapsed time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Explanation {
  readonly reason: Reason
  /** What happened, in words, without secrets. */
  readonly detail: string
  /** The option most likely at fault, as in the settings reference: `cache.password`. */
  readonly option?: string | undefined
  /** What to do about it. */
  readonly remedy?: string | undefined
  /** Default: by `reason`. */
  readonly retryable?: boolean | undefined
}

/**
 * A resource failed in a phase. Times are milliseconds.
 *
 * @category errors
 * @since 0.1.0
 */
export class ResourceError extends Data.TaggedError("ResourceError")<{
  /** The resource's id. */
  readonly resource: string
  readonly phase: Phase
  readonly reason: Reason
  /** What happened, in words, without secrets. */
  readonly detail: string
  /** How often the phase was tried. */
  readonly attempts: number
  /** Milliseconds from the first attempt to the failure. */
  readonly elapsed: number
  readonly option?: string | undefined
  readonly remedy?: string | undefined
  readonly retryable?: boolean | undefined
  /** A sanitized copy of the driver's error: name, code, message and stack, and nothing else. */
  readonly cause?: unknown
}> {
  override get message(): string {
    const tries = this.attempts > 1 ? ` (${this.attempts} attempts in ${seconds(this.elapsed)})` : ""
    const lines = [`${this.resource} ${phaseFailed[this.phase]}: ${this.detail}${tries}`]
    if (this.option !== undefined) lines.push(`  option: ${this.option}`)
    if (this.remedy !== undefined) lines.push(`  remedy: ${this.remedy}`)
    return lines.join("\n")
  }
}

const phaseFailed: Record<Phase, string> = {
  validate: "failed validation",
  connect: "did not connect",
  initialize: "did not initialize",
  verify: "failed verification",
  monitor: "is not usable",
  release: "was not released cleanly"
}

const seconds = (millis: number): string =>
  millis < 1000 ? `${Math.round(millis)} ms` : `${(millis / 1000).toFixed(2)} s`

/**
 * Whether trying again may help: what the error says of itself, or else its reason.
 *
 * @category guards
 * @since 0.1.0
 */
export const isRetryable = (error: Explanation): boolean =>
  error.retryable ?? (error.reason === "ConnectionFailed" || error.reason === "TimedOut" || error.reason === "Unknown")
