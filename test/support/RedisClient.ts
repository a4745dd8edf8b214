/** Effect's `Redis` service on a bare `ioredis` client that gives up at once: for tests of stores, without our resources. */
import * as Effect from "effect/Effect"
import * as EffectRedis from "effect/persistence/Redis"
import { Redis } from "ioredis"
import type * as Servers from "./Servers.ts"

export interface Options {
  /** Sees (and may change) every command before it is sent. */
  readonly before?: ((command: ReadonlyArray<string>) => ReadonlyArray<string>) | undefined
  /** Default: none, as a frozen server would have it. */
  readonly commandTimeout?: number | undefined
}

const fail = (cause: unknown) => new EffectRedis.RedisError({ cause })

/** Connects, and disconnects with the scope. A lost connection is taken up again every 50 ms. */
export const make = (server: Servers.RedisServer, options: Options = {}) =>
  Effect.gen(function*() {
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const client = new Redis(server.url, {
          retryStrategy: () => 50,
          maxRetriesPerRequest: 0,
          enableOfflineQueue: false,
          lazyConnect: true,
          ...(options.commandTimeout === undefined ? undefined : { commandTimeout: options.commandTimeout })
        })
        client.on("error", () => {})
        return client
      }),
      (client) => Effect.sync(() => client.disconnect())
    )
    yield* Effect.promise(() => client.connect())
    const unused = Effect.fail(fail(new Error("not used in these tests")))
    return yield* EffectRedis.make({
      send: <A = unknown>(command: string, ...args: ReadonlyArray<string>) =>
        Effect.tryPromise({
          try: () => {
            const [name, ...rest] = options.before?.([command, ...args]) ?? [command, ...args]
            return client.call(name!, ...rest) as Promise<A>
          },
          catch: fail
        }),
      subscribe: () => unused,
      connect: unused
    })
  })
