// Effect's own `Redis` service on the same connection, so that every Redis store of `effect/persistence` runs on ioredis,
// also on Sentinel and Cluster. Keys get no prefix here: those stores have prefixes of their own.
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Redis } from "effect/persistence/Redis"
import { RedisError } from "effect/persistence/Redis"
import * as EffectRedis from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import * as Status from "../../observability/Status.ts"
import type { Handle } from "../../resource/ManagedResource.ts"
import * as Redaction from "../../security/Redaction.ts"
import * as Client from "./redisClient.ts"
import type { Connection } from "./redisConnection.ts"
import * as Direct from "./redisDirect.ts"

const toRedisError = (cause: unknown): RedisError => new RedisError({ cause: Redaction.error(cause) })

const call = (client: Client.Client, command: string, args: ReadonlyArray<string>): Promise<unknown> =>
  // A script is looked up on the node that holds its keys, so every node has to know it.
  Client.isCluster(client) && command.toUpperCase() === "SCRIPT"
    ? Promise.all(Client.primaries(client).map((primary) => primary.call(command, ...args))).then(([reply]) => reply)
    : client.call(command, ...args)

const send = (client: Client.Client, command: string, args: ReadonlyArray<string>) =>
  Effect.tryPromise({ try: () => call(client, command, args), catch: toRedisError })

const sendShared = ({ client, line }: Connection, command: string, args: ReadonlyArray<string>) =>
  Effect.callback<unknown, RedisError>((resume) => {
    line.send(
      () => call(client, command, args),
      (reply) => resume(Effect.succeed(reply)),
      (error) => resume(Effect.fail(toRedisError(error)))
    )
  })

export const make = (handle: Handle<Connection>): Effect.Effect<Redis["Service"], never, Scope.Scope> => {
  const operation = handle.node.operation("send")
  const connection = Effect.mapError(handle.connection, toRedisError)
  const service = EffectRedis.make({
    send: <A = unknown>(command: string, ...args: ReadonlyArray<string>) =>
      Status.track(
        // What a command answers is for its caller to know.
        Effect.flatMap(connection, (shared) => sendShared(shared, command, args)) as Effect.Effect<A, RedisError>,
        operation
      ),
    connect: Effect.flatMap(
      connection,
      ({ plan }) =>
        Effect.map(Effect.mapError(Client.connect(plan, "reserved"), toRedisError), ({ client }) => ({
          send: <A = unknown>(command: string, ...args: ReadonlyArray<string>) =>
            send(client, command, args) as Effect.Effect<A, RedisError>,
          close: Effect.sync(() => client.disconnect())
        }))
    ),
    subscribe: (channel, onMessage) =>
      Effect.gen(function*() {
        const { plan } = yield* connection
        const { client } = yield* Effect.mapError(Client.open(plan, "subscriber"), toRedisError)
        const ended = yield* Deferred.make<never, RedisError>()
        const onEnd = () => Deferred.doneUnsafe(ended, Effect.fail(toRedisError(new Error("the subscription ended"))))
        client.on("message", (from: string, message: string) => {
          if (from === channel) onMessage({ channel: from, message })
        })
        client.on("end", onEnd)
        yield* Effect.addFinalizer(() => Effect.sync(() => client.off("end", onEnd)))
        yield* Effect.tryPromise({ try: () => client.subscribe(channel), catch: toRedisError })
        return Deferred.await(ended)
      })
  })
  return Effect.tap(service, (redis) => Effect.sync(() => Direct.offer(redis, handle, toRedisError)))
}
