/**
 * The store behind `CacheAside` on any `Redis` service of `effect/persistence`: Lua scripts, each one step and one round trip.
 *
 * Of a cache named `n` there are, behind `cache.prefix` and the prefix of the layer:
 * - `{n}:e:<key>`: an entry, as text;
 * - `{n}:l:<key>`: the token of the process that loads it, for as long as the lease;
 * - `{n}:t:<tag>`: the keys that carry a tag, by when they expire;
 * - `{n}:m`: the epoch, how many invalidations there were, and what the last of them were about;
 * - the channel `{n}:bus`.
 *
 * - All of it is in one slot (the braces): scripts may touch several keys on a Cluster, and one cache lives on one node of it.
 * - Times to live are the server's; no script asks for the time but that of tags.
 * - Epoch and count are in one key: after a loss of data, or an eviction, there is another epoch, and writes of loads that
 *   began before it are refused.
 * - Nothing uses `KEYS`: a prefix is walked with `SCAN`, and what is found is removed with `UNLINK`.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import {
  type Acquired,
  CacheAsideStore,
  type Found,
  type Message,
  type SharedEntries,
  type Written
} from "../../data/cacheAside/Store.ts"
import type { Invalidation } from "../../data/cacheAside/target.ts"
import { CacheError } from "../../resource/cache/CacheError.ts"
import {
  ACQUIRE,
  ANNOUNCE,
  INVALIDATE,
  READ,
  RELEASE,
  RENEW,
  type Script,
  SET,
  SWEEP,
  SWEEP_TAG,
  walkStep,
  WRITE
} from "./redisCacheAsideScripts.ts"
import * as Direct from "./redisDirect.ts"
import * as Looks from "./redisLooks.ts"
import { escapeGlob } from "./redisStore.ts"

type Reply = string | number | null | ReadonlyArray<Reply>

const found = (payload: Reply | undefined, left: Reply | undefined): Found | undefined =>
  typeof payload !== "string" || payload === ""
    ? undefined
    : { payload, left: Number(left) < 0 ? Infinity : Number(left) }

const pairs = (reply: ReadonlyArray<Reply>, count: number): ReadonlyArray<Found | undefined> =>
  Array.from({ length: count }, (_, index) => found(reply[2 * index], reply[2 * index + 1]))

const duration = (millis: number): string => millis === Infinity ? "-" : String(Math.max(0, Math.floor(millis)))

const letters = { key: "k", tag: "t", prefix: "p", all: "a" } as const
const kinds: Readonly<Record<string, Invalidation["kind"]>> = { k: "key", t: "tag", p: "prefix", a: "all" }

/** `epoch sequence node kind+of`; without the last in a sign of life. */
const parse = (text: string): Message | undefined => {
  const match = /^(\S+) (\d+) (\S+)(?: ([ktpa])([\s\S]*))?$/.exec(text)
  if (match === null) return undefined
  const [, epoch, sequence, node, letter, of] = match
  return {
    epoch: epoch!,
    sequence: Number(sequence),
    node: node!,
    invalidation: letter === undefined ? undefined : { kind: kinds[letter]!, of: of! }
  }
}

const connectionLost = /connection|ECONN|EPIPE|ETIMEDOUT|closed|writeable|subscription ended|max retries/i

const toCacheError = (operation: string) => (error: Redis.RedisError): CacheError => {
  const text = String(error.cause)
  const reason = /timed out/i.test(text) ? "TimedOut" : connectionLost.test(text) ? "Unavailable" : "Refused"
  const detail = {
    TimedOut: "no answer in time",
    Unavailable: "there is no connection",
    Refused: "the server answered with an error"
  }[reason]
  return new CacheError({ operation, reason, detail, retryable: reason !== "Refused", cause: error.cause })
}

/**
 * Options of the store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What every key begins with, after `cache.prefix` of the settings. Default `"seaworthy:cache-aside:"`. */
  readonly prefix?: string | undefined
}

/** The names of one cache. Braces in its own name would end the part that says in which slot of a Cluster they are. */
const namesOf = (prefix: string, name: string) => {
  const base = `${prefix}{${name.replace(/[{}]/g, encodeURIComponent)}}`
  return {
    entry: (key: string) => `${base}:e:${key}`,
    lease: (key: string) => `${base}:l:${key}`,
    tag: (tag: string) => `${base}:t:${tag}`,
    meta: `${base}:m`,
    channel: `${base}:bus`
  }
}
type Names = ReturnType<typeof namesOf>

