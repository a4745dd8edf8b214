/**
 * `seaworthy/redis`: the cache in Redis, dedicated connections, and what cache-aside and rate limiters share between
 * processes, through `ioredis`.
 *
 * @since 0.1.0
 */
export * as RedisCache from "./RedisCache.ts"
export * as RedisCacheAside from "./RedisCacheAside.ts"
export * as RedisConnections from "./RedisConnections.ts"
export * as RedisRateLimiter from "./RedisRateLimiter.ts"
