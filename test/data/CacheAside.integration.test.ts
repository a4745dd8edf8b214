import { assert, describe, it, layer as itLayer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Redis } from "effect/persistence/Redis"
import * as Schema from "effect/Schema"
import { fileURLToPath } from "node:url"
import * as RedisCacheAside from "../../src/backends/internal/redisCacheAside.ts"
import { RedisCache } from "../../src/backends/redis.ts"
import * as CacheAside from "../../src/data/CacheAside.ts"
import * as Status from "../../src/observability/Status.ts"
import { spawnCommand } from "../support/Command.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import * as Servers from "../support/Servers.ts"

const prefix = "seaworthy:cache-aside:"

const layer = (server: { readonly host: string; readonly port: number }) =>
  RedisCacheAside.layer().pipe(
    Layer.provideMerge(
      RedisCache.layerWith({ host: server.host, port: server.port, command_timeout: "20 seconds" }, {
        resource: { monitor: false }
      })
    ),
    Layer.provideMerge(Status.layer)
  )

type Options = Partial<CacheAside.SharedOptions<string, string, string, never>>

/** A process of its own as far as Redis can tell: with its own connections and its own status tree. */
const node = (
  server: { readonly host: string; readonly port: number },
  load: (key: string) => Effect.Effect<string | Option.Option<string>, string>,
  options?: Options
) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(Layer.fresh(layer(server)))
    const cache = yield* CacheAside.make({
      name: "c",
      schema: Schema.String,
      ttl: "1 hour",
      storage: "two-level",
      // A busy machine is not what these tests are about; the last one is.
      storeTimeout: "10 seconds",
      hardTimeout: "30 seconds",
      load,
      ...options
    }).pipe(Effect.provideContext(context))
    const send = (command: string, ...args: ReadonlyArray<string>) =>
      Effect.orDie(Context.get(context, Redis).send(command, ...args))
    return { cache, send, status: Context.get(context, Status.Status) }
  })

const got = (cache: CacheAside.CacheAside<string, string>, key = "k") =>
  Effect.map(
    Effect.exit(cache.get(key)),
    (exit) => Exit.isSuccess(exit) ? Option.getOrElse(exit.value, () => "absent") : "failed"
  )

const fixture = fileURLToPath(new URL("../support/CacheAsideNode.fixture.ts", import.meta.url))

const start = (
  port: number,
  options: { readonly callers: number; readonly loadMillis: number; readonly value: string }
) =>
  Effect.gen(function*() {
    const { callers, loadMillis, value } = options
    const command = yield* spawnCommand([
      "--import",
      "tsx",
      fixture,
      String(port),
      String(callers),
      String(loadMillis),
      value
    ])
    yield* command.waitForLine(/^ready$/, { within: "40 seconds" })
    const line = (name: string) =>
      Effect.map(command.waitForLine(new RegExp(`^${name} `), { within: "40 seconds" }), (text) =>
        text.slice(name.length + 1))
    return {
      ...command,
      go: command.write("go\n"),
      loading: command.waitForLine(/^loading$/),
      result: Effect.map(
        line("result"),
        (text): { values: Array<string>; loads: number; refusedWrites: number } =>
          JSON.parse(text)
      ),
      afterwards: line("then")
    }
  })

