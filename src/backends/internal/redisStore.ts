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

/** Keys of one command: a longer one would make other users of the server wait. */
const chunkSize = 1_000

const chunks = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> => {
  if (items.length <= chunkSize) return items.length === 0 ? [] : [items]
  const out: Array<ReadonlyArray<A>> = []
  for (let i = 0; i < items.length; i += chunkSize) out.push(items.slice(i, i + chunkSize))
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

  const remove = ({ client, plan }: Connection, keys: ReadonlyArray<string>): Promise<number> => {
    const full = keys.map((key) => plan.prefix + key)
    return removeFull(client, full)
  }

  return {
    driver: "redis",
    counters,
    get: (key) => run("get", ({ client, plan }) => client.get(plan.prefix + key), counted),
    set: (key, value, options) =>
      run("set", ({ client, plan }): Promise<unknown> => {
        const ttl = Ttl.millis(options?.ttl, Ttl.millis(plan.ttl, Infinity))
        if (ttl === Infinity) return client.set(plan.prefix + key, value)
        return ttl === 0 ? client.unlink(plan.prefix + key) : client.set(plan.prefix + key, value, "PX", ttl)
      }, nothing),
    delete: (key) => run("delete", ({ client, plan }) => client.unlink(plan.prefix + key), isSome),
    has: (key) => run("has", ({ client, plan }) => client.exists(plan.prefix + key), isSome),
    getMany: (keys) =>
      run("getMany", ({ client, plan }) => {
        const full = Array.from(keys, (key) => plan.prefix + key)
        // Keys of a cluster live on different nodes: each goes to its own, all at once.
        return Client.isCluster(client)
          ? Promise.all(full.map((key) => client.get(key)))
          : Promise.all(chunks(full).map((chunk) => client.mget(...chunk))).then((replies) => replies.flat())
      }, (values) => values.map(counted)),
    setMany: (entries, options) =>
      run("setMany", ({ client, plan }): Promise<unknown> => {
        const ttl = Ttl.millis(options?.ttl, Ttl.millis(plan.ttl, Infinity))
        const all = Array.from(entries, ([key, value]) => [plan.prefix + key, value] as const)
        if (ttl === 0) return removeFull(client, all.map(([key]) => key))
        if (Client.isCluster(client)) {
          return Promise.all(
            all.map(([key, value]) => ttl === Infinity ? client.set(key, value) : client.set(key, value, "PX", ttl))
          )
        }
        return Promise.all(chunks(all).map((chunk) => {
          const pipeline = client.pipeline()
          for (const [key, value] of chunk) {
            if (ttl === Infinity) pipeline.set(key, value)
            else pipeline.set(key, value, "PX", ttl)
          }
          return pipeline.exec().then(firstError)
        }))
      }, nothing),
    deleteMany: (keys) =>
      run("deleteMany", (connection) => remove(connection, Array.from(keys)), (count) => count),
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
              return [next, await removeFull(client, keys)] as const
            }, (step) => step)
            cursor = next
            removed += count
          } while (cursor !== "0")
        }
        return removed
      })
  }
}

const removeFull = (client: Client.Client, keys: ReadonlyArray<string>): Promise<number> =>
  Client.isCluster(client)
    ? Promise.all(keys.map((key) => client.unlink(key))).then(sum)
    : Promise.all(chunks(keys).map((chunk) => client.unlink(...chunk))).then(sum)
