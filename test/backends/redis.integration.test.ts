import { assert, describe, it, layer as itLayer } from "@effect/vitest"
import {
  Cause,
  Context,
  type Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Queue,
  Redacted,
  References,
  Stream
} from "effect"
import { Redis } from "effect/persistence"
import * as net from "node:net"
import { inspect } from "node:util"
import { RedisCache } from "../../src/backends/redis.ts"
import * as Status from "../../src/observability/Status.ts"
import * as CacheStore from "../../src/resource/CacheStore.ts"
import * as Supervisor from "../../src/resource/Supervisor.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { cases } from "../resource/cacheStoreSuite.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import * as Servers from "../support/Servers.ts"

const secret = "s3cret-of-the-cache-4711"

type Where = { readonly host: string; readonly port: number }

/** Quick monitor, no waiting at start. */
const quick: RedisCache.Extras = {
  resource: {
    monitor: { interval: "50 millis", timeout: "150 millis", failureThreshold: 2 },
    releaseTimeout: "2 seconds"
  }
}

const layer = ({ host, port }: Where, options: RedisCache.Options = {}, extras: RedisCache.Extras = quick) =>
  RedisCache.layerWith({ host, port, retry_attempts: 0, ...options }, extras).pipe(Layer.provideMerge(Status.layer))

const startError = (where: Where, options: RedisCache.Options = {}, extras?: RedisCache.Extras) =>
  Effect.flip(Effect.scoped(Layer.build(layer(where, options, extras)))).pipe(
    Effect.flatMap((error) => error._tag === "ResourceError" ? Effect.succeed(error) : Effect.die(error))
  )

const state = Effect.flatMap(Status.Status, (status) => Effect.map(status.get("cache"), (node) => node?.state))

const becomes = (wanted: string, within: Duration.Input) =>
  eventually(Effect.map(state, (now) => now === wanted), { within, what: `the cache becomes ${wanted}` })

const store = CacheStore.CacheStore

