import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Redis } from "effect/persistence/Redis"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { inspect } from "node:util"
import { RedisCache, RedisConnections } from "../../src/backends/redis.ts"
import * as Status from "../../src/observability/Status.ts"
import { PoolExhaustedError } from "../../src/resource/ConnectionPool.ts"
import { ResourceError } from "../../src/resource/ResourceError.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import * as Topology from "../support/RedisTopology.ts"
import * as Servers from "../support/Servers.ts"

const secret = "s3cret-of-the-pool-4713"

type Where = { readonly host: string; readonly port: number }

const layer = ({ host, port }: Where, pool: RedisConnections.Options = {}, options: RedisCache.Options = {}) =>
  RedisConnections.layerWith({ max_connections: 2, max_waiting: 2, ...pool }).pipe(
    Layer.provideMerge(
      RedisCache.layerWith({ host, port, retry_attempts: 0, ...options }, {
        resource: { monitor: { interval: "50 millis", timeout: "150 millis", failureThreshold: 2 } }
      })
    ),
    Layer.provideMerge(Status.layer)
  )

interface Subject {
  readonly connections: RedisConnections.RedisConnections["Service"]
  readonly redis: Redis["Service"]
  readonly status: Status.Status["Service"]
}

const build = (...args: Parameters<typeof layer>): Effect.Effect<Subject, unknown, Scope.Scope> =>
  Effect.map(Layer.build(layer(...args)), (context) => ({
    connections: Context.get(context, RedisConnections.RedisConnections),
    redis: Context.get(context, Redis),
    status: Context.get(context, Status.Status)
  }))

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** How many dedicated connections the server has. */
const onServer = (server: Servers.RedisServer) =>
  Effect.map(
    Topology.tell(server.port, server.password, "CLIENT", "LIST"),
    (list) => String(list).split("\n").filter((line) => line.includes(":reserved ")).length
  )

const idOf = (redis: RedisConnections.RedisConnection) => redis.send<number>("CLIENT", "ID")

