/**
 * A resource whose layer's acquisition is its initialization: validate, connect, initialize, verify, ready, monitored.
 *
 * **When to use**
 *
 * For everything an application must have before it serves: a client, a pool, a directory, a consumer. Order comes from
 * layer composition alone; what is provided below is ready before what is built on it begins.
 *
 * **Details**
 *
 * Each phase has a time-out (default 5 seconds) that holds even when the driver's acquisition is uninterruptible, and
 * `connect` and `verify` are retried (default 3 times, from 1 second, doubling, at most 5 seconds, jittered) unless waiting cannot help (wrong
 * settings, permissions, conflicts). What a failed or late attempt acquired is released, once. When ready, a fiber
 * checks it (default every 5 seconds with a 2 second time-out): one failure degrades, 3 in a row are `down`, 1 success
 * recovers. Release waits for borrowers, then has a budget (default 5 seconds); a hung release is named and passed over.
 *
 * **Gotchas**
 *
 * Without `service` the connection itself is the service: users hold it directly, so it can be neither lazy nor
 * restarted. With `service` users go through the {@link Handle}, which always reaches the living connection.
 *
 * **Example** (A resource of your own)
 *
 * ```ts
 * import { Context, Effect, Layer } from "effect"
 * import { ManagedResource, Status } from "seaworthy"
 *
 * class Greeter extends Context.Service<Greeter, { readonly greet: (name: string) => string }>()("app/Greeter") {}
 *
 * const GreeterLayer = ManagedResource.layer(Greeter, {
 *   id: "greeter",
 *   validate: Effect.succeed({ word: "Ahoy" }),
 *   connect: (settings) => Effect.succeed({ greet: (name: string) => `${settings.word}, ${name}` }),
 *   verify: (greeter) => Effect.sync(() => greeter.greet("verify"))
 * })
 *
 * const program = Greeter.useSync((greeter) => greeter.greet("Ada"))
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(GreeterLayer.pipe(Layer.provide(Status.layer))))))
 * // => "Ahoy, Ada"
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Status, StatusNode } from "../observability/Status.ts"
import * as Redaction from "../security/Redaction.ts"
import * as PhaseRunner from "./internal/phase.ts"
import * as Lifecycle from "./internal/resourceLifecycle.ts"
import * as Upstream from "./internal/upstream.ts"
import type { Explanation, Phase } from "./ResourceError.ts"
import { ResourceError } from "./ResourceError.ts"

/**
 * Time-out of one attempt and retry of one phase.
 *
 * @category models
 * @since 0.1.0
 */
export interface PhaseOptions {
  /** Time for one attempt. Default 5 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** When to try again; `false` for never. Default {@link defaultRetry} for connect and verify, never for the others. */
  readonly retry?: Schedule.Schedule<unknown, ResourceError> | false | undefined
}

/**
 * How a ready resource is watched.
 *
 * @category models
 * @since 0.1.0
 */
export interface MonitorOptions {
  /** Time between the end of one check and the start of the next, spread by a tenth either way. Default 5 seconds. */
  readonly interval?: Duration.Input | undefined
  /** Time for one check. Default 2 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** Failures in a row until `down`. Default 3. */
  readonly failureThreshold?: number | undefined
  /** Successes in a row until `ready` again. Default 1. */
  readonly successThreshold?: number | undefined
  /** A slower check means `degraded`. Default 1 second. */
  readonly slow?: Duration.Input | undefined
}

/**
 * Times and thresholds of a resource; every field has a default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly phases?: {
    readonly validate?: PhaseOptions | undefined
    readonly connect?: PhaseOptions | undefined
    readonly initialize?: PhaseOptions | undefined
    readonly verify?: PhaseOptions | undefined
  } | undefined
  /** `false`: never checked after the start. */
  readonly monitor?: MonitorOptions | false | undefined
  /** How long a release waits for work that uses the resource. Default 10 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How long the release itself may take. Default 5 seconds. */
  readonly releaseTimeout?: Duration.Input | undefined
  /** How long a user waits for a resource that is being started or restarted. Default 10 seconds. */
  readonly awaitTimeout?: Duration.Input | undefined
}

