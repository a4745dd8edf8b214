/**
 * The store behind `CacheAside` on any `Redis` service of `effect/persistence`: Lua scripts, each one step and one round trip.
 *
 * Of a cache named `n` there are:
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
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import { createHash } from "node:crypto"
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
import { escapeGlob } from "./redisStore.ts"

interface Script {
  readonly lua: string
  readonly sha: string
}

const script = (lua: string): Script => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

/** How many of the last invalidations are known one by one. A load that began before them is refused. */
const remembered = 1_000

/** Keys of one step of a walk. */
const walkStep = 1_000

/** `KEYS[#KEYS]` is the meta key, `ARGV[1]` an epoch in case there is none. */
const meta = `local meta = KEYS[#KEYS]
local known = redis.call('HMGET', meta, 'epoch', 'sequence')
local epoch, sequence = known[1], tonumber(known[2] or 0)
if not epoch then
  epoch, sequence = ARGV[1], 0
  redis.call('DEL', meta)
  redis.call('HSET', meta, 'epoch', epoch, 'sequence', 0)
end
`

const READ = script(`local out = {}
for i = 1, #KEYS do
  local entry = redis.call('GET', KEYS[i])
  if entry then out[2 * i - 1], out[2 * i] = entry, redis.call('PTTL', KEYS[i])
  else out[2 * i - 1], out[2 * i] = '', 0 end
end
return out`)

const ACQUIRE = script(`local entry = redis.call('GET', KEYS[1])
if entry and ARGV[4] ~= '*' and string.match(entry, '^1|([^|]*)|') ~= ARGV[4] then return {'found', entry, redis.call('PTTL', KEYS[1])} end
if not redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return {'busy'} end
${meta}return {'lease', epoch, sequence}`)

const RENEW = script(`if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

const RELEASE = script(`if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// KEYS: entry, lease, tags..., meta. ARGV: new epoch, token, epoch, sequence, payload, ttl, key, tags...
const WRITE = script(`if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'lost' end
redis.call('DEL', KEYS[2])
${meta}local since = tonumber(ARGV[4])
if epoch ~= ARGV[3] or sequence - since > ${remembered} then return 'invalidated' end
for n = since + 1, sequence do
  local item = redis.call('HGET', meta, n)
  if not item then return 'invalidated' end
  local kind, of = string.sub(item, 1, 1), string.sub(item, 2)
  local hit = kind == 'a' or kind == 'k' and of == ARGV[7] or kind == 'p' and string.sub(ARGV[7], 1, #of) == of
  if kind == 't' then
    for i = 8, #ARGV do hit = hit or ARGV[i] == of end
  end
  if hit then return 'invalidated' end
end
local ttl = ARGV[6]
if ttl == '0' then
  redis.call('UNLINK', KEYS[1])
  return 'written'
end
if ttl == '-' then redis.call('SET', KEYS[1], ARGV[5])
else redis.call('SET', KEYS[1], ARGV[5], 'PX', ttl) end
if #KEYS > 3 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local gone = ttl == '-' and '+inf' or string.format('%.0f', now + ttl + 1)
  for i = 3, #KEYS - 1 do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))
    redis.call('ZADD', KEYS[i], gone, ARGV[7])
    if ttl == '-' then redis.call('PERSIST', KEYS[i])
    else
      local left = redis.call('PTTL', KEYS[i])
      local last = redis.call('ZREVRANGE', KEYS[i], 0, 0, 'WITHSCORES')
      if last[2] ~= 'inf' and left < tonumber(ttl) + 1 then redis.call('PEXPIRE', KEYS[i], tonumber(ttl) + 1) end
    end
  end
end
return 'written'`)

// KEYS: (entry, lease,) meta. ARGV: new epoch, kind and what it is about, channel, message without position.
const INVALIDATE = script(`${meta}sequence = redis.call('HINCRBY', meta, 'sequence', 1)
redis.call('HSET', meta, sequence, ARGV[2])
redis.call('HDEL', meta, sequence - ${remembered})
if #KEYS == 3 then redis.call('UNLINK', KEYS[1], KEYS[2]) end
redis.call('PUBLISH', ARGV[3], epoch .. ' ' .. string.format('%.0f', sequence) .. ' ' .. ARGV[4])
return sequence`)

const ANNOUNCE = script(
  `${meta}redis.call('PUBLISH', ARGV[2], epoch .. ' ' .. string.format('%.0f', sequence) .. ' ' .. ARGV[3])
return sequence`
)

// KEYS: tag, meta. ARGV: what entries begin with, keys a step. Gives how many there may still be.
const SWEEP_TAG = script(`local keys = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)
for _, key in ipairs(keys) do
  redis.call('UNLINK', ARGV[1] .. key)
  redis.call('ZREM', KEYS[1], key)
end
return redis.call('ZCARD', KEYS[1])`)

// KEYS: meta, only to name the node. ARGV: cursor, pattern, keys a step.
const SWEEP = script(`local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(step[2]) do redis.call('UNLINK', key) end
return step[1]`)

type Reply = string | number | null | ReadonlyArray<Reply>

const found = (payload: Reply | undefined, left: Reply | undefined): Found | undefined =>
  typeof payload !== "string" || payload === ""
    ? undefined
    : { payload, left: Number(left) < 0 ? Infinity : Number(left) }

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
  /** What every key begins with. Default `"seaworthy:cache-aside:"`. */
  readonly prefix?: string | undefined
}

