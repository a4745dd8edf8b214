// The connection of the managed resource: the client that users share, and a second one that only the monitor uses, so
// that a check says something about the server and not about the queue before it.
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Client from "./redisClient.ts"
import { isNodeOfCluster, RedisFailure, toFailure } from "./redisError.ts"
import * as Line from "./redisLine.ts"
import type * as Plan from "./redisPlan.ts"

export interface Connection {
  readonly plan: Plan.Plan
  readonly client: Client.Client
  /** The way for users' commands. */
  readonly line: Line.Line
  /** `false` from the beginning of its release: then ask the resource for the next one. */
  readonly isOpen: () => boolean
  /** Whether the server answers, reads and writes; on a connection of its own. */
  readonly check: Effect.Effect<void, RedisFailure>
}

export const open = (plan: Plan.Plan): Effect.Effect<Connection, RedisFailure, Scope.Scope> =>
  Effect.gen(function*() {
    const shared = yield* Client.open(plan, "commands")
    const watcher = yield* makeWatcher(plan)
    let open = true
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        open = false
      })
    )
    return {
      plan,
      isOpen: () => open,
      client: shared.client,
      line: yield* Line.make(plan, shared.client),
      check: Effect.andThen(usable(plan, shared), watcher)
    }
  })

/** Without a word to the server: whether users' commands would be sent at all. */
const usable = (plan: Plan.Plan, { client, trouble }: Client.Opened): Effect.Effect<void, RedisFailure> =>
  Effect.suspend(() => {
    if (client.status === "ready") return Effect.void
    // ioredis gives up in rare cases, such as a failover in which nobody can be asked. We do not.
    if (client.status === "end") client.connect().catch(() => {})
    return Effect.fail(toFailure(trouble() ?? new Error("Connection is closed."), plan))
  })

const makeWatcher = (plan: Plan.Plan): Effect.Effect<Effect.Effect<void, RedisFailure>, never, Scope.Scope> =>
  Effect.gen(function*() {
    let own: Client.Client | undefined
    const drop = Effect.sync(() => {
      own?.disconnect()
      own = undefined
    })
    yield* Effect.addFinalizer(() => drop)
    const client = Effect.suspend(() => {
      if (own !== undefined && own.status === "ready") return Effect.succeed(own)
      return Effect.andThen(
        drop,
        Effect.map(Client.connect(plan, "check"), (opened) => {
          own = opened.client
          return own
        })
      )
    })
    return Effect.flatMap(client, (client) => probe(plan, client)).pipe(
      // The next check begins with a new connection: a half-open one would fail for ever.
      Effect.onError(() => drop)
    )
  })

/** Every primary answers, and a value that was written is read again. The key expires by itself if we do not get to it. */
export const probe = (plan: Plan.Plan, client: Client.Client): Effect.Effect<void, RedisFailure> =>
  Effect.gen(function*() {
    const word = (yield* Random.nextIntBetween(0, 0x7fffffff)).toString(36)
    const key = `${plan.prefix}seaworthy:probe:${word}`
    yield* Client.attempt(plan, () => Promise.all(Client.primaries(client).map((primary) => primary.ping())))
    const [, found] = yield* Client.attempt(
      plan,
      () => Promise.all([client.set(key, word, "PX", 10_000), client.get(key), client.del(key)])
    )
    if (found !== word) {
      return yield* Effect.fail(
        new RedisFailure({
          explanation: {
            reason: "Unknown",
            detail: "a key was absent right after it had been written",
            option: "cache.host",
            remedy: "Raise `maxmemory` of the server, or find out what removes its keys."
          },
          cause: undefined
        })
      )
    }
  })

/** What only a look at the server tells: that it belongs to a cluster although it is used alone. */
export const inspect = ({ client, plan }: Connection): Effect.Effect<void, RedisFailure> =>
  plan.mode === "cluster" ? Effect.void : Client.attempt(plan, () => client.info("cluster")).pipe(
    // A user who may not ask is not a reason to fail.
    Effect.catch((failure) =>
      failure.explanation.reason === "PermissionDenied" ? Effect.succeed("") : Effect.fail(failure)
    ),
    Effect.flatMap((info) =>
      info.includes("cluster_enabled:1")
        ? Effect.fail(new RedisFailure({ explanation: isNodeOfCluster(plan), cause: undefined }))
        : Effect.void
    )
  )
