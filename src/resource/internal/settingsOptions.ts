// Turns the sections of the settings that every resource shares (time-outs, retries, monitor, release) into the options
// of a managed resource, so that `CACHE_RETRY_ATTEMPTS` and `DATABASE_RETRY_ATTEMPTS` mean the same thing.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Options, PhaseOptions } from "../ManagedResource.ts"
import type { ResourceError } from "../ResourceError.ts"

/** What the sections of resources (`cache`, `database`) have in common; what a section leaves out has the default. */
export interface SectionSettings {
  /** Time for one attempt to connect. */
  readonly timeout?: Duration.Input | undefined
  /** Tries after the first one. */
  readonly retry_attempts?: number | undefined
  /** Wait before the second try; it doubles from then on. */
  readonly retry_delay?: Duration.Input | undefined
}

export interface MonitoringSettings {
  readonly check_interval: Duration.Input
  readonly check_timeout: Duration.Input
  readonly failure_threshold: number
  readonly success_threshold: number
  readonly performance_threshold: Duration.Input
}

export interface LifecycleSettings {
  readonly release_timeout: Duration.Input
  readonly drain_timeout: Duration.Input
}

/** No wait between two tries is longer, unless `retry_delay` itself is. */
const maxDelay = Duration.seconds(5)

/** `attempts` more tries from `delay`, doubling up to 5 seconds, each spread by a fifth either way; `false` for none. */
export const retry = (
  attempts: number,
  delay: Duration.Input
): Schedule.Schedule<unknown, ResourceError> | false => {
  if (attempts <= 0) return false
  const first = Duration.fromInputUnsafe(delay)
  return Schedule.exponential(first).pipe(
    Schedule.modifyDelay(({ duration }) => Effect.succeed(Duration.min(duration, Duration.max(first, maxDelay)))),
    Schedule.jittered,
    Schedule.upTo({ times: attempts })
  )
}

/** The options of a resource, from the sections that all share and from its own. */
export const resourceOptions = (
  shared: { readonly monitoring: MonitoringSettings; readonly lifecycle: LifecycleSettings },
  section: SectionSettings
): Options => {
  const { retry_attempts, retry_delay, timeout } = section
  const connecting: PhaseOptions = {
    timeout,
    retry: retry_attempts === undefined && retry_delay === undefined
      ? undefined
      : retry(retry_attempts ?? 3, retry_delay ?? "1 second")
  }
  return {
    phases: { connect: connecting, verify: connecting },
    monitor: {
      interval: shared.monitoring.check_interval,
      timeout: shared.monitoring.check_timeout,
      failureThreshold: shared.monitoring.failure_threshold,
      successThreshold: shared.monitoring.success_threshold,
      slow: shared.monitoring.performance_threshold
    },
    drainTimeout: shared.lifecycle.drain_timeout,
    releaseTimeout: shared.lifecycle.release_timeout
  }
}
