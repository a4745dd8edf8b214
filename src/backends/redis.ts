/**
 * `seaworthy/redis`: the cache in Redis, and what cache-aside shares between processes, through `ioredis`.
 *
 * @since 0.1.0
 */
export * as RedisCache from "./RedisCache.ts"
export * as RedisCacheAside from "./RedisCacheAside.ts"
export * as RedisRateLimiter from "./RedisRateLimiter.ts"
