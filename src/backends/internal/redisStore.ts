// The operations of `CacheStore` on Redis. Each is one fiber step around one command: no span, and latency and outcome are
// recorded where the reply arrives.
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ttl from "../../resource/cache/ttl.ts"
import type { CacheError, CacheStore, SetOptions } from "../../resource/CacheStore.ts"
import type { Handle } from "../../resource/ManagedResource.ts"
import * as Client from "./redisClient.ts"
import type { Connection } from "./redisConnection.ts"
import { fromResourceError, toCacheError } from "./redisError.ts"
import type { Plan } from "./redisPlan.ts"

/** Keys of one round trip: with more, other users of the server would wait, and the time-out would be too short. */
const chunkSize = 500

/** Most often all at once; what is more than a chunk, one chunk after the other, each with a time-out of its own. */
const inChunks = <A, B>(
  items: ReadonlyArray<A>,
  send: (chunk: ReadonlyArray<A>) => Effect.Effect<B, CacheError>
): Effect.Effect<ReadonlyArray<B>, CacheError> => {
  const chunks: Array<ReadonlyArray<A>> = []
  for (let i = 0; i < items.length; i += chunkSize) chunks.push(items.slice(i, i + chunkSize))
  return Effect.forEach(chunks, send)
}

/** A key as a pattern of `SCAN` that matches only itself. */
export const escapeGlob = (text: string): string => text.replace(/[\\*?[\]^-]/g, "\\$&")

const firstError = (results: ReadonlyArray<readonly [error: Error | null, reply: unknown]> | null) => {
  if (results === null) throw new Error("the pipeline was aborted")
  for (const [error] of results) if (error !== null) throw error
}

const isSome = (count: number): boolean => count > 0
const nothing = () => undefined
const sum = (counts: ReadonlyArray<number>): number => counts.reduce((total, count) => total + count, 0)

const setOne = (client: Client.Client, key: string, value: string, ttl: number): Promise<unknown> =>
  ttl === Infinity ? client.set(key, value) : client.set(key, value, "PX", ttl)

/** Keys of a cluster live on different nodes: each is a command of its own, all sent at once. */
const unlink = (client: Client.Client, keys: ReadonlyArray<string>): Promise<number> =>
  keys.length === 0
    ? Promise.resolve(0)
    : Client.isCluster(client)
    ? Promise.all(keys.map((key) => client.unlink(key))).then(sum)
    : client.unlink(...keys)

const getAll = (client: Client.Client, keys: ReadonlyArray<string>): Promise<ReadonlyArray<string | null>> =>
  Client.isCluster(client) ? Promise.all(keys.map((key) => client.get(key))) : client.mget(...keys)

const setAll = (
  client: Client.Client,
  entries: ReadonlyArray<readonly [key: string, value: string]>,
  ttl: number
): Promise<unknown> => {
  if (Client.isCluster(client)) return Promise.all(entries.map(([key, value]) => setOne(client, key, value, ttl)))
  const pipeline = client.pipeline()
  for (const [key, value] of entries) {
    if (ttl === Infinity) pipeline.set(key, value)
    else pipeline.set(key, value, "PX", ttl)
  }
  return pipeline.exec().then(firstError)
}

const ttlOf = (plan: Plan, options: SetOptions | undefined): number =>
  Ttl.millis(options?.ttl, Ttl.millis(plan.ttl, Infinity))

