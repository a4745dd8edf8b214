/**
 * The life of an application: start within a time, serve, drain, release in reverse.
 *
 * **When to use**
 *
 * `Lifecycle.run(AppLayer, main)` in place of `Effect.provide` when the shutdown matters: readiness must fail before the
 * server stops, work in flight must end, and a finalizer that hangs must not keep the process alive.
 *
 * **Details**
 *
 * 1. The layer is built within `startupTimeout` (default 60 seconds); too late is a {@link StartupTimeoutError} that names
 *    what it waited for.
 * 2. `main` runs (default: for ever).
 * 3. When it ends or is interrupted the stage is `draining`: {@link Lifecycle} says so to readiness checks and streams while
 *    everything still serves, for `drainDelay` (default 0: raise it to what your load balancer needs to notice).
 * 4. Work under {@link track} has `drainTimeout` (default 10 seconds) to end.
 * 5. Finalizers run in reverse. Each managed resource has its own budget; `releaseTimeout` (default 30 seconds) bounds
 *    them all.
 *
 * **Gotchas**
 *
 * The drain runs to its end even though the fiber was interrupted. To leave at once on a second signal use `runMain` of
 * `seaworthy/operations`.
 *
 * **Example** (Stages)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Lifecycle } from "seaworthy"
 *
 * const main = Effect.gen(function*() {
 *   const lifecycle = yield* Lifecycle.Lifecycle
 *   return lifecycle.stage()
 * })
 * console.log(await Effect.runPromise(Lifecycle.run(Layer.empty, { main }))) // => "running"
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Status } from "../observability/Status.ts"
import { bounded } from "./internal/bounded.ts"

/**
 * Where an application is in its life.
 *
 * @category models
 * @since 0.1.0
 */
export type Stage = "starting" | "running" | "draining" | "stopped"

/**
 * Tells parts of an application where it is in its life, and counts work in flight.
 *
 * @category services
 * @since 0.1.0
 */
export class Lifecycle extends Context.Service<Lifecycle, {
  readonly stage: () => Stage
  /** Ends when draining begins: long-lived streams and loops should end with it. */
  readonly draining: Effect.Effect<void>
  /** Work now under {@link track}. */
  readonly inFlight: () => number
  readonly track: <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}>()("seaworthy/Lifecycle") {}

/**
 * The application was not ready in time.
 *
 * @category errors
 * @since 0.1.0
 */
export class StartupTimeoutError extends Data.TaggedError("StartupTimeoutError")<{
  /** Milliseconds. */
  readonly timeout: number
  /** What was not ready, with its state. */
  readonly waitingFor: ReadonlyArray<string>
}> {
  override get message() {
    const waiting = this.waitingFor.length === 0 ? "a layer that is not a managed resource" : this.waitingFor.join(", ")
    return `Not ready within ${Duration.format(Duration.millis(this.timeout))}: waiting for ${waiting}`
  }
}

/**
 * Times of a run; every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Time to build the layer. Default 60 seconds. */
  readonly startupTimeout?: Duration.Input | undefined
  /** How long readiness fails before anything stops. Default 0. */
  readonly drainDelay?: Duration.Input | undefined
  /** How long work in flight may take to end. Default 10 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How long all finalizers together may take. Default 30 seconds. */
  readonly releaseTimeout?: Duration.Input | undefined
}

interface Cell {
  readonly service: Lifecycle["Service"]
  readonly enter: (stage: Stage) => void
  readonly idle: Effect.Effect<void>
}

const makeCell = (): Cell => {
  let stage: Stage = "starting"
  let inFlight = 0
  let idle: Deferred.Deferred<void> | undefined
  const draining = Deferred.makeUnsafe<void>()
  return {
    enter: (next) => {
      stage = next
      if (next === "draining") Deferred.doneUnsafe(draining, Exit.void)
    },
    idle: Effect.suspend(() => inFlight === 0 ? Effect.void : Deferred.await(idle = Deferred.makeUnsafe<void>())),
    service: {
      stage: () => stage,
      draining: Deferred.await(draining),
      inFlight: () => inFlight,
      track: (self) =>
        Effect.uninterruptibleMask((restore) => {
          inFlight++
          return Effect.onExitPrimitive(restore(self), () => {
            inFlight--
            if (inFlight === 0 && idle !== undefined) Deferred.doneUnsafe(idle, Exit.void)
            return undefined
          }, true)
        })
    }
  }
}

