// The sessions of `@effect/sql-pg`'s pool, with what that pool lacks: a lifetime that is not the same for all, so that
// connections opened together are not replaced together; a question before use to one that lay idle for long; and a way to
// replace them all.
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { millisOf } from "../../resilience/internal/monotonic.ts"

export interface Options {
  readonly config: PgPool.Config
  /** A session that lay idle for longer is asked whether it still answers before it is lent. */
  readonly validationInterval: Duration.Duration
}

export interface PgSessions {
  /** A session for as long as the effect runs; to be told of with `returned`. */
  readonly use: <A, E, R>(
    fiber: Fiber.Fiber<unknown, unknown>,
    f: (session: PgConnection.PgConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SqlError, R>
  /** A session of one's own until the scope closes; to be told of with `returned`. */
  readonly reserve: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>
  readonly returned: (session: PgConnection.PgConnection, clock: Clock.Clock) => void
  /** Closes a session when it comes back. */
  readonly drop: (session: PgConnection.PgConnection) => Effect.Effect<void>
  /** Closes the idle ones now and those in use when they come back. */
  readonly purge: Effect.Effect<void, SqlError>
}

/** Up to a tenth of the lifetime less. */
const jitter = 0.1
/** How long a session may take to say that it lives. */
const answerWithin = "2 seconds"

/** In place of a result: the session was not fit to be used. */
const unfit = Symbol("unfit")

interface Card {
  readonly expiresAt: number
  usedAt: number
}

interface Generation {
  readonly pool: PgPool.PgPool
  readonly scope: Scope.Closeable
}

export const make = (options: Options): Effect.Effect<PgSessions, SqlError, Scope.Scope> =>
  Effect.gen(function*() {
    const { connectionTTL, ...config } = options.config
    const lifetime = connectionTTL === undefined ? Infinity : Duration.toMillis(Duration.fromInputUnsafe(connectionTTL))
    const interval = Duration.toMillis(options.validationInterval)
    const cards = new WeakMap<object, Card>()
    const outer = yield* Effect.scope

    const open: Effect.Effect<Generation, SqlError> = Effect.uninterruptible(Effect.gen(function*() {
      const scope = yield* Scope.fork(outer)
      return yield* PgPool.make(config).pipe(
        Scope.provide(scope),
        Effect.map((pool) => ({ pool, scope })),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
    }))
    let current = yield* open

    // Asked in a fiber of its own: given up on, the driver would first try for seconds to cancel the statement.
    const answers = (session: PgConnection.PgConnection): Effect.Effect<boolean> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          Effect.forkDetach(session.query("SELECT 1", [], false), { startImmediately: true }),
          (fiber) =>
            restore(Effect.timeoutOption(Fiber.await(fiber), answerWithin)).pipe(
              Effect.map((exit) => Option.isSome(exit) && Exit.isSuccess(exit.value)),
              Effect.ensuring(Effect.forkDetach(Fiber.interrupt(fiber)))
            )
        )
      )

    /** Whether a session may be lent; `undefined` when it has to be asked. */
    const isFit = (session: PgConnection.PgConnection, fiber: Fiber.Fiber<unknown, unknown>): boolean | undefined => {
      const now = millisOf(fiber.getRef(Clock.Clock))
      const card = cards.get(session)
      if (card === undefined) {
        const draw = fiber.getRef(Random.Random).nextDoubleUnsafe()
        cards.set(session, { expiresAt: now + lifetime * (1 - jitter * draw), usedAt: now })
        return true
      }
      if (now >= card.expiresAt) return false
      const idle = now - card.usedAt
      card.usedAt = now
      return idle < interval ? true : undefined
    }
    const returned = (session: PgConnection.PgConnection, clock: Clock.Clock): void => {
      const card = cards.get(session)
      if (card !== undefined) card.usedAt = millisOf(clock)
    }

    const get: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope> = Effect.suspend(() => {
      const { pool } = current
      return Effect.flatMap(pool.get, (session) =>
        Effect.withFiber((fiber) => {
          const fit = isFit(session, fiber)
          if (fit === true) return Effect.succeed(session)
          const replaced = Effect.andThen(pool.invalidate(session), get)
          if (fit === false) return replaced
          return Effect.flatMap(answers(session), (alive) => alive ? Effect.succeed(session) : replaced)
        }))
    })

    return {
      use: <A, E, R>(
        fiber: Fiber.Fiber<unknown, unknown>,
        f: (session: PgConnection.PgConnection) => Effect.Effect<A, E, R>
      ) => {
        const { pool } = current
        // One that is not fit is given back before another is taken: a pool of one would wait for itself.
        const refused = (session: PgConnection.PgConnection) => Effect.as(pool.invalidate(session), unfit)
        const used = pool.use((session): Effect.Effect<A | typeof unfit, E, R> => {
          const fit = isFit(session, fiber)
          if (fit === true) return f(session)
          if (fit === false) return refused(session)
          return Effect.flatMap(answers(session), (alive): Effect.Effect<A | typeof unfit, E, R> =>
            alive ? f(session) : refused(session))
        })
        return Effect.flatMap(used, (result): Effect.Effect<A, E | SqlError, R> =>
          result === unfit ? Effect.scoped(Effect.flatMap(get, f)) : Effect.succeed(result))
      },
      reserve: get,
      returned,
      drop: (session) =>
        Effect.suspend(() =>
          current.pool.invalidate(session)
        ),
      purge: Effect.uninterruptible(Effect.gen(function*() {
        const old = current
        current = yield* open
        // Waits for the sessions in use, which the caller need not.
        yield* Effect.forkDetach(Scope.close(old.scope, Exit.void), { startImmediately: true })
      }))
    }
  })
