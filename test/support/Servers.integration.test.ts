import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { SqlClient } from "effect/sql"
import { Redis } from "ioredis"
import * as fs from "node:fs"
import * as net from "node:net"
import { fileURLToPath } from "node:url"
import { inspect } from "node:util"
import { spawnCommand } from "./Command.ts"
import { eventually, pause, timed } from "./Live.ts"
import * as Servers from "./Servers.ts"

const isOpen = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = net.connect({ host: "127.0.0.1", port })
    const finish = (open: boolean) => {
      socket.destroy()
      resume(Effect.succeed(open))
    }
    socket.once("connect", () => finish(true))
    socket.once("error", () => finish(false))
  })

/** A client that gives up at once instead of queueing and reconnecting. */
const redisClient = (server: Servers.RedisServer) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Redis(server.url, { retryStrategy: () => null, maxRetriesPerRequest: 0, commandTimeout: 300 })
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const ask = (client: Redis, command: string, ...args: Array<string>) =>
  Effect.tryPromise(() => client.call(command, ...args))

const select = (server: Servers.PostgresServer, password = server.password) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ readonly n: number }>`SELECT 1 AS n`
    return rows[0]?.n
  }).pipe(
    Effect.provide(PgClient.layer({
      host: server.host,
      port: server.port,
      database: server.database,
      username: server.username,
      password: Redacted.make(password),
      connectTimeout: "1 second"
    })),
    Effect.timeout("2 seconds")
  )

describe("the door for suites that need servers", () => {
  it("runs a suite when nothing is missing", () => {
    assert.strictEqual(Servers.decide([], false).run, "run")
    assert.strictEqual(Servers.decide([], true).run, "run")
  })
  it("skips it on a developer's machine, and says what to install", () => {
    const { message, run } = Servers.decide(["redis", "postgres"], false)
    assert.strictEqual(run, "skip")
    assert.match(message, /apt-get install redis-server.*apt-get install postgresql/)
  })
  it("fails it in CI", () => {
    assert.strictEqual(Servers.decide(["redis"], true).run, "fail")
  })
})

Servers.describeWith(["redis"], "Servers.redis", () => {
  it.live("answers a real client with its password, and refuses another one", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis({ password: "p@ss word" })
      assert.strictEqual(yield* ask(yield* redisClient(server), "PING"), "PONG")
      const wrong = yield* redisClient({ ...server, url: `redis://:wrong@${server.host}:${server.port}/0` })
      const refusal = yield* Effect.flip(ask(wrong, "PING"))
      assert.match(String(refusal.cause), /NOAUTH|WRONGPASS|Connection is closed/)
    }))

  it.live("is empty and on the same port after kill and start", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      yield* ask(yield* redisClient(server), "SET", "key", "value")
      yield* server.kill
      assert.isFalse(yield* isOpen(server.port))
      yield* server.start
      assert.isNull(yield* ask(yield* redisClient(server), "GET", "key"))
      yield* server.stop
      assert.isFalse(yield* isOpen(server.port))
    }))

  it.live("keeps connections open and silent while frozen, and answers again when thawed", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const client = yield* redisClient(server)
      assert.strictEqual(yield* ask(client, "PING"), "PONG")
      yield* server.freeze
      assert.match(String((yield* Effect.flip(ask(client, "PING"))).cause), /timed out/)
      assert.strictEqual(client.status, "ready")
      yield* server.thaw
      assert.strictEqual(yield* eventually(ask(client, "PING")), "PONG")
    }))

  it.live("is gone with its folder when the scope closes, also when it is frozen", () =>
    Effect.gen(function*() {
      const { folder, server } = yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* Servers.redis()
        const [, folder] = (yield* ask(yield* redisClient(server), "CONFIG", "GET", "dir")) as [string, string]
        assert.isTrue(fs.existsSync(folder))
        yield* server.freeze
        return { folder, server }
      }))
      assert.isFalse(yield* isOpen(server.port))
      assert.isFalse(fs.existsSync(folder))
    }))

  it.live("is gone when the test process is killed", () =>
    Effect.gen(function*() {
      const fixture = fileURLToPath(new URL("HoldsRedis.fixture.ts", import.meta.url))
      const holder = yield* spawnCommand(["--import", "tsx", fixture])
      const port = Number((yield* holder.waitForLine(/^redis on \d+$/)).split(" ").at(-1))
      assert.isTrue(yield* isOpen(port))
      yield* holder.signal("SIGKILL")
      yield* eventually(Effect.map(isOpen(port), (open) => !open))
    }))
})

