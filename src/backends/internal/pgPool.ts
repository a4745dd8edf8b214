// One generation of connections to a Postgres: pool, gate in front of it, the monitor's own connection, and the sockets.
import * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as PgPool from "@effect/sql-pg/PgPool"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { Duplex } from "node:stream"
import type { Connections } from "../../resource/database/client.ts"
import type { PoolExhaustedError } from "../../resource/database/errors.ts"
import * as Gate from "../../resource/database/gate.ts"
import { makeIdentify, SessionConnection } from "./pgConnection.ts"
import { reclassify } from "./pgErrors.ts"
import * as PgSessions from "./pgSessions.ts"

export interface PoolOptions {
  /** Everything but `stream`. */
  readonly config: PgPool.Config
  /** Opens a transport; called for each connection. */
  readonly dial: () => Duplex
  readonly limits: Gate.Limits
  /** A connection that lay idle for longer is asked whether it still answers before it is lent. */
  readonly validationInterval: Duration.Duration
  /** Checks in a row without any answer after which silent connections are cut. */
  readonly silentChecks: number
  /** Whether each connection has a process of the server to itself. */
  readonly identify: boolean
}

export interface PgConnections extends Connections {
  readonly reserve: Effect.Effect<SessionConnection, SqlError | PoolExhaustedError, Scope.Scope>
  /** A session outside the pool, with other options where given. */
  readonly open: (
    overrides?: Partial<PgConnection.Config>
  ) => Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>
  /** Asks on the monitor's own connection, which is opened when missing and dropped when the question fails. */
  readonly probe: <A, E>(
    ask: (session: PgConnection.PgConnection) => Effect.Effect<A, E>
  ) => Effect.Effect<A, E | SqlError>
}

/** The transports of the pool, so that those which have fallen silent can be cut. */
class Sockets {
  readonly all = new Set<Duplex>()
  private seen: Map<Duplex, number> | undefined
  private unanswered = 0

  readonly track = (socket: Duplex): Duplex => {
    this.all.add(socket)
    socket.once("close", () => this.all.delete(socket))
    return socket
  }
  answered() {
    this.unanswered = 0
    this.seen = undefined
  }
  /** After `limit` unanswered checks in a row: cuts what has not received a byte since the first of them. */
  silence(limit: number) {
    this.unanswered++
    this.seen ??= new Map(Array.from(this.all, (socket) => [socket, bytesRead(socket)]))
    if (this.unanswered < limit) return
    for (const [socket, bytes] of this.seen) {
      if (bytesRead(socket) === bytes) this.cut(socket)
    }
  }
  cutAll() {
    for (const socket of this.all) this.cut(socket)
  }
  private cut(socket: Duplex) {
    socket.destroy(Object.assign(new Error("cut after the database stopped answering"), { code: "ECONNRESET" }))
  }
}

const isSilence = (error: unknown): boolean => isSqlError(error) && /Connection timed out/.test(error.message)

const bytesRead = (socket: Duplex): number => "bytesRead" in socket ? Number(socket.bytesRead) : 0