Servers.describeWith(["redis"], "CacheAside on a real Redis", () => {
  describe("over processes", () => {
    it.live("1,000 concurrent misses in two processes make one load", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const nodes = yield* Effect.forEach(
          ["one", "two"],
          (value) => start(server.port, { callers: 500, loadMillis: 1_000, value }),
          { concurrency: 2 }
        )
        yield* Effect.forEach(nodes, ({ go }) => go)
        const results = yield* Effect.forEach(nodes, ({ result }) => result)
        assert.strictEqual(results[0]!.loads + results[1]!.loads, 1)
        assert.strictEqual(results[0]!.values.length, 1)
        assert.deepStrictEqual(results[0]!.values, results[1]!.values)
      }).pipe(Effect.scoped), 90_000)

    it.live("a process that is killed while it loads is replaced when its lease is over", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const [holder, other] = yield* Effect.all([
          start(server.port, { callers: 1, loadMillis: 60_000, value: "never" }),
          start(server.port, { callers: 10, loadMillis: 10, value: "replaced" })
        ], { concurrency: 2 })
        yield* holder.go
        yield* holder.loading
        yield* holder.signal("SIGKILL")
        yield* other.go
        assert.deepStrictEqual(yield* other.result, { values: ["replaced"], loads: 1, refusedWrites: 0 })
      }).pipe(Effect.scoped), 90_000)

    it.live(
      "a process that was stopped while it loaded has lost its lease: its late write is refused",
      () =>
        Effect.gen(function*() {
          const server = yield* Servers.redis()
          const [holder, other] = yield* Effect.all([
            start(server.port, { callers: 1, loadMillis: 1_500, value: "late" }),
            start(server.port, { callers: 10, loadMillis: 10, value: "timely" })
          ], { concurrency: 2 })
          yield* holder.go
          yield* holder.loading
          yield* holder.signal("SIGSTOP")
          yield* other.go
          assert.deepStrictEqual((yield* other.result).values, ["timely"])
          yield* holder.signal("SIGCONT")
          assert.deepStrictEqual(yield* holder.result, { values: ["late"], loads: 1, refusedWrites: 1 })
          assert.strictEqual(yield* holder.afterwards, "timely")
        }).pipe(Effect.scoped),
      90_000
    )
  })

  itLayer(Servers.Redis.layer(), { excludeTestServices: true, timeout: "60 seconds" })("on one server", (it) => {
    let caches = 0
    /** Two nodes of a cache of its own. */
    const two = (load: (key: string) => Effect.Effect<string | Option.Option<string>, string>, options?: Options) =>
      Effect.gen(function*() {
        const server = yield* Servers.Redis
        const name = `c${caches++}`
        const one = yield* node(server, load, { name, ...options })
        const other = yield* node(server, load, { name, ...options })
        const keys = (pattern: string) =>
          Effect.map(one.send("KEYS", `${prefix}{${name}}:${pattern}`), (found) => found as ReadonlyArray<string>)
        return { name, one, other, keys }
      })

    it.effect("an entry that one node has written another reads, with what is left of its time", () =>
      Effect.gen(function*() {
        let loads = 0
        const { keys, name, one, other } = yield* two(() => Effect.sync(() => `v${++loads}`), {
          jitter: 0,
          ttl: "1 minute"
        })
        assert.deepStrictEqual([yield* got(one.cache), yield* got(other.cache), yield* got(other.cache)], [
          "v1",
          "v1",
          "v1"
        ])
        assert.isAtMost(Number(yield* one.send("PTTL", `${prefix}{${name}}:e:k`)), 60_000)
        assert.deepStrictEqual(yield* keys("l:*"), [])
      }))

    it.effect("an entry ends by the server's clock, with its copies", () =>
      Effect.gen(function*() {
        let loads = 0
        const { one, other } = yield* two(() => Effect.sync(() => `v${++loads}`), { jitter: 0, ttl: "300 millis" })
        const first = yield* timed(Effect.all([got(one.cache), got(other.cache)]))
        assert.isTrue(Exit.isSuccess(first.exit))
        yield* pause("300 millis")
        assert.notStrictEqual(yield* got(other.cache), "v1")
      }))

    it.effect("absence, empty text and text in any script are kept as what they are", () =>
      Effect.gen(function*() {
        let loads = 0
        const values: Record<string, string | Option.Option<string>> = {
          none: Option.none(),
          empty: "",
          "ключ|*?[x]": "Wert|1|\"ü\"\n"
        }
        const { one, other } = yield* two((key) => Effect.sync(() => (loads++, values[key]!)))
        for (const key of Object.keys(values)) yield* got(one.cache, key)
        const found = yield* other.cache.getMany(Object.keys(values))
        assert.deepStrictEqual(found.map(Option.getOrElse(() => "absent")), ["absent", "", "Wert|1|\"ü\"\n"])
        assert.strictEqual(loads, 3)
      }))

    it.effect("bytes that are not an entry are a counted miss, and are replaced", () =>
      Effect.gen(function*() {
        const { name, one, other } = yield* two(() => Effect.succeed("v"))
        yield* one.send("SET", `${prefix}{${name}}:e:k`, "garbage")
        assert.strictEqual(yield* got(one.cache), "v")
        assert.strictEqual((yield* one.cache.metrics).undecodable, 1)
        assert.strictEqual(yield* got(other.cache), "v")
        assert.strictEqual((yield* other.cache.metrics).loads, 0)
      }))

    const tags = (key: string) => [key.split(":")[0]!]
    const targets: ReadonlyArray<readonly [string, CacheAside.Target]> = [
      ["key", { key: "user*:1" }],
      ["tag", { tag: "user*" }],
      ["prefix", { prefix: "user*:" }],
      ["all", { all: true }]
    ]

    for (const [name, target] of targets) {
      it.effect(`by ${name}: forgets on all nodes, removes from the server, and leaves the rest`, () =>
        Effect.gen(function*() {
          let loads = 0
          const { keys, one, other } = yield* two(() => Effect.sync(() => `v${++loads}`), { tags })
          for (const key of ["user*:1", "users:2"]) {
            yield* got(one.cache, key)
            yield* got(other.cache, key)
          }
          yield* one.cache.forget(target)
          assert.strictEqual((yield* keys("e:*")).length, name === "all" ? 0 : 1)
          yield* eventually(Effect.map(got(other.cache, "user*:1"), (value) => value !== "v1"))
          assert.strictEqual(yield* got(one.cache, "user*:1"), yield* got(other.cache, "user*:1"))
          assert.strictEqual((yield* got(one.cache, "users:2")) === "v2", name !== "all")
        }))

      it.effect(`by ${name} during a load on another node wins`, () =>
        Effect.gen(function*() {
          const gate = yield* Deferred.make<string>()
          let loads = 0
          const { keys, one, other } = yield* two(
            () => Effect.suspend(() => ++loads === 1 ? Deferred.await(gate) : Effect.succeed("new")),
            { tags }
          )
          const before = yield* Effect.forkChild(got(one.cache, "user*:1"), { startImmediately: true })
          yield* eventually(Effect.sync(() => loads === 1))
          yield* other.cache.forget(target)
          yield* Deferred.succeed(gate, "old")
          assert.strictEqual(yield* Fiber.join(before), "old")
          assert.strictEqual((yield* one.cache.metrics).refusedWrites, 1)
          assert.deepStrictEqual(yield* keys("e:*"), [])
          assert.deepStrictEqual([yield* got(one.cache, "user*:1"), yield* got(other.cache, "user*:1")], ["new", "new"])
        }))
    }

    it.effect("forgets by walking with SCAN and removing with UNLINK, never with KEYS", () =>
      Effect.gen(function*() {
        const { keys, one } = yield* two((key) => Effect.succeed(key), { tags })
        const ids = Array.from({ length: 50 }, (_, i) => `user*:${i}`)
        const used = (command: string) =>
          Effect.map(one.send("INFO", "commandstats"), (stats) => String(stats).includes(`cmdstat_${command}:`))
        const forgetting = [
          one.cache.invalidate("user*:1"),
          one.cache.invalidatePrefix("user*"),
          one.cache.invalidateTag("user*"),
          one.cache.invalidateAll
        ]
        for (const forget of forgetting) {
          yield* one.cache.getMany(ids)
          yield* one.send("CONFIG", "RESETSTAT")
          yield* forget
          // What is counted includes what scripts call.
          assert.deepStrictEqual([yield* used("unlink"), yield* used("keys")], [true, false])
        }
        assert.deepStrictEqual(yield* keys("e:*"), [])
      }))

    it.effect("a value that one node sets all nodes get, and a load that had begun before is refused", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<string>()
        let loads = 0
        const { keys, one, other } = yield* two(() => Effect.suspend(() => (loads++, Deferred.await(gate))), { tags })
        const before = yield* Effect.forkChild(got(one.cache, "user*:1"), { startImmediately: true })
        yield* eventually(Effect.sync(() => loads === 1))
        yield* other.cache.set("user*:1", "set")
        assert.deepStrictEqual(yield* keys("l:*"), [])
        yield* Deferred.succeed(gate, "loaded")
        assert.strictEqual(yield* Fiber.join(before), "loaded")
        assert.strictEqual((yield* one.cache.metrics).refusedWrites, 1)
        assert.deepStrictEqual([yield* got(one.cache, "user*:1"), yield* got(other.cache, "user*:1")], ["set", "set"])
        // It carries its tags, and an absence is a value too.
        yield* one.cache.invalidateTag("user*")
        assert.deepStrictEqual(yield* keys("[et]:*"), [])
        yield* one.cache.set("user*:1", Option.none())
        assert.strictEqual(yield* got(other.cache, "user*:1"), "absent")
        assert.strictEqual(loads, 1)
      }))

    it.effect("many keys that are missing are loaded by one call, each under a lease of its own", () =>
      Effect.gen(function*() {
        const calls: Array<number> = []
        const { keys, one, other } = yield* two((key) => Effect.succeed(key), {
          storage: "redis",
          loadMany: (keys) => Effect.sync(() => (calls.push(keys.length), keys.map((key) => [key, `${key}!`] as const)))
        })
        const all = Array.from({ length: 250 }, (_, index) => `k${index}`)
        yield* other.cache.set("k7", "there")
        const found = yield* one.cache.getMany(all)
        assert.deepStrictEqual(
          found.map(Option.getOrThrow),
          all.map((key) => key === "k7" ? "there" : `${key}!`)
        )
        assert.deepStrictEqual(calls, [99, 100, 50])
        assert.deepStrictEqual(yield* other.cache.getMany(all), found)
        assert.strictEqual(calls.length, 3)
        assert.strictEqual((yield* keys("e:*")).length, 250)
        assert.deepStrictEqual(yield* keys("l:*"), [])
      }))

    for (const options of [{}, { staleIfError: "1 minute" }] as const) {
      it.effect(`many who look at once get each what is theirs (${JSON.stringify(options)})`, () =>
        Effect.gen(function*() {
          const { keys, one, other } = yield* two((key) => Effect.succeed(key), { storage: "redis", ...options })
          const all = Array.from({ length: 1_200 }, (_, index) => `k${index}`)
          yield* one.cache.warm(all, { concurrency: 100 })
          yield* other.cache.invalidate("k600")
          const found = yield* Effect.forEach([...all, ...all], (key) => got(other.cache, key), {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(found, [...all, ...all])
          const { loads, storeHits } = yield* other.cache.metrics
          assert.deepStrictEqual({ loads, storeHits }, { loads: 1, storeHits: 2_398 })
          assert.strictEqual((yield* keys("e:*")).length, 1_200)
        }))
    }

    it.effect("keys carry the prefix of the settings: two applications share a server and do not meet", () =>
      Effect.gen(function*() {
        const server = yield* Servers.Redis
        const app = (name: string) =>
          Effect.gen(function*() {
            const context = yield* Layer.build(Layer.fresh(
              RedisCacheAside.layer().pipe(
                Layer.provideMerge(
                  RedisCache.layerWith({ host: server.host, port: server.port, prefix: `${name}:` }, {
                    resource: { monitor: false }
                  })
                ),
                Layer.provideMerge(Status.layer)
              )
            ))
            const cache = yield* CacheAside.make({
              name: "shared",
              storage: "two-level",
              schema: Schema.String,
              load: () => Effect.succeed(name),
              ttl: "1 minute",
              tags: () => ["t"]
            }).pipe(Effect.provideContext(context))
            return { cache, redis: Context.get(context, Redis) }
          })
        const [one, other] = [yield* app("one"), yield* app("other")]
        for (const _ of [1, 2]) {
          assert.deepStrictEqual([yield* got(one.cache), yield* got(other.cache)], ["one", "other"])
        }
        const names = yield* one.redis.send<Array<string>>("KEYS", "*{shared}*")
        assert.deepStrictEqual(
          names.filter((key) => !key.endsWith(":m")).sort(),
          ["one", "other"].flatMap((app) => ["e:k", "t:t"].map((part) => `${app}:${prefix}{shared}:${part}`)).sort()
        )
        yield* one.cache.invalidateAll
        assert.strictEqual((yield* one.redis.send<Array<string>>("KEYS", "*{shared}:e:*")).length, 1)
      }))

    it.effect("a prefix and a tag of many keys are walked to the end", () =>
      Effect.gen(function*() {
        const { keys, one } = yield* two((key) => Effect.succeed(key), { tags })
        const all = Array.from({ length: 2_500 }, (_, index) => `a:${index}`)
        yield* one.cache.warm(all, { concurrency: 100 })
        assert.strictEqual((yield* keys("e:*")).length, 2_500)
        yield* one.cache.invalidateTag("a")
        assert.deepStrictEqual(yield* keys("[et]:*"), [])
        yield* one.cache.warm(all, { concurrency: 100 })
        yield* one.cache.invalidatePrefix("a:")
        assert.deepStrictEqual(yield* keys("e:*"), [])
      }))

    it.effect("more invalidations during a load than are remembered refuse it too", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<string>()
        const { keys, one, other } = yield* two(() => Deferred.await(gate))
        const before = yield* Effect.forkChild(got(one.cache), { startImmediately: true })
        yield* eventually(Effect.map(keys("l:*"), (found) => found.length === 1))
        yield* other.cache.forget({ keys: Array.from({ length: 1_001 }, (_, index) => `other${index}`) })
        yield* Deferred.succeed(gate, "v")
        assert.strictEqual(yield* Fiber.join(before), "v")
        assert.strictEqual((yield* one.cache.metrics).refusedWrites, 1)
        // What it keeps for that is bounded.
        const [meta] = yield* keys("m")
        assert.isAtMost(Number(yield* one.send("HLEN", meta!)), 1_002)
      }))

    it.effect("a load that began before the server lost its data does not write after it", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<string>()
        let loads = 0
        const { keys, name, one, other } = yield* two(
          () => Effect.suspend(() => ++loads === 1 ? Deferred.await(gate) : Effect.succeed("new"))
        )
        const before = yield* Effect.forkChild(got(one.cache), { startImmediately: true })
        yield* eventually(Effect.sync(() => loads === 1))
        for (const part of ["e:k", "l:k", "m"]) yield* one.send("DEL", `${prefix}{${name}}:${part}`)
        yield* other.cache.invalidate("k")
        yield* Deferred.succeed(gate, "old")
        assert.strictEqual(yield* Fiber.join(before), "old")
        assert.deepStrictEqual(yield* keys("e:*"), [])
        assert.strictEqual(yield* got(other.cache), "new")
      }))

    it.effect("an invalidation reaches the memory of another node within milliseconds, through the bus", () =>
      Effect.gen(function*() {
        let loads = 0
        const { one, other } = yield* two(() => Effect.sync(() => `v${++loads}`))
        // Once both hear the bus, a read is a hit in memory.
        yield* eventually(Effect.gen(function*() {
          const before = (yield* other.cache.metrics).storeHits
          yield* got(other.cache)
          yield* got(other.cache)
          return (yield* other.cache.metrics).storeHits === before
        }))
        const old = yield* got(other.cache)
        yield* one.cache.invalidate("k")
        yield* eventually(Effect.map(got(other.cache), (value) => value !== old))
        assert.strictEqual((yield* other.cache.metrics).gaps, 0)
      }))
  })

  it.live(
    "stopped, frozen and flushed under reads: all are served in time, none too old, and it recovers",
    () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        // A frozen server would hold a read that is not bounded for 20 seconds.
        const stall = 5_000
        const ttl = 300
        const latencies: Array<number> = []
        let oldest = 0
        let reads = 0
        let failed = 0
        // The value says when it was loaded.
        const load = () => Effect.delay(Effect.sync(() => String(performance.now())), "10 millis")
        const options = {
          ttl,
          storeTimeout: "200 millis",
          storeRetry: "200 millis",
          distrustAfter: "600 millis"
        } as const
        const nodes = [yield* node(server, load, options), yield* node(server, load, options)]
        const reader = (index: number) =>
          Effect.forever(Effect.gen(function*() {
            const { cache } = nodes[index % 2]!
            const { exit, millis } = yield* timed(cache.get(`k${reads++ % 20}`))
            latencies.push(millis)
            if (Exit.isSuccess(exit)) {
              oldest = Math.max(oldest, performance.now() - Number(Option.getOrElse(exit.value, () => "0")))
            } else failed++
            yield* pause("2 millis")
          }))
        const readers = yield* Effect.forEach([0, 1, 2, 3], (index) => Effect.forkChild(reader(index)))
        const states = Effect.forEach(
          nodes,
          ({ status }) => Effect.map(status.get("cache-aside:c"), (one) => one?.state)
        )
        const become = (state: string) =>
          eventually(
            Effect.map(states, (all) => all.every((one) => one === state)),
            { what: `all nodes are ${state}` }
          )
        const more = (n: number) => {
          const until = reads + n
          return eventually(Effect.sync(() => reads >= until))
        }
        yield* more(200)
        yield* server.kill
        yield* become("degraded")
        yield* more(200)
        yield* server.start
        yield* become("ready")
        yield* more(200)
        yield* server.freeze
        yield* become("degraded")
        yield* more(200)
        yield* server.thaw
        yield* become("ready")
        yield* nodes[0]!.send("FLUSHALL")
        yield* more(200)
        yield* Fiber.interruptAll(readers)
        assert.deepStrictEqual(yield* states, ["ready", "ready"])
        assert.strictEqual(failed, 0)
        latencies.sort((one, other) => one - other)
        assert.isBelow(latencies[Math.floor(latencies.length * 0.9)]!, 200 + 10)
        assert.isBelow(latencies.at(-1)!, 200 + 10 + stall)
        assert.isBelow(oldest, ttl + stall)
        // Values are shared again.
        const before = (yield* nodes[1]!.cache.metrics).loads
        const value = yield* got(nodes[0]!.cache, "fresh")
        assert.strictEqual(yield* got(nodes[1]!.cache, "fresh"), value)
        assert.strictEqual((yield* nodes[1]!.cache.metrics).loads, before)
      }).pipe(Effect.scoped),
    90_000
  )
})
