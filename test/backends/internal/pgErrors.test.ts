import { assert, describe, it } from "@effect/vitest"
import { AuthenticationError, ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import { codeOf, explain, messageOf, reclassify } from "../../../src/backends/internal/pgErrors.ts"
import { isRetryable } from "../../../src/resource/ResourceError.ts"

const place = { where: "db:5432", host: "db", port: 5432, database: "ships", username: "ada", application: "crew" }
const withCode = (code: string, message = "as the server says") => Object.assign(new Error(message), { code })
const sqlError = (cause: unknown, message = "PgConnection: Failed to connect") =>
  new SqlError({ reason: new ConnectionError({ cause, message, operation: "connect" }) })
const connecting = (code: string, message?: string) => explain(sqlError(withCode(code, message)), place, true)

describe("An error of Postgres", () => {
  it("is read from where it began", () => {
    const error = sqlError(withCode("28P01"))
    assert.strictEqual(codeOf(error), "28P01")
    assert.strictEqual(messageOf(error), "as the server says")
    // Node tries all addresses of a name and gives the errors together.
    assert.strictEqual(codeOf(sqlError(new AggregateError([withCode("ECONNREFUSED")]))), "ECONNREFUSED")
    const circle: { cause?: unknown } = {}
    circle.cause = circle
    assert.isUndefined(codeOf(circle))
  })

  it("names the URL where that is what was set, and the option of its own where the URL says nothing of it", () => {
    const inUrl = { ...place, inUrl: new Set(["host", "port", "password", "ssl"] as const) }
    const told = (code: string, message?: string) => explain(sqlError(withCode(code, message)), inUrl, true)
    for (const code of ["28P01", "ECONNREFUSED", "ENOTFOUND", "ETIMEDOUT"]) {
      assert.strictEqual(told(code).option, "database.url", code)
      assert.include(told(code).remedy, "DATABASE_URL", code)
      assert.notMatch(told(code).remedy ?? "", /DATABASE_(HOST|PORT)/, code)
    }
    assert.include(told("28000", "no encryption").remedy, "sslmode=require in DATABASE_URL")
    assert.include(connecting("28000", "no encryption").remedy, "DATABASE_SSL=true")
    assert.deepInclude(told("3D000"), { option: "database.database" })
    assert.include(told("3D000").remedy, "DATABASE_DATABASE")
  })

  it.each(
    [
      ["28P01", "PermissionDenied", "database.password", false],
      ["28000", "PermissionDenied", "database.username", false],
      ["3D000", "ConfigurationInvalid", "database.database", false],
      ["42501", "PermissionDenied", "database.username", false],
      ["25006", "PermissionDenied", "database.host", false],
      ["22023", "ConfigurationInvalid", "database.statement_timeout", false],
      ["53300", "ConnectionFailed", "connection_pool.max_connections", true],
      ["57P03", "ConnectionFailed", undefined, true],
      ["57P01", "ConnectionFailed", undefined, true],
      ["57014", "TimedOut", "database.statement_timeout", true],
      ["ECONNREFUSED", "ConnectionFailed", "database.port", true],
      ["ENOTFOUND", "ConnectionFailed", "database.host", true],
      ["EHOSTUNREACH", "ConnectionFailed", "database.host", true],
      ["ETIMEDOUT", "TimedOut", "database.host", true],
      ["ECONNRESET", "ConnectionFailed", undefined, true],
      ["EACCES", "PermissionDenied", "database.host", false],
      ["DEPTH_ZERO_SELF_SIGNED_CERT", "ConfigurationInvalid", "database.ssl", false],
      ["ERR_SSL_WRONG_VERSION_NUMBER", "ConfigurationInvalid", "database.ssl", false],
      ["XX000", "Unknown", undefined, true]
    ] as const
  )("with code %s is %s, of option %s, retryable: %s", (code, reason, option, retryable) => {
    const explanation = connecting(code)
    assert.strictEqual(explanation.reason, reason)
    assert.strictEqual(explanation.option, option)
    assert.strictEqual(isRetryable(explanation), retryable)
  })

  it("names host, user, database and what to do", () => {
    assert.strictEqual(connecting("28P01").detail, "db:5432 refused the password of user \"ada\"")
    assert.strictEqual(connecting("3D000").detail, "there is no database \"ships\" on db:5432")
    assert.match(connecting("3D000").remedy!, /DATABASE_DATABASE/)
    assert.strictEqual(connecting("28000", "no pg_hba.conf entry for host \"x\", no encryption").option, "database.ssl")
  })

  it("without a code is told by what the client noticed", () => {
    const noticed = (message: string, isStart = true) => explain(sqlError(new Error(message)), place, isStart)
    assert.strictEqual(noticed("The server requested password authentication").option, "database.password")
    assert.strictEqual(noticed("The server does not support TLS").option, "database.ssl")
    assert.strictEqual(noticed("Connection timed out").reason, "TimedOut")
    assert.match(noticed("Connection closed unexpectedly").remedy!, /is Postgres/)
    assert.strictEqual(noticed("Connection closed", false).detail, "db:5432 closed the connection")
    assert.match(noticed("Unknown message type").detail, /does not answer like Postgres/)
  })

  it("that means a lost connection becomes a retryable connection error for users of the client", () => {
    const unknown = (code: string) =>
      new SqlError({ reason: new UnknownError({ cause: withCode(code), message: "Query failed", operation: "query" }) })
    for (const code of ["57P01", "57P02", "57P03", "25P03", "25P04", "53300"]) {
      assert.strictEqual(reclassify(unknown(code)).reason._tag, "ConnectionError", code)
    }
    const other = unknown("XX000")
    assert.strictEqual(reclassify(other), other)
    const refused = new SqlError({ reason: new AuthenticationError({ cause: withCode("28P01") }) })
    assert.strictEqual(reclassify(refused), refused)
  })
})
