// Start, watch, restart and stop one resource. The state lives in one mutable cell a resource; whatever changes the
// generation holds `turn`, so a restart, a lazy start and the stop never overlap.
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { Status, type StatusNode } from "../../observability/Status.ts"
import * as Redaction from "../../security/Redaction.ts"
import type { Definition, Handle, Options, PhaseOptions } from "../ManagedResource.ts"
import { type Explanation, ResourceError } from "../ResourceError.ts"
import * as Supervisor from "../Supervisor.ts"
import * as Generation from "./generation.ts"
import * as Monitor from "./monitor.ts"
import * as PhaseRunner from "./phase.ts"
import * as Upstream from "./upstream.ts"

interface Cell<Settings, Connection> {
  readonly id: string
  readonly node: StatusNode
  current: Generation.Generation<Connection> | undefined
  settings: Settings | undefined
  options: Options
  /** Done when the start under way has ended, with what it ended in. */
  starting: Deferred.Deferred<void, ResourceError> | undefined
  stopped: boolean
  monitoring: boolean
}

export const Mode: Context.Reference<"start" | "check"> = Context.Reference<"start" | "check">(
  "seaworthy/ManagedResource/Mode",
  {
    defaultValue: () => "start"
  }
)

const explainUnknown = (error: unknown): Explanation => ({ reason: "Unknown", detail: Redaction.error(error).message })

const notUsable = (
  cell: Cell<unknown, unknown>,
  detail: string,
  reason: ResourceError["reason"] = "ConnectionFailed"
) => new ResourceError({ resource: cell.id, phase: "monitor", reason, detail, attempts: 1, elapsed: 0 })

