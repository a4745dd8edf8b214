// What an error of ioredis means, in words that name the option and the remedy. Pure, except that it redacts. ioredis puts
// the password into its errors (`command.args` of AUTH and HELLO): none leaves this module as it is.
import * as Data from "effect/Data"
import { CacheError, type Reason as CacheReason } from "../../resource/CacheStore.ts"
import { type Explanation, isRetryable, type ResourceError } from "../../resource/ResourceError.ts"
import * as Redaction from "../../security/Redaction.ts"
import * as Plan from "./redisPlan.ts"

/** A driver error that was understood; `cause` is sanitized. */
export class RedisFailure extends Data.TaggedError("RedisFailure")<{
  readonly explanation: Explanation
  readonly cause: unknown
}> {
  override get message(): string {
    return this.explanation.detail
  }
}

const codeOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return ""
  const { code } = error as { readonly code?: unknown }
  return typeof code === "string" ? code : ""
}

const messageOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

/** The error of a node stands inside the one that says that all nodes failed. */
const innermost = (error: unknown): unknown => {
  const inner = (error as { readonly lastNodeError?: unknown } | null | undefined)?.lastNodeError
  return inner instanceof Error ? innermost(inner) : error
}

const option = (plan: Plan.Plan, name: string): string =>
  plan.mode !== "standalone" && (name === "host" || name === "port")
    ? "cache.nodes"
    : plan.fromUrl
    ? "cache.url"
    : `cache.${name}`

interface Rule {
  /** Whether the error is of this kind, by its message and its code. */
  readonly is: (text: string, code: string, plan: Plan.Plan) => boolean
  readonly explain: (there: string, plan: Plan.Plan, text: string, code: string) => Explanation
}

const says = (...parts: ReadonlyArray<string>) => (text: string) => parts.some((part) => text.includes(part))

const codes = (...all: ReadonlyArray<string>) => (_: string, code: string) => all.includes(code)

const wrongVersion = /wrong version number|packet length too long|unknown protocol|record layer/i

const notConnected = says(
  "Connection is closed",
  "Stream isn't writeable",
  "isn't ready",
  "max retries",
  "startup nodes",
  "slots cache",
  "Too many Cluster redirections",
  "aborted"
)

/** The server would send most keys elsewhere. */
export const isNodeOfCluster = (plan: Plan.Plan): Explanation => ({
  reason: "ConfigurationInvalid",
  detail: `${Plan.describe(plan)} is a node of a cluster`,
  option: "cache.mode",
  remedy: `Set CACHE_MODE=cluster and CACHE_NODES=${plan.host}:${plan.port}.`
})

