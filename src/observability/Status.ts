/**
 * One tree of everything that has a state: resources, strategies, queues, sagas.
 *
 * **When to use**
 *
 * Provide `Status.layer` once, below every resource. Read `snapshot` for a health page or a report, follow `changes`
 * for live progress. Reading is a copy of memory: it never waits for a resource, whatever hangs.
 *
 * **Details**
 *
 * A part registers a node under a unique id and then writes to it. Health is derived from the state and is `unknown`,
 * not bad, until the node was ready once. Everything a node holds is bounded (counters, operations, phase records).
 *
 * **Gotchas**
 *
 * Messages given to a node must already be safe to show to a stranger: this module stores them as they are.
 *
 * **Example** (Register a node, read the tree)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Status } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const status = yield* Status.Status
 *   const node = yield* status.register({ id: "mail", kind: "resource" })
 *   yield* node.set("ready")
 *   const snapshot = yield* status.snapshot
 *   return snapshot.nodes.map((n) => [n.id, n.state, n.health])
 * })
 *
 * console.log(await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Status.layer))))
 * // => [ [ "mail", "ready", "up" ] ]
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Node from "./internal/statusNode.ts"

/**
 * What a reader should make of a node: `unknown` until it was ready once, then `up`, `degraded` or `down`.
 *
 * @category models
 * @since 0.1.0
 */
export type Health = "unknown" | "up" | "degraded" | "down"

/**
 * One phase of a resource's start, as it happened.
 *
 * @category models
 * @since 0.1.0
 */
export interface PhaseRecord {
  readonly phase: string
  /** Milliseconds after the status tree was made, monotonic. */
  readonly start: number
  /** Milliseconds the phase took; `undefined` while it runs. */
  readonly duration: number | undefined
  /** Attempts begun so far, 1 for no retry. */
  readonly attempts: number
  readonly outcome: "running" | "ok" | "failed"
  readonly message: string | undefined
}

/**
 * Count and latency (milliseconds) of one kind of operation.
 *
 * @category models
 * @since 0.1.0
 */
export interface OperationSnapshot {
  readonly attempts: number
  readonly successes: number
  readonly failures: number
  readonly mean: number
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

/**
 * A plain copy of one node.
 *
 * @category models
 * @since 0.1.0
 */
export interface NodeSnapshot {
  readonly id: string
  readonly kind: string
  /** The node this one belongs to, for a tree. */
  readonly parent: string | undefined
  readonly state: string
  readonly health: Health
  /** Unix milliseconds of the last change of state. */
  readonly since: number
  /** Unix milliseconds at which the node registered. */
  readonly registered: number
  /** Why it is in this state, in words; safe to show. */
  readonly detail: string | undefined
  readonly needs: ReadonlyArray<string>
  readonly wants: ReadonlyArray<string>
  /** Ids of the nodes that layer composition put before this one. */
  readonly after: ReadonlyArray<string>
  readonly counters: Readonly<Record<string, number>>
  readonly operations: Readonly<Record<string, OperationSnapshot>>
  readonly lastError: { readonly message: string; readonly at: number } | undefined
  /** Unix milliseconds of the last sign of life. */
  readonly heartbeat: number | undefined
  readonly phases: ReadonlyArray<PhaseRecord>
}

/**
 * The whole tree at one instant.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  /** Unix milliseconds. */
  readonly at: number
  /** The worst health of all nodes; `unknown` counts as better than `degraded`. */
  readonly health: Health
  /** In the order of registration. */
  readonly nodes: ReadonlyArray<NodeSnapshot>
}

/**
 * Something happened to a node.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly type: "registered" | "state" | "phase" | "removed"
  readonly node: NodeSnapshot
}

/**
 * Counts one kind of operation; made once, written often, allocates nothing on the way.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operation {
  readonly record: (success: boolean, millis: number) => void
}

/**
 * A counter of a node; made once, written often.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counter {
  value: number
}

/**
 * The writing end of a node.
 *
 * @category models
 * @since 0.1.0
 */
export interface StatusNode {
  readonly id: string
  readonly snapshot: Effect.Effect<NodeSnapshot>
  /** The current state, read from memory. */
  readonly state: () => string
  readonly set: (state: string, options?: {
    /** Default: derived from the state's name. */
    readonly health?: Health | undefined
    readonly detail?: string | undefined
    /** Becomes `lastError`; must be safe to show. */
    readonly error?: string | undefined
  }) => Effect.Effect<void>
  readonly phase: (phase: string) => Effect.Effect<PhaseHandle>
  readonly heartbeat: Effect.Effect<void>
  /** At most 64 a node; past that every new name counts into `other`. */
  readonly counter: (name: string) => Counter
  /** At most 64 a node; past that every new name counts into `other`. */
  readonly operation: (name: string) => Operation
}

/**
 * Reports the progress of one phase.
 *
 * @category models
 * @since 0.1.0
 */
export interface PhaseHandle {
  readonly attempt: (attempts: number, message?: string | undefined) => Effect.Effect<void>
  readonly end: (outcome: "ok" | "failed", message?: string | undefined) => Effect.Effect<void>
}

/**
 * How a node registers.
 *
 * @category models
 * @since 0.1.0
 */
