// Where a Postgres is, from the section `database`: the URL, where there is one, wins part by part. Pure.
//
// `@effect/sql-pg` can parse the URL itself, but then explicit fields win over it, and the error of a URL that does not
// parse carries the URL, password included.
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import type { Settings } from "../../resource/Settings.ts"
import { Explained, type Part, type Place } from "./pgErrors.ts"

type Section = Settings["Service"]["database"]

export interface Target {
  readonly place: Place
  /** The path of a socket in the file system; otherwise host and port of `place`. */
  readonly path: string | undefined
  readonly password: Redacted.Redacted | undefined
  readonly ssl: boolean
  /** Sent with the startup packet of every connection. */
  readonly startupParameters: Readonly<Record<string, string>>
}

interface FromUrl {
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly database?: string | undefined
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly application?: string | undefined
  readonly ssl?: boolean | undefined
}

const parts = ["host", "port", "database", "username", "password", "ssl"] as const satisfies ReadonlyArray<Part>

const invalidUrl = (detail: string) =>
  new Explained({
    explanation: {
      reason: "ConfigurationInvalid",
      detail,
      option: "database.url",
      remedy: "Write it as postgresql://user:password@host:5432/database, special characters percent-encoded."
    }
  })

const withTls: Readonly<Record<string, boolean>> = {
  disable: false,
  require: true,
  "verify-ca": true,
  "verify-full": true
}

const parseUrl = (raw: string): FromUrl | Explained => {
  let url: URL
  try {
    url = new URL(raw)
  } catch {
    return invalidUrl("the URL cannot be parsed")
  }
  const given = (text: string | null) => {
    if (text === null || text === "") return undefined
    return decodeURIComponent(text)
  }
  try {
    const query = url.searchParams
    const mode = query.get("sslmode")
    if (mode !== null && withTls[mode] === undefined) {
      return invalidUrl(`the URL has an unsupported sslmode; known are ${Object.keys(withTls).join(", ")}`)
    }
    const port = query.get("port") ?? url.port
    if (port !== "" && !/^\d{1,5}$/.test(port)) return invalidUrl("the URL has an invalid port")
    return {
      host: query.get("host") ?? given(url.hostname.replace(/^\[|\]$/g, "")),
      port: port === "" ? undefined : Number(port),
      database: query.get("dbname") ?? given(url.pathname.slice(1)),
      username: query.get("user") ?? given(url.username),
      password: query.get("password") ?? given(url.password),
      application: query.get("application_name") ?? undefined,
      ssl: mode === null ? undefined : withTls[mode]
    }
  } catch {
    return invalidUrl("the URL has invalid percent-encoding")
  }
}

export const parse = (section: Section): Target | Explained => {
  const url: FromUrl | Explained = section.url === undefined ? {} : parseUrl(Redacted.value(section.url))
  if (url instanceof Explained) return url
  const host = url.host ?? section.host
  const port = url.port ?? section.port
  const place: Place = {
    where: `${host}:${port}`,
    host,
    port,
    database: url.database ?? section.database,
    username: url.username ?? section.username,
    application: url.application ?? section.application_name,
    inUrl: new Set(parts.filter((part) => url[part] !== undefined))
  }
  const timeout = Duration.toMillis(section.statement_timeout)
  return {
    place,
    path: place.host.startsWith("/") ? `${place.host}/.s.PGSQL.${place.port}` : undefined,
    password: url.password === undefined ? section.password : Redacted.make(url.password),
    ssl: url.ssl ?? section.ssl,
    // Poolers such as PgBouncer refuse startup parameters that they do not know: none is sent for "no limit".
    startupParameters: timeout > 0 ? { statement_timeout: String(Math.ceil(timeout)) } : {}
  }
}
