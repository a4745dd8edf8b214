import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Redacted } from "effect"
import * as RedisError from "../../src/backends/internal/redisError.ts"
import * as Plan from "../../src/backends/internal/redisPlan.ts"
import { settings } from "../../src/resource/cache/options.ts"
import type { Options } from "../../src/resource/CacheStore.ts"

const planOf = (options: Options, extras: Plan.Extras = {}) =>
  Effect.map(settings(options), (all) => Plan.plan("cache", all.cache, Duration.seconds(2), extras))

describe("How ioredis is told to connect", () => {
  it.effect("nothing waits in a queue, nothing is sent twice, and a client that was never ready does not retry", () =>
    Effect.gen(function*() {
      const plan = yield* planOf({ host: "redis.test", port: 7000, db: 2, command_timeout: "300 millis" })
      const options = Plan.redisOptions(plan, "commands", () => false)
      assert.deepInclude(options, {
        host: "redis.test",
        port: 7000,
        db: 2,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false,
        commandTimeout: 300
      })
      assert.strictEqual(options.retryStrategy(1), null)
    }))

  it.effect("a client that was ready tries for ever, at most half a second apart; the monitor's own makes a new one", () =>
    Effect.gen(function*() {
      const plan = yield* planOf({})
      const retry = Plan.redisOptions(plan, "commands", () => true).retryStrategy
      for (const times of [1, 2, 5, 100, 1e9]) {
        const delay = retry(times)
        assert.isTrue(delay !== null && delay > 0 && delay <= 500, `${delay}`)
      }
      assert.strictEqual(Plan.redisOptions(plan, "check", () => true).retryStrategy(1), null)
    }))

  it.effect("a URL wins over all options that it can say, with its parts decoded", () =>
    Effect.gen(function*() {
      const url = Redacted.make("rediss://us%40er:p%2Fw%20d@[::1]:7001/5")
      const plan = yield* planOf({ url, host: "other", port: 1, db: 9, username: "other" })
      assert.deepInclude({ ...plan }, { host: "::1", port: 7001, db: 5, username: "us@er", tls: {} })
      assert.strictEqual(plan.password === undefined ? undefined : Redacted.value(plan.password), "p/w d")
      const short = yield* planOf({ url: Redacted.make("redis://cache") })
      assert.deepInclude({ ...short }, { host: "cache", port: 6379, db: 0, tls: undefined, password: undefined })
    }))

  it.effect("sentinels get their own credentials and never those of Redis", () =>
    Effect.gen(function*() {
      const plan = yield* planOf(
        {
          mode: "sentinel",
          nodes: ["s1:26379", "[::1]:26380"],
          sentinel_name: "main",
          password: Redacted.make("of redis")
        },
        { sentinelPassword: Redacted.make("of sentinels") }
      )
      const options = Plan.redisOptions(plan, "commands", () => false)
      assert.deepInclude(options, {
        sentinels: [{ host: "s1", port: 26379 }, { host: "::1", port: 26380 }],
        name: "main",
        password: "of redis",
        sentinelPassword: "of sentinels",
        enableReadyCheck: true
      })
      const without = Plan.redisOptions(
        { ...plan, sentinel: { ...plan.sentinel, password: undefined } },
        "commands",
        () => false
      )
      assert.strictEqual("sentinelPassword" in without ? without.sentinelPassword : undefined, undefined)
    }))

  it.effect("a path is a socket, and redirections on a cluster end within the time of a command", () =>
    Effect.gen(function*() {
      const socket = Plan.redisOptions(yield* planOf({ host: "/run/redis.sock" }), "commands", () => false)
      assert.strictEqual("path" in socket ? socket.path : undefined, "/run/redis.sock")
      const plan = yield* planOf({ mode: "cluster", nodes: ["a:1"], command_timeout: "500 millis" })
      const options = Plan.clusterOptions(plan, "commands", () => false)
      assert.isAtMost(options.maxRedirections * options.retryDelayOnFailover, 500)
      assert.strictEqual(options.clusterRetryStrategy(1), null)
    }))
})

