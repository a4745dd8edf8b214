// The background loop that moves a resource between ready, degraded and down.
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type { Snapshot, Status, StatusNode } from "../../observability/Status.ts"
import type { MonitorOptions } from "../ManagedResource.ts"
import type { ResourceError } from "../ResourceError.ts"
import { bounded } from "./bounded.ts"
import type { Generation } from "./generation.ts"
import { type Check, step, type Watch } from "./resourceState.ts"

/** Which of the wanted resources are not usable now. */
export const absentWants = (
  status: Status["Service"],
  wants: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>> =>
  wants.length === 0
    ? Effect.succeed([])
    : Effect.map(status.snapshot, (snapshot) => wants.filter((id) => !isUsable(snapshot, id)))

const isUsable = (snapshot: Snapshot, id: string): boolean => {
  const node = snapshot.nodes.find((n) => n.id === id)
  // A lazy resource that nobody has used yet is not absent.
  return node !== undefined && (node.health === "up" || node.health === "degraded" || node.state === "pending")
}

/** The chain of resources from `id` to the one that keeps it waiting, in words. Pure. */
export const pathToBlocker = (snapshot: Snapshot, id: string): string => {
  const seen = new Set<string>()
  const path: Array<string> = []
  let node = snapshot.nodes.find((n) => n.id === id)
  while (node !== undefined && !seen.has(node.id)) {
    seen.add(node.id)
    path.push(`${node.id} (${node.state})`)
    const upstream: ReadonlyArray<string> = [...node.needs, ...node.after]
    node = snapshot.nodes.find((n) => upstream.includes(n.id) && n.health !== "up" && n.health !== "degraded")
  }
  return path.join(" <- ")
}

export const blockingPath = (status: Status["Service"], id: string): Effect.Effect<string> =>
  Effect.map(status.snapshot, (snapshot) => pathToBlocker(snapshot, id))

export interface LoopOptions<Connection, E, R> {
  readonly id: string
  readonly node: StatusNode
  readonly status: Status["Service"]
  readonly wants: ReadonlyArray<string>
  readonly options: MonitorOptions
  readonly current: () => Generation<Connection> | undefined
  readonly check: (connection: Connection) => Effect.Effect<unknown, E, R>
  readonly explain: (cause: Cause.Cause<E>) => ResourceError
  readonly onDown: Effect.Effect<void>
}

export const loop = <Connection, E, R>(self: LoopOptions<Connection, E, R>): Effect.Effect<never, never, R> => {
  const { node } = self
  const interval = Duration.toMillis(Duration.fromInputUnsafe(self.options.interval ?? "5 seconds"))
  const timeout = Duration.fromInputUnsafe(self.options.timeout ?? "2 seconds")
  const thresholds = {
    failureThreshold: self.options.failureThreshold ?? 3,
    successThreshold: self.options.successThreshold ?? 1,
    slow: Duration.toMillis(Duration.fromInputUnsafe(self.options.slow ?? "1 second"))
  }
  let watch: Watch = { state: "ready", failures: 0, successes: 0 }
  // A check that ignores interruption may outlive its time-out; no second one of the same connection is started beside it.
  let busy: Generation<Connection> | undefined

  const checkOnce = (
    generation: Generation<Connection>
  ): Effect.Effect<{ check: Check; why: string | undefined }, never, R> =>
    Effect.gen(function*() {
      if (busy === generation) return { check: { ok: false }, why: "the last check still hangs" } as const
      busy = generation
      const clock = yield* Clock.Clock
      const start = clock.monotonicTimeNanosUnsafe()
      const ended = yield* bounded(
        Effect.onExit(Effect.exit(self.check(generation.connection)), () =>
          Effect.sync(() => {
            if (busy === generation) busy = undefined
          })),
        timeout
      )
      if (Option.isNone(ended)) {
        return { check: { ok: false }, why: `no answer within ${Duration.format(timeout)}` } as const
      }
      const result = ended.value
      if (result._tag === "Failure") return { check: { ok: false }, why: self.explain(result.cause).detail } as const
      const millis = Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6
      return {
        check: { ok: true, millis },
        why: millis > thresholds.slow ? `the last check took ${Math.round(millis)} ms` : undefined
      } as const
    })

  const tick = Effect.gen(function*() {
    const generation = self.current()
    if (generation === undefined) return
    const { check, why } = yield* checkOnce(generation)
    const absent = yield* absentWants(self.status, self.wants)
    // Restarted or stopped meanwhile: this result belongs to an earlier connection and changes nothing.
    if (self.current() !== generation) return
    if (check.ok) yield* node.heartbeat
    const state = node.state()
    if (state === "ready" || state === "degraded" || state === "down") {
      watch = { ...watch, state, failures: state === "ready" ? 0 : watch.failures }
    }
    const before = watch.state
    watch = step(watch, check, thresholds, absent.length === 0 ? "ready" : "degraded")
    const detail = why ?? (absent.length > 0 ? `wanted and absent: ${absent.join(", ")}` : undefined)
    if (watch.state === "ready" && before === "ready") return
    yield* node.set(watch.state, { detail, error: check.ok ? undefined : detail })
    if (watch.state === before) return
    if (watch.state === "ready") yield* Effect.logInfo(`${self.id}: ready again`)
    else yield* Effect.logWarning(`${self.id}: ${watch.state}${detail === undefined ? "" : `, ${detail}`}`)
    if (watch.state === "down") yield* self.onDown
  })

  const pause = Effect.flatMap(Random.next, (r) => Effect.sleep(interval * (0.9 + r * 0.2)))
  return Effect.forever(Effect.andThen(
    pause,
    Effect.catchCause(tick, (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause as Cause.Cause<never>)
        : Effect.logError(`${self.id}: the monitor itself failed`, Cause.squash(cause)))
  ))
}