/**
 * What makes a resource: `E` and `R` are the errors and requirements of its phases.
 *
 * @category models
 * @since 0.1.0
 */
export type Definition<Settings, Connection, E, R> = Phased<
  Settings,
  Connection,
  E,
  R,
  E,
  R | Scope.Scope,
  E,
  R | Scope.Scope,
  E,
  R
>

/**
 * A {@link Definition} whose phases (validate, connect, initialize, verify) have errors and requirements of their own, so
 * that each is inferred.
 *
 * @category models
 * @since 0.1.0
 */
export interface Phased<Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF> {
  /** Unique in the application; the name people read in reports and messages. */
  readonly id: string
  /** Default `resource`. */
  readonly kind?: string | undefined
  /**
   * Ids of resources this one cannot be without. They must be provided to this layer; when the supervisor restarts one
   * of them, it restarts this one after it.
   */
  readonly needs?: ReadonlyArray<string> | undefined
  /** Ids of resources this one can be without: absent or down, this one is `degraded`. See {@link wanted}. */
  readonly wants?: ReadonlyArray<string> | undefined
  /** Decodes and checks the settings. */
  readonly validate: Effect.Effect<Settings, EV, RV>
  /** Opens the connection; what it acquires belongs to the resource's scope. */
  readonly connect: (settings: Settings) => Effect.Effect<Connection, EC, RC>
  /** Directories, migrations, options. */
  readonly initialize?:
    | ((connection: Connection, settings: Settings) => Effect.Effect<unknown, EI, RI>)
    | undefined
  /** A real round trip. */
  readonly verify: (connection: Connection, settings: Settings) => Effect.Effect<unknown, EF, RF>
  /** What the monitor repeats. Default `verify`. It should not share a queue or pool with the users' work. */
  readonly check?: ((connection: Connection, settings: Settings) => Effect.Effect<unknown, EF, RF>) | undefined
  /** Counts for the status node, read when a snapshot is taken. */
  readonly counters?: (() => Readonly<Record<string, number>>) | undefined
  /** Turns an error into words, reason, option and remedy. Default: reason `Unknown` and the error's message. */
  readonly explain?: ((error: EV | EC | EI | EF, phase: Phase) => Explanation) | undefined
  /** What to tell people when a phase times out. */
  readonly explainTimeout?: ((phase: Phase) => Pick<Explanation, "option" | "remedy">) | undefined
  /** Start on first use instead of at acquisition. Settings are validated at acquisition all the same. */
  readonly lazy?: boolean | undefined
  readonly options?: Options | ((settings: Settings) => Options) | undefined
}