Servers.describeWith(["redis"], "RedisCache on a real server", () => {
  describe("keeps what every cache store promises", () => {
    itLayer(Servers.Redis.layer(), { excludeTestServices: true })((it) => {
      const pass = (ttl: Duration.Input) => Effect.andThen(pause(ttl), pause("40 millis"))
      for (const [index, [name, body]] of cases(pass).entries()) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const server = yield* Servers.Redis
            // A busy machine: what is promised here is not about time.
            const options = { prefix: `${index}:`, command_timeout: "10 seconds" } as const
            yield* Effect.provide(body, layer(server, options, { resource: { monitor: false } }))
          }))
      }
    })
  })

  it.live("clear leaves the keys of other prefixes alone, also with a prefix that looks like a pattern", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const context = yield* Layer.build(layer(server, { prefix: "a*[x]:" }))
      const mine = Context.get(context, store)
      const raw = Context.get(context, Redis.Redis)
      yield* raw.send("SET", "ab[x]:other", "1")
      yield* raw.send("SET", "a*x:other", "1")
      yield* mine.setMany([["k", "1"], ["l", "2"]])
      assert.strictEqual(yield* raw.send("GET", "a*[x]:k"), "1")
      assert.strictEqual(yield* mine.clear(), 2)
      assert.strictEqual(yield* raw.send("DBSIZE"), 2)
    }).pipe(Effect.scoped))

  it.live("gives entries the time to live of the settings, and leaves no probe behind", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const context = yield* Layer.build(layer(server, { ttl: "1 hour" }))
      const raw = Context.get(context, Redis.Redis)
      yield* Context.get(context, store).set("k", "x")
      const ttl = Number(yield* raw.send("PTTL", "k"))
      assert.isTrue(ttl > 3_500_000 && ttl <= 3_600_000, String(ttl))
      yield* Context.get(context, store).delete("k")
      // The monitor's key lives for the length of one pipeline.
      yield* eventually(Effect.map(raw.send("DBSIZE"), (size) => size === 0))
    }).pipe(Effect.scoped))

  it.live("names its connections", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const context = yield* Layer.build(layer(server))
      const raw = Context.get(context, Redis.Redis)
      const names = eventually(
        Effect.map(
          raw.send<string>("CLIENT", "LIST"),
          (list) => Array.from(list.matchAll(/ name=(\S+)/g), (match) => match[1]).sort()
        ),
        { until: (found) => found.length === 2 }
      )
      assert.deepStrictEqual(yield* names, ["seaworthy:cache", "seaworthy:cache:check"])
    }).pipe(Effect.scoped))

  it.live("connects with user, password and database from a URL, and forgets all connections when it is released", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis({ config: [`user app on >${secret} ~* &* +@all`] })
      const watching = Context.get(yield* Layer.build(layer(server)), Redis.Redis)
      const url = Redacted.make(`redis://app:${secret}@${server.host}:${server.port}/3`)
      const used = Effect.gen(function*() {
        yield* Effect.flatMap(store, (cache) => cache.set("k", "in database 3"))
        const list = yield* Effect.flatMap(Redis.Redis, (redis) => redis.send<string>("CLIENT", "LIST"))
        assert.include(list, "user=app")
      })
      yield* Effect.provide(used, layer({ host: "wrong", port: 1 }, { url }))
      yield* eventually(
        Effect.map(watching.send<string>("CLIENT", "LIST"), (list) => !list.includes("user=app")),
        { what: "all connections of the released layer are gone" }
      )
      assert.strictEqual(yield* watching.send("GET", "k"), null)
      yield* watching.send("SELECT", "3")
      assert.strictEqual(yield* watching.send("GET", "k"), "in database 3")
    }).pipe(Effect.scoped))

  describe("explains why it does not start, and names option and remedy", () => {
    it.live("a wrong password", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis({ password: secret })
        const error = yield* startError(server, { password: Redacted.make("wrong-password-1"), retry_attempts: 3 })
        assert.deepInclude({ ...error }, {
          phase: "connect",
          reason: "PermissionDenied",
          option: "cache.password",
          attempts: 1
        })
        assert.include(error.message, "CACHE_PASSWORD")
        assert.notInclude(inspect(error, { depth: Infinity, showHidden: true }), "wrong-password-1")
        assert.notInclude(JSON.stringify(error), "wrong-password-1")
      }).pipe(Effect.scoped))

    it.live("no password where one is needed", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis({ password: secret })
        const error = yield* startError(server)
        assert.deepInclude({ ...error }, { reason: "PermissionDenied", option: "cache.password", attempts: 1 })
      }).pipe(Effect.scoped))

    it.live("a port where nobody listens, tried again as often as the settings say", () =>
      Effect.gen(function*() {
        const port = yield* Servers.freePort
        const error = yield* startError({ host: "127.0.0.1", port }, { retry_attempts: 2, retry_delay: "10 millis" })
        assert.deepInclude({ ...error }, { reason: "ConnectionFailed", option: "cache.port", attempts: 3 })
        assert.include(error.message, `127.0.0.1:${port} refused the connection`)
        const local = yield* startError({ host: "localhost", port })
        assert.include(local.message, `localhost:${port} refused the connection`)
      }).pipe(Effect.scoped))

    it.live("a host that does not exist", () =>
      Effect.gen(function*() {
        const error = yield* startError({ host: "no-such-host.invalid", port: 6379 })
        assert.deepInclude({ ...error }, { reason: "ConnectionFailed", option: "cache.host" })
      }))

    it.live("an address that accepts and never answers: within the configured time", () =>
      Effect.gen(function*() {
        const hole = yield* FaultProxy.blackHoleServer()
        for (const options of [{ command_timeout: "200 millis" }, { timeout: "200 millis" }] as const) {
          const { exit, millis } = yield* timed(startError(hole, options))
          const error = yield* exit
          assert.deepInclude({ ...error }, { phase: "connect", reason: "TimedOut" })
          assert.isDefined(error.option)
          assert.isTrue(millis >= 190 && millis < 3_000, `${millis} ms`)
        }
        yield* eventually(Effect.map(hole.stats, ({ open }) => open === 0), { what: "no connection stays open" })
      }).pipe(Effect.scoped))

    it.live("a database that does not exist", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const error = yield* startError(server, { db: 99 })
        assert.deepInclude({ ...error }, { reason: "ConfigurationInvalid", option: "cache.db" })
      }).pipe(Effect.scoped))

    it.live("a user who may not write", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis({ config: [`user app on >${secret} ~* +@read +@connection +info`] })
        const error = yield* startError(server, { username: "app", password: Redacted.make(secret) })
        assert.deepInclude({ ...error }, { phase: "verify", reason: "PermissionDenied", option: "cache.username" })
      }).pipe(Effect.scoped))

    it.live("a read-only replica", () =>
      Effect.gen(function*() {
        const primary = yield* Servers.redis()
        const replica = yield* Servers.redis({ config: [`replicaof ${primary.host} ${primary.port}`] })
        const error = yield* startError(replica)
        assert.deepInclude({ ...error }, { phase: "verify", reason: "Conflict", option: "cache.host" })
      }).pipe(Effect.scoped))

    it.live("a server that is out of memory", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis({ config: ["maxmemory 1"] })
        const error = yield* startError(server)
        assert.deepInclude({ ...error }, { phase: "verify", reason: "Conflict" })
        assert.include(error.message, "maxmemory")
      }).pipe(Effect.scoped))

    it.live("TLS to a server that does not speak it", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        // It waits for the rest of a command that it does not understand.
        const error = yield* startError(server, { tls: true, timeout: "300 millis" })
        assert.strictEqual(error.reason, "TimedOut")
        assert.include(error.message, "CACHE_TLS")
      }).pipe(Effect.scoped))

    it.live("something that is not Redis", () =>
      Effect.gen(function*() {
        const server = yield* notRedis
        const error = yield* startError(server)
        assert.deepInclude({ ...error }, { reason: "ConfigurationInvalid", option: "cache.port" })
      }).pipe(Effect.scoped))
  })

  describe("follows the server's health", () => {
    it.live("killed: down, commands fail at once and typed; started again: ready by itself, with the same service", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const context = yield* Layer.build(layer(server, { command_timeout: "10 seconds" }))
        const cache = Context.get(context, store)
        yield* Effect.gen(function*() {
          yield* cache.set("k", "x")
          yield* server.kill
          yield* becomes("down", "3 seconds")
          const { exit, millis } = yield* timed(Effect.flip(cache.get("k")))
          const error = yield* exit
          assert.strictEqual(error._tag, "CacheError")
          assert.deepInclude({ ...error }, { operation: "get", reason: "Unavailable", retryable: true })
          assert.isBelow(millis, 2_000)
          const read = yield* timed(Effect.flatMap(Status.Status, (status) => status.snapshot))
          assert.isBelow(read.millis, 500)
          assert.strictEqual((yield* read.exit).health, "down")
          yield* server.start
          yield* becomes("ready", "5 seconds")
          yield* cache.set("k", "again")
          assert.deepStrictEqual(yield* cache.get("k"), Option.some("again"))
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped))

    it.live("frozen: commands fail within command_timeout, it is down within the configured time, and ready after", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const context = yield* Layer.build(layer(server, { command_timeout: "200 millis" }))
        const cache = Context.get(context, store)
        yield* Effect.gen(function*() {
          yield* cache.set("k", "x")
          yield* server.freeze
          const { exit, millis } = yield* timed(Effect.flip(cache.get("k")))
          const error = yield* exit
          assert.deepInclude({ ...error }, { reason: "TimedOut", retryable: true })
          assert.isTrue(millis >= 190 && millis < 2_000, `${millis} ms`)
          // Two checks of at most 150 ms, 50 ms apart.
          yield* becomes("down", "3 seconds")
          const read = yield* timed(Effect.flatMap(Status.Status, (status) => status.snapshot))
          assert.isBelow(read.millis, 500)
          // The silent connection was given up: nothing piles up in it.
          yield* eventually(
            Effect.map(timed(Effect.flip(cache.get("k"))), ({ millis }) => millis < 100),
            { within: "5 seconds", what: "commands for a frozen server fail at once" }
          )
          yield* server.thaw
          yield* becomes("ready", "5 seconds")
          assert.deepStrictEqual(yield* eventually(cache.get("k")), Option.some("x"))
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped))

    it.live("a partition and its end, and a connection that is reset", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const proxy = yield* FaultProxy.make({ target: server })
        const context = yield* Layer.build(layer(proxy, { command_timeout: "150 millis" }))
        const cache = Context.get(context, store)
        yield* Effect.gen(function*() {
          yield* proxy.blackHole
          assert.strictEqual((yield* Effect.flip(cache.get("k"))).reason, "TimedOut")
          yield* becomes("down", "3 seconds")
          yield* proxy.pass
          yield* becomes("ready", "5 seconds")
          yield* eventually(cache.set("k", "x"))
          yield* proxy.resetConnections
          yield* eventually(cache.set("k", "y"), { within: "3 seconds", what: "it reconnects after a reset" })
          yield* becomes("ready", "5 seconds")
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped))

    it.live("with a supervisor it is started anew, and the same service reaches the new connection", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const supervised = layer(server).pipe(Layer.provideMerge(Supervisor.layer({ coolDown: "50 millis" })))
        const context = yield* Layer.build(supervised)
        const cache = Context.get(context, store)
        yield* Effect.gen(function*() {
          const started = Effect.map(
            Effect.flatMap(Status.Status, (status) => status.get("cache")),
            (node) => node?.phases.filter(({ phase }) => phase === "connect").length ?? 0
          )
          yield* cache.set("k", "x")
          yield* server.kill
          yield* eventually(Effect.map(started, (times) => times >= 2), { what: "it is started again" })
          yield* server.start
          yield* becomes("ready", "10 seconds")
          yield* cache.set("k", "y")
          assert.deepStrictEqual(yield* cache.get("k"), Option.some("y"))
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped))

    it.live("slow, but alive: degraded", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const proxy = yield* FaultProxy.make({ target: server })
        const slow: RedisCache.Extras = {
          resource: { monitor: { interval: "30 millis", timeout: "5 seconds", slow: "50 millis" } }
        }
        const context = yield* Layer.build(layer(proxy, { command_timeout: "5 seconds" }, slow))
        yield* Effect.gen(function*() {
          yield* proxy.latency("40 millis")
          yield* becomes("degraded", "5 seconds")
          yield* proxy.pass
          yield* becomes("ready", "5 seconds")
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped))
  })

  it.live("an interrupted caller leaves at once and counts as neither success nor failure", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const context = yield* Layer.build(
        layer(server, { command_timeout: "10 seconds" }, { resource: { monitor: false } })
      )
      const cache = Context.get(context, store)
      yield* server.freeze
      const fiber = yield* Effect.forkChild(cache.get("k"), { startImmediately: true })
      const { millis } = yield* timed(Fiber.interrupt(fiber))
      assert.isBelow(millis, 2_000)
      yield* server.thaw
      yield* cache.get("k")
      const node = yield* Effect.provideContext(Effect.flatMap(Status.Status, (status) => status.get("cache")), context)
      assert.deepInclude(node?.operations["get"], { attempts: 1, successes: 1, failures: 0 })
      assert.deepInclude(node?.counters, { hits: 0, misses: 1 })
    }).pipe(Effect.scoped))

  it.live("release lets commands in flight end, and does not hang on a frozen server", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const inFlight = yield* Effect.scoped(Effect.gen(function*() {
        const context = yield* Layer.build(layer(server))
        const cache = Context.get(context, store)
        const fibers = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => i),
          (i) => Effect.forkDetach(cache.set(`k${i}`, "x"), { startImmediately: true })
        )
        return fibers
      }))
      for (const fiber of inFlight) assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
      const { millis } = yield* timed(Effect.scoped(Effect.gen(function*() {
        yield* Layer.build(layer(server, { command_timeout: "200 millis" }))
        yield* server.freeze
      })))
      yield* server.thaw
      assert.isBelow(millis, 5_000)
    }).pipe(Effect.scoped))

  describe("lets no secret out", () => {
    it.live("not through services, errors, logs or the terminal, while the server goes and its password changes", () =>
      Effect.gen(function*() {
        const said: Array<string> = []
        const listen = Logger.make((options) => {
          said.push(inspect(options.message, { depth: Infinity }), Cause.pretty(options.cause))
        })
        const printed = yield* capturedOutput
        const server = yield* Servers.redis({ password: secret })
        yield* Effect.gen(function*() {
          const context = yield* Layer.build(
            layer(server, { password: Redacted.make(secret), command_timeout: "150 millis" })
          )
          const cache = Context.get(context, store)
          const redis = Context.get(context, Redis.Redis)
          const look = (value: unknown) => said.push(inspect(value, { depth: Infinity, showHidden: true }))
          look(cache)
          look(redis)
          look(context)
          look(yield* Effect.exit(redis.send("NOSUCHCOMMAND", "x")))
          look(yield* Effect.exit(redis.send("AUTH", secret, secret)))
          yield* redis.send("CONFIG", "SET", "requirepass", "another")
          // New connections are refused from now on; the monitor sees it when its own is cut.
          yield* redis.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no").pipe(Effect.exit)
          yield* Effect.provideContext(becomes("down", "5 seconds"), context)
          look(yield* Effect.exit(cache.get("k")))
          look(yield* Effect.exit(redis.send("GET", "k")))
          look(yield* Effect.exit(Effect.scoped(redis.reserve)))
          look(yield* Effect.exit(Effect.scoped(Effect.flatMap(redis.subscribe("c"), Queue.take))))
          const status = yield* Effect.provideContext(Effect.flatMap(Status.Status, (s) => s.snapshot), context)
          look(status)
          assert.include(JSON.stringify(status), "refused the user name or the password")
          yield* server.kill
          look(yield* Effect.exit(cache.set("k", "x")))
        }).pipe(
          Effect.scoped,
          Effect.provide(Logger.layer([listen])),
          Effect.provideService(References.MinimumLogLevel, "All")
        )
        const everything = [...said, ...printed()].join("\n")
        assert.notInclude(everything, secret)
        assert.notInclude(everything, "Unhandled error event")
        assert.include(everything, "cache get failed", "the search looked at what was meant")
      }).pipe(Effect.scoped))
  })

  describe("provides Effect's own Redis service", () => {
    it.live("send, scripts that the server forgot, reserved connections and subscriptions", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const context = yield* Layer.build(layer(server))
        const redis = Context.get(context, Redis.Redis)
        const double = redis.eval(
          Redis.script((n: number) => [n], { lua: "return ARGV[1] * 2", numberOfKeys: 0 }).withReturnType<number>()
        )
        assert.strictEqual(yield* double(21), 42)
        yield* redis.send("SCRIPT", "FLUSH")
        assert.strictEqual(yield* double(4), 8)
        const popped = yield* Effect.scoped(Effect.gen(function*() {
          const own = yield* redis.reserve
          const waiting = yield* Effect.forkChild(own.send("BLPOP", "list", "5"), { startImmediately: true })
          yield* pause("700 millis")
          yield* redis.send("RPUSH", "list", "x")
          return yield* Fiber.join(waiting)
        }))
        // Longer than command_timeout: a reserved connection may block.
        assert.deepStrictEqual(popped, ["list", "x"])
        yield* Effect.scoped(Effect.gen(function*() {
          const messages = yield* redis.subscribe("news")
          yield* eventually(Effect.map(redis.send("PUBLISH", "news", "hello"), (readers) => readers === 1))
          const [message] = yield* Stream.runCollect(Stream.take(Stream.fromQueue(messages), 1))
          assert.deepStrictEqual(message, { channel: "news", message: "hello" })
        }))
      }).pipe(Effect.scoped))

    it.live("errors keep what the server said", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const redis = Context.get(yield* Layer.build(layer(server)), Redis.Redis)
        const error = yield* Effect.flip(redis.send("NOSUCHCOMMAND"))
        assert.strictEqual(error._tag, "RedisError")
        assert.include(String(error.cause), "unknown command")
      }).pipe(Effect.scoped))
  })

  it.live("lazy: connects on first use, and says why when it cannot", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const context = yield* Layer.build(layer(server, {}, { ...quick, lazy: true }))
      yield* Effect.gen(function*() {
        assert.strictEqual(yield* state, "pending")
        yield* Effect.flatMap(store, (cache) => cache.set("k", "x"))
        assert.strictEqual(yield* state, "ready")
      }).pipe(Effect.provideContext(context))
      const nowhere = yield* Layer.build(
        layer({ host: "127.0.0.1", port: yield* Servers.freePort }, {}, { lazy: true })
      )
      const error = yield* Effect.flip(Context.get(nowhere, store).get("k"))
      assert.strictEqual(error.reason, "Unavailable")
      assert.include(error.message, "refused the connection")
    }).pipe(Effect.scoped))
})