export const make = <Settings, Connection, E, R>(
  definition: Definition<Settings, Connection, E, R>,
  restartable: boolean
) =>
  Effect.gen(function*() {
    const { id } = definition
    const status = yield* Status
    const scope = yield* Effect.scope
    const mode = yield* Mode
    const context = yield* Effect.context<R>()
    const after = Upstream.read(context as Context.Context<never>)
    const needs = definition.needs ?? []
    const wants = definition.wants ?? []
    const invalid = (reason: ResourceError["reason"], detail: string, remedy: string) =>
      new ResourceError({ resource: id, phase: "validate", reason, detail, remedy, attempts: 1, elapsed: 0 })

    const missing = needs.filter((need) => !after.includes(need))
    if (missing.length > 0) {
      return yield* Effect.fail(invalid(
        "ConfigurationInvalid",
        `it needs ${missing.join(", ")}, which is not built before it`,
        `Provide the layer of ${missing.join(", ")} to the layer of ${id}.`
      ))
    }
    if (definition.lazy === true && !restartable) {
      return yield* Effect.fail(invalid(
        "ConfigurationInvalid",
        "lazy needs a service that is built over the handle",
        "Give the definition a `service`, or drop `lazy`."
      ))
    }
    const node = yield* status.register({
      id,
      kind: definition.kind ?? "resource",
      needs,
      wants,
      after,
      keep: true,
      counters: definition.counters
    }).pipe(
      Effect.mapError((error) => invalid("Conflict", error.message, "Give each resource an id of its own."))
    )
    const cell: Cell<Settings, Connection> = {
      id,
      node,
      current: undefined,
      settings: undefined,
      options: {},
      starting: undefined,
      stopped: false,
      monitoring: false
    }
    const turn = yield* Semaphore.make(1)
    const stopping = yield* Deferred.make<never, ResourceError>()
    const supervisor = yield* Effect.serviceOption(Supervisor.Supervisor)
    const inContext = <A, E2>(effect: Effect.Effect<A, E2, R>): Effect.Effect<A, E2> =>
      Effect.updateContext(effect, (own: Context.Context<never>) => Context.merge(own, context))

    const phase = <A>(name: PhaseRunner.StartPhase, effect: Effect.Effect<A, E, R>) => {
      const own: PhaseOptions = cell.options.phases?.[name] ?? {}
      const retried = name === "connect" || name === "verify"
      return PhaseRunner.run({
        resource: id,
        phase: name,
        node,
        effect,
        timeout: own.timeout ?? "5 seconds",
        retry: own.retry === false ? undefined : own.retry ?? (retried ? PhaseRunner.defaultRetry : undefined),
        explain: (error: E) => (definition.explain ?? explainUnknown)(error, name),
        onTimeout: definition.explainTimeout?.(name) ?? {}
      })
    }

    const validate = Effect.gen(function*() {
      const settings = yield* phase("validate", definition.validate)
      cell.settings = settings
      cell.options = typeof definition.options === "function" ? definition.options(settings) : definition.options ?? {}
      return settings
    })

    /** A scope for every attempt: what a failed, late or unclaimed attempt acquired is released, once. */
    const connect = (
      settings: Settings,
      restore: <A, E2, R2>(effect: Effect.Effect<A, E2, R2>) => Effect.Effect<A, E2, R2>
    ): Effect.Effect<Generation.Generation<Connection>, ResourceError, R> => {
      const open = new Set<Scope.Closeable>()
      let over = false
      const attempt = Effect.uninterruptibleMask((restoreAttempt) => {
        const own = Scope.makeUnsafe()
        return restoreAttempt(Scope.provide(definition.connect(settings), own)).pipe(
          Effect.onExit((exit) => {
            if (over || Exit.isFailure(exit)) return Scope.close(own, exit)
            open.add(own)
            return Effect.void
          }),
          Effect.map((connection) => Generation.make(connection, own))
        )
      }) as Effect.Effect<Generation.Generation<Connection>, E, R>
      return restore(phase("connect", attempt)).pipe(
        Effect.onExit((exit) => {
          over = true
          if (Exit.isSuccess(exit)) open.delete(exit.value.scope)
          return Effect.forEach(open, closeBounded, { discard: true })
        })
      )
    }

    const closeBounded = (late: Scope.Closeable) =>
      Generation.release(Generation.make(undefined, late), {
        drain: 0,
        budget: cell.options.releaseTimeout ?? "5 seconds"
      })

    const begin = Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const settings = yield* restore(validate)
        const generation = yield* connect(settings, restore)
        const rest = Effect.gen(function*() {
          const { connection, scope: own } = generation
          if (definition.initialize !== undefined && mode === "start") {
            yield* phase(
              "initialize",
              Scope.provide(definition.initialize(connection, settings), own) as Effect.Effect<unknown, E, R>
            )
          } else {
            yield* node.set("initializing")
          }
          yield* phase("verify", definition.verify(connection, settings))
        })
        yield* restore(rest).pipe(Effect.onError(() => closeBounded(generation.scope)))
        cell.current = generation
        const absent = yield* Monitor.absentWants(status, wants)
        yield* node.heartbeat
        yield* absent.length === 0
          ? node.set("ready")
          : node.set("degraded", { detail: `wanted and absent: ${absent.join(", ")}` })
      })
    )

    /** Before the old connection goes, or a start is forked: from here on users wait for this start. */
    const announce = () => {
      const done = Deferred.makeUnsafe<void, ResourceError>()
      cell.starting = done
      return done
    }

    const settle = (done: Deferred.Deferred<void, ResourceError>, exit: Exit.Exit<void, ResourceError>) => {
      if (cell.starting === done) cell.starting = undefined
      if (cell.current !== undefined) Deferred.doneUnsafe(done, Exit.void)
      else if (Exit.isFailure(exit) && Exit.hasInterrupts(exit)) {
        Deferred.doneUnsafe(done, Exit.fail(notUsable(cell, "its start was interrupted")))
      } else Deferred.doneUnsafe(done, exit)
    }

    const onDown = Option.isSome(supervisor) && restartable ? supervisor.value.down(id) : Effect.void

    /**
     * Starts under `turn`; everyone who waits for this start learns how it ended. Its caller has announced it and is
     * uninterruptible, so that whatever was announced also ends.
     */
    const start = (
      done: Deferred.Deferred<void, ResourceError>,
      onFailure: "failed" | "down",
      restore: <A, E2, R2>(effect: Effect.Effect<A, E2, R2>) => Effect.Effect<A, E2, R2>
    ) =>
      // A stop does not wait for a start under way: it ends it.
      restore(Effect.raceFirst(inContext(begin), Deferred.await(stopping))).pipe(
        Effect.tapError((error) => node.set(onFailure, { error: error.message, detail: error.detail })),
        Effect.onInterrupt(() =>
          cell.current === undefined ? node.set(onFailure, { detail: "start interrupted" }) : Effect.void
        ),
        Effect.onExit((exit) => {
          settle(done, exit)
          // The monitor has no connection to find it down with.
          return onFailure === "down" && cell.current === undefined ? onDown : Effect.void
        })
      )

    const monitor = Effect.suspend(() => {
      const options = cell.options.monitor ?? {}
      if (options === false || mode === "check" || cell.monitoring) return Effect.void
      cell.monitoring = true
      return Effect.forkIn(
        inContext(Monitor.loop({
          id,
          node,
          status,
          wants,
          options,
          current: () => cell.current,
          check: (connection: Connection) =>
            (definition.check ?? definition.verify)(connection, cell.settings as Settings),
          explain: (cause: Cause.Cause<E>) =>
            PhaseRunner.toResourceError(
              { resource: id, phase: "monitor", attempts: 1, elapsed: 0 },
              cause,
              (error) => (definition.explain ?? explainUnknown)(error, "monitor")
            ),
          onDown
        })),
        scope
      )
    })

    const releaseCurrent = Effect.suspend(() => {
      const generation = cell.current
      cell.current = undefined
      if (generation === undefined) return Effect.undefined
      const budget = cell.options.releaseTimeout ?? "5 seconds"
      return Effect.map(
        Generation.release(generation, { drain: cell.options.drainTimeout ?? "10 seconds", budget }),
        ({ cause, cut, outcome }) => {
          const said: Array<string> = []
          if (cut > 0) said.push(`${cut} operations were still running and were cut off`)
          if (outcome === "hung") {
            said.push(
              `its release did not end within ${Duration.format(Duration.fromInputUnsafe(budget))} and was passed over`
            )
          }
          if (outcome === "failed") {
            said.push(`its release failed: ${Redaction.error(Cause.squash(cause as Cause.Cause<unknown>)).message}`)
          }
          return said.length === 0 ? undefined : said.join("; ")
        }
      )
    })

    const stop = Effect.gen(function*() {
      cell.stopped = true
      const began = node.state()
      if (cell.current === undefined) {
        if (began !== "failed") yield* node.set("stopped", { health: "unknown" })
        return
      }
      yield* node.set("draining", { health: "down" })
      const record = yield* node.phase("release")
      const problem = yield* releaseCurrent
      yield* record.end(problem === undefined ? "ok" : "failed", problem)
      if (problem !== undefined) yield* Effect.logError(`${id}: ${problem}`)
      yield* node.set("stopped", { health: "unknown", detail: problem, error: problem })
    })

    const restart = turn.withPermit(Effect.uninterruptibleMask((restore) => {
      if (cell.stopped) return Effect.fail(notUsable(cell, "it is stopped"))
      const done = announce()
      return Effect.logWarning(`${id}: restarting`).pipe(
        Effect.andThen(releaseCurrent),
        Effect.tap((problem) => problem === undefined ? Effect.void : Effect.logError(`${id}: ${problem}`)),
        Effect.andThen(start(done, "down", restore)),
        // A lazy resource may have had no first use yet.
        Effect.andThen(monitor)
      )
    }))

    /** A lazy start belongs to the resource, not to the user who happened to come first and may leave. */
    const startLazily = Effect.uninterruptibleMask((restore) => {
      const done = announce()
      const begun = turn.withPermit(Effect.uninterruptibleMask((restoreBegun) =>
        cell.stopped
          ? Effect.fail(notUsable(cell, "it is stopped"))
          : Effect.andThen(start(done, "failed", restoreBegun), monitor)
      )).pipe(Effect.onExit((exit) => Effect.sync(() => settle(done, exit))))
      // At once: a fiber that is interrupted before its first step would never settle what is announced.
      return Effect.andThen(Effect.forkIn(begun, scope, { startImmediately: true }), restore(Deferred.await(done)))
    })

    /** The way for users while there is no connection: wait for the start under way, or begin one. */
    const absent: Effect.Effect<void, ResourceError> = Effect.suspend(() => {
      if (cell.stopped) {
        return Effect.fail(notUsable(cell, "it is stopped"))
      }
      if (cell.starting === undefined && definition.lazy !== true) {
        return Effect.fail(notUsable(cell, "it is down and not being restarted"))
      }
      const waiting = cell.starting !== undefined ? Deferred.await(cell.starting) : startLazily
      const wait = cell.options.awaitTimeout ?? "10 seconds"
      return Effect.timeoutOption(waiting, wait).pipe(
        Effect.flatMap((result) =>
          Option.isSome(result)
            ? Effect.void
            : Effect.flatMap(Monitor.blockingPath(status, id), (path) =>
              Effect.fail(notUsable(
                cell,
                `not ready within ${Duration.format(Duration.fromInputUnsafe(wait))}; waiting for ${path}`,
                "TimedOut"
              )))
        )
      )
    })

    const connection: Effect.Effect<Connection, ResourceError> = Effect.suspend(() =>
      cell.current !== undefined ? Effect.succeed(cell.current.connection) : Effect.andThen(absent, connection)
    )
    const lease: Effect.Effect<Connection, ResourceError, Scope.Scope> = Effect.suspend(() =>
      Generation.lease(() => cell.current, Effect.andThen(absent, lease))
    )
    const use = <A, E2, R2>(
      f: (connection: Connection) => Effect.Effect<A, E2, R2>
    ): Effect.Effect<A, E2 | ResourceError, R2> =>
      Generation.borrow(() => cell.current, f, Effect.suspend(() => Effect.andThen(absent, use(f))))

    yield* Scope.addFinalizer(
      scope,
      Effect.andThen(Deferred.fail(stopping, notUsable(cell, "it is being stopped")), turn.withPermit(stop))
    )
    if (Option.isSome(supervisor)) {
      yield* supervisor.value.register({ id, needs, node, restart: restartable ? restart : undefined })
    }
    if (definition.lazy === true) {
      // Settings are checked at once, so that a wrong one stops the start and not the first user.
      yield* inContext(validate).pipe(
        Effect.tapError((error) => node.set("failed", { error: error.message, detail: error.detail }))
      )
      yield* node.set("pending", { detail: "starts on first use" })
    } else {
      yield* turn.withPermit(Effect.uninterruptibleMask((restore) => start(announce(), "failed", restore)))
      yield* monitor
    }
    const handle: Handle<Connection> = { id, connection, use, lease, restart, node }
    return handle
  })