interface Wiring {
  readonly redis: Redis.Redis["Service"]
  readonly name: string
  readonly prefix: string
  /** For the case that the server has no epoch: unlike any that was there before. */
  readonly newEpoch: string
}

/** Looks without a fiber. */
const looksOn = (direct: Direct.Direct) => {
  type Done = Parameters<Looks.Send>[1]
  const failed = toCacheError("read")
  const away = () => failed(new Redis.RedisError({ cause: new Error("there is no connection") }))
  const fail = (done: Done) => (error: Redis.RedisError) => done(Exit.fail(failed(error)))
  return {
    /** Payloads alone. */
    plain: Looks.make((keys, done) =>
      keys.length === 1
        ? direct.send("GET", keys, (reply) => done(Exit.succeed([found(reply as Reply, NaN)])), fail(done))
        : direct.send(
          "MGET",
          keys,
          (reply) => done(Exit.succeed((reply as ReadonlyArray<Reply>).map((payload) => found(payload, NaN)))),
          fail(done)
        ), away),
    aged: Looks.make((keys, done) => {
      const args = [String(keys.length), ...keys]
      const onReply = (reply: unknown) => done(Exit.succeed(pairs(reply as ReadonlyArray<Reply>, keys.length)))
      return direct.send("EVALSHA", [READ.sha, ...args], onReply, (error) => {
        if (!missing(error) || !direct.send("EVAL", [READ.lua, ...args], onReply, fail(done))) fail(done)(error)
      })
    }, away)
  }
}

const missing = (error: Redis.RedisError): boolean => String(error.cause).includes("NOSCRIPT")

