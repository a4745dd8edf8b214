// Opens and closes clients of ioredis. The only module that makes one; none is ever part of what a user can inspect,
// because a client shows its password.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Cluster, Redis } from "ioredis"
import { type RedisFailure, toFailure } from "./redisError.ts"
import * as Plan from "./redisPlan.ts"

export type Client = Redis | Cluster

export interface Opened {
  readonly client: Client
  /** The last thing that the client complained about since it was ready; raw. */
  readonly trouble: () => unknown
}

export const isCluster = (client: Client): client is Cluster => client instanceof Cluster

const construct = (plan: Plan.Plan, role: Plan.Role, wasReady: () => boolean): Client =>
  plan.mode === "cluster"
    ? new Cluster(plan.nodes.map((node) => ({ ...node })), Plan.clusterOptions(plan, role, wasReady))
    : new Redis(Plan.redisOptions(plan, role, wasReady))

const isAboutSelect = (error: unknown): boolean => {
  const { command } = error as { readonly command?: { readonly name?: unknown } }
  return command?.name === "select"
}

/** Connects and authenticates. Interrupted or failed, nothing stays open. */
export const connect = (plan: Plan.Plan, role: Plan.Role): Effect.Effect<Opened, RedisFailure> =>
  Effect.callback((resume) => {
    let ready = false
    let trouble: unknown
    const client = construct(plan, role, () => ready)
    let wrongDatabase: unknown
    const remember = (error: unknown) => {
      trouble = error
      if (isCluster(client) || !isAboutSelect(error)) return
      // ioredis would go on in database 0.
      wrongDatabase = error
      client.disconnect(true)
    }
    // Without a listener ioredis prints its errors, password included.
    client.on("error", remember)
    client.on("node error", remember)
    client.on("connect", () => {
      wrongDatabase = undefined
    })
    client.on("ready", () => {
      if (wrongDatabase !== undefined) return
      ready = true
      trouble = undefined
      // From here on `redisLine.ts` bounds users' commands, and on a reserved connection commands may wait.
      if (!isCluster(client) && (role === "commands" || role === "reserved")) client.options.commandTimeout = undefined
    })
    client.on("close", () => {
      if (!isCluster(client)) client.options.commandTimeout = plan.commandTimeout
    })
    const fail = (error: unknown) => {
      client.disconnect()
      resume(Effect.fail(toFailure(error, plan)))
    }
    client.connect().then(
      () =>
        wrongDatabase === undefined ? resume(Effect.succeed({ client, trouble: () => trouble })) : fail(wrongDatabase),
      // The promise only says that the connection was closed; why, the event has said before.
      (error) => fail(trouble ?? error)
    )
    return Effect.sync(() => client.disconnect())
  })

/** Lets the server answer what it was sent, if it can; in any case the client is closed and never comes back. */
export const close = (plan: Plan.Plan, client: Client): Effect.Effect<void> =>
  client.status === "ready"
    ? Effect.callback((resume) => {
      if (!isCluster(client)) client.options.commandTimeout = plan.commandTimeout
      const end = () => {
        client.disconnect()
        resume(Effect.void)
      }
      client.quit().then(end, end)
      return Effect.sync(end)
    })
    : Effect.sync(() => client.disconnect())

/** As `connect`, for as long as the scope is open. */
export const open = (plan: Plan.Plan, role: Plan.Role): Effect.Effect<Opened, RedisFailure, Scope.Scope> =>
  Effect.acquireRelease(connect(plan, role), ({ client }) => close(plan, client), { interruptible: true })

/** Runs commands of the driver; fails with what they mean. */
export const attempt = <A>(plan: Plan.Plan, commands: () => Promise<A>): Effect.Effect<A, RedisFailure> =>
  Effect.tryPromise({ try: commands, catch: (error) => toFailure(error, plan) })

/** Every server that holds a part of the data. */
export const primaries = (client: Client): ReadonlyArray<Redis> => isCluster(client) ? client.nodes("master") : [client]
