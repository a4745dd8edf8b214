import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { Redis } from "effect/persistence"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { inspect } from "node:util"
import { RedisCache } from "../../src/backends/redis.ts"
import * as Status from "../../src/observability/Status.ts"
import * as CacheStore from "../../src/resource/CacheStore.ts"
import { cases } from "../resource/cacheStoreSuite.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import { findProgram } from "../support/Processes.ts"
import * as Topology from "../support/RedisTopology.ts"
import { freePort, temporaryFolder } from "../support/Server.ts"
import * as Servers from "../support/Servers.ts"

const secret = "s3cret-of-the-cluster-4712"

const quick: RedisCache.Extras = {
  resource: { monitor: { interval: "50 millis", timeout: "300 millis", failureThreshold: 2 } }
}

const layer = (options: RedisCache.Options, extras: RedisCache.Extras = quick) =>
  RedisCache.layerWith({ retry_attempts: 0, ...options }, extras).pipe(Layer.provideMerge(Status.layer))

const startError = (options: RedisCache.Options, extras?: RedisCache.Extras) =>
  Effect.flip(Effect.scoped(Layer.build(layer(options, extras)))).pipe(
    Effect.flatMap((error) => error._tag === "ResourceError" ? Effect.succeed(error) : Effect.die(error))
  )

const becomes = (context: Context.Context<Status.Status>, wanted: string) =>
  eventually(
    Effect.map(Context.get(context, Status.Status).get("cache"), (node) => node?.state === wanted),
    { within: "15 seconds", what: `the cache becomes ${wanted}` }
  )

