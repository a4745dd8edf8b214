// What a Postgres error means to the people who run the application. Pure: from error values to words, reason, option
// and remedy. Also gives SQLSTATEs that `@effect/sql-pg` leaves unknown the reason that they have.
import * as Data from "effect/Data"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { Explanation } from "../../resource/ResourceError.ts"

/** A failure of our own that already knows what to say. */
export class Explained extends Data.TaggedError("Explained")<{
  readonly explanation: Explanation
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.explanation.detail
  }
}

/** Where a connection goes, without anything secret. */
export interface Place {
  /** How people are told where it is. */
  readonly where: string
  readonly host: string
  readonly port: number
  readonly database: string
  readonly username: string
  readonly application: string
  /** What `database.url` gave: it wins over the options of these names, so it is what has to be changed. */
  readonly inUrl?: ReadonlySet<Part> | undefined
}

/** A part of the address that has an option of its own. */
export type Part = "host" | "port" | "database" | "username" | "password" | "ssl"

/** The option that people have set. */
const option = (place: Place, part: Part): string =>
  place.inUrl?.has(part) === true ? "database.url" : `database.${part}`

/** The same as the environment has it. */
const variable = (place: Place, part: Part): string =>
  place.inUrl?.has(part) === true ? `the ${part} in DATABASE_URL` : `DATABASE_${part.toUpperCase()}`

/** Both of them, where a server is. */
const address = (place: Place): string =>
  place.inUrl?.has("host") === true ? "host and port in DATABASE_URL" : "DATABASE_HOST and DATABASE_PORT"

const tls = (place: Place, on: boolean): string =>
  place.inUrl?.has("ssl") === true ? `sslmode=${on ? "require" : "disable"} in DATABASE_URL` : `DATABASE_SSL=${on}`

/** The code closest to the origin: a SQLSTATE or one of Node's. */
export const codeOf = (error: unknown): string | undefined => {
  let current: unknown = error
  for (let depth = 0; depth < 5 && typeof current === "object" && current !== null; depth++) {
    const { cause, code, errors, reason } = current as Record<string, unknown>
    if (typeof code === "string") return code
    if (Array.isArray(errors) && errors.length > 0) current = errors[0]
    else current = reason !== undefined && typeof reason === "object" ? reason : cause
  }
  return undefined
}

/** The message closest to the origin: of the server or of the operating system. */
export const messageOf = (error: unknown): string => {
  let current: unknown = error
  let message = ""
  for (let depth = 0; depth < 5 && typeof current === "object" && current !== null; depth++) {
    const { cause, message: own, reason } = current as Record<string, unknown>
    if (typeof own === "string" && own !== "") message = own
    current = reason !== undefined && typeof reason === "object" ? reason : cause
  }
  return message
}

// Shutting down, crashed, starting up, session timed out, too many connections: the connection is what failed.
const lostConnection = new Set(["57P01", "57P02", "57P03", "25P03", "25P04", "53300"])

/** Gives an error the reason `ConnectionError`, which is retryable, when its SQLSTATE says so. */
export const reclassify = (error: SqlError): SqlError => {
  const { reason } = error
  if (reason._tag !== "UnknownError") return error
  const code = codeOf(reason)
  return code !== undefined && lostConnection.has(code)
    ? new SqlError({
      reason: new ConnectionError({ cause: reason.cause, message: reason.message, operation: reason.operation })
    })
    : error
}

const certificate = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "ERR_TLS_CERT_ALTNAME_INVALID"
])

const passwordRemedy = "Set DATABASE_PASSWORD, or the password inside DATABASE_URL, to the one of this user."