/** The part of one cache. `epoch` is for the case that the server has none: unlike any that was there before. */
const entries = (redis: Redis.Redis["Service"], base: string, newEpoch: string): SharedEntries => {
  const entryKey = (key: string) => `${base}:e:${key}`
  const leaseKey = (key: string) => `${base}:l:${key}`
  const tagKey = (tag: string) => `${base}:t:${tag}`
  const metaKey = `${base}:m`
  const channel = `${base}:bus`
  let epochs = 0
  const epoch = () => `${newEpoch}.${(epochs++).toString(36)}`

  const run = <A extends Reply>(
    operation: string,
    { lua, sha }: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>
  ): Effect.Effect<A, CacheError> => {
    const rest = [String(keys.length), ...keys, ...args]
    return redis.send<A>("EVALSHA", sha, ...rest).pipe(
      Effect.catchIf(
        (error) => String(error.cause).includes("NOSCRIPT"),
        () => redis.send<A>("EVAL", lua, ...rest)
      ),
      Effect.mapError(toCacheError(operation))
    )
  }

  /** As many steps as the keys that the tag had at first need: more come only from loads that are newer. */
  const sweepTag = (tag: string, steps: number) =>
    Effect.map(
      run<number>("invalidate", SWEEP_TAG, [tagKey(tag), metaKey], [entryKey(""), String(walkStep)]),
      (left) => {
        const more = Math.min(steps, Math.ceil(left / walkStep)) - 1
        return left > 0 && more >= 0 ? String(more) : undefined
      }
    )

  const sweepPrefix = (prefix: string, cursor: string) =>
    Effect.map(
      run<string>("invalidate", SWEEP, [metaKey], [cursor, `${escapeGlob(entryKey(prefix))}*`, String(walkStep)]),
      (next) => next === "0" ? undefined : next
    )

  return {
    read: (keys) =>
      Effect.map(
        Effect.forEach(
          Array.from({ length: Math.ceil(keys.length / walkStep) }, (_, step) =>
            keys.slice(step * walkStep, (step + 1) * walkStep)),
          (chunk) =>
            Effect.map(
              run<ReadonlyArray<Reply>>("read", READ, chunk.map(entryKey), []),
              (reply) =>
                chunk.map((_, index) => found(reply[2 * index], reply[2 * index + 1]))
            )
        ),
        (chunks) => chunks.flat()
      ),
    acquire: ({ key, lease, seen, token }) =>
      Effect.map(
        run<ReadonlyArray<Reply>>("acquire", ACQUIRE, [entryKey(key), leaseKey(key), metaKey], [
          epoch(),
          token,
          duration(lease),
          seen ?? "*"
        ]),
        ([answer, second, third]): Acquired =>
          answer === "found"
            ? { _tag: "Found", found: found(second, third)! }
            : answer === "lease"
            ? { _tag: "Lease", position: { epoch: String(second), sequence: Number(third) } }
            : { _tag: "Busy" }
      ),
    renew: (key, token, lease) =>
      Effect.map(run<number>("renew", RENEW, [leaseKey(key)], [token, duration(lease)]), (count) => count === 1),
    release: (key, token) => Effect.asVoid(run("release", RELEASE, [leaseKey(key)], [token])),
    write: ({ key, payload, position, tags, token, ttl }) =>
      run<Written>(
        "write",
        WRITE,
        [entryKey(key), leaseKey(key), ...tags.map(tagKey), metaKey],
        [epoch(), token, position.epoch, String(position.sequence), payload, duration(ttl), key, ...tags]
      ),
    invalidate: ({ kind, of }, node) => {
      const item = letters[kind] + of
      const keys = kind === "key" ? [entryKey(of), leaseKey(of), metaKey] : [metaKey]
      return Effect.asVoid(run("invalidate", INVALIDATE, keys, [epoch(), item, channel, `${node} ${item}`]))
    },
    sweep: ({ kind, of }, cursor) =>
      kind === "tag"
        ? sweepTag(of, cursor === undefined ? Infinity : Number(cursor))
        : sweepPrefix(kind === "all" ? "" : of, cursor ?? "0"),
    announce: (node) => Effect.asVoid(run("announce", ANNOUNCE, [metaKey], [epoch(), channel, node])),
    listen: ({ message, ready }) =>
      Effect.flatMap(redis.subscribe(channel), (queue) => {
        ready()
        return Effect.forever(
          Effect.map(Effect.mapError(Queue.take(queue), toCacheError("listen")), (raw) => {
            const parsed = parse(raw.message)
            if (parsed !== undefined) message(parsed)
          })
        )
      })
  }
}

/**
 * The store on any `Redis` service of `effect/persistence`.
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
      return CacheAsideStore.of({ open: (name) => entries(redis, `${prefix}{${name}}`, word) })
    })
  )