Servers.describeWith(["postgres"], "Servers.postgres", () => {
  it.live("takes its own password only, restarts on the same port, and is silent while frozen", () =>
    Effect.gen(function*() {
      const server = yield* Servers.postgres({ settings: { default_transaction_read_only: "off" } })
      assert.strictEqual(yield* select(server), 1)
      assert.match(inspect(yield* Effect.flip(select(server, "wrong")), { depth: 9 }), /password authentication failed/)

      yield* server.kill
      assert.isFalse(yield* isOpen(server.port))
      assert.isTrue((yield* Effect.exit(select(server)))._tag === "Failure")
      yield* server.start
      assert.strictEqual(yield* select(server), 1)

      yield* server.freeze
      const connecting = yield* Effect.forkChild(select(server))
      yield* pause("100 millis")
      assert.isUndefined(connecting.pollUnsafe())
      yield* server.thaw
      assert.strictEqual(yield* Fiber.join(connecting), 1)

      yield* server.stop
      assert.isFalse(yield* isOpen(server.port))
      yield* server.start
      assert.strictEqual(yield* select(server), 1)
    }))

  it.live("freezes its backends too, not only its postmaster, and keeps its data over SIGKILL", () =>
    Effect.gen(function*() {
      const server = yield* Servers.postgres()
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE kept (n int)`
        yield* sql`INSERT INTO kept VALUES (7)`
        yield* server.freeze
        const asking = yield* Effect.forkChild(sql<{ readonly n: number }>`SELECT n FROM kept`)
        yield* pause("100 millis")
        assert.isUndefined(asking.pollUnsafe())
        yield* server.thaw
        assert.deepStrictEqual((yield* Fiber.join(asking)).map(({ n }) => n), [7])
        yield* server.kill
        yield* server.start
        const after = yield* eventually(sql<{ readonly n: number }>`SELECT n FROM kept`)
        assert.deepStrictEqual(after.map(({ n }) => n), [7])
      }).pipe(Effect.provide(PgClient.layer({
        host: server.host,
        port: server.port,
        database: server.database,
        username: server.username,
        password: Redacted.make(server.password),
        maxConnections: 1
      })))
    }))
})

describe("eventually", () => {
  it.effect("gives the first value that counts, in real time under a TestClock", () =>
    Effect.gen(function*() {
      let looks = 0
      const seen = yield* eventually(Effect.sync(() => ++looks), { until: (n) => n === 3, every: "1 millis" })
      assert.strictEqual(seen, 3)
    }))

  it.effect("dies with what it saw last when the bound has passed, also when the check hangs", () =>
    Effect.gen(function*() {
      const wrong = yield* Effect.exit(
        eventually(Effect.fail("still down"), { within: "30 millis", what: "redis is up" })
      )
      assert.match(String(wrong), /redis is up \(not within 30 ms\); last seen: .*still down/)
      const hung = yield* timed(eventually(Effect.never, { within: "30 millis" }))
      assert.strictEqual(hung.exit._tag, "Failure")
      assert.isBelow(hung.millis, 5_000)
    }))
})

describe("spawnCommand", () => {
  it.live("gives lines, signals and the exit code, and nothing of the environment of the test run", () =>
    Effect.gen(function*() {
      const program = `
        process.on("SIGINT", () => { console.error("bye"); process.exit(130) })
        console.log("VITEST", process.env.VITEST, "GIVEN", process.env.GIVEN)
        setInterval(() => {}, 1000)`
      const command = yield* spawnCommand(["-e", program], { env: { GIVEN: "yes" } })
      assert.strictEqual(yield* command.waitForLine(/GIVEN/), "VITEST undefined GIVEN yes")
      yield* command.signal("SIGINT")
      assert.deepStrictEqual(yield* command.exit(), { code: 130, signal: null })
      assert.strictEqual(yield* command.stderr, "bye\n")
    }))

  it.live("says that the process ended instead of waiting for a line that cannot come", () =>
    Effect.gen(function*() {
      const command = yield* spawnCommand(["-e", "console.log('all'); process.exit(3)"])
      const exit = yield* Effect.exit(command.waitForLine(/never/))
      assert.match(String(exit), /ended.*"code":3/)
    }))

  it.live("kills the process and its children when the scope closes", () =>
    Effect.gen(function*() {
      const program = `
        const child = require("node:child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"])
        process.on("SIGTERM", () => {})
        console.log("child", child.pid)
        setInterval(() => {}, 1000)`
      const { child, pid } = yield* Effect.scoped(Effect.gen(function*() {
        const command = yield* spawnCommand(["-e", program])
        return { pid: command.pid, child: Number((yield* command.waitForLine(/child/)).split(" ")[1]) }
      }))
      for (const each of [pid, child]) {
        yield* eventually(Effect.sync(() => {
          try {
            process.kill(each, 0)
            // A zombie that nobody has reaped is dead enough.
            return /^\S+ \(.*\) Z/.test(fs.readFileSync(`/proc/${each}/stat`, "utf8"))
          } catch {
            return true
          }
        }))
      }
    }))
})