/**
 * The way to a resource's living connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Handle<Connection> {
  readonly id: string
  /** The living connection, for a moment's use: it may be replaced later. Starts a lazy resource, waits for a restart. */
  readonly connection: Effect.Effect<Connection, ResourceError>
  /** Runs `f` with the living connection; release and restart wait for it. */
  readonly use: <A, E, R>(
    f: (connection: Connection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | ResourceError, R>
  /** The living connection until the scope closes, for what outlives one effect; release and restart wait for it. */
  readonly lease: Effect.Effect<Connection, ResourceError, Scope.Scope>
  /** Releases the connection and starts again from the settings. Users wait meanwhile. */
  readonly restart: Effect.Effect<void, ResourceError>
  readonly node: StatusNode
}

/**
 * Whether resources really start (the default) or are only checked: validate, connect, verify, and neither initialize nor
 * monitor. Provide `"check"` to a run that must not migrate, such as a Kubernetes init container's.
 *
 * @category references
 * @since 0.1.0
 */
export const Mode: Context.Reference<"start" | "check"> = Lifecycle.Mode

/**
 * Three more tries from 1 second, doubling up to 5 seconds, each spread by a fifth either way.
 *
 * @category models
 * @since 0.1.0
 */
export const defaultRetry: Schedule.Schedule<unknown, ResourceError> = PhaseRunner.defaultRetry

/**
 * Starts a resource in the current scope and gives the handle to it.
 *
 * Use it when one resource provides several services; otherwise use {@link layer}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF>(
  definition: Phased<Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF>,
  options?: { readonly restartable?: boolean | undefined }
): Effect.Effect<Handle<Connection>, ResourceError, Requirements<RV | RC | RI | RF> | Scope.Scope> =>
  Lifecycle.make(
    definition as Definition<Settings, Connection, EV | EC | EI | EF, RV | RC | RI | RF>,
    options?.restartable ?? true
  ) as Effect.Effect<Handle<Connection>, ResourceError, Requirements<RV | RC | RI | RF> | Scope.Scope>

/**
 * What a resource's layer needs: what its phases need, less the scope it gives them, and the status tree.
 *
 * @category models
 * @since 0.1.0
 */
export type Requirements<R> = Exclude<R, Scope.Scope> | Status

/**
 * A layer that provides the service of one managed resource.
 *
 * Fails with {@link ResourceError} when a phase fails; what was acquired before is then released in reverse.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: {
  <Id, Shape, Settings, Connection, EV, RV, EC, RC, EF, RF, EI = never, RI = never>(
    tag: Context.Key<Id, Shape>,
    definition: Phased<Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF> & {
      /** Builds the service over the handle, before the connection is open when the resource is lazy. */
      readonly service: (handle: Handle<Connection>) => Shape
    }
  ): Layer.Layer<Id, ResourceError, Requirements<RV | RC | RI | RF>>
  <Id, Shape, Settings, Connection extends Shape, EV, RV, EC, RC, EF, RF, EI = never, RI = never>(
    tag: Context.Key<Id, Shape>,
    definition: Phased<Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF> & {
      readonly lazy?: false
      readonly service?: undefined
    }
  ): Layer.Layer<Id, ResourceError, Requirements<RV | RC | RI | RF>>
} = <Id, Shape, Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF>(
  tag: Context.Key<Id, Shape>,
  definition: Phased<Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF> & {
    readonly service?: ((handle: Handle<Connection>) => Shape) | undefined
  }
): Layer.Layer<Id, ResourceError, Requirements<RV | RC | RI | RF>> => {
  const service = definition.service
  return layerContext(
    definition,
    (handle) =>
      service === undefined
        // The second signature: a connection that is the service.
        ? Effect.map(handle.connection, (connection) => Context.make(tag, connection as unknown as Shape))
        : Effect.succeed(Context.make(tag, service(handle))),
    { restartable: service !== undefined }
  )
}

/**
 * Like {@link layer}, for a resource that provides several services.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerContext = <Out, Settings, Connection, EV, RV, EC, RC, EF, RF, EI = never, RI = never>(
  definition: Phased<Settings, Connection, EV, RV, EC, RC, EI, RI, EF, RF>,
  services: (handle: Handle<Connection>) => Effect.Effect<Context.Context<Out>, ResourceError, Scope.Scope>,
  options?: { readonly restartable?: boolean | undefined }
): Layer.Layer<Out, ResourceError, Requirements<RV | RC | RI | RF>> =>
  Layer.effectContext(
    Effect.flatMap(
      make(definition, options),
      (handle) => Effect.map(services(handle), (context) => Upstream.mark(context, definition.id))
    )
  ) as Layer.Layer<Out, ResourceError, Requirements<RV | RC | RI | RF>>

/**
 * Lets an application start without a resource: when its layer fails, the failure is logged and the service is absent.
 *
 * Read the service with `Effect.serviceOption`, and name the id in the dependant's `wants` so that its status says
 * `degraded` meanwhile.
 *
 * @category layers
 * @since 0.1.0
 */
export const wanted = <Out, E, R>(self: Layer.Layer<Out, E, R>): Layer.Layer<never, never, R> =>
  Layer.catchCause(
    self as Layer.Layer<never, E, R>,
    (cause) =>
      Layer.effectDiscard(
        Effect.logWarning(`going on without a wanted resource: ${describe(cause)}`)
      )
  )

const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error) && error.value instanceof ResourceError
    ? error.value.message
    : Redaction.error(Cause.squash(cause)).message
}
