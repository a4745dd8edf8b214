// The Lua scripts of `redisCacheAside.ts`: each is one step for all who share the server.
import { createHash } from "node:crypto"

export interface Script {
  readonly lua: string
  readonly sha: string
}

const script = (lua: string): Script => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

/** How many of the last invalidations are known one by one. A load that began before them is refused. */
const remembered = 1_000

/** Keys of one step of a walk. */
export const walkStep = 1_000

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

export const READ = script(`local out = {}
for i = 1, #KEYS do
  local entry = redis.call('GET', KEYS[i])
  if entry then out[2 * i - 1], out[2 * i] = entry, redis.call('PTTL', KEYS[i])
  else out[2 * i - 1], out[2 * i] = '', 0 end
end
return out`)

export const ACQUIRE = script(`local entry = redis.call('GET', KEYS[1])
if entry and ARGV[4] ~= '*' and string.match(entry, '^1|([^|]*)|') ~= ARGV[4] then return {'found', entry, redis.call('PTTL', KEYS[1])} end
if not redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return {'busy'} end
${meta}return {'lease', epoch, sequence}`)

export const RENEW = script(`if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)

export const RELEASE = script(`if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// KEYS: entry, lease, tags..., meta. ARGV from 5: payload, ttl, key.
const store = `local ttl = ARGV[6]
if ttl == '0' then redis.call('UNLINK', KEYS[1])
elseif ttl == '-' then redis.call('SET', KEYS[1], ARGV[5])
else redis.call('SET', KEYS[1], ARGV[5], 'PX', ttl) end
if #KEYS > 3 and ttl ~= '0' then
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
`

// ARGV[2] is kind and what it is about, ARGV[3] the channel, ARGV[4] the message without position.
const note = `sequence = redis.call('HINCRBY', meta, 'sequence', 1)
redis.call('HSET', meta, sequence, ARGV[2])
redis.call('HDEL', meta, sequence - ${remembered})
`
const tell = `redis.call('PUBLISH', ARGV[3], epoch .. ' ' .. string.format('%.0f', sequence) .. ' ' .. ARGV[4])
return sequence`

// KEYS: entry, lease, tags..., meta. ARGV: new epoch, token, epoch, sequence, payload, ttl, key, tags...
export const WRITE = script(`if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'lost' end
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
${store}return 'written'`)

// KEYS: entry, lease, tags..., meta. ARGV: new epoch, kind and key, channel, message, payload, ttl, key, tags...
export const SET = script(`${meta}${note}redis.call('DEL', KEYS[2])
${store}${tell}`)

// KEYS: (entry, lease,) meta. ARGV: new epoch, kind and what it is about, channel, message without position.
export const INVALIDATE = script(`${meta}${note}if #KEYS == 3 then redis.call('UNLINK', KEYS[1], KEYS[2]) end
${tell}`)

export const ANNOUNCE = script(
  `${meta}redis.call('PUBLISH', ARGV[2], epoch .. ' ' .. string.format('%.0f', sequence) .. ' ' .. ARGV[3])
return sequence`
)

// KEYS: tag, meta. ARGV: what entries begin with, keys a step. Gives how many there may still be.
export const SWEEP_TAG = script(`local keys = redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)
for _, key in ipairs(keys) do
  redis.call('UNLINK', ARGV[1] .. key)
  redis.call('ZREM', KEYS[1], key)
end
return redis.call('ZCARD', KEYS[1])`)

// KEYS: meta, only to name the node. ARGV: cursor, pattern, keys a step.
export const SWEEP = script(`local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(step[2]) do redis.call('UNLINK', key) end
return step[1]`)
