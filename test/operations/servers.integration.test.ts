import { assert, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import type { Command } from "../support/Command.ts"
import { eventually } from "../support/Live.ts"
import * as Servers from "../support/Servers.ts"
import { finished, seaworthy } from "./support.ts"

// Fast checks, so that what must happen "within the configured time" happens within a test's patience.
const quick = {
  MONITORING_CHECK_INTERVAL: "0.2",
  MONITORING_CHECK_TIMEOUT: "0.3",
  MONITORING_FAILURE_THRESHOLD: "2",
  CACHE_RETRY_ATTEMPTS: "0",
  DATABASE_RETRY_ATTEMPTS: "0"
}

const redisEnv = (server: { readonly host: string; readonly port: number }, password?: string) => ({
  ...quick,
  CACHE_DRIVER: "redis",
  CACHE_HOST: server.host,
  CACHE_PORT: String(server.port),
  ...(password === undefined ? {} : { CACHE_PASSWORD: password })
})

const postgresEnv = (
  server: { readonly host: string; readonly port: number },
  account: { readonly database: string; readonly username: string; readonly password: string }
) => ({
  ...quick,
  DATABASE_DRIVER: "postgres",
  DATABASE_HOST: server.host,
  DATABASE_PORT: String(server.port),
  DATABASE_DATABASE: account.database,
  DATABASE_USERNAME: account.username,
  DATABASE_PASSWORD: account.password
})

/** The states that the command has reported for a resource since it was ready. */
const statesSinceReady = (command: Command, id: string) =>
  Effect.map(command.stdout, (text) => {
    const events = text.trim().split("\n").flatMap((line) => {
      try {
        return [JSON.parse(line)]
      } catch {
        // The last line may not be complete yet.
        return []
      }
    })
    const ready = events.findIndex((event) => event.event === "ready")
    return ready === -1 ?
      [] :
      events.slice(ready).filter((event) => event.event === "state" && event.resource === id).map((event): string =>
        event.state
      )
  })

const sees = (command: Command, id: string, state: string) =>
  eventually(statesSinceReady(command, id), {
    within: "20 seconds",
    until: (states) => states.at(-1) === state,
    what: `${id} did not become ${state}`
  })

const stops = (command: Command) =>
  Effect.gen(function*() {
    yield* command.signal("SIGTERM")
    assert.deepStrictEqual(yield* command.exit({ within: "20 seconds" }), { code: 130, signal: null })
  })

Servers.describeWith(["redis", "postgres"], "seaworthy up against real servers", () => {
  it.live(
    "starts on a real Redis and a real Postgres and leaves no secret in any stream at any log level",
    () =>
      Effect.gen(function*() {
        const redis = yield* Servers.redis({ password: "redis-s3cret-pass" })
        const postgres = yield* Servers.postgres()
        const run = yield* finished(["up", "--once", "--log-level", "all"], {
          env: { ...redisEnv(redis, "redis-s3cret-pass"), ...postgresEnv(postgres, postgres) }
        })
        assert.strictEqual(run.code, 0, run.output)
        for (const secret of ["redis-s3cret-pass", postgres.password]) assert.notInclude(run.output, secret)
      }),
    60_000
  )

  it.live(
    "a Redis that is killed is down, and ready again after its restart, without restarting the process",
    () =>
      Effect.gen(function*() {
        const redis = yield* Servers.redis()
        const command = yield* seaworthy(["up", "--json", "--only", "cache"], { env: redisEnv(redis) })
        yield* command.waitForLine(/"event":"ready"/)
        yield* redis.kill
        yield* sees(command, "cache", "down")
        yield* redis.start
        yield* sees(command, "cache", "ready")
        yield* stops(command)
      }),
    90_000
  )

  it.live("a Redis that is frozen is down, and ready again when it thaws", () =>
    Effect.gen(function*() {
      const redis = yield* Servers.redis()
      const command = yield* seaworthy(["up", "--json", "--only", "cache"], { env: redisEnv(redis) })
      yield* command.waitForLine(/"event":"ready"/)
      yield* redis.freeze
      yield* sees(command, "cache", "down")
      yield* redis.thaw
      yield* sees(command, "cache", "ready")
      yield* stops(command)
    }), 90_000)

  it.live(
    "a Postgres behind a black hole is down, and ready again when the partition heals",
    () =>
      Effect.gen(function*() {
        const postgres = yield* Servers.postgres()
        const proxy = yield* FaultProxy.make({ target: postgres })
        const command = yield* seaworthy(["up", "--json", "--only", "database"], { env: postgresEnv(proxy, postgres) })
        yield* command.waitForLine(/"event":"ready"/)
        yield* proxy.blackHole
        yield* sees(command, "database", "down")
        yield* proxy.pass
        yield* sees(command, "database", "ready")
        yield* proxy.reset
        yield* sees(command, "database", "down")
        yield* proxy.pass
        yield* sees(command, "database", "ready")
        yield* proxy.latency("500 millis")
        yield* sees(command, "database", "down")
        yield* proxy.pass
        yield* sees(command, "database", "ready")
        yield* stops(command)
      }),
    120_000
  )

  it.live("a Postgres that is killed is down, and ready again after its restart", () =>
    Effect.gen(function*() {
      const postgres = yield* Servers.postgres()
      const command = yield* seaworthy(["up", "--json", "--only", "database"], { env: postgresEnv(postgres, postgres) })
      yield* command.waitForLine(/"event":"ready"/)
      yield* postgres.kill
      yield* sees(command, "database", "down")
      yield* postgres.start
      yield* sees(command, "database", "ready")
      yield* stops(command)
    }), 90_000)
})

Servers.describeWith(["redis", "postgres"], "seaworthy up, mistakes with real servers", () => {
  const fails = (
    name: string,
    env: Effect.Effect<Record<string, string>, unknown, Scope.Scope>,
    only: string,
    says: ReadonlyArray<string>,
    secrets: ReadonlyArray<string>
  ) =>
    it.live(
      `${name}: one clear message naming resource, phase, option and remedy, exit code 1`,
      () =>
        Effect.gen(function*() {
          const run = yield* finished(["up", "--once", "--log-level", "all", "--only", only], { env: yield* env })
          assert.strictEqual(run.code, 1, run.output)
          for (const part of ["option: ", "remedy: ", ...says]) assert.include(run.output, part)
          for (const secret of secrets) assert.notInclude(run.output, secret)
        }),
      60_000
    )

  fails(
    "wrong password of Redis",
    Effect.map(Servers.redis({ password: "right-Passw0rd" }), (redis) => redisEnv(redis, "wrong-Passw0rd")),
    "cache",
    ["cache did not connect", "cache.password"],
    ["wrong-Passw0rd", "right-Passw0rd"]
  )
  fails(
    "wrong password of Postgres",
    Effect.map(Servers.postgres(), (postgres) => postgresEnv(postgres, { ...postgres, password: "wrong-Passw0rd" })),
    "database",
    ["database did not connect", "database.password"],
    ["wrong-Passw0rd"]
  )
  fails(
    "a Redis that accepts and never answers",
    Effect.map(FaultProxy.blackHoleServer(), (silent) => ({ ...redisEnv(silent), CACHE_TIMEOUT: "0.5" })),
    "cache",
    ["cache did not connect", "no answer within 500ms"],
    []
  )
  fails(
    "a Postgres that accepts and never answers",
    Effect.map(FaultProxy.blackHoleServer(), (silent) => ({
      ...postgresEnv(silent, { database: "d", username: "u", password: "black-hole-Passw0rd" }),
      DATABASE_TIMEOUT: "0.5"
    })),
    "database",
    ["database did not connect", "no answer within 500ms"],
    ["black-hole-Passw0rd"]
  )
  fails(
    "a closed port of Postgres",
    Effect.succeed(
      postgresEnv({ host: "127.0.0.1", port: 1 }, { database: "d", username: "u", password: "closed-Passw0rd" })
    ),
    "database",
    ["database did not connect", "database.port"],
    ["closed-Passw0rd"]
  )
  fails(
    "a read-only database",
    Effect.map(
      Servers.postgres({ settings: { default_transaction_read_only: "on" } }),
      (postgres) => postgresEnv(postgres, postgres)
    ),
    "database",
    ["database failed verification", "read-only"],
    []
  )
})