export const make = (handle: Handle<Connection>): CacheStore["Service"] => {
  const { node } = handle
  const counters = {
    hits: node.counter("hits"),
    misses: node.counter("misses"),
    undecodable: node.counter("undecodable")
  }
  const operations = {
    get: node.operation("get"),
    set: node.operation("set"),
    delete: node.operation("delete"),
    has: node.operation("has"),
    getMany: node.operation("getMany"),
    setMany: node.operation("setMany"),
    deleteMany: node.operation("deleteMany"),
    clear: node.operation("clear")
  }
  type Name = keyof typeof operations

  // Asking the resource for its connection costs as much as the rest: it is asked when the last one is no longer open.
  let known: Connection | undefined
  const connection = (name: Name) =>
    handle.connection.pipe(
      Effect.map((current) => {
        known = current
      }),
      Effect.mapError((error) => fromResourceError(name, error))
    )

  const run = <A, B>(
    name: Name,
    send: (connection: Connection) => Promise<A>,
    done: (reply: A) => B
  ): Effect.Effect<B, CacheError> =>
    Effect.callback((resume) => {
      if (known === undefined || !known.isOpen()) {
        resume(Effect.andThen(connection(name), run(name, send, done)))
        return
      }
      const current = known
      const operation = operations[name]
      // What is counted is counted by the caller's fiber: one that was interrupted is no longer there to do it.
      current.line.send(
        () => send(current),
        (reply, millis) => {
          resume(Effect.sync(() => {
            operation.record(true, millis)
            return done(reply)
          }))
        },
        (error, millis) => {
          resume(Effect.suspend(() => {
            operation.record(false, millis)
            return Effect.fail(toCacheError(name, error, current.plan))
          }))
        }
      )
    })

  const counted = (value: string | null): Option.Option<string> => {
    if (value === null) {
      counters.misses.value++
      return Option.none()
    }
    counters.hits.value++
    return Option.some(value)
  }

  return {
    driver: "redis",
    counters,
    get: (key) => run("get", ({ client, plan }) => client.get(plan.prefix + key), counted),
    set: (key, value, options) =>
      run("set", ({ client, plan }): Promise<unknown> => {
        const ttl = ttlOf(plan, options)
        return ttl === 0 ? client.unlink(plan.prefix + key) : setOne(client, plan.prefix + key, value, ttl)
      }, nothing),
    delete: (key) => run("delete", ({ client, plan }) => client.unlink(plan.prefix + key), isSome),
    has: (key) => run("has", ({ client, plan }) => client.exists(plan.prefix + key), isSome),
    getMany: (keys) =>
      Effect.map(
        inChunks(Array.from(keys), (chunk) =>
          run(
            "getMany",
            ({ client, plan }) => getAll(client, chunk.map((key) => plan.prefix + key)),
            (values) => values.map(counted)
          )),
        (found) => found.flat()
      ),
    setMany: (entries, options) =>
      Effect.asVoid(inChunks(Array.from(entries), (chunk) =>
        run("setMany", ({ client, plan }): Promise<unknown> => {
          const ttl = ttlOf(plan, options)
          const all = chunk.map(([key, value]) => [plan.prefix + key, value] as const)
          return ttl === 0 ? unlink(client, all.map(([key]) => key)) : setAll(client, all, ttl)
        }, nothing))),
    deleteMany: (keys) =>
      Effect.map(
        inChunks(Array.from(keys), (chunk) =>
          run("deleteMany", ({ client, plan }) =>
            unlink(
              client,
              chunk.map((key) => plan.prefix + key)
            ), (count) => count)),
        sum
      ),
    clear: (prefix) =>
      Effect.gen(function*() {
        // The servers are listed anew for each clear: a cluster may have changed.
        const primaries = yield* run(
          "clear",
          ({ client }) => Promise.resolve(Client.primaries(client)),
          (found) => found
        )
        let removed = 0
        for (const primary of primaries) {
          let cursor = "0"
          do {
            const [next, count] = yield* run("clear", async ({ client, plan }) => {
              const [next, keys] = await primary.scan(
                cursor,
                "MATCH",
                `${escapeGlob(plan.prefix + (prefix ?? ""))}*`,
                "COUNT",
                chunkSize
              )
              return [next, await unlink(client, keys)] as const
            }, (step) => step)
            cursor = next
            removed += count
          } while (cursor !== "0")
        }
        return removed
      })
  }
}
