/**
 * The store of distributed rate limiters on Redis: one Lua script a call, one round trip, one key.
 *
 * - Time is the server's (`TIME`): clocks of the processes do not matter.
 * - A key expires when its limit is all there again, so an idle key costs nothing. A refused call writes nothing.
 * - Every script touches only `KEYS[1]`: it runs on a Cluster, whatever the key.
 * - Scripts are run by hash (`EVALSHA`), with the text only where a server does not know it. Not through `Redis.eval`:
 *   that loads a script on one node, and a Cluster has several.
 *
 * The arithmetic is that of `src/resilience/limiter`; one test holds both against the same model. All numbers are whole
 * microseconds or units, exact up to 2^53.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import { createHash } from "node:crypto"
import type { Algorithm } from "../../resilience/limiter/Algorithm.ts"
import { bucket } from "../../resilience/limiter/bucket.ts"
import { RateLimitStoreError } from "../../resilience/limiter/errors.ts"
import { type Answer, RateLimiterStore, type Request } from "../../resilience/limiter/Store.ts"

type Operation = "consume" | "peek" | "refund"

/** The text of a script, but for the constants that it begins with. */
const text = (body: string): string =>
  `local key, cost, takenAt = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2] or 0)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wait, remaining, reset = 0, 0, 0
local function expireAfter(micros) return string.format('%.0f', math.max(1, math.ceil(micros / 1000))) end
${body}
return string.format('%.0f %.0f %.0f %.0f', wait, remaining, reset, now)
`

// "debt at"; see bucket.ts.
const BUCKET = text(`local debt, at = 0, now
local state = redis.call('GET', key)
if state then
  local a, b = string.match(state, '(%S+) (%S+)')
  debt, at = tonumber(a), tonumber(b)
  if now > at then
    debt = math.max(0, debt - (now - at) * perMicro)
    at = now
  end
end
local units = cost * perToken
if op == 'refund' then
  debt = math.max(0, debt - units)
elseif units > capacity then
  wait = -1
elseif debt + units > capacity then
  wait = math.ceil((debt + units - capacity) / perMicro)
elseif op == 'consume' then
  debt = debt + units
end
remaining = math.max(0, math.floor((capacity - debt) / perToken))
reset = math.ceil(debt / perMicro)
if op == 'consume' and wait == 0 or op == 'refund' and state then
  if debt == 0 then redis.call('DEL', key)
  else redis.call('SET', key, string.format('%.0f %.0f', debt, at), 'PX', expireAfter(reset + at - now)) end
end`)

// "count start"; see windows.ts.
const FIXED = text(`local count, start = 0, now
local state = redis.call('GET', key)
if state then
  local a, b = string.match(state, '(%S+) (%S+)')
  if now < tonumber(b) + window then count, start = tonumber(a), tonumber(b) end
end
if op == 'refund' then
  if takenAt >= start then count = math.max(0, count - cost) end
elseif cost > limit then
  wait = -1
elseif count + cost > limit then
  wait = start + window - now
elseif op == 'consume' then
  count = count + cost
end
remaining = limit - count
if count > 0 then reset = start + window - now end
if op == 'consume' and wait == 0 or op == 'refund' and state then
  if count == 0 then redis.call('DEL', key)
  else redis.call('SET', key, string.format('%.0f %.0f', count, start), 'PX', expireAfter(reset)) end
end`)

// "start current previous"; see windows.ts.
const COUNTER = text(`local start, current, previous = now, 0, 0
local state = redis.call('GET', key)
if state then
  local a, b, c = string.match(state, '(%S+) (%S+) (%S+)')
  a, b, c = tonumber(a), tonumber(b), tonumber(c)
  if now < a + window then start, current, previous = a, b, c
  elseif now < a + 2 * window and b > 0 then start, previous = a + window, b end
end
local view = math.min(window, start + window - now)
if op == 'refund' then
  if takenAt >= start then current = math.max(0, current - cost)
  elseif takenAt >= start - window then previous = math.max(0, previous - cost) end
elseif cost > limit then
  wait = -1
else
  local free = limit - cost
  if previous * view + current * window > free * window then
    if current <= free then wait = view - math.floor((free - current) * window / previous)
    else wait = view + math.ceil((current - free) * window / current) end
  elseif op == 'consume' then
    current = current + cost
  end
end
remaining = math.max(0, math.floor(limit - current - previous * view / window))
if current > 0 then reset = start + 2 * window - now
elseif previous > 0 then reset = start + window - now end
if op == 'consume' and wait == 0 or op == 'refund' and state then
  if reset == 0 then redis.call('DEL', key)
  else redis.call('SET', key, string.format('%.0f %.0f %.0f', start, current, previous), 'PX', expireAfter(reset)) end
end`)