export interface RegisterOptions {
  /** Unique among live nodes. */
  readonly id: string
  /** `resource`, `strategy`, `queue`, `saga` or a word of your own. */
  readonly kind: string
  readonly parent?: string | undefined
  /** Ids of nodes this one cannot be without. */
  readonly needs?: ReadonlyArray<string> | undefined
  /** Ids of nodes whose absence only degrades this one. */
  readonly wants?: ReadonlyArray<string> | undefined
  /** Ids of nodes that were built before this one and are there for it to use. */
  readonly after?: ReadonlyArray<string> | undefined
  /** Default `pending`. */
  readonly state?: string | undefined
  /**
   * Counts that are kept elsewhere, read when a snapshot is taken. They come before those of `counter`; if reading them
   * throws, the node is shown without.
   */
  readonly counters?: (() => Readonly<Record<string, number>>) | undefined
  /**
   * Keep the node in the tree, with its last state, after its scope closed (a resource's `stopped` belongs in the final
   * report). Default `false`: the node leaves the tree.
   */
  readonly keep?: boolean | undefined
}

/**
 * Two live nodes asked for one id: most often one layer factory was called twice, which builds its resource twice.
 *
 * @category errors
 * @since 0.1.0
 */
export class DuplicateIdError extends Data.TaggedError("DuplicateIdError")<{ readonly id: string }> {
  override get message() {
    return `The id "${this.id}" is already registered. Share one layer value instead of calling its factory twice, or give the second an id of its own.`
  }
}

/**
 * The status tree.
 *
 * @category services
 * @since 0.1.0
 */
export class Status extends Context.Service<Status, {
  readonly register: (options: RegisterOptions) => Effect.Effect<StatusNode, DuplicateIdError, Scope.Scope>
  /** Announces a node that will register later, so that reports show it as `pending`. */
  readonly expect: (options: RegisterOptions) => Effect.Effect<void>
  readonly snapshot: Effect.Effect<Snapshot>
  readonly get: (id: string) => Effect.Effect<NodeSnapshot | undefined>
  /** Live changes, newest last; a reader that falls 1,024 behind loses the oldest. */
  readonly changes: Stream.Stream<Change>
}>()("seaworthy/Status") {}

const healthRank: Record<Health, number> = { up: 0, unknown: 1, degraded: 2, down: 3 }

/**
 * The worst health of a list, `up` for an empty one. Pure.
 *
 * @category guards
 * @since 0.1.0
 */
export const worst = (healths: Iterable<Health>): Health => {
  let out: Health = "up"
  for (const health of healths) if (healthRank[health] > healthRank[out]) out = health
  return out
}

/**
 * Makes a status tree.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Status["Service"], never, Scope.Scope> = Effect.gen(function*() {
  const nodes = new Map<string, Node.Cell>()
  const origin = (yield* Clock.Clock).monotonicTimeNanosUnsafe()
  const hub = yield* PubSub.sliding<Change>(1024)
  yield* Effect.addFinalizer(() => PubSub.shutdown(hub))
  const publish = (type: Change["type"], cell: Node.Cell) => {
    PubSub.publishUnsafe(hub, { type, node: Node.snapshot(cell) })
  }

  const expect = (options: RegisterOptions) =>
    Effect.clockWith((clock) =>
      Effect.sync(() => {
        if (nodes.has(options.id)) return
        const cell = Node.make(options, clock, { origin, expected: true })
        nodes.set(options.id, cell)
        publish("registered", cell)
      })
    )

  const register = (options: RegisterOptions) =>
    Effect.acquireRelease(
      Effect.clockWith((clock) =>
        Effect.suspend(() => {
          const known = nodes.get(options.id)
          if (known !== undefined && known.live) return Effect.fail(new DuplicateIdError({ id: options.id }))
          const cell = Node.make(options, clock, { origin, expected: false })
          nodes.set(options.id, cell)
          publish("registered", cell)
          return Effect.succeed(cell)
        })
      ),
      (cell) =>
        Effect.sync(() => {
          cell.live = false
          if (options.keep === true) return
          // Another node may have taken the id after this one was replaced.
          if (nodes.get(cell.id) === cell) nodes.delete(cell.id)
          publish("removed", cell)
        })
    ).pipe(Effect.map((cell) => Node.handle(cell, publish)))

  return {
    register,
    expect,
    snapshot: Effect.clockWith((clock) =>
      Effect.sync(() => {
        const list = Array.from(nodes.values(), Node.snapshot)
        return { at: clock.currentTimeMillisUnsafe(), health: worst(list.map((n) => n.health)), nodes: list }
      })
    ),
    get: (id) =>
      Effect.sync(() => {
        const cell = nodes.get(id)
        return cell === undefined ? undefined : Node.snapshot(cell)
      }),
    changes: Stream.fromPubSub(hub)
  }
})

/**
 * Provides an empty status tree.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Status> = Layer.effect(Status, make)

/**
 * Counts an effect's outcome and latency into an operation. An interrupted caller counts as neither.
 *
 * @category combinators
 * @since 0.1.0
 */
export const track: {
  (operation: Operation): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, operation: Operation): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(self: Effect.Effect<A, E, R>, operation: Operation): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      const start = clock.monotonicTimeNanosUnsafe()
      return Effect.onExitPrimitive(self, (exit) => {
        if (Exit.isSuccess(exit) || !Exit.hasInterrupts(exit)) {
          operation.record(Exit.isSuccess(exit), Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6)
        }
        return undefined
      })
    })
)
