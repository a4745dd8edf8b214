/**
 * `seaworthy/redis`: the cache in Redis, through `ioredis`.
 *
 * @since 0.1.0
 */
export * as RedisCache from "./RedisCache.ts"
