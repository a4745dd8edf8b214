// The resource of the cache in Redis, for what is built on the same settings.
import * as Context from "effect/Context"
import type { Handle } from "../../resource/ManagedResource.ts"
import type * as Settings from "../../resource/Settings.ts"
import type { Connection } from "./redisConnection.ts"

/** A connection, and the settings that it was made from. */
export interface Configured extends Connection {
  readonly settings: Settings.Shape
}

/** Provided by `RedisCache.layer`; for `RedisConnections.layer`. */
export class RedisResource extends Context.Service<RedisResource, Handle<Configured>>()("seaworthy/RedisResource") {}