describe("What errors of ioredis mean", () => {
  const error = (message: string, code?: string) =>
    Object.assign(new Error(message), code === undefined ? {} : { code })
  const table: ReadonlyArray<readonly [Error, reason: string, option: string | undefined, retryable: boolean]> = [
    [
      error("WRONGPASS invalid username-password pair or user is disabled."),
      "PermissionDenied",
      "cache.password",
      false
    ],
    [error("NOAUTH Authentication required."), "PermissionDenied", "cache.password", false],
    [
      error("NOPERM this user has no permissions to run the 'set' command"),
      "PermissionDenied",
      "cache.username",
      false
    ],
    [error("ERR DB index is out of range"), "ConfigurationInvalid", "cache.db", false],
    [error("MOVED 866 127.0.0.1:7002"), "ConfigurationInvalid", "cache.mode", false],
    [error("ERR This instance has cluster support disabled"), "ConfigurationInvalid", "cache.mode", false],
    [error("READONLY You can't write against a read only replica."), "Conflict", "cache.host", true],
    [error("LOADING Redis is loading the dataset in memory"), "ConnectionFailed", undefined, true],
    [error("OOM command not allowed when used memory > 'maxmemory'."), "Conflict", undefined, true],
    [error("MISCONF Redis is configured to save RDB snapshots"), "Conflict", undefined, true],
    [error("self-signed certificate", "DEPTH_ZERO_SELF_SIGNED_CERT"), "ConnectionFailed", "cache.tls", false],
    [error("write EPROTO 00:error:wrong version number", "EPROTO"), "ConfigurationInvalid", "cache.tls", false],
    [error("Command timed out"), "TimedOut", "cache.host", true],
    [error("connect ETIMEDOUT", "ETIMEDOUT"), "TimedOut", "cache.host", true],
    [error("", "ECONNREFUSED"), "ConnectionFailed", "cache.port", true],
    [error("getaddrinfo ENOTFOUND x", "ENOTFOUND"), "ConnectionFailed", "cache.host", true],
    [error("connect EHOSTUNREACH 10.0.0.1:6379", "EHOSTUNREACH"), "ConnectionFailed", "cache.host", true],
    [error("Unknown RESP type 72 \"H\""), "ConfigurationInvalid", "cache.port", false],
    [error("Connection is closed."), "ConnectionFailed", "cache.host", true],
    [error("Stream isn't writeable and enableOfflineQueue options is false"), "ConnectionFailed", "cache.host", true],
    [error("read ECONNRESET", "ECONNRESET"), "ConnectionFailed", "cache.host", true],
    [error("ERR something new"), "Unknown", undefined, true]
  ]

  for (const [raw, reason, option, retryable] of table) {
    it.effect(
      raw.message === "" ? "ECONNREFUSED on every address of a name" : raw.message,
      () =>
        Effect.gen(function*() {
          const plan = yield* planOf({ host: "redis.test" })
          const explanation = RedisError.explain(raw, plan)
          assert.deepStrictEqual([explanation.reason, explanation.option], [reason, option])
          if (reason !== "Unknown") assert.isDefined(explanation.remedy)
          assert.strictEqual(RedisError.toCacheError("get", raw, plan).retryable, retryable)
        })
    )
  }

  it.effect("names the option that was really set", () =>
    Effect.gen(function*() {
      const refused = error("", "ECONNREFUSED")
      const byUrl = yield* planOf({ url: Redacted.make("redis://cache") })
      assert.strictEqual(RedisError.explain(refused, byUrl).option, "cache.url")
      const cluster = yield* planOf({ mode: "cluster", nodes: ["a:1"] })
      assert.strictEqual(RedisError.explain(refused, cluster).option, "cache.nodes")
    }))

  it.effect("finds the reason of a node in the error that says that all have failed, and copies no command", () =>
    Effect.gen(function*() {
      const plan = yield* planOf({ mode: "cluster", nodes: ["a:1"] })
      const inner = Object.assign(error("WRONGPASS invalid"), { command: { name: "auth", args: ["a-secret-word"] } })
      const failure = RedisError.toFailure(
        Object.assign(error("Failed to refresh slots cache."), { lastNodeError: inner }),
        plan
      )
      assert.strictEqual(failure.explanation.reason, "PermissionDenied")
      assert.notProperty(failure.cause, "command")
    }))
})
