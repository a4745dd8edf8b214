// The one error of cache operations; the module `CacheStore` exports it.
import * as Stackless from "../../resilience/internal/stackless.ts"

/**
 * Why a cache operation failed: `Unavailable` (no connection), `TimedOut` (connected, no answer in time), `Refused` (the
 * server answered with an error: out of memory, read-only, no permission), `Unencodable` (the value does not fit its
 * schema; nothing was sent).
 *
 * @category models
 * @since 0.1.0
 */
export type Reason = "Unavailable" | "TimedOut" | "Refused" | "Unencodable"

/**
 * A cache operation failed. An absent key is not a failure, and neither are bytes that cannot be decoded.
 *
 * It carries no stack: when a cache is away there are thousands of these a second. The message is safe to show.
 *
 * @category errors
 * @since 0.1.0
 */
export class CacheError extends Stackless.Class("CacheError")<{
  /** `get`, `set`, `getMany`, ... */
  readonly operation: string
  readonly reason: Reason
  /** What happened, in words, without secrets. */
  readonly detail: string
  /** Whether the same operation may succeed later. */
  readonly retryable: boolean
  /** A sanitized copy of the driver's error. */
  readonly cause?: unknown
}> {
  override get message(): string {
    return `cache ${this.operation} failed: ${this.detail}`
  }
}