Servers.describeWith(["redis"], "Dedicated Redis connections", () => {
  const withServer = <A, E>(
    test: (server: Servers.RedisServer) => Effect.Effect<A, E, Scope.Scope>,
    options?: Servers.RedisOptions
  ) => Effect.scoped(Effect.flatMap(Servers.redis(options), test))

  describe("lends", () => {
    it.live("one that nobody else uses, and shows it in the gauges and in the status tree", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections, status } = yield* build(server)
          yield* connections.use((one) =>
            connections.use((other) =>
              Effect.gen(function*() {
                assert.notStrictEqual(yield* idOf(one), yield* idOf(other))
                assert.deepInclude(yield* connections.stats, { max: 2, active: 2, idle: 0, waiting: 0, leaks: 0 })
                assert.strictEqual((yield* connections.leases).length, 2)
              })
            )
          )
          const node = yield* status.get("redis-connections")
          assert.deepInclude(node, { kind: "pool", state: "ready", needs: ["cache"] })
          assert.deepStrictEqual(node!.counters, { max: 2, active: 0, idle: 2, waiting: 0, leaks: 0 })
          assert.deepInclude(node!.operations["acquire"], { attempts: 2, failures: 0 })
        })
      ))

    it.live("within its limits: a third is refused or waits for its time", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections, status } = yield* build(server, { acquire_timeout: Duration.millis(150) })
          yield* Effect.scoped(Effect.gen(function*() {
            yield* Effect.all([connections.reserve, connections.reserve])
            const waiters = yield* Effect.replicateEffect(fork(Effect.flip(connections.use(idOf))), 2)
            const error = yield* Effect.flip(connections.use(idOf))
            assert.instanceOf(error, PoolExhaustedError)
            assert.deepInclude({ ...error }, { reason: "TooManyWaiting", inUse: 2, waiting: 2 })
            const { exit, millis } = yield* timed(Fiber.joinAll(waiters))
            for (const late of yield* exit) assert.deepInclude({ ...late }, { reason: "AcquireTimeout", waited: 150 })
            assert.isTrue(millis < 5_000, `${millis} ms`)
          }))
          assert.isNumber(yield* connections.use(idOf))
          assert.strictEqual((yield* status.get("redis-connections"))!.operations["acquire"]!.failures, 3)
        })
      ))

    it.live("so that two borrowers who watch the same key see each other", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections } = yield* build(server)
          const raise = Effect.fn(function*(redis: RedisConnections.RedisConnection, met: Effect.Effect<unknown>) {
            yield* redis.send("WATCH", "n")
            const n = Number(yield* redis.send("GET", "n"))
            yield* met
            return yield* redis.transaction([["SET", "n", String(n + 1)], ["GET", "n"]])
          })
          const gates = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
          const both = yield* Effect.all([
            connections.use((redis) =>
              raise(redis, Effect.andThen(Deferred.succeed(gates[0], undefined), Deferred.await(gates[1])))
            ),
            connections.use((redis) =>
              raise(redis, Effect.andThen(Deferred.succeed(gates[1], undefined), Deferred.await(gates[0])))
            )
          ], { concurrency: 2 })
          const done = both.filter(Option.isSome)
          assert.strictEqual(done.length, 1)
          assert.deepStrictEqual(done[0]!.value, ["OK", "1"])
          assert.deepStrictEqual(
            yield* connections.use((redis) => raise(redis, Effect.void)),
            Option.some(["OK", "2"])
          )
        })
      ))

    it.live("for commands that block longer than command_timeout, and for long scripts that are given time", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections, redis } = yield* build(server, {}, { command_timeout: "150 millis" })
          const popped = yield* fork(connections.use((own) => own.send("BLPOP", "jobs", "10")))
          assert.strictEqual(yield* connections.use((own) => own.send("BLPOP", "none", "0.3")), null)
          yield* redis.send("RPUSH", "jobs", "a")
          assert.deepStrictEqual(yield* Fiber.join(popped), ["jobs", "a"])
          const spin = ["EVAL", "local n = 0 for i = 1, 2e7 do n = n + i end return 'spun'", "0"] as const
          assert.strictEqual(yield* connections.use((own) => own.sendWithin("30 seconds", ...spin)), "spun")
        })
      ))
  })

  describe("leaves nothing to the next borrower", () => {
    const next = (first: (redis: RedisConnections.RedisConnection) => Effect.Effect<unknown, unknown>) =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections } = yield* build(server, { max_connections: 1 })
          const before = yield* connections.use(idOf)
          yield* Effect.exit(connections.use(first))
          const after = yield* connections.use((redis) =>
            Effect.gen(function*() {
              const id = yield* idOf(redis)
              // Not queued, in database 0, and nothing is watched.
              assert.strictEqual(yield* redis.send("SET", "here", "1"), "OK")
              assert.match(String(yield* redis.send("CLIENT", "INFO")), / db=0 sub=0 psub=0 .*multi=-1 /)
              yield* Topology.tell(server.port, undefined, "SET", "watched", "2")
              assert.isTrue(Option.isSome(yield* redis.transaction([["PING"]])))
              return id
            })
          )
          assert.strictEqual(yield* onServer(server), 1)
          return after === before ? "the same" : "another"
        })
      )

    it.live("of what it watched", () =>
      Effect.map(next((redis) => redis.send("WATCH", "watched")), (which) => assert.strictEqual(which, "the same")))

    it.live("of what it queued, however it ended", () =>
      Effect.gen(function*() {
        const queue = (redis: RedisConnections.RedisConnection) =>
          Effect.andThen(
            redis.send("WATCH", "watched"),
            Effect.andThen(redis.send("MULTI"), redis.send("SET", "x", "1"))
          )
        assert.strictEqual(yield* next(queue), "the same")
        assert.strictEqual(yield* next((redis) => Effect.andThen(queue(redis), Effect.fail("no"))), "the same")
        assert.strictEqual(yield* next((redis) => Effect.andThen(queue(redis), Effect.interrupt)), "the same")
        assert.strictEqual(
          yield* next((redis) => redis.transaction([["SET", "x"], ["SET", "x", "1"]])),
          "the same"
        )
      }))

    it.live("of another database, name or subscription", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* next((redis) => redis.send("SELECT", "3")), "another")
        assert.strictEqual(yield* next((redis) => redis.send("CLIENT", "SETNAME", "mine")), "another")
        assert.strictEqual(yield* next((redis) => redis.send("SUBSCRIBE", "news")), "another")
      }))

    it.live("of an answer that it did not wait for", () =>
      Effect.gen(function*() {
        const abandon = (redis: RedisConnections.RedisConnection) =>
          Effect.timeoutOption(redis.send("BLPOP", "none", "0"), "30 millis")
        assert.strictEqual(yield* next(abandon), "another")
      }))
  })

  it.live("a borrower that is interrupted while it blocks leaves at once, and takes nothing from the list any more", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const { connections, redis } = yield* build(server)
        const blocked = yield* fork(connections.use((own) => own.send("BLPOP", "jobs", "0")))
        yield* eventually(
          Effect.map(redis.send<string>("CLIENT", "LIST"), (list) => / cmd=blpop /.test(list)),
          { what: "it blocks" }
        )
        const { millis } = yield* timed(Fiber.interrupt(blocked))
        assert.isBelow(millis, 2_000)
        yield* eventually(Effect.map(redis.send<string>("CLIENT", "LIST"), (list) => !/ cmd=blpop /.test(list)), {
          what: "the server has stopped, too"
        })
        yield* redis.send("RPUSH", "jobs", "a")
        assert.strictEqual(yield* redis.send("LLEN", "jobs"), 1)
        assert.deepStrictEqual(yield* connections.use((own) => own.send("BLPOP", "jobs", "1")), ["jobs", "a"])
        assert.deepInclude(yield* connections.stats, { active: 0, idle: 1 })
      })
    ))

  describe("survives", () => {
    it.live("a line that is cut in the middle, and one that was cut while it lay idle", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const proxy = yield* FaultProxy.make({ target: server })
          const { connections } = yield* build(proxy)
          const cut = yield* Effect.flip(connections.use((redis) =>
            Effect.andThen(
              idOf(redis),
              Effect.all([
                redis.send("BLPOP", "none", "10"),
                proxy.resetConnections
              ], { concurrency: 2 })
            )
          ))
          assert.strictEqual(cut._tag, "RedisError")
          const first = yield* connections.use(idOf)
          yield* proxy.resetConnections
          // It is not kept: the gauge is right although nobody asked.
          yield* eventually(Effect.map(connections.stats, ({ active, idle }) => active + idle === 0))
          assert.notStrictEqual(yield* connections.use(idOf), first)
        })
      ))

    it.live("a black hole: commands and questions end in time, and it goes on when the line is back", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const proxy = yield* FaultProxy.make({ target: server })
          const { connections } = yield* build(
            proxy,
            { validation_interval: Duration.millis(1), acquire_timeout: Duration.millis(800), max_connections: 1 },
            { command_timeout: "200 millis", timeout: "300 millis" }
          )
          const inUse = yield* timed(
            Effect.exit(connections.use((redis) => Effect.andThen(proxy.blackHole, redis.send("GET", "x"))))
          )
          assert.isTrue(inUse.millis >= 190 && inUse.millis < 5_000, `${inUse.millis} ms`)
          assert.match(inspect(yield* inUse.exit, { depth: 9 }), /Command timed out/)
          yield* proxy.pass
          yield* eventually(connections.use(idOf))
          // Idle for longer than the interval.
          yield* pause("10 millis")
          yield* proxy.blackHole
          // The idle one does not answer, and a new one cannot be opened.
          const { exit, millis } = yield* timed(Effect.flip(connections.use(idOf)))
          assert.include(["PoolExhaustedError", "ResourceError"], (yield* exit)._tag)
          assert.isBelow(millis, 5_000)
          yield* proxy.pass
          assert.isNumber(yield* eventually(connections.use(idOf)))
          yield* eventually(Effect.map(onServer(server), (n) => n === 1), { what: "one connection is open" })
        })
      ))

    it.live("a server that is killed and started again: typed errors, then new connections, with the same service", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections, status } = yield* build(server)
          const nodeState = Effect.map(status.get("redis-connections"), (node) => node?.state)
          yield* connections.use((redis) =>
            Effect.gen(function*() {
              yield* server.kill
              assert.strictEqual((yield* Effect.flip(redis.send("GET", "x")))._tag, "RedisError")
            })
          )
          const error = yield* Effect.flip(connections.use(idOf))
          assert.instanceOf(error, ResourceError)
          assert.deepInclude({ ...error }, { resource: "redis-connections", reason: "ConnectionFailed" })
          yield* server.start
          assert.isNumber(yield* eventually(connections.use(idOf)))
          yield* eventually(Effect.map(nodeState, (state) => state === "ready"))
        })
      ))

    it.live("a failover that Sentinel makes, after a purge at the latest", () =>
      Effect.scoped(Effect.gen(function*() {
        const watched = yield* Topology.sentinel()
        const context = yield* Layer.build(
          RedisConnections.layerWith({ max_connections: 2, acquire_timeout: Duration.millis(500) }).pipe(
            Layer.provideMerge(RedisCache.layerWith({
              mode: "sentinel",
              nodes: [`${watched.sentinel.host}:${watched.sentinel.port}`],
              sentinel_name: watched.name,
              retry_attempts: 0
            })),
            Layer.provideMerge(Status.layer)
          )
        )
        const connections = Context.get(context, RedisConnections.RedisConnections)
        yield* connections.use((redis) => redis.send("SET", "k", "1"))
        yield* watched.primary.kill
        yield* connections.purge
        yield* eventually(connections.use((redis) => redis.send("SET", "k", "2")), { within: "20 seconds" })
        assert.strictEqual(yield* Topology.tell(watched.replica.port, undefined, "GET", "k"), "2")
      })), 60_000)
  })

  it.live("purge replaces all: the idle ones now, one in use when it comes back", () =>
    withServer((server) =>
      Effect.gen(function*() {
        const { connections } = yield* build(server)
        const idle = yield* Effect.scoped(Effect.andThen(connections.reserve, connections.use(idOf)))
        const held = yield* connections.use((redis) =>
          Effect.gen(function*() {
            const id = yield* idOf(redis)
            yield* connections.purge
            assert.strictEqual(yield* idOf(redis), id)
            return id
          })
        )
        assert.notInclude([idle, held], yield* connections.use(idOf))
        yield* eventually(Effect.map(onServer(server), (n) => n === 1))
      })
    ))

  it.live("keeps the minimum, and leaves no connection on the server when it is released", () =>
    withServer((server) =>
      Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const { connections } = yield* build(server, { max_connections: 5, min_connections: 3 })
          yield* eventually(Effect.map(onServer(server), (n) => n >= 3))
          yield* fork(Effect.exit(connections.use((redis) => redis.send("BLPOP", "none", "0.2"))))
          yield* Effect.replicateEffect(fork(Effect.exit(connections.use((redis) => redis.send("MULTI")))), 4)
        }))
        yield* eventually(Effect.map(onServer(server), (n) => n === 0), { what: "all are gone" })
      })
    ))

  describe("explains", () => {
    it.live("a password that is wrong by now, without showing it", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections, redis } = yield* build(server, {}, { password: Redacted.make(secret) })
          yield* redis.send("CONFIG", "SET", "requirepass", "another")
          yield* connections.purge
          const exit = yield* Effect.exit(connections.use(idOf))
          const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
          assert.instanceOf(error, ResourceError)
          assert.deepInclude({ ...error as ResourceError }, { reason: "PermissionDenied", option: "cache.password" })
          const shown = [exit, connections, yield* connections.stats, yield* connections.leases]
            .map((value) => inspect(value, { depth: Infinity, showHidden: true }) + JSON.stringify(value)).join("\n")
          assert.notInclude(shown, secret)
        }), { password: secret }))

    it.live("that a connection shows no secret", () =>
      withServer((server) =>
        Effect.gen(function*() {
          const { connections } = yield* build(server, {}, { password: Redacted.make(secret) })
          const shown = yield* connections.use((redis) =>
            Effect.map(
              Effect.exit(redis.send("AUTH", secret, secret)),
              (exit) => inspect([redis, exit], { depth: Infinity, showHidden: true })
            )
          )
          assert.notInclude(shown, secret)
        }), { password: secret }))

    it.live("that a Cluster has none, and limits that are out of range", () =>
      Effect.scoped(Effect.gen(function*() {
        const { addresses, nodes } = yield* Topology.cluster()
        const onCluster = yield* Effect.flip(build(nodes[0]!, {}, { mode: "cluster", nodes: addresses }))
        assert.instanceOf(onCluster, ResourceError)
        assert.deepInclude({ ...onCluster as ResourceError }, { reason: "ConfigurationInvalid", option: "cache.mode" })
        const server = yield* Servers.redis()
        const limits = yield* Effect.flip(build(server, { max_connections: 0 }))
        assert.include((limits as Error).message, "connection_pool.max_connections")
      })), 60_000)
  })
})