// A hash: h and t are the numbers of the oldest entry and of the next one, s is the sum of all costs, and each number
// from h to t - 1 has an entry "time cost". What is out of the window is removed with the next entry that is written.
const LOG = text(`local function entry(n)
  local a, b = string.match(redis.call('HGET', key, n), '(%S+) (%S+)')
  return tonumber(a), tonumber(b)
end
local function write(n, time, paid) redis.call('HSET', key, n, string.format('%.0f %.0f', time, paid)) end
local raw = redis.call('HMGET', key, 'h', 't', 's')
local head, tail, sum = tonumber(raw[1] or 0), tonumber(raw[2] or 0), tonumber(raw[3] or 0)
local first = head
local entryTime, entryCost
while head < tail do
  entryTime, entryCost = entry(head)
  if entryTime + window > now then break end
  sum = sum - entryCost
  head = head + 1
end
local last = 0
if head < tail then last = entry(tail - 1) end
local changed = false
if op == 'refund' then
  local low, high = head, tail
  while low < high do
    local middle = math.floor((low + high) / 2)
    if entry(middle) < takenAt then low = middle + 1 else high = middle end
  end
  if low < tail then
    entryTime, entryCost = entry(low)
    if entryTime == takenAt then
      local returned = math.min(cost, entryCost)
      sum = sum - returned
      changed = true
      write(low, entryTime, entryCost - returned)
      while head < tail do
        last, entryCost = entry(tail - 1)
        if entryCost > 0 then break end
        tail = tail - 1
        redis.call('HDEL', key, tail)
      end
    end
  end
elseif cost > limit then
  wait = -1
elseif sum + cost > limit then
  local missing, n = sum + cost - limit, head
  while true do
    entryTime, entryCost = entry(n)
    missing = missing - entryCost
    if missing <= 0 then break end
    n = n + 1
  end
  wait = entryTime + window - now
elseif op == 'consume' then
  sum = sum + cost
  changed = true
  if head < tail and last >= now then
    entryTime, entryCost = entry(tail - 1)
    write(tail - 1, entryTime, entryCost + cost)
  else
    write(tail, now, cost)
    tail = tail + 1
    last = now
  end
end
remaining = limit - sum
if sum > 0 then reset = last + window - now end
if changed then
  if sum == 0 then redis.call('DEL', key)
  else
    for n = first, head - 1 do redis.call('HDEL', key, n) end
    redis.call('HSET', key, 'h', head, 't', tail, 's', sum)
    redis.call('PEXPIRE', key, expireAfter(reset))
  end
end`)

interface Script {
  readonly lua: string
  readonly sha: string
}

interface Plan {
  /** Part of every key: two algorithms keep different things. */
  readonly tag: string
  readonly script: (operation: Operation) => Script
}

// What is the same for every call stands in the text: an argument costs more to send and to read than the script to run.
const plan = (tag: string, text: string, constants: Record<string, number>): Plan => {
  const scripts = new Map<Operation, Script>()
  const names = ["op", ...Object.keys(constants)].join(", ")
  const make = (operation: Operation): Script => {
    const lua = `local ${names} = ${[`'${operation}'`, ...Object.values(constants)].join(", ")}\n${text}`
    const script = { lua, sha: createHash("sha1").update(lua).digest("hex") }
    scripts.set(operation, script)
    return script
  }
  return { tag, script: (operation) => scripts.get(operation) ?? make(operation) }
}

const makePlan = (algorithm: Algorithm): Plan => {
  const window = { limit: algorithm.limit, window: algorithm.windowMicros }
  switch (algorithm._tag) {
    case "tokenBucket":
    case "gcra": {
      const { capacity, perMicro, perToken } = bucket(algorithm)
      return plan("b", BUCKET, { perToken, perMicro, capacity })
    }
    case "fixedWindow":
      return plan("f", FIXED, window)
    case "slidingWindowCounter":
      return plan("c", COUNTER, window)
    case "slidingWindowLog":
      return plan("l", LOG, window)
  }
}

// "wait remaining reset now": one string is read faster than four numbers.
const decode = (reply: string): Answer => {
  const [wait, remaining, reset, at] = reply.split(" ")
  return {
    wait: wait === "-1" ? Infinity : Number(wait),
    remaining: Number(remaining),
    reset: Number(reset),
    at: Number(at)
  }
}

/** Options of the store. */
export interface Options {
  /** What every key begins with. Default `"seaworthy:limit:"`. */
  readonly prefix?: string | undefined
}

/** The store on any `Redis` service of `effect/persistence`. */
export const layer = (options: Options = {}): Layer.Layer<RateLimiterStore, never, Redis.Redis> =>
  Layer.effect(
    RateLimiterStore,
    Effect.map(Redis.Redis, (redis) => {
      const prefix = options.prefix ?? "seaworthy:limit:"
      const plans = new WeakMap<Algorithm, Plan>()
      const planOf = (algorithm: Algorithm): Plan => {
        const known = plans.get(algorithm)
        if (known !== undefined) return known
        const made = makePlan(algorithm)
        plans.set(algorithm, made)
        return made
      }

      const run = (
        operation: Operation,
        { algorithm, cost, key, name }: Request,
        ...more: ReadonlyArray<string>
      ): Effect.Effect<Answer, RateLimitStoreError> => {
        const plan = planOf(algorithm)
        const script = plan.script(operation)
        const fullKey = `${prefix}${name}:${plan.tag}:${key}`
        const fail = (cause: Redis.RedisError) =>
          Effect.fail(new RateLimitStoreError({ strategy: name, reason: "unavailable", cause }))
        const onSuccess = (reply: string) => Effect.succeed(decode(reply))
        return Effect.matchEffect(redis.send<string>("EVALSHA", script.sha, "1", fullKey, String(cost), ...more), {
          onSuccess,
          onFailure: (error) =>
            String(error.cause).includes("NOSCRIPT")
              ? Effect.matchEffect(redis.send<string>("EVAL", script.lua, "1", fullKey, String(cost), ...more), {
                onSuccess,
                onFailure: fail
              })
              : fail(error)
        })
      }

      return RateLimiterStore.of({
        consume: (request) => run("consume", request),
        peek: (request) => run("peek", request),
        refund: (request, takenAt) => Effect.asVoid(run("refund", request, String(takenAt)))
      })
    })
  )
