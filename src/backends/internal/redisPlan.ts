// From the section `cache` of the settings to the options of ioredis. Pure: opening is in `redisClient.ts`.
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import type { ClusterOptions, RedisOptions } from "ioredis"
import type { ConnectionOptions } from "node:tls"
import type { Sections } from "../../resource/Settings.ts"

export type CacheSettings = Sections["cache"]

/** What cannot be written in a settings file. */
export interface Extras {
  /** Certificates and the like, in Node's own terms. Given: TLS is on. */
  readonly tls?: ConnectionOptions | undefined
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?: Redacted.Redacted<string> | undefined
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** Where to connect to and as whom, with the URL taken apart. */
export interface Plan {
  readonly mode: CacheSettings["mode"]
  readonly host: string
  readonly port: number
  readonly username: string | undefined
  readonly password: Redacted.Redacted<string> | undefined
  readonly db: number
  readonly tls: ConnectionOptions | undefined
  readonly nodes: ReadonlyArray<Address>
  readonly sentinel: {
    readonly name: string
    readonly username: string | undefined
    readonly password: Redacted.Redacted<string> | undefined
  }
  readonly prefix: string
  readonly ttl: Duration.Duration | undefined
  /** Milliseconds. */
  readonly connectTimeout: number
  /** Milliseconds. */
  readonly commandTimeout: number
  /** Milliseconds; of the connection that only the monitor uses. */
  readonly checkTimeout: number
  readonly clientName: string
  /** The options that people have set, for messages: `cache.url` instead of `cache.host`. */
  readonly fromUrl: boolean
}

const address = (node: string): Address => {
  const colon = node.lastIndexOf(":")
  return { host: bare(node.slice(0, colon)), port: Number(node.slice(colon + 1)) }
}

/** `[::1]` -> `::1` */
const bare = (host: string): string => host.replace(/^\[(.*)\]$/, "$1")

const fromUrl = (secret: Redacted.Redacted<string>) => {
  const url = new URL(Redacted.value(secret))
  const db = url.pathname.slice(1)
  return {
    host: bare(url.hostname),
    port: url.port === "" ? 6379 : Number(url.port),
    username: url.username === "" ? undefined : decodeURIComponent(url.username),
    password: url.password === "" ? undefined : Redacted.make(decodeURIComponent(url.password)),
    db: /^\d{1,5}$/.test(db) ? Number(db) : 0,
    tls: url.protocol === "rediss:"
  }
}

export const plan = (
  id: string,
  cache: CacheSettings,
  checkTimeout: Duration.Duration,
  extras: Extras
): Plan => {
  const basis = cache.url === undefined ? { ...cache, host: bare(cache.host) } : fromUrl(cache.url)
  return {
    mode: cache.mode,
    host: basis.host,
    port: basis.port,
    username: basis.username,
    password: basis.password,
    db: cache.mode === "cluster" ? 0 : basis.db,
    // The server's name is what a certificate is checked against; for an address Node wants none.
    tls: basis.tls || extras.tls !== undefined ? { ...extras.tls } : undefined,
    nodes: cache.nodes.map(address),
    sentinel: {
      name: cache.sentinel_name ?? "",
      username: extras.sentinelUsername,
      password: extras.sentinelPassword
    },
    prefix: cache.prefix,
    ttl: cache.ttl,
    connectTimeout: Duration.toMillis(cache.timeout),
    commandTimeout: Duration.toMillis(cache.command_timeout),
    checkTimeout: Duration.toMillis(checkTimeout),
    clientName: `seaworthy:${id}`,
    fromUrl: cache.url !== undefined
  }
}

/** Where it connects to, in words. */
export const describe = (self: Plan): string => {
  const nodes = self.nodes.map(({ host, port }) => `${host}:${port}`).join(", ")
  switch (self.mode) {
    case "standalone":
      return self.host.startsWith("/") ? self.host : `${self.host}:${self.port}`
    case "sentinel":
      return `${self.sentinel.name} (sentinels ${nodes})`
    case "cluster":
      return `the cluster at ${nodes}`
  }
}

/**
 * What a connection is for. `commands` is shared by all users; `check` is the monitor's own, so that a check never waits
 * behind users; `reserved` may run blocking commands; `subscriber` only listens.
 */
export type Role = "commands" | "check" | "reserved" | "subscriber"

/** Milliseconds before try number `times` to reconnect: quick, and never more than half a second apart. */
export const reconnectDelay = (times: number): number => Math.min(25 * 2 ** Math.min(times, 10), 500)

/**
 * Nobody hears from a connection for this long although it owes an answer: it is cut and made anew. Otherwise commands
 * for a frozen server would pile up in the client although each of them has long timed out.
 */
export const silence = (commandTimeout: number): number => Math.max(2 * commandTimeout, commandTimeout + 500)

const timeoutOf = (self: Plan, role: Role): number => role === "check" ? self.checkTimeout : self.commandTimeout

/**
 * @param wasReady whether this connection was ready before: only then it reconnects by itself, so that a start that
 * cannot succeed fails at once and with its reason.
 */
export const redisOptions = (self: Plan, role: Role, wasReady: () => boolean) => {
  const reconnects = role === "commands" || role === "subscriber"
  const retry = (times: number) => reconnects && wasReady() ? reconnectDelay(times) : null
  return {
    ...common(self, role),
    ...(self.host.startsWith("/") ? { path: self.host } : { host: self.host, port: self.port }),
    ...(self.mode !== "sentinel" ? {} : {
      sentinels: self.nodes.map((node) => ({ ...node })),
      name: self.sentinel.name,
      sentinelUsername: self.sentinel.username,
      sentinelPassword: self.sentinel.password === undefined ? undefined : Redacted.value(self.sentinel.password),
      sentinelRetryStrategy: retry,
      sentinelCommandTimeout: timeoutOf(self, role),
      ...(self.tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: self.tls })
    }),
    enableOfflineQueue: false,
    retryStrategy: retry,
    // The role of a server that a sentinel names is read from INFO; elsewhere the first command tells enough.
    enableReadyCheck: self.mode === "sentinel"
  } satisfies RedisOptions
}