/** The first that fits is taken. */
const rules: ReadonlyArray<Rule> = [
  {
    is: says("WRONGPASS", "invalid password", "invalid username-password"),
    explain: (there, plan) => ({
      reason: "PermissionDenied",
      detail: `${there} refused the user name or the password`,
      option: option(plan, "password"),
      remedy: "Set CACHE_PASSWORD (and CACHE_USERNAME, if it is not the default user) to what the server expects."
    })
  },
  {
    is: says("NOAUTH"),
    explain: (there, plan) => ({
      reason: "PermissionDenied",
      detail: `${there} asks for a password`,
      option: option(plan, "password"),
      remedy: "Set CACHE_PASSWORD."
    })
  },
  {
    is: says("NOPERM"),
    explain: (there, plan, text) => ({
      reason: "PermissionDenied",
      detail: `the user at ${there} may not do this: ${Redaction.text(text)}`,
      option: option(plan, "username"),
      remedy: "Allow the user +@read +@write +@connection on the keys of cache.prefix, or take another user."
    })
  },
  {
    is: says("DB index is out of range", "SELECT is not allowed", "invalid DB index"),
    explain: (there, plan) => ({
      reason: "ConfigurationInvalid",
      detail: `${there} has no database ${plan.db}`,
      option: option(plan, "db"),
      remedy: "Set CACHE_DB to 0, or raise `databases` on the server."
    })
  },
  {
    is: (text, _, plan) => plan.mode !== "cluster" && says("MOVED ", "ASK ")(text),
    explain: (_, plan) => isNodeOfCluster(plan)
  },
  {
    is: says("cluster support disabled"),
    explain: (there) => ({
      reason: "ConfigurationInvalid",
      detail: `${there} is not a cluster`,
      option: "cache.mode",
      remedy: "Set CACHE_MODE=standalone, with CACHE_HOST and CACHE_PORT."
    })
  },
  {
    is: says("READONLY"),
    explain: (there, plan) => ({
      reason: "Conflict",
      detail: `${there} is a read-only replica`,
      option: option(plan, "host"),
      remedy: "Connect to the primary, or set CACHE_MODE=sentinel so that it is found after each failover.",
      // During a failover this passes.
      retryable: true
    })
  },
  {
    is: says("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY "),
    explain: (there, _, text) => ({
      reason: "ConnectionFailed",
      detail: `${there} is not ready yet: ${Redaction.text(text)}`,
      remedy: "It usually passes by itself; raise CACHE_RETRY_ATTEMPTS if it takes longer."
    })
  },
  {
    is: says("OOM "),
    explain: (there, _, text) => ({
      reason: "Conflict",
      detail: `${there} takes no writes: ${Redaction.text(text)}`,
      remedy: "Raise `maxmemory` of the server, or set its `maxmemory-policy` to allkeys-lru.",
      retryable: true
    })
  },
  {
    is: says("MISCONF"),
    explain: (there, _, text) => ({
      reason: "Conflict",
      detail: `${there} takes no writes: ${Redaction.text(text)}`,
      remedy: "See the server's log: it cannot save to its disk.",
      retryable: true
    })
  },
  {
    is: (text, code) => wrongVersion.test(text) || code === "EPROTO" || code.startsWith("ERR_SSL"),
    explain: (there, plan, _, code) => ({
      reason: "ConfigurationInvalid",
      detail: `${there} does not answer in TLS (${code})`,
      option: option(plan, "tls"),
      remedy: "Set CACHE_TLS=false, or CACHE_PORT to the server's TLS port."
    })
  },
  {
    is: (_, code) => /^(?:ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH)/.test(code),
    explain: (there, plan, _, code) => ({
      reason: "ConnectionFailed",
      detail: `the certificate of ${there} is not trusted (${code})`,
      option: option(plan, "tls"),
      remedy: "Give Node its authority with NODE_EXTRA_CA_CERTS, or connect by the name that the certificate has.",
      retryable: false
    })
  },
  {
    is: (text, code) => code === "ETIMEDOUT" || says("Command timed out", "Socket timeout", "ETIMEDOUT")(text),
    explain: (there, plan) => ({
      reason: "TimedOut",
      detail: `${there} did not answer in time`,
      option: option(plan, "host"),
      remedy:
        "Check that address and CACHE_TLS are those of the server and that nothing drops packets on the way; or " +
        "raise CACHE_TIMEOUT and CACHE_COMMAND_TIMEOUT."
    })
  },
  {
    is: (text, code) => code === "ECONNREFUSED" || text.includes("ECONNREFUSED"),
    explain: (there, plan) => ({
      reason: "ConnectionFailed",
      detail: `${there} refused the connection`,
      option: option(plan, "port"),
      remedy: plan.mode === "standalone"
        ? "Start Redis, or set CACHE_HOST and CACHE_PORT to where it listens."
        : "Start the nodes, or set CACHE_NODES to where they listen."
    })
  },
  {
    is: (text, code) => code === "ENOTFOUND" || code === "EAI_AGAIN" || text.includes("ENOTFOUND"),
    explain: (there, plan) => ({
      reason: "ConnectionFailed",
      detail: `the host name of ${there} is not known`,
      option: option(plan, "host"),
      remedy: "Correct CACHE_HOST, or the name server."
    })
  },
  {
    is: codes("EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL"),
    explain: (there, plan, _, code) => ({
      reason: "ConnectionFailed",
      detail: `${there} cannot be reached (${code})`,
      option: option(plan, "host"),
      remedy: "Correct CACHE_HOST, or the network between."
    })
  },
  {
    is: codes("ENOENT", "EACCES"),
    explain: (there, plan, _, code) => ({
      reason: code === "EACCES" ? "PermissionDenied" : "ConnectionFailed",
      detail: `the socket ${there} cannot be opened (${code})`,
      option: option(plan, "host"),
      remedy: "Set CACHE_HOST to the path of the server's socket, and let this user open it."
    })
  },
  {
    is: says("All sentinels are unreachable", "No such master"),
    explain: (there, _, text) => ({
      reason: "ConnectionFailed",
      detail: `no sentinel knows a reachable ${there}`,
      option: text.includes("No such master") ? "cache.sentinel_name" : "cache.nodes",
      remedy: "Check CACHE_NODES (the sentinels, port 26379 as a rule) and CACHE_SENTINEL_NAME."
    })
  },
  {
    is: says("Unknown RESP type", "Protocol error"),
    explain: (there, plan) => ({
      reason: "ConfigurationInvalid",
      detail: `what listens at ${there} does not speak the Redis protocol`,
      option: option(plan, "port"),
      remedy: "Set CACHE_HOST and CACHE_PORT to a Redis server."
    })
  },
  {
    is: (text, code) => code === "ECONNRESET" || code === "EPIPE" || notConnected(text),
    explain: (there, plan) => ({
      reason: "ConnectionFailed",
      detail: `there is no connection to ${there}`,
      option: option(plan, "host"),
      remedy: plan.tls === undefined
        ? "Check that the server runs; if it speaks only TLS, set CACHE_TLS=true."
        : "Check that the server runs, and that this port speaks TLS."
    })
  }
]

/** What happened and what to do about it, without secrets. */
export const explain = (raw: unknown, plan: Plan.Plan): Explanation => {
  const error = innermost(raw)
  const text = messageOf(error)
  const code = codeOf(error)
  const rule = rules.find((rule) => rule.is(text, code, plan))
  return rule === undefined
    ? { reason: "Unknown", detail: Redaction.error(error).message }
    : rule.explain(Plan.describe(plan), plan, text, code)
}

export const toFailure = (raw: unknown, plan: Plan.Plan): RedisFailure =>
  new RedisFailure({ explanation: explain(raw, plan), cause: Redaction.error(innermost(raw)) })

const cacheReason = ({ reason }: Explanation): CacheReason =>
  reason === "TimedOut" ? "TimedOut" : reason === "ConnectionFailed" ? "Unavailable" : "Refused"

/** The error that users of the cache see. What is frequent while a server is away carries no copy of the driver's error. */
export const toCacheError = (operation: string, raw: unknown, plan: Plan.Plan): CacheError => {
  const explanation = explain(raw, plan)
  const reason = cacheReason(explanation)
  return new CacheError({
    operation,
    reason,
    detail: explanation.detail,
    retryable: isRetryable(explanation),
    ...(reason === "Refused" ? { cause: Redaction.error(raw) } : {})
  })
}

/** The resource itself is not usable: not started, restarting, stopped. */
export const fromResourceError = (operation: string, error: ResourceError): CacheError =>
  new CacheError({
    operation,
    reason: error.reason === "TimedOut" ? "TimedOut" : "Unavailable",
    detail: error.message,
    retryable: isRetryable(error)
  })
