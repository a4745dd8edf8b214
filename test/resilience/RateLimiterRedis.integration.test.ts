import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as EffectRedis from "effect/persistence/Redis"
import * as fc from "fast-check"
import { fileURLToPath } from "node:url"
import * as RedisLimiter from "../../src/backends/internal/redisLimiter.ts"
import * as RateLimiter from "../../src/resilience/RateLimiter.ts"
import { spawnCommand } from "../support/Command.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import { algorithms } from "../support/RateLimiterAlgorithms.ts"
import { compare, plan } from "../support/RateLimiterModel.ts"
import * as RedisClient from "../support/RedisClient.ts"
import * as Servers from "../support/Servers.ts"

/** The store on a server, and the bare commands beside it. */
const storeOn = (server: Servers.RedisServer, options?: RedisClient.Options) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.make(server, options)
    const context = yield* Layer.build(
      RedisLimiter.layer().pipe(Layer.provide(Layer.succeed(EffectRedis.Redis, redis)))
    )
    const provide = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, context)
    return { redis, provide, store: Context.get(context, RateLimiter.RateLimiterStore) }
  })

const HOUR = 3_600_000_000

Servers.describeWith(["redis"], "RateLimiter on a real Redis", () => {
  describe("obeys the same model as the memory store", () => {
    for (const [name, algorithm] of Object.entries(algorithms)) {
      it.live(name, () =>
        Effect.gen(function*() {
          const server = yield* Servers.redis()
          // The script's time is read from a key: everything else is as in production. Keys live for hours of that time,
          // so that the server's own clock, by which they expire, plays no part.
          const { provide, redis } = yield* storeOn(server, {
            before: ([command, text, ...rest]) =>
              command === "EVALSHA"
                ? [command, "0".repeat(40), ...rest]
                : command === "EVAL"
                ? [command, text!.replace("redis.call('TIME')", "redis.call('MGET', 's', 'us')"), ...rest]
                : [command!, text!, ...rest]
          })
          const setTime = (micros: number) =>
            redis.send("MSET", "s", String(Math.floor(micros / 1e6)), "us", String(micros % 1e6)).pipe(Effect.orDie)
          let run = 0
          yield* Effect.promise(() =>
            fc.assert(
              fc.asyncProperty(plan, ({ burst, commands, limit, window }) =>
                compare({
                  name: `limiter-${run++}`,
                  algorithm: algorithm({ limit, window: window * HOUR / 1000, burst }),
                  unit: HOUR,
                  startAt: 1_763_700_000_123_456,
                  commands,
                  setTime
                }).pipe(provide, Effect.runPromise)),
              { numRuns: 60 }
            )
          )
        }).pipe(Effect.scoped))
    }
  })

  it.live("two processes with clocks hours apart grant exactly the limit together", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const fixture = fileURLToPath(new URL("../support/ConsumesLimit.fixture.ts", import.meta.url))
      const start = (skewMillis: number) =>
        spawnCommand(["--import", "tsx", fixture, server.url, "150", "120", String(skewMillis)])
      const commands = [yield* start(0), yield* start(7_200_000)]
      const totals: Record<string, number> = {}
      for (const command of commands) {
        const exit = yield* command.exit({ within: "60 seconds" })
        assert.strictEqual(exit.code, 0, yield* command.output)
        const admitted: Record<string, number> = JSON.parse(yield* command.stdout)
        for (const [name, n] of Object.entries(admitted)) totals[name] = (totals[name] ?? 0) + n
      }
      assert.deepStrictEqual(totals, Object.fromEntries(Object.keys(algorithms).map((name) => [name, 150])))
    }).pipe(Effect.scoped), 90_000)

  it.effect("goes by the server's time: a process whose clock stands still is admitted again", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const { provide } = yield* storeOn(server)
      const algorithm = RateLimiter.fixedWindow({ limit: 1, window: "1 second" })
      const limiter = RateLimiter.forKey(yield* provide(RateLimiter.distributed({ algorithm })), "k")
      yield* RateLimiter.consume(limiter)
      const error = yield* Effect.flip(RateLimiter.consume(limiter))
      assert.strictEqual(error._tag, "RateLimitExceededError")
      // Polls in real time; the clock of the process is the TestClock, which nobody moves.
      yield* eventually(RateLimiter.consume(limiter))
    }))

  describe("for every algorithm", () => {
    const each = (
      name: string,
      body: (o: {
        readonly algorithm: (o: RateLimiter.BurstOptions) => RateLimiter.Algorithm
        readonly store: RateLimiter.RateLimiterStore["Service"]
        readonly redis: EffectRedis.Redis["Service"]
        readonly sent: Array<ReadonlyArray<string>>
        readonly name: string
      }) => Effect.Effect<void, unknown>,
      cluster = false
    ) =>
      it.live(name, () =>
        Effect.gen(function*() {
          // The bus port is the port plus 10,000 where it is not given, and may then be none.
          const config = cluster ? ["cluster-enabled yes", `cluster-port ${yield* Servers.freePort}`] : []
          const server = yield* Servers.redis({ config })
          const sent: Array<ReadonlyArray<string>> = []
          const { redis, store } = yield* storeOn(server, {
            before: (command) => {
              sent.push(command)
              return command
            }
          })
          for (const [name, algorithm] of Object.entries(algorithms)) {
            yield* body({ algorithm, store, redis, sent, name: name.replaceAll(" ", "-") })
          }
        }).pipe(Effect.scoped))

    each(
      "a call is one round trip, once a server knows the script, and also after SCRIPT FLUSH",
      ({ algorithm, name, redis, sent, store }) =>
        Effect.gen(function*() {
          const request = { name, key: "k", algorithm: algorithm({ limit: 9, window: "1 hour", burst: 9 }), cost: 1 }
          const { at } = yield* store.consume(request)
          yield* store.peek(request)
          yield* store.refund(request, at)
          sent.length = 0
          yield* store.consume(request)
          yield* store.peek(request)
          assert.deepStrictEqual(sent.map(([command]) => command), ["EVALSHA", "EVALSHA"])
          yield* redis.send("SCRIPT", "FLUSH")
          assert.strictEqual((yield* store.consume(request)).remaining, 7)
          sent.length = 0
          yield* store.consume(request)
          assert.strictEqual(sent.length, 1)
        })
    )

    each(
      "a window shorter than a second and one of ten years work, and their keys expire",
      ({ algorithm, name, redis, store }) =>
        Effect.gen(function*() {
          const keys = Effect.map(redis.send<Array<string>>("KEYS", "*"), (all) => all.length)
          const short = { name, key: "k", algorithm: algorithm({ limit: 2, window: "500 millis", burst: 2 }), cost: 2 }
          assert.strictEqual((yield* store.consume(short)).wait, 0)
          const [key] = yield* redis.send<Array<string>>("KEYS", "*")
          const left = yield* redis.send<number>("PTTL", key!)
          // A counter weighs a window for as long again.
          assert.isTrue(left > 0 && left <= 1001, `${left} ms to live`)
          yield* eventually(Effect.map(keys, (n) => n === 0))
          assert.strictEqual((yield* store.consume(short)).wait, 0)

          const long = {
            name: `${name}-long`,
            key: "k",
            algorithm: algorithm({ limit: 2, window: "3650 days", burst: 2 }),
            cost: 2
          }
          assert.strictEqual((yield* store.consume(long)).wait, 0)
          assert.isAbove((yield* store.consume(long)).wait, 3649 * 24 * HOUR)
          const [longKey] = yield* redis.send<Array<string>>("KEYS", "*long*")
          assert.isAbove(yield* redis.send<number>("PTTL", longKey!), 3649 * 24 * 3_600_000)
          yield* redis.send("FLUSHALL")
        })
    )

    each(
      "a refused call and a peek write nothing, not even the time to live",
      ({ algorithm, name, redis, store }) =>
        Effect.gen(function*() {
          const request = { name, key: "k", algorithm: algorithm({ limit: 3, window: "1 hour", burst: 3 }), cost: 2 }
          yield* store.peek(request)
          assert.deepStrictEqual(yield* redis.send<Array<string>>("KEYS", "*"), [])
          yield* store.consume(request)
          const [key] = yield* redis.send<Array<string>>("KEYS", "*")
          const seen = Effect.all([redis.send<string>("DUMP", key!), redis.send<number>("PEXPIRETIME", key!)])
          const before = yield* seen
          assert.isAbove((yield* store.consume(request)).wait, 0)
          yield* store.peek({ ...request, cost: 1 })
          assert.strictEqual((yield* store.consume({ ...request, cost: 4 })).wait, Infinity)
          assert.deepStrictEqual(yield* seen, before)
          yield* redis.send("FLUSHALL")
        })
    )

    each("all of a refund leaves no key", ({ algorithm, name, redis, store }) =>
      Effect.gen(function*() {
        const request = { name, key: "k", algorithm: algorithm({ limit: 3, window: "1 hour", burst: 3 }), cost: 2 }
        const { at } = yield* store.consume(request)
        yield* store.refund(request, at)
        // What a bucket has regained meanwhile is a rest of less than a token; none is kept above zero.
        assert.deepStrictEqual(yield* redis.send<Array<string>>("KEYS", "*"), [])
      }))

    each(
      "a Cluster node takes any key",
      ({ algorithm, name, redis, store }) =>
        Effect.gen(function*() {
          const info = yield* redis.send<string>("CLUSTER", "INFO")
          if (!info.includes("cluster_slots_assigned:16384")) {
            yield* redis.send("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
          }
          yield* eventually(
            Effect.map(redis.send<string>("CLUSTER", "INFO"), (text) => text.includes("cluster_state:ok"))
          )
          for (const key of ["a", "b{c}d", "with space", "ключ", "x".repeat(300)]) {
            const request = { name, key, algorithm: algorithm({ limit: 3, window: "1 hour", burst: 3 }), cost: 2 }
            const { at, wait } = yield* store.consume(request)
            assert.strictEqual(wait, 0)
            assert.isAbove((yield* store.consume(request)).wait, 0)
            yield* store.refund(request, at)
            assert.strictEqual((yield* store.peek(request)).wait, 0)
          }
        }),
      true
    )
  })

  describe("when the store is away", () => {
    const algorithm = RateLimiter.fixedWindow({ limit: 2, window: "1 hour" })

    const limiters = (
      provide: <A, E, R>(
        effect: Effect.Effect<A, E, R>
      ) => Effect.Effect<A, E, Exclude<R, RateLimiter.RateLimiterStore>>
    ) =>
      Effect.gen(function*() {
        const options = { algorithm, storeTimeout: "200 millis" } as const
        const of = <E>(limiter: RateLimiter.KeyedRateLimiter<E>) => RateLimiter.forKey(limiter, "k")
        return {
          closed: of(yield* provide(RateLimiter.distributed({ ...options, name: "closed" }))),
          open: of(yield* provide(RateLimiter.distributed({ ...options, name: "open", onStoreError: "open" }))),
          local: of(yield* provide(RateLimiter.distributed({ ...options, name: "local", onStoreError: "local" })))
        }
      })

    const check = ({ closed, local, open }: Effect.Success<ReturnType<typeof limiters>>, reason: string) =>
      Effect.gen(function*() {
        const first = yield* timed(RateLimiter.consume(closed))
        assert.isTrue(Exit.isFailure(first.exit))
        // Far below what a hanging command would take; the store's time is 200 ms.
        assert.isBelow(first.millis, 2000)
        const error = yield* Effect.flip(RateLimiter.consume(closed))
        assert.strictEqual(error._tag, "RateLimitStoreError")
        if (error._tag === "RateLimitStoreError") assert.strictEqual(error.reason, reason)
        for (let i = 0; i < 3; i++) assert.isTrue((yield* RateLimiter.consume(open)).allowed)
        const allowed: Array<boolean> = []
        for (let i = 0; i < 3; i++) {
          allowed.push(
            yield* RateLimiter.consume(local).pipe(Effect.match({ onFailure: () => false, onSuccess: () => true }))
          )
        }
        assert.deepStrictEqual(allowed, [true, true, false])
        assert.isAtLeast((yield* RateLimiter.metrics(open)).storeErrors, 3)
      })

    it.live("killed: closed fails with an error of its own, open admits, local limits here; and all recover alone", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const { provide } = yield* storeOn(server)
        const all = yield* limiters(provide)
        yield* RateLimiter.consume(all.closed)
        yield* server.kill
        yield* check(all, "unavailable")
        yield* server.start
        yield* eventually(RateLimiter.consume(all.closed))
        yield* eventually(Effect.map(RateLimiter.peek(all.local), (decision) => decision.remaining === 2))
      }).pipe(Effect.scoped))

    it.live("frozen: the same within the store's time-out", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const { provide } = yield* storeOn(server)
        const all = yield* limiters(provide)
        yield* RateLimiter.consume(all.closed)
        yield* server.freeze
        yield* check(all, "timed-out")
        yield* server.thaw
        // The answers that came too late for `closed` are undone: one of two is taken, by the first call alone.
        yield* eventually(
          Effect.map(RateLimiter.peek(all.closed), (decision) => {
            assert.strictEqual(decision.remaining, 1)
          })
        )
      }).pipe(Effect.scoped))

    it.live("an interrupted caller leaves at once, and what the store grants it later is given back", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const { provide } = yield* storeOn(server)
        const limiter = RateLimiter.forKey(
          yield* provide(RateLimiter.distributed({ algorithm, storeTimeout: "1 minute" })),
          "k"
        )
        yield* RateLimiter.consume(limiter)
        yield* server.freeze
        const waiting = yield* Effect.forkChild(RateLimiter.consume(limiter), { startImmediately: true })
        yield* pause("50 millis")
        const { millis } = yield* timed(Fiber.interrupt(waiting))
        assert.isBelow(millis, 2000)
        yield* server.thaw
        yield* eventually(
          Effect.map(RateLimiter.peek(limiter), (decision) => assert.strictEqual(decision.remaining, 1))
        )
      }).pipe(Effect.scoped))
  })

  it.live("waits until the server grants, first come, first served", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const { provide } = yield* storeOn(server)
      const limiter = RateLimiter.forKey(
        yield* provide(RateLimiter.distributed({
          algorithm: RateLimiter.gcra({ limit: 10, window: "1 second" }),
          maxWait: "20 seconds"
        })),
        "k"
      )
      const order: Array<number> = []
      const waiting = Effect.map(RateLimiter.metrics(limiter), (metrics) => metrics.waiting)
      // One after the other: who asks the server in the same moment as others is admitted when the server says so.
      const calls = Effect.forEach([1, 2, 3, 4, 5, 6], (n) =>
        Effect.gen(function*() {
          const call = RateLimiter.protect(Effect.sync(() => order.push(n)), limiter)
          const fiber = yield* Effect.forkChild(call, { startImmediately: true })
          yield* eventually(Effect.map(waiting, (inLine) => order.length + inLine >= n))
          return fiber
        }))
      const { millis } = yield* timed(Effect.flatMap(calls, Fiber.joinAll))
      assert.deepStrictEqual(order, [1, 2, 3, 4, 5, 6])
      // Five spaces of 100 ms.
      assert.isAbove(millis, 495)
      assert.strictEqual(yield* waiting, 0)
    }).pipe(Effect.scoped))
})
