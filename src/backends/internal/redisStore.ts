// The operations of `CacheStore` on Redis. Each is one fiber step around one promise of ioredis: no span, no time-out of
// our own (the client has one), latency and outcome recorded where the reply arrives.
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Operation } from "../../observability/Status.ts"
import * as Ttl from "../../resource/cache/ttl.ts"
import type { CacheError, CacheStore } from "../../resource/CacheStore.ts"
import type { Handle } from "../../resource/ManagedResource.ts"
import * as Client from "./redisClient.ts"
import type { Connection } from "./redisConnection.ts"
import { fromResourceError, toCacheError } from "./redisError.ts"

/** Keys of one command: a longer one would make other users of the server wait, and may not end in time. */
const chunkSize = 1_000

/** On a cluster each key is a command of its own. */
const clusterChunkSize = 200

/** Sends the items in chunks, one after the other; most often there is only one. */
const inChunks = async <A, B>(
  client: Client.Client,
  items: ReadonlyArray<A>,
  send: (chunk: ReadonlyArray<A>) => Promise<B>
): Promise<ReadonlyArray<B>> => {
  const size = Client.isCluster(client) ? clusterChunkSize : chunkSize
  const out: Array<B> = []
  for (let i = 0; i < items.length; i += size) out.push(await send(items.slice(i, i + size)))
  return out
}

/** A key as a pattern of `SCAN` that matches only itself. */
export const escapeGlob = (text: string): string => text.replace(/[\\*?[\]^-]/g, "\\$&")

/** Waits for a promise of ioredis. A caller that is interrupted leaves at once and counts as neither good nor bad. */
const command = <A, B>(
  name: string,
  operation: Operation,
  send: (connection: Connection) => Promise<A>,
  done: (reply: A) => B
) =>
(connection: Connection): Effect.Effect<B, CacheError> =>
  Effect.withFiber((fiber) => {
    const clock = fiber.getRef(Clock.Clock)
    const start = clock.monotonicTimeNanosUnsafe()
    return Effect.callback((resume) => {
      let waiting = true
      const record = (success: boolean) =>
        operation.record(success, Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6)
      send(connection).then(
        (reply) => {
          if (!waiting) return
          record(true)
          resume(Effect.succeed(done(reply)))
        },
        (error) => {
          if (!waiting) return
          record(false)
          resume(Effect.fail(toCacheError(name, error, connection.plan)))
        }
      )
      return Effect.sync(() => {
        waiting = false
      })
    })
  })

const firstError = (results: ReadonlyArray<readonly [error: Error | null, reply: unknown]> | null) => {
  if (results === null) throw new Error("the pipeline was aborted")
  for (const [error] of results) if (error !== null) throw error
}

const isSome = (count: number): boolean => count > 0
const nothing = () => undefined
const sum = (counts: ReadonlyArray<number>): number => counts.reduce((total, count) => total + count, 0)

const setOne = (client: Client.Client, key: string, value: string, ttl: number): Promise<unknown> =>
  ttl === Infinity ? client.set(key, value) : client.set(key, value, "PX", ttl)

const unlink = (client: Client.Client, keys: ReadonlyArray<string>): Promise<number> =>
  inChunks(
    client,
    keys,
    (chunk) =>
      Client.isCluster(client) ? Promise.all(chunk.map((key) => client.unlink(key))).then(sum) : client.unlink(...chunk)
  )
    .then(sum)

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

  const run = <A, B>(
    name: Name,
    send: (connection: Connection) => Promise<A>,
    done: (reply: A) => B
  ): Effect.Effect<B, CacheError> =>
    Effect.flatMap(
      Effect.catch(handle.connection, (error) => Effect.fail(fromResourceError(name, error))),
      command(name, operations[name], send, done)
    )

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
        const ttl = Ttl.millis(options?.ttl, Ttl.millis(plan.ttl, Infinity))
        return ttl === 0 ? client.unlink(plan.prefix + key) : setOne(client, plan.prefix + key, value, ttl)
      }, nothing),
    delete: (key) => run("delete", ({ client, plan }) => client.unlink(plan.prefix + key), isSome),
    has: (key) => run("has", ({ client, plan }) => client.exists(plan.prefix + key), isSome),
    getMany: (keys) =>
      run("getMany", ({ client, plan }) => {
        const full = Array.from(keys, (key) => plan.prefix + key)
        return inChunks(client, full, (chunk) =>
          Client.isCluster(client)
            ? Promise.all(chunk.map((key) => client.get(key)))
            : client.mget(...chunk))
      }, (replies) => replies.flat().map(counted)),
    setMany: (entries, options) =>
      run("setMany", ({ client, plan }): Promise<unknown> => {
        const ttl = Ttl.millis(options?.ttl, Ttl.millis(plan.ttl, Infinity))
        const all = Array.from(entries, ([key, value]) => [plan.prefix + key, value] as const)
        if (ttl === 0) return unlink(client, all.map(([key]) => key))
        return inChunks(client, all, (chunk): Promise<unknown> => {
          if (Client.isCluster(client)) return Promise.all(chunk.map(([key, value]) => setOne(client, key, value, ttl)))
          const pipeline = client.pipeline()
          for (const [key, value] of chunk) {
            if (ttl === Infinity) pipeline.set(key, value)
            else pipeline.set(key, value, "PX", ttl)
          }
          return pipeline.exec().then(firstError)
        })
      }, nothing),
    deleteMany: (keys) =>
      run(
        "deleteMany",
        ({ client, plan }) => unlink(client, Array.from(keys, (key) => plan.prefix + key)),
        (count) => count
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
