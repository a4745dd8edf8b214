// What the layers of `Transaction` provide: defaults from the settings, the log, the node in the status tree.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Status from "../../observability/Status.ts"
import { integerAtLeast } from "../../resilience/internal/options.ts"
import type * as Settings from "../../resource/Settings.ts"
import { History } from "./history.ts"
import type { Shared } from "./options.ts"

export const make = (
  section: Settings.Settings["Service"]["transaction"],
  keep: number
): Effect.Effect<Shared, Status.DuplicateIdError, Status.Status | Scope.Scope> =>
  Effect.gen(function*() {
    const status = yield* Status.Status
    const node = yield* status.register({ id: "transactions", kind: "transactions" })
    const counters = {
      committed: node.counter("committed"),
      rolledBack: node.counter("rolledBack"),
      unknown: node.counter("unknown")
    }
    const repeated = node.counter("repeated")
    const operation = node.operation("transaction")
    yield* node.set("ready")
    return {
      isolation: section.isolation_level,
      timeoutMillis: Duration.toMillis(section.timeout),
      retryTimes: section.retry_attempts,
      deadlockRetry: section.deadlock_retry,
      history: integerAtLeast("history", 0, keep) === 0 ? undefined : new History(keep),
      onEnd: ({ attempts, duration, outcome }) => {
        counters[outcome].value++
        repeated.value += attempts - 1
        operation.record(outcome === "committed", duration)
      }
    }
  })