/** The part of one cache. */
const entries = ({ name, newEpoch, prefix, redis }: Wiring): SharedEntries => {
  const direct = Direct.of(redis)
  const looks = direct === undefined ? undefined : looksOn(direct)
  let names = direct === undefined ? namesOf(prefix, name) : undefined
  /** The prefix of the settings is known once there is a connection. */
  const settle = Effect.map(direct?.prefix ?? Effect.succeed(""), (before) => names ??= namesOf(before + prefix, name))
  const named = <A>(
    operation: string,
    f: (names: Names) => Effect.Effect<A, CacheError>
  ): Effect.Effect<A, CacheError> =>
    Effect.suspend(() =>
      names === undefined ? Effect.flatMap(Effect.mapError(settle, toCacheError(operation)), f) : f(names)
    )
  let epochs = 0
  const epoch = () => `${newEpoch}.${(epochs++).toString(36)}`

  const run = <A extends Reply>(
    operation: string,
    { lua, sha }: Script,
    keys: (names: Names) => ReadonlyArray<string>,
    args: (names: Names) => ReadonlyArray<string>
  ): Effect.Effect<A, CacheError> =>
    named(operation, (names) => {
      const all = keys(names)
      const rest = [String(all.length), ...all, ...args(names)]
      return redis.send<A>("EVALSHA", sha, ...rest).pipe(
        Effect.catchIf(missing, () => redis.send<A>("EVAL", lua, ...rest)),
        Effect.mapError(toCacheError(operation))
      )
    })

  /** As many steps as the keys that the tag had at first need: more come only from loads that are newer. */
  const sweepTag = (tag: string, steps: number) =>
    Effect.map(
      run<number>(
        "invalidate",
        SWEEP_TAG,
        (names) => [names.tag(tag), names.meta],
        (names) => [names.entry(""), String(walkStep)]
      ),
      (left) => {
        const more = Math.min(steps, Math.ceil(left / walkStep)) - 1
        return left > 0 && more >= 0 ? String(more) : undefined
      }
    )

  const sweepPrefix = (prefix: string, cursor: string) =>
    Effect.map(
      run<string>(
        "invalidate",
        SWEEP,
        (names) => [names.meta],
        (names) => [cursor, `${escapeGlob(names.entry(prefix))}*`, String(walkStep)]
      ),
      (next) => next === "0" ? undefined : next
    )

  const read = (keys: ReadonlyArray<string>) =>
    Effect.map(
      Effect.forEach(
        Array.from({ length: Math.ceil(keys.length / walkStep) }, (_, step) =>
          keys.slice(step * walkStep, (step + 1) * walkStep)),
        (chunk) =>
          Effect.map(
            run<ReadonlyArray<Reply>>("read", READ, (names) =>
              chunk.map(names.entry), () => []),
            (reply) => pairs(reply, chunk.length)
          )
      ),
      (chunks) => chunks.flat()
    )

  return {
    look: (key, aged) =>
      // After a restart of the resource this leads to its new connection.
      Effect.flatMap(Effect.mapError(settle, toCacheError("read")), (names) =>
        aged
          ? Effect.map(read([key]), ([one]) => one)
          : Effect.mapError(
            Effect.map(redis.send<string | null>("GET", names.entry(key)), (reply) => found(reply, NaN)),
            toCacheError("read")
          )),
    lookUnsafe: (key, aged, done) =>
      looks !== undefined && names !== undefined && looks[aged ? "aged" : "plain"](names.entry(key), done),
    read,
    acquire: ({ key, lease, seen, token }) =>
      Effect.map(
        run<ReadonlyArray<Reply>>(
          "acquire",
          ACQUIRE,
          (names) => [names.entry(key), names.lease(key), names.meta],
          () => [epoch(), token, duration(lease), seen ?? "*"]
        ),
        ([answer, second, third]): Acquired =>
          answer === "found"
            ? { _tag: "Found", found: found(second, third)! }
            : answer === "lease"
            ? { _tag: "Lease", position: { epoch: String(second), sequence: Number(third) } }
            : { _tag: "Busy" }
      ),
    renew: (key, token, lease) =>
      Effect.map(
        run<number>("renew", RENEW, (names) => [names.lease(key)], () => [token, duration(lease)]),
        (count) => count === 1
      ),
    release: (key, token) => Effect.asVoid(run("release", RELEASE, (names) => [names.lease(key)], () => [token])),
    write: ({ key, payload, position: { epoch: of, sequence }, tags, token, ttl }) =>
      run<Written>(
        "write",
        WRITE,
        (names) => [names.entry(key), names.lease(key), ...tags.map(names.tag), names.meta],
        () => [epoch(), token, of, String(sequence), payload, duration(ttl), key, ...tags]
      ),
    set: ({ key, node, payload, tags, ttl }) => {
      const item = letters.key + key
      return Effect.asVoid(
        run(
          "set",
          SET,
          (names) => [names.entry(key), names.lease(key), ...tags.map(names.tag), names.meta],
          ({ channel }) => [epoch(), item, channel, `${node} ${item}`, payload, duration(ttl), key, ...tags]
        )
      )
    },
    invalidate: ({ kind, of }, node) => {
      const item = letters[kind] + of
      return Effect.asVoid(run(
        "invalidate",
        INVALIDATE,
        (names) => kind === "key" ? [names.entry(of), names.lease(of), names.meta] : [names.meta],
        ({ channel }) => [epoch(), item, channel, `${node} ${item}`]
      ))
    },
    sweep: ({ kind, of }, cursor) =>
      kind === "tag"
        ? sweepTag(of, cursor === undefined ? Infinity : Number(cursor))
        : sweepPrefix(kind === "all" ? "" : of, cursor ?? "0"),
    announce: (node) =>
      Effect.asVoid(run("announce", ANNOUNCE, ({ meta }) => [meta], ({ channel }) => [epoch(), channel, node])),
    listen: ({ message, ready }) =>
      Effect.flatMap(
        Effect.mapError(settle, toCacheError("listen")),
        ({ channel }) =>
          Effect.flatMap(redis.subscribe(channel), (queue) => {
            ready()
            return Effect.forever(
              Effect.map(Effect.mapError(Queue.take(queue), toCacheError("listen")), (raw) => {
                const parsed = parse(raw.message)
                if (parsed !== undefined) message(parsed)
              })
            )
          })
      )
  }
}

/**
 * The store on any `Redis` service of `effect/persistence`. On that of `RedisCache`, keys begin with `cache.prefix`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<CacheAsideStore, never, Redis.Redis> =>
  Layer.effect(
    CacheAsideStore,
    Effect.gen(function*() {
      const redis = yield* Redis.Redis
      const prefix = options.prefix ?? "seaworthy:cache-aside:"
      const word = `${(yield* Random.nextInt).toString(36)}${(yield* Random.nextInt).toString(36)}`.replaceAll("-", "")
      return CacheAsideStore.of({ open: (name) => entries({ redis, name, prefix, newEpoch: word }) })
    })
  )
