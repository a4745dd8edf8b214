import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { inspect } from "node:util"
import { Explained, type Part } from "../../../src/backends/internal/pgErrors.ts"
import { parse, type Target } from "../../../src/backends/internal/postgresTarget.ts"
import * as Settings from "../../../src/resource/Settings.ts"

const section = (raw: Readonly<Record<string, unknown>>) =>
  Effect.map(Settings.decode({ database: raw }), ({ database }) => database)
const target = (raw: Readonly<Record<string, unknown>>) =>
  Effect.map(section(raw), (decoded) => {
    const parsed = parse(decoded)
    assert.notInstanceOf(parsed, Explained)
    return parsed as Target
  })
const plain = { database: "app_db", username: "app_user", application: "seaworthy", inUrl: new Set<Part>() }

describe("Where a Postgres is", () => {
  it.effect("is told by the separate options", () =>
    Effect.gen(function*() {
      const found = yield* target({ host: "db.internal", port: 5433, password: "s3cret", ssl: true })
      assert.deepStrictEqual(found.place, { ...plain, where: "db.internal:5433", host: "db.internal", port: 5433 })
      assert.strictEqual(Redacted.value(found.password!), "s3cret")
      assert.strictEqual(found.ssl, true)
      assert.isUndefined(found.path)
    }))

  it.effect("is told by the URL, part by part", () =>
    Effect.gen(function*() {
      const whole = yield* target({
        url: "postgresql://ada:p%40ss%2Fword@db:6000/ships?sslmode=require&application_name=crew"
      })
      assert.deepStrictEqual(whole.place, {
        where: "db:6000",
        host: "db",
        port: 6000,
        database: "ships",
        username: "ada",
        application: "crew",
        inUrl: new Set<Part>(["host", "port", "database", "username", "password", "ssl"])
      })
      assert.strictEqual(Redacted.value(whole.password!), "p@ss/word")
      assert.strictEqual(whole.ssl, true)
      const part = yield* target({ url: "postgres://db", port: 6000, password: "own", ssl: true })
      const inUrl = new Set<Part>(["host"])
      assert.deepStrictEqual(part.place, { ...plain, where: "db:6000", host: "db", port: 6000, inUrl })
      assert.strictEqual(Redacted.value(part.password!), "own")
      assert.strictEqual(part.ssl, true)
      assert.strictEqual((yield* target({ url: "postgres://db?sslmode=disable", ssl: true })).ssl, false)
    }))

  it.effect("may be an address of version 6 or the folder of a socket", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* target({ url: "postgres://[::1]:5433/x" })).place.host, "::1")
      assert.strictEqual((yield* target({ host: "/run/postgresql" })).path, "/run/postgresql/.s.PGSQL.5432")
    }))

  it.effect("carries the statement time-out in milliseconds, and nothing for no limit", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual((yield* target({})).startupParameters, { statement_timeout: "30000" })
      assert.deepStrictEqual((yield* target({ statement_timeout: "1500 millis" })).startupParameters, {
        statement_timeout: "1500"
      })
      assert.deepStrictEqual((yield* target({ statement_timeout: 0 })).startupParameters, {})
    }))

  it.effect("with a wrong URL is an error that names the option and hides the URL", () =>
    Effect.gen(function*() {
      const decoded = yield* section({})
      for (
        const [url, said] of [
          ["::s3cret::", /cannot be parsed/],
          ["postgres://u:s3cret@db/x?sslmode=maybe", /unsupported sslmode/],
          ["postgres://u:s3cret%ZZ@db/x", /invalid percent-encoding/],
          ["postgres://u:s3cret@db/x?port=s3cret", /invalid port/]
        ] as const
      ) {
        const error = parse({ ...decoded, url: Redacted.make(url) })
        assert.instanceOf(error, Explained)
        const { explanation } = error as Explained
        assert.strictEqual(explanation.reason, "ConfigurationInvalid")
        assert.strictEqual(explanation.option, "database.url")
        assert.match(explanation.detail, said)
        assert.notInclude(inspect(error, { depth: 9, showHidden: true }), "s3cret")
      }
    }))
})