const notReady = (status: Option.Option<Status["Service"]>): Effect.Effect<ReadonlyArray<string>> =>
  Option.isNone(status) ? Effect.succeed([]) : Effect.map(
    status.value.snapshot,
    (snapshot) =>
      snapshot.nodes
        .filter((node) => !["ready", "degraded", "stopped", "pending"].includes(node.state))
        .map((node) => `${node.id} (${node.state})`)
  )

/**
 * Builds the layer, runs `main` with it, drains and releases.
 *
 * Fails with the layer's errors, `main`'s errors, or {@link StartupTimeoutError}. To let the time-out name what it waited
 * for, provide `Status.layer` to the whole run, not inside the layer.
 *
 * @category constructors
 * @since 0.1.0
 */
export const run = <Out, E, R, A = never, E2 = never, R2 = never>(
  layer: Layer.Layer<Out, E, R>,
  options?: Options & {
    /** What the application does once it is ready. Default: wait for interruption. */
    readonly main?: Effect.Effect<A, E2, R2> | undefined
    /** Called when everything is ready, before `main`. */
    readonly onReady?: Effect.Effect<void> | undefined
  }
): Effect.Effect<A, E | E2 | StartupTimeoutError, R | Exclude<R2, Out | Lifecycle>> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const cell = makeCell()
      const scope = yield* Scope.make()
      const timeout = Duration.fromInputUnsafe(options?.startupTimeout ?? "60 seconds")
      const build = Layer.buildWithScope(Layer.provideMerge(layer, Layer.succeed(Lifecycle, cell.service)), scope)
      const start = Effect.gen(function*() {
        let waitingFor: ReadonlyArray<string> = []
        const status = yield* Effect.serviceOption(Status)
        const look = Effect.map(notReady(status), (ids) => {
          waitingFor = ids
        })
        const built = yield* bounded(build, timeout, look)
        if (Option.isSome(built)) return built.value
        return yield* new StartupTimeoutError({ timeout: Duration.toMillis(timeout), waitingFor })
      })
      const use = Effect.flatMap(start, (context) => {
        cell.enter("running")
        const main: Effect.Effect<A, E2, R2> = options?.main ?? Effect.never
        return Effect.provideContext(Effect.andThen(options?.onReady ?? Effect.void, main), context)
      })
      return yield* restore(use).pipe(
        Effect.onExit((exit) => drain(cell, scope, options ?? {}, exit))
      ) as Effect.Effect<A, E | E2 | StartupTimeoutError, R | Exclude<R2, Out | Lifecycle>>
    })
  )

const drain = (cell: Cell, scope: Scope.Closeable, options: Options, exit: Exit.Exit<unknown, unknown>) =>
  Effect.gen(function*() {
    const wasRunning = cell.service.stage() === "running"
    cell.enter("draining")
    if (wasRunning) {
      yield* Effect.logDebug("draining: readiness fails from now on")
      // A detached wait: this is the finalizer of a fiber that may have been interrupted.
      yield* bounded(Effect.sleep(options.drainDelay ?? 0), Duration.infinity)
      const drainTimeout = options.drainTimeout ?? "10 seconds"
      const idle = yield* bounded(cell.idle, drainTimeout)
      if (Option.isNone(idle)) {
        yield* Effect.logWarning(
          `${cell.service.inFlight()} pieces of work did not end within ${
            Duration.format(Duration.fromInputUnsafe(drainTimeout))
          } and are cut off`
        )
      }
    }
    const releaseTimeout = options.releaseTimeout ?? "30 seconds"
    const closed = yield* bounded(Scope.close(scope, exit), releaseTimeout)
    if (Option.isNone(closed)) {
      yield* Effect.logError(
        `some finalizers did not end within ${
          Duration.format(Duration.fromInputUnsafe(releaseTimeout))
        } and were passed over`
      )
    }
    cell.enter("stopped")
  })
