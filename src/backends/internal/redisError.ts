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

const tlsCode = /^(?:ERR_SSL|ERR_TLS|EPROTO|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH)/
const wrongVersion = /wrong version number|packet length too long|unknown protocol|record layer/i

type Rule = (text: string, code: string, plan: Plan.Plan) => Explanation | undefined

const option = (plan: Plan.Plan, name: string): string =>
  plan.mode !== "standalone" && (name === "host" || name === "port")
    ? "cache.nodes"
    : plan.fromUrl && name !== "nodes" && name !== "mode"
    ? "cache.url"
    : `cache.${name}`

const says = (...beginnings: ReadonlyArray<string>) => (text: string) =>
  beginnings.some((beginning) => text.includes(beginning))

const isAuth = says("WRONGPASS", "invalid password", "invalid username-password")

/** The server would send most keys elsewhere. */
export const isNodeOfCluster = (plan: Plan.Plan): Explanation => ({
  reason: "ConfigurationInvalid",
  detail: `${Plan.describe(plan)} is a node of a cluster`,
  option: "cache.mode",
  remedy: `Set CACHE_MODE=cluster and CACHE_NODES=${plan.host}:${plan.port}.`
})

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

const rules: ReadonlyArray<Rule> = [
  (text, _, plan) =>
    isAuth(text)
      ? {
        reason: "PermissionDenied",
        detail: `${Plan.describe(plan)} refused the user name or the password`,
        option: option(plan, "password"),
        remedy: "Set CACHE_PASSWORD (and CACHE_USERNAME, if it is not the default user) to what the server expects."
      }
      : undefined,
  (text, _, plan) =>
    says("NOAUTH")(text)
      ? {
        reason: "PermissionDenied",
        detail: `${Plan.describe(plan)} asks for a password`,
        option: option(plan, "password"),
        remedy: "Set CACHE_PASSWORD."
      }
      : undefined,
  (text, _, plan) =>
    says("NOPERM")(text)
      ? {
        reason: "PermissionDenied",
        detail: `the user at ${Plan.describe(plan)} may not do this: ${Redaction.text(text)}`,
        option: option(plan, "username"),
        remedy: "Allow the user +@read +@write +@connection on the keys of cache.prefix, or take another user."
      }
      : undefined,
  (text, _, plan) =>
    says("DB index is out of range", "SELECT is not allowed", "invalid DB index")(text)
      ? {
        reason: "ConfigurationInvalid",
        detail: `${Plan.describe(plan)} has no database ${plan.db}`,
        option: option(plan, "db"),
        remedy: "Set CACHE_DB to 0, or raise `databases` on the server."
      }
      : undefined,
  (text, _, plan) => says("MOVED ", "ASK ")(text) && plan.mode !== "cluster" ? isNodeOfCluster(plan) : undefined,
  (text, _, plan) =>
    says("cluster support disabled")(text)
      ? {
        reason: "ConfigurationInvalid",
        detail: `${Plan.describe(plan)} is not a cluster`,
        option: "cache.mode",
        remedy: "Set CACHE_MODE=standalone, with CACHE_HOST and CACHE_PORT."
      }
      : undefined,
  (text, _, plan) =>
    says("READONLY")(text)
      ? {
        reason: "Conflict",
        detail: `${Plan.describe(plan)} is a read-only replica`,
        option: option(plan, "host"),
        remedy: "Connect to the primary, or set CACHE_MODE=sentinel so that it is found after each failover.",
        // During a failover this passes.
        retryable: true
      }
      : undefined,
  (text, _, plan) =>
    says("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")(text)
      ? {
        reason: "ConnectionFailed",
        detail: `${Plan.describe(plan)} is not ready yet: ${Redaction.text(text)}`,
        remedy: "It usually passes by itself; raise CACHE_RETRY_ATTEMPTS if it takes longer."
      }
      : undefined,
  (text, _, plan) =>
    says("OOM ", "MISCONF")(text)
      ? {
        reason: "Conflict",
        detail: `${Plan.describe(plan)} takes no writes: ${Redaction.text(text)}`,
        remedy: text.includes("OOM ")
          ? "Raise `maxmemory` of the server, or set its `maxmemory-policy` to allkeys-lru."
          : "See the server's log: it cannot save to its disk.",
        retryable: true
      }
      : undefined,
  (text, code, plan) =>
    tlsCode.test(code) || wrongVersion.test(text)
      ? wrongVersion.test(text) || code === "EPROTO" || code.startsWith("ERR_SSL")
        ? {
          reason: "ConfigurationInvalid",
          detail: `${Plan.describe(plan)} does not answer in TLS (${code})`,
          option: option(plan, "tls"),
          remedy: "Set CACHE_TLS=false, or CACHE_PORT to the server's TLS port."
        }
        : {
          reason: "ConnectionFailed",
          detail: `the certificate of ${Plan.describe(plan)} is not trusted (${code})`,
          option: option(plan, "tls"),
          remedy: "Give Node its authority with NODE_EXTRA_CA_CERTS, or connect by the name that the certificate has.",
          retryable: false
        }
      : undefined,
  (text, code, plan) =>
    code === "ETIMEDOUT" || says("Command timed out", "Socket timeout", "ETIMEDOUT")(text)
      ? {
        reason: "TimedOut",
        detail: `${Plan.describe(plan)} did not answer in time`,
        option: option(plan, "host"),
        remedy:
          "Check that address and CACHE_TLS are those of the server and that nothing drops packets on the way; or " +
          "raise CACHE_TIMEOUT and CACHE_COMMAND_TIMEOUT."
      }
      : undefined,
  (text, code, plan) =>
    code === "ECONNREFUSED" || text.includes("ECONNREFUSED")
      ? {
        reason: "ConnectionFailed",
        detail: `${Plan.describe(plan)} refused the connection`,
        option: option(plan, "port"),
        remedy: plan.mode === "standalone"
          ? "Start Redis, or set CACHE_HOST and CACHE_PORT to where it listens."
          : "Start the nodes, or set CACHE_NODES to where they listen."
      }
      : undefined,
  (text, code, plan) =>
    code === "ENOTFOUND" || code === "EAI_AGAIN" || text.includes("ENOTFOUND")
      ? {
        reason: "ConnectionFailed",
        detail: `the host name of ${Plan.describe(plan)} is not known`,
        option: option(plan, "host"),
        remedy: "Correct CACHE_HOST, or the name server."
      }
      : undefined,
  (_, code, plan) =>
    code === "EHOSTUNREACH" || code === "ENETUNREACH" || code === "EADDRNOTAVAIL"
      ? {
        reason: "ConnectionFailed",
        detail: `${Plan.describe(plan)} cannot be reached (${code})`,
        option: option(plan, "host"),
        remedy: "Correct CACHE_HOST, or the network between."
      }
      : undefined,
  (_, code, plan) =>
    code === "ENOENT" || code === "EACCES"
      ? {
        reason: code === "EACCES" ? "PermissionDenied" : "ConnectionFailed",
        detail: `the socket ${plan.host} cannot be opened (${code})`,
        option: option(plan, "host"),
        remedy: "Set CACHE_HOST to the path of the server's socket, and let this user open it."
      }
      : undefined,
  (text, _, plan) =>
    says("All sentinels are unreachable", "No such master")(text)
      ? {
        reason: "ConnectionFailed",
        detail: `no sentinel knows a reachable ${Plan.describe(plan)}`,
        option: text.includes("No such master") ? "cache.sentinel_name" : "cache.nodes",
        remedy: "Check CACHE_NODES (the sentinels, port 26379 as a rule) and CACHE_SENTINEL_NAME."
      }
      : undefined,
  (text, _, plan) =>
    says("Unknown RESP type", "Protocol error")(text)
      ? {
        reason: "ConfigurationInvalid",
        detail: `what listens at ${Plan.describe(plan)} does not speak the Redis protocol`,
        option: option(plan, "port"),
        remedy: "Set CACHE_HOST and CACHE_PORT to a Redis server."
      }
      : undefined,
  (text, code, plan) =>
    code === "ECONNRESET" || code === "EPIPE" ||
      notConnected(text)
      ? {
        reason: "ConnectionFailed",
        detail: `there is no connection to ${Plan.describe(plan)}`,
        option: option(plan, "host"),
        remedy: plan.tls === undefined
          ? "Check that the server runs; if it speaks only TLS, set CACHE_TLS=true."
          : "Check that the server runs, and that this port speaks TLS."
      }
      : undefined
]

/** What happened and what to do about it, without secrets. */
export const explain = (raw: unknown, plan: Plan.Plan): Explanation => {
  const error = innermost(raw)
  const text = messageOf(error)
  const code = codeOf(error)
  for (const rule of rules) {
    const explanation = rule(text, code, plan)
    if (explanation !== undefined) return explanation
  }
  return { reason: "Unknown", detail: Redaction.error(error).message }
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
