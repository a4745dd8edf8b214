// What the `Redis` service of `RedisCache` offers besides sending commands as effects, for our own stores on it: the prefix of
// the settings, and a way to send a command without a fiber of its own, which costs as much as the rest of a short command.
import * as Effect from "effect/Effect"
import type { Redis, RedisError } from "effect/persistence/Redis"
import type { Handle } from "../../resource/ManagedResource.ts"
import type { Connection } from "./redisConnection.ts"

export interface Direct {
  /** `cache.prefix`. Starts a lazy resource. */
  readonly prefix: Effect.Effect<string, RedisError>
  /** Sends a command and calls back once, unless there is no open connection: then it says no, and does nothing. */
  readonly send: (
    command: string,
    args: ReadonlyArray<string>,
    onReply: (reply: unknown) => void,
    onError: (error: RedisError) => void
  ) => boolean
}

const known = new WeakMap<Redis["Service"], Direct>()

/** `undefined` for a service that is not ours. */
export const of = (redis: Redis["Service"]): Direct | undefined => known.get(redis)

export const offer = (
  redis: Redis["Service"],
  handle: Handle<Connection>,
  toRedisError: (cause: unknown) => RedisError
): void => {
  const operation = handle.node.operation("send")
  let open: Connection | undefined
  // Asking the resource for its connection costs as much as the rest: it is asked when the last one is no longer open.
  const connection = Effect.tap(Effect.mapError(handle.connection, toRedisError), (current) =>
    Effect.sync(() => {
      open = current
    }))
  known.set(redis, {
    prefix: Effect.map(connection, ({ plan }) => plan.prefix),
    send: (command, args, onReply, onError) => {
      if (open === undefined || !open.isOpen()) return false
      const { client, line } = open
      line.send(
        () => client.call(command, ...args),
        (reply, millis) => {
          operation.record(true, millis)
          onReply(reply)
        },
        (error, millis) => {
          operation.record(false, millis)
          onError(toRedisError(error))
        }
      )
      return true
    }
  })
}