export const clusterOptions = (self: Plan, role: Role, wasReady: () => boolean) => {
  const timeout = timeoutOf(self, role)
  const failoverDelay = 100
  return {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: (times) =>
      (role === "commands" || role === "subscriber") && wasReady() ? reconnectDelay(times) : null,
    slotsRefreshTimeout: Math.max(timeout, 500),
    slotsRefreshInterval: 5_000,
    retryDelayOnFailover: failoverDelay,
    retryDelayOnClusterDown: failoverDelay,
    // Both wait and repeat: together no longer than a command may take.
    maxRedirections: Math.max(3, Math.min(16, Math.floor(timeout / failoverDelay))),
    redisOptions: {
      ...common(self, role),
      ...(role === "reserved" ? { commandTimeout: undefined } : {}),
      enableReadyCheck: false
    }
  } satisfies ClusterOptions
}

const common = (self: Plan, role: Role) => {
  const timeout = timeoutOf(self, role)
  return {
    username: self.username,
    password: self.password === undefined ? undefined : Redacted.value(self.password),
    db: self.db,
    tls: self.tls,
    connectionName: role === "commands" ? self.clientName : `${self.clientName}:${role}`,
    connectTimeout: role === "check" ? self.checkTimeout : self.connectTimeout,
    disconnectTimeout: 500,
    commandTimeout: timeout,
    // The shared client of a single server is watched by `redisLine.ts`.
    socketTimeout: role === "commands" && self.mode === "cluster" ? silence(timeout) : undefined,
    maxRetriesPerRequest: 0,
    // What was sent and not answered may have been done: its user decides whether to send it again.
    autoResendUnfulfilledCommands: false,
    // After a failover the old primary is a replica: leave it.
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
    lazyConnect: true
  } satisfies RedisOptions
}