const byCode = (code: string, message: string, place: Place): Explanation | undefined => {
  const { where } = place
  switch (code) {
    case "28P01":
      return {
        reason: "PermissionDenied",
        detail: `${where} refused the password of user "${place.username}"`,
        option: option(place, "password"),
        remedy: passwordRemedy
      }
    case "28000":
      return /no encryption|SSL off/.test(message)
        ? {
          reason: "PermissionDenied",
          detail: `${where} accepts user "${place.username}" only over TLS`,
          option: option(place, "ssl"),
          remedy: `Set ${tls(place, true)}.`
        }
        : {
          reason: "PermissionDenied",
          detail: `${where} does not let user "${place.username}" in: ${message}`,
          option: option(place, "username"),
          remedy: `Check ${
            variable(place, "username")
          }, and on the server that the role exists and pg_hba.conf lets it in from here.`
        }
    case "3D000":
      return {
        reason: "ConfigurationInvalid",
        detail: `there is no database "${place.database}" on ${where}`,
        option: option(place, "database"),
        remedy: `Create it (createdb ${place.database}), or set ${variable(place, "database")} to one that exists.`
      }
    case "42501":
      return {
        reason: "PermissionDenied",
        detail: `user "${place.username}" may not do this on "${place.database}": ${message}`,
        option: option(place, "username"),
        remedy: "Grant the missing privilege to this user, or connect as another."
      }
    case "25006":
      return readOnly(place)
    case "53300":
      return {
        reason: "ConnectionFailed",
        detail: `${where} has no connection left: ${message}`,
        option: "connection_pool.max_connections",
        remedy: "Use fewer connections in each process, or raise max_connections on the server.",
        retryable: true
      }
    case "57P03":
      return {
        reason: "ConnectionFailed",
        detail: `${where} is not taking connections yet: ${message}`,
        retryable: true
      }
    case "57P01":
    case "57P02":
    case "57P04":
      return { reason: "ConnectionFailed", detail: `${where} closed the connection: ${message}`, retryable: true }
    case "57014":
      return {
        reason: "TimedOut",
        detail: `${where} canceled a statement: ${message}`,
        option: "database.statement_timeout",
        remedy: "Find out what it waits for (pg_stat_activity, pg_locks), or allow it more time."
      }
    case "ECONNREFUSED":
      return {
        reason: "ConnectionFailed",
        detail: `${where} refused the connection`,
        option: option(place, "port"),
        remedy: `Start Postgres, or set ${address(place)} to where it listens.`
      }
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return {
        reason: "ConnectionFailed",
        detail: `the name "${place.host}" does not resolve`,
        option: option(place, "host"),
        remedy: `Set ${variable(place, "host")} to a name or address that this machine can resolve.`
      }
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EHOSTDOWN":
      return {
        reason: "ConnectionFailed",
        detail: `there is no way to ${where} (${code})`,
        option: option(place, "host"),
        remedy: "Check network, routes and firewalls between here and there."
      }
    case "ETIMEDOUT":
      return timedOut(place)
    case "ECONNRESET":
    case "EPIPE":
      return { reason: "ConnectionFailed", detail: `${where} cut the connection (${code})`, retryable: true }
    case "ENOENT":
    case "EACCES":
      return {
        reason: code === "EACCES" ? "PermissionDenied" : "ConnectionFailed",
        detail: `the socket ${where} cannot be opened (${code})`,
        option: option(place, "host")
      }
  }
  if (certificate.has(code)) {
    return {
      reason: "ConfigurationInvalid",
      detail: `the certificate of ${where} was not accepted (${code}): ${message}`,
      option: option(place, "ssl"),
      remedy: "Give the process the issuer's certificate (NODE_EXTRA_CA_CERTS), or use the name the certificate is for."
    }
  }
  if (code.startsWith("ERR_SSL") || code === "EPROTO") {
    return {
      reason: "ConfigurationInvalid",
      detail: `TLS with ${where} failed (${code})`,
      option: option(place, "ssl"),
      remedy: `Check that the server speaks TLS on this port, or set ${tls(place, false)}.`
    }
  }
  if (code === "22023" || code === "42704" || code === "22P02") {
    return {
      reason: "ConfigurationInvalid",
      detail: `${where} does not accept a connection option: ${message}`,
      option: "database.statement_timeout",
      remedy: "Check the options that are set on each connection."
    }
  }
  return undefined
}

/** Nobody answers: where to look. */
export const silence = (place: Place): Pick<Explanation, "option" | "remedy"> => ({
  option: option(place, "host"),
  remedy: `Check that ${address(place)} are right and that no firewall drops the packets.`
})

const timedOut = (place: Place): Explanation => ({
  reason: "TimedOut",
  detail: `no answer from ${place.where}`,
  ...silence(place)
})

export const readOnly = (place: Place): Explanation => ({
  reason: "PermissionDenied",
  detail: `the database "${place.database}" on ${place.where} is read-only`,
  option: option(place, "host"),
  remedy: "Connect to the primary, or turn default_transaction_read_only off."
})

/** Explains an error of a phase. `connecting` decides what bad option values and closed connections mean. */
export const explain = (error: unknown, place: Place, connecting: boolean): Explanation => {
  const { where } = place
  const code = codeOf(error)
  const message = messageOf(error)
  const known = code === undefined || (!connecting && /^(22|42704)/.test(code))
    ? undefined
    : byCode(code, message, place)
  if (known !== undefined) return known
  if (/requested password authentication/.test(message)) {
    return {
      reason: "PermissionDenied",
      detail: `${where} asks for a password of user "${place.username}", and none is set`,
      option: option(place, "password"),
      remedy: passwordRemedy
    }
  }
  if (/does not support TLS/.test(message)) {
    return {
      reason: "ConfigurationInvalid",
      detail: `${where} does not speak TLS`,
      option: option(place, "ssl"),
      remedy: `Set ${tls(place, false)}, or turn ssl on in the server.`
    }
  }
  if (/timed out/i.test(message)) return timedOut(place)
  if (/Connection closed|Connection is closed/.test(message)) {
    return {
      reason: "ConnectionFailed",
      detail: connecting ? `${where} closed the connection during the start` : `${where} closed the connection`,
      ...(connecting ? { option: option(place, "port"), remedy: "Check that what listens there is Postgres." } : {})
    }
  }
  if (connecting && code === undefined) {
    return {
      reason: "ConnectionFailed",
      detail: `${where} does not answer like Postgres: ${message}`,
      option: option(place, "port"),
      remedy: "Check that what listens there is Postgres."
    }
  }
  return { reason: "Unknown", detail: code === undefined ? message : `${message} (${code})` }
}
