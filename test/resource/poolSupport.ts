/** Connections that are counted: how many are open, the most that were, and which were closed more than once. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ConnectionPool from "../../src/resource/ConnectionPool.ts"

export interface Fake {
  readonly id: number
  closed: number
  /** What it says when it is asked. */
  lives: boolean
}

export const fakes = () => {
  const all: Array<Fake> = []
  const open = new Set<Fake>()
  let most = 0
  /** How many were asked. */
  const asked: Array<number> = []
  const hook = {
    /** Runs before a connection is open. */
    opening: Effect.void as Effect.Effect<void, string>,
    closing: Effect.void as Effect.Effect<void>,
    asking: Effect.void as Effect.Effect<void>
  }
  const acquire: Effect.Effect<Fake, string, Scope.Scope> = Effect.acquireRelease(
    Effect.map(Effect.suspend(() => hook.opening), () => {
      const fake: Fake = { id: all.length + 1, closed: 0, lives: true }
      all.push(fake)
      open.add(fake)
      most = Math.max(most, open.size)
      return fake
    }),
    (fake) =>
      Effect.andThen(
        Effect.suspend(() => hook.closing),
        Effect.sync(() => {
          fake.closed++
          open.delete(fake)
        })
      ),
    { interruptible: true }
  )
  const validate = (fake: Fake) =>
    Effect.andThen(
      Effect.suspend(() => {
        asked.push(fake.id)
        return hook.asking
      }),
      Effect.sync(() => fake.lives)
    )
  return { all, open, asked, hook, acquire, validate, most: () => most }
}

export type Fakes = ReturnType<typeof fakes>

export const poolOf = (
  kind: Fakes,
  options: Partial<ConnectionPool.Options<Fake, string, Scope.Scope>> = {}
): Effect.Effect<ConnectionPool.Pool<Fake, string>, never, Scope.Scope> =>
  ConnectionPool.make({ acquire: kind.acquire, validate: kind.validate, maxConnections: 2, ...options })

export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Borrows in a fiber of its own until it is told to give back. */
export const borrower = (pool: ConnectionPool.Pool<Fake, string>) =>
  Effect.gen(function*() {
    const leave = yield* Deferred.make<void, string>()
    const taken = yield* Deferred.make<number>()
    const fiber = yield* fork(
      pool.use(({ id }) => Effect.andThen(Deferred.succeed(taken, id), Effect.as(Deferred.await(leave), id)))
    )
    return {
      fiber,
      taken: Deferred.await(taken),
      leave: Deferred.succeed(leave, undefined),
      fail: (e: string) => Deferred.fail(leave, e)
    }
  })