export const make = (options: PoolOptions): Effect.Effect<PgConnections, SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Sockets()
    const identify = options.identify ? makeIdentify() : undefined
    let closed = false
    const gate = Gate.make(options.limits)
    const pool = yield* PgSessions.make({
      config: { ...options.config, stream: () => sockets.track(options.dial()) },
      validationInterval: options.validationInterval
    })
    // Runs before the pool's own finalizer, which would wait for connections in use for as long as they hang.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        gate.close()
        if (gate.inside() > 0) sockets.cutAll()
      })
    )

    /** Runs `inside` uninterruptibly, past the gate; it owes a `leave`. */
    const entered = <A, E, R>(
      inside: (restore: Gate.Restore, fiber: Fiber.Fiber<unknown, unknown>) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | PoolExhaustedError, R> =>
      Effect.uninterruptibleMask((restore): Effect.Effect<A, E | PoolExhaustedError, R> => {
        const fiber = Fiber.getCurrent()!
        if (closed || gate.waiting() > 0 || gate.inside() >= options.limits.maxConnections) {
          return Effect.flatMap(gate.admit(restore), () => inside(restore, fiber))
        }
        gate.occupy()
        return inside(restore, fiber)
      })

    const open: PgConnections["open"] = (overrides) =>
      Effect.mapError(PgConnection.make({ ...options.config, stream: options.dial, ...overrides }), reclassify)

    const own = yield* ownConnection((stream) => open({ stream }), options.dial)
    const probe: PgConnections["probe"] = (ask) =>
      own(ask).pipe(
        Effect.tap(() => Effect.sync(() => sockets.answered())),
        Effect.tapError((error) =>
          Effect.sync(() => isSilence(error) ? sockets.silence(options.silentChecks) : sockets.answered())
        ),
        Effect.onInterrupt(() => Effect.sync(() => sockets.silence(options.silentChecks)))
      )

    return {
      borrow: (f) =>
        entered((restore, fiber) => {
          const clock = fiber.getRef(Clock.Clock)
          let session: PgConnection.PgConnection | undefined
          const used = pool.use(fiber, (taken) => {
            session = taken
            return f(new SessionConnection(taken))
          })
          return Effect.onExitPrimitive(restore(used), () => {
            if (session !== undefined) pool.returned(session, clock)
            gate.leave()
            return undefined
          }, true)
        }),
      // Not pinned: a session that is lent is nobody else's, and pinning costs as much as a statement.
      reserve: entered((restore, fiber) => {
        const clock = fiber.getRef(Clock.Clock)
        let session: PgConnection.PgConnection | undefined
        const leave = Effect.sync(() => {
          if (session !== undefined) pool.returned(session, clock)
          gate.leave()
        })
        return Effect.flatMap(
          Scope.addFinalizer(Context.getUnsafe(fiber.context, Scope.Scope), leave),
          () =>
            Effect.map(restore(Effect.mapError(pool.reserve, reclassify)), (taken) => {
              session = taken
              return new SessionConnection(taken, { drop: pool.drop(taken), identify: identify?.(taken) })
            })
        )
      }),
      open,
      probe,
      gauges: () => ({
        max: options.limits.maxConnections,
        active: gate.inside(),
        idle: Math.max(0, sockets.all.size - gate.inside()),
        waiting: gate.waiting()
      }),
      purge: Effect.mapError(pool.purge, reclassify)
    }
  })

interface Held {
  readonly session: PgConnection.PgConnection
  readonly drop: Effect.Effect<void>
}

/**
 * A connection for questions that must not wait for users' work. It is opened for the first question and kept; a
 * question that fails or is given up on drops it together with its socket, since nobody knows what state it is in.
 * Opening goes on when the question that wanted it is given up on: on a slow line it takes several checks.
 */
const ownConnection = (
  open: (stream: () => Duplex) => Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>,
  dial: () => Duplex
) =>
  Effect.gen(function*() {
    let held: Held | undefined
    let opening: Fiber.Fiber<Held, SqlError> | undefined

    const establish = Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const scope = Scope.makeUnsafe()
        const sockets: Array<Duplex> = []
        const drop = Effect.suspend(() => {
          held = undefined
          for (const socket of sockets) socket.destroy()
          return Scope.close(scope, Exit.void)
        })
        const stream = () => {
          const socket = dial()
          sockets.push(socket)
          return socket
        }
        return restore(Scope.provide(open(stream), scope)).pipe(
          Effect.onExit((exit) => {
            opening = undefined
            return Exit.isSuccess(exit) ? Effect.void : drop
          }),
          Effect.map((session) => held = { session, drop })
        )
      })
    )
    const connection = Effect.suspend((): Effect.Effect<Held, SqlError> => {
      if (held !== undefined) return Effect.succeed(held)
      if (opening !== undefined) return Fiber.join(opening)
      return Effect.flatMap(Effect.forkDetach(establish), (fiber) => Fiber.join(opening = fiber))
    })
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        if (opening !== undefined) yield* Fiber.interrupt(opening)
        if (held !== undefined) yield* held.drop
      })
    )

    return <A, E>(ask: (session: PgConnection.PgConnection) => Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(connection), ({ drop, session }) =>
          // Asked in a fiber of its own: given up on, the driver would first try for seconds to cancel the statement.
          Effect.flatMap(Effect.forkDetach(ask(session), { startImmediately: true }), (fiber) =>
            restore(Fiber.join(fiber)).pipe(
              Effect.onError(() => Effect.andThen(drop, Effect.forkDetach(Fiber.interrupt(fiber))))
            )))
      )
  })
