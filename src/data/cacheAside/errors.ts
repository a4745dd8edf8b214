// The errors of `CacheAside`, which exports them.
import * as Duration from "effect/Duration"
import * as Stackless from "../../resilience/internal/stackless.ts"

/**
 * A load took longer than `hardTimeout`, and there was no older value to serve. The load was interrupted.
 *
 * It carries no key: keys may be private.
 *
 * @category errors
 * @since 0.1.0
 */
export class LoadTimeoutError extends Stackless.Class("LoadTimeoutError")<{
  /** Name of the cache. */
  readonly cache: string
  readonly after: Duration.Duration
}> {
  override get message(): string {
    return `cache "${this.cache}": a load took longer than ${Duration.format(this.after)}`
  }
}