Servers.describeWith(["redis"], "RedisCache on more than one server", () => {
  it.live("a cluster keeps what every cache store promises", () =>
    Effect.gen(function*() {
      const { addresses } = yield* Topology.cluster()
      for (const [index, [name, body]] of cases((ttl) => Effect.andThen(pause(ttl), pause("40 millis"))).entries()) {
        yield* body.pipe(
          Effect.provide(
            // A busy machine: what is promised here is not about time.
            layer(
              { mode: "cluster", nodes: addresses, prefix: `${index}:`, command_timeout: "10 seconds" },
              { resource: { monitor: false } }
            )
          ),
          Effect.onError(() => Effect.logError(`on a cluster: ${name}`))
        )
      }
    }).pipe(Effect.scoped), 120_000)

  it.live(
    "a cluster: scripts run on every node, keys spread, and a lost node is seen, typed, and survived",
    () =>
      Effect.gen(function*() {
        const { addresses, nodes } = yield* Topology.cluster(secret)
        const wrong = yield* startError({
          mode: "cluster",
          nodes: addresses,
          password: Redacted.make("wrong-password-2")
        })
        assert.deepInclude({ ...wrong }, { reason: "PermissionDenied", option: "cache.password" })
        assert.notInclude(inspect(wrong, { depth: Infinity, showHidden: true }), "wrong-password-2")

        const context = yield* Layer.build(layer({
          mode: "cluster",
          nodes: addresses.slice(0, 1),
          password: Redacted.make(secret),
          command_timeout: "400 millis"
        }))
        const cache = Context.get(context, CacheStore.CacheStore)
        const redis = Context.get(context, Redis.Redis)
        for (const service of [cache, redis, context]) {
          assert.notInclude(inspect(service, { depth: Infinity, showHidden: true }), secret)
        }
        const keys = Array.from({ length: 60 }, (_, i) => `key:${i}`)
        yield* cache.setMany(keys.map((key) => [key, key]))
        assert.deepStrictEqual(yield* cache.getMany(keys), keys.map((key) => Option.some(key)))
        for (const node of nodes) {
          assert.isAbove(Number(yield* Topology.tell(node.port, secret, "DBSIZE")), 5)
        }
        const twice = redis.eval(
          Redis.script((key: string, end: string) => [key, end], {
            lua: "return redis.call('GET', KEYS[1]) .. ARGV[1]",
            numberOfKeys: 1
          }).withReturnType<string>()
        )
        for (const key of keys.slice(0, 10)) assert.strictEqual(yield* twice(key, "!"), `${key}!`)

        yield* nodes[2]!.kill
        yield* becomes(context, "down")
        const slow: Array<number> = []
        const reasons = new Set<string>()
        for (const key of keys.slice(0, 20)) {
          const { exit, millis } = yield* timed(Effect.result(cache.get(key)))
          const result = yield* exit
          if (result._tag === "Failure") reasons.add(result.failure.reason)
          slow.push(millis)
        }
        assert.isBelow(Math.max(...slow), 3_000)
        for (const reason of reasons) assert.include(["Unavailable", "TimedOut"], reason)
        yield* nodes[2]!.start
        yield* becomes(context, "ready")
        yield* eventually(cache.setMany(keys.map((key) => [key, "again"])), { within: "15 seconds" })
        assert.strictEqual(yield* cache.clear("key:"), keys.length)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("a mode that does not fit the server is named", () =>
    Effect.gen(function*() {
      const alone = yield* Servers.redis()
      const noCluster = yield* startError({ mode: "cluster", nodes: [`${alone.host}:${alone.port}`] })
      assert.deepInclude({ ...noCluster }, { reason: "ConfigurationInvalid", option: "cache.mode" })
      const node = yield* Servers.redis({ config: ["cluster-enabled yes", `cluster-port ${yield* freePort}`] })
      const inCluster = yield* startError({ host: node.host, port: node.port })
      assert.deepInclude({ ...inCluster }, { reason: "ConfigurationInvalid", option: "cache.mode" })
      const nobody = yield* startError({ mode: "cluster", nodes: [`127.0.0.1:${yield* freePort}`] })
      assert.deepInclude({ ...nobody }, { reason: "ConnectionFailed", option: "cache.nodes" })
    }).pipe(Effect.scoped), 60_000)

  it.live("sentinels lead to the primary, and to the new one after a failover", () =>
    Effect.gen(function*() {
      const { name, primary, replica, sentinel } = yield* Topology.sentinel()
      const nodes = [`${sentinel.host}:${sentinel.port}`]
      const context = yield* Layer.build(layer({ mode: "sentinel", nodes, sentinel_name: name }))
      const cache = Context.get(context, CacheStore.CacheStore)
      yield* cache.set("k", "x")
      assert.strictEqual(yield* Topology.tell(primary.port, undefined, "GET", "k"), "x")
      yield* eventually(
        Effect.map(Topology.tell(replica.port, undefined, "GET", "k"), (value) => value === "x"),
        { what: "the replica has the key" }
      )
      yield* primary.kill
      yield* becomes(context, "down")
      yield* becomes(context, "ready")
      assert.deepStrictEqual(yield* eventually(cache.get("k")), Option.some("x"))
      yield* eventually(cache.set("k", "on the new primary"))
      assert.strictEqual(yield* Topology.tell(replica.port, undefined, "GET", "k"), "on the new primary")

      const unknown = yield* startError({ mode: "sentinel", nodes, sentinel_name: "nobody" })
      assert.deepInclude({ ...unknown }, { reason: "ConnectionFailed", option: "cache.sentinel_name" })
      const nowhere = yield* startError({
        mode: "sentinel",
        nodes: [`127.0.0.1:${yield* freePort}`],
        sentinel_name: name
      })
      assert.deepInclude({ ...nowhere }, { reason: "ConnectionFailed", option: "cache.nodes" })
    }).pipe(Effect.scoped), 120_000)

  describe.skipIf(findProgram("openssl") === undefined && process.env["CI"] !== "true")("over TLS", () => {
    it.live("connects with the right authority, and names the option without it", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder("seaworthy-tls-")
        const key = path.join(folder, "key.pem")
        const cert = path.join(folder, "cert.pem")
        execFileSync("openssl", [
          ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", cert],
          ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        ], { stdio: "ignore" })
        const tlsPort = yield* freePort
        const server = yield* Servers.redis({
          password: secret,
          config: [`tls-port ${tlsPort}`, `tls-cert-file ${cert}`, `tls-key-file ${key}`, "tls-auth-clients no"]
        })
        const there = { host: server.host, port: tlsPort, password: Redacted.make(secret) }
        const context = yield* Layer.build(layer(there, { ...quick, tls: { ca: fs.readFileSync(cert) } }))
        yield* Context.get(context, CacheStore.CacheStore).set("k", "x")
        assert.strictEqual(yield* Topology.tell(server.port, secret, "GET", "k"), "x")

        const untrusted = yield* startError({ ...there, tls: true, retry_attempts: 3 })
        assert.deepInclude({ ...untrusted }, { reason: "ConnectionFailed", option: "cache.tls", attempts: 1 })
        assert.include(untrusted.message, "NODE_EXTRA_CA_CERTS")

        const plain = yield* startError({ ...there, timeout: "2 seconds" })
        assert.include(plain.message, "CACHE_TLS")
      }).pipe(Effect.scoped), 60_000)
  })
})
