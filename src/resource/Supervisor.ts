/**
 * Restarts resources that stay down, and after them the resources that need them.
 *
 * **When to use**
 *
 * Provide `Supervisor.layer()` beside `Status.layer` when a resource's own client does not reconnect by itself, or may
 * get stuck. Without it a resource that is down stays so until a check succeeds.
 *
 * **Details**
 *
 * A resource that is still down after the cool-down (default 1 second) is released and started again. A start that
 * fails is tried again after a cool-down twice as long, up to a maximum (default 1 minute), for ever: the other side may
 * be away for hours. What is limited is flapping: restarts that succeeded and did not last. More than `maxRestarts` of
 * those within `within` (default 5 in 10 minutes) stop the supervision of this resource and log an error. The scheme is
 * the restart intensity of Erlang/OTP supervisors.
 *
 * **Gotchas**
 *
 * A resource whose layer has no `service` hands its connection to its users; it is never restarted, since they would
 * keep the dead one.
 *
 * **Example** (Restart intensity as a rule)
 *
 * ```ts
 * import { Supervisor } from "seaworthy"
 *
 * const limits = { maxRestarts: 2, within: 10_000 }
 * console.log(Supervisor.mayRestart([1_000, 2_000], 3_000, limits)) // => false
 * console.log(Supervisor.mayRestart([1_000, 2_000], 11_500, limits)) // => true
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { StatusNode } from "../observability/Status.ts"
import type { ResourceError } from "./ResourceError.ts"

/**
 * When to restart and when to give up; every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Time a resource must stay down before it is restarted. Default 1 second. */
  readonly coolDown?: Duration.Input | undefined
  /** The cool-down doubles after each failed start up to this. Default 1 minute. */
  readonly maxCoolDown?: Duration.Input | undefined
  /** Successful restarts allowed within `within`. Default 5. */
  readonly maxRestarts?: number | undefined
  /** Default 10 minutes. */
  readonly within?: Duration.Input | undefined
}

/**
 * A resource as the supervisor sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Supervised {
  readonly id: string
  readonly needs: ReadonlyArray<string>
  readonly node: StatusNode
  /** `undefined`: cannot be restarted. */
  readonly restart: Effect.Effect<void, ResourceError> | undefined
}

/**
 * Restarts what is down.
 *
 * @category services
 * @since 0.1.0
 */
export class Supervisor extends Context.Service<Supervisor, {
  readonly register: (supervised: Supervised) => Effect.Effect<void, never, Scope.Scope>
  /** Called when a resource went down; returns at once. */
  readonly down: (id: string) => Effect.Effect<void>
}>()("seaworthy/Supervisor") {}

/**
 * Whether one more restart is within the intensity. Times in milliseconds, oldest first. Pure.
 *
 * @category guards
 * @since 0.1.0
 */
export const mayRestart = (
  history: ReadonlyArray<number>,
  now: number,
  limits: { readonly maxRestarts: number; readonly within: number }
): boolean => history.filter((at) => now - at < limits.within).length < limits.maxRestarts

/**
 * Everything that needs `id`, directly or through others, each after what it needs itself. Pure.
 *
 * @category guards
 * @since 0.1.0
 */
export const dependantsOf = (
  id: string,
  all: ReadonlyArray<{ readonly id: string; readonly needs: ReadonlyArray<string> }>
): ReadonlyArray<string> => {
  const affected = new Set([id])
  const order: Array<string> = []
  // Each round adds what needs only settled ones; layers cannot form a cycle, so the rounds end.
  for (let grown = true; grown;) {
    grown = false
    for (const one of all) {
      if (!affected.has(one.id) && one.needs.some((need) => affected.has(need))) {
        affected.add(one.id)
        grown = true
      }
    }
  }
  const pending = all.filter((one) => affected.has(one.id) && one.id !== id)
  const settled = new Set([id])
  while (order.length < pending.length) {
    const ready = pending.filter((one) =>
      !settled.has(one.id) && one.needs.every((need) => !affected.has(need) || settled.has(need))
    )
    if (ready.length === 0) break
    for (const one of ready) {
      settled.add(one.id)
      order.push(one.id)
    }
  }
  return order
}

/**
 * Makes a supervisor whose fibers live in the current scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<Supervisor["Service"], never, Scope.Scope> {
  const coolDown = Duration.toMillis(Duration.fromInputUnsafe(options?.coolDown ?? "1 second"))
  const maxCoolDown = Duration.toMillis(Duration.fromInputUnsafe(options?.maxCoolDown ?? "1 minute"))
  const limits = {
    maxRestarts: options?.maxRestarts ?? 5,
    within: Duration.toMillis(Duration.fromInputUnsafe(options?.within ?? "10 minutes"))
  }
  const resources = new Map<string, Supervised>()
  const histories = new Map<string, Array<number>>()
  const fibers = yield* FiberMap.make<string>()
  const now = Effect.map(Clock.Clock, (clock) => Number(clock.monotonicTimeNanosUnsafe() / BigInt(1_000_000)))

  const restartDependants = (id: string) =>
    Effect.forEach(
      dependantsOf(id, Array.from(resources.values())),
      (dependant) => {
        const { node, restart } = resources.get(dependant) ?? {}
        // What is pending is lazy and has had no use: nothing of it is older than what it needs.
        return restart === undefined || node?.state() === "pending"
          ? Effect.void
          : Effect.andThen(
            Effect.logInfo(`${dependant}: restarting, since it needs ${id}`),
            Effect.catch(restart, (error) => Effect.logError(error.message))
          )
      },
      { discard: true }
    )

  const supervise = (self: Supervised, restart: Effect.Effect<void, ResourceError>) =>
    Effect.gen(function*() {
      let wait = coolDown
      for (;;) {
        yield* Effect.sleep(wait)
        // It came back by itself, is well after a restart, or is being stopped.
        if (self.node.state() !== "down") return
        const history = histories.get(self.id) ?? []
        if (!mayRestart(history, yield* now, limits)) {
          const detail = `restarted ${limits.maxRestarts} times within ${
            Duration.format(Duration.millis(limits.within))
          } and down again: no longer restarted`
          yield* self.node.set("down", { detail, error: detail })
          return yield* Effect.logError(`${self.id}: ${detail}`)
        }
        const exit = yield* Effect.exit(restart)
        wait = Math.min(wait * 2, maxCoolDown)
        if (Exit.isSuccess(exit)) {
          histories.set(self.id, [...history, yield* now].slice(-limits.maxRestarts))
          yield* restartDependants(self.id)
          // A report that it went down meanwhile found this supervision under way and started none.
          if (self.node.state() !== "down") return
          wait = coolDown
        }
      }
    })

  return {
    register: (supervised) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          resources.set(supervised.id, supervised)
        }),
        () =>
          Effect.andThen(
            Effect.sync(() => {
              if (resources.get(supervised.id) === supervised) resources.delete(supervised.id)
              histories.delete(supervised.id)
            }),
            FiberMap.remove(fibers, supervised.id)
          )
      ),
    down: (id) =>
      Effect.suspend(() => {
        const self = resources.get(id)
        if (self === undefined || self.restart === undefined) return Effect.void
        // One supervision a resource at a time: a second report changes nothing.
        return Effect.asVoid(FiberMap.run(fibers, id, supervise(self, self.restart), { onlyIfMissing: true }))
      })
  }
})

/**
 * Provides a supervisor.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Supervisor> => Layer.effect(Supervisor, make(options))