/** Everything that is printed from now on, also by code that knows nothing of Effect. */
const capturedOutput = Effect.acquireRelease(
  Effect.sync(() => {
    const printed: Array<string> = []
    const streams = [process.stdout, process.stderr]
    const writes = streams.map((stream) => stream.write)
    const methods = ["log", "info", "warn", "error", "debug"] as const
    const consoles = methods.map((method) => console[method])
    for (const stream of streams) {
      stream.write = (chunk: string | Uint8Array) => {
        printed.push(chunk.toString())
        return true
      }
    }
    for (const method of methods) {
      console[method] = (...all: Array<unknown>) => void printed.push(all.map((a) => inspect(a)).join(" "))
    }
    const restore = () => {
      streams.forEach((stream, i) => {
        stream.write = writes[i]!
      })
      methods.forEach((method, i) => {
        console[method] = consoles[i]!
      })
    }
    return { printed, restore }
  }),
  ({ restore }) => Effect.sync(restore)
).pipe(Effect.map(({ printed }) => () => printed))

/** A server that greets in another protocol. */
const notRedis = Effect.acquireRelease(
  Effect.callback<Where & { readonly close: () => void }>((resume) => {
    const sockets = new Set<net.Socket>()
    const server = net.createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.write("HTTP/1.1 400 Bad Request\r\n\r\n")
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo
      const close = () => {
        server.close()
        for (const socket of sockets) socket.destroy()
      }
      resume(Effect.succeed({ host: "127.0.0.1", port, close }))
    })
  }),
  ({ close }) => Effect.sync(close)
)
