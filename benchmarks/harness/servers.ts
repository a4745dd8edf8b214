/** Real servers for suites: started as the tests start them, gone with the suite. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Servers from "../../test/support/Servers.ts"

export interface Running {
  readonly redis: Servers.RedisServer
  readonly postgres: Servers.PostgresServer
  readonly close: () => Promise<void>
}

const closing = (scope: Scope.Closeable) => () => Effect.runPromise(Scope.close(scope, Exit.void))

export const startRedis = async (): Promise<Pick<Running, "redis" | "close">> => {
  const scope = Scope.makeUnsafe()
  return { redis: await Effect.runPromise(Scope.provide(Servers.redis(), scope)), close: closing(scope) }
}

export const startPostgres = async (
  settings?: Servers.PostgresOptions["settings"]
): Promise<Pick<Running, "postgres" | "close">> => {
  const scope = Scope.makeUnsafe()
  const postgres = await Effect.runPromise(Scope.provide(Servers.postgres({ settings }), scope))
  return { postgres, close: closing(scope) }
}

export const startAll = async (): Promise<Running> => {
  const scope = Scope.makeUnsafe()
  const both = Effect.all({ redis: Servers.redis(), postgres: Servers.postgres() }, { concurrency: 2 })
  return { ...await Effect.runPromise(Scope.provide(both, scope)), close: closing(scope) }
}
