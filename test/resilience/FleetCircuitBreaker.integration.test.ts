import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Store from "effect/persistence/CircuitBreaker"
import * as EffectRedis from "effect/persistence/Redis"
import * as CircuitBreaker from "../../src/resilience/CircuitBreaker.ts"
import * as FleetCircuitBreaker from "../../src/resilience/FleetCircuitBreaker.ts"
import { eventually, timed } from "../support/Live.ts"
import * as RedisClient from "../support/RedisClient.ts"
import * as Servers from "../support/Servers.ts"

const options = {
  name: "payments",
  trip: CircuitBreaker.consecutive(2),
  openTime: "1 hour",
  storeTimeout: "500 millis",
  retryStore: "200 millis"
} as const

/** A member of the fleet: a breaker with a connection of its own. */
const member = (server: Servers.RedisServer, more?: Partial<FleetCircuitBreaker.Options>) =>
  Effect.gen(function*() {
    const store = Store.layerStoreRedis({ probeLease: "1 minute" }).pipe(
      Layer.provide(Layer.effect(EffectRedis.Redis, RedisClient.make(server)))
    )
    const context = yield* Layer.build(store)
    return yield* Effect.provideContext(FleetCircuitBreaker.make({ ...options, ...more }), context)
  })

const failing = Effect.fail("unreachable")
const fine = Effect.succeed("fine")
const fail = (breaker: CircuitBreaker.CircuitBreaker) => Effect.exit(CircuitBreaker.protect(failing, breaker))
const tag = (breaker: CircuitBreaker.CircuitBreaker) => Effect.map(CircuitBreaker.state(breaker), (state) => state._tag)
const storeOf = (breaker: CircuitBreaker.CircuitBreaker) =>
  Effect.map(CircuitBreaker.metrics(breaker), (metrics) => metrics.store)

Servers.describeWith(["redis"], "FleetCircuitBreaker on a real Redis", () => {
  it.live("failures of any member open the circuit of all", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const [here, there] = [yield* member(server), yield* member(server)]
      yield* fail(here)
      yield* fail(there)
      for (const breaker of [here, there]) {
        const error = yield* Effect.flip(CircuitBreaker.protect(Effect.die("must not run"), breaker))
        assert.strictEqual(error._tag, "CircuitBreakerOpenError")
        assert.strictEqual(yield* tag(breaker), "Open")
      }
    }).pipe(Effect.scoped))

  it.live("one member probes, the others are rejected, and all see it close", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const [here, there] = [
        yield* member(server, { openTime: "1 millis" }),
        yield* member(server, { openTime: "1 millis" })
      ]
      yield* fail(here)
      yield* fail(here)
      const end = yield* Deferred.make<string>()
      const admitted = yield* Deferred.make<void>()
      const fiber = yield* CircuitBreaker.protect(
        Effect.andThen(Deferred.succeed(admitted, undefined), Deferred.await(end)),
        here
      ).pipe(Effect.retry({ while: (error) => error._tag === "CircuitBreakerOpenError" }), Effect.forkChild)
      yield* Deferred.await(admitted)
      assert.strictEqual((yield* Effect.flip(CircuitBreaker.protect(fine, there))).state, "HalfOpen")
      yield* Deferred.succeed(end, "fine")
      assert.strictEqual(yield* Fiber.join(fiber), "fine")
      assert.strictEqual(yield* tag(there), "Closed")
      assert.strictEqual(yield* CircuitBreaker.protect(fine, there), "fine")
    }).pipe(Effect.scoped))

  it.live("an interrupted probe frees its place for the other members", () =>
    Effect.gen(function*() {
      const server = yield* Servers.redis()
      const [here, there] = [
        yield* member(server, { openTime: "1 millis" }),
        yield* member(server, { openTime: "1 millis" })
      ]
      yield* fail(here)
      yield* fail(here)
      const admitted = yield* Deferred.make<void>()
      const fiber = yield* CircuitBreaker.protect(
        Effect.andThen(Deferred.succeed(admitted, undefined), Effect.never),
        here
      ).pipe(Effect.retry({ while: (error) => error._tag === "CircuitBreakerOpenError" }), Effect.forkChild)
      yield* Deferred.await(admitted)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* CircuitBreaker.protect(fine, there), "fine")
    }).pipe(Effect.scoped))

  describe("when the server goes", () => {
    it.live("frozen: callers get their results within the time-out, then at once, and the fleet comes back", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const breaker = yield* member(server, { retryStore: "10 seconds" })
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
        yield* server.freeze
        const first = yield* timed(CircuitBreaker.protect(fine, breaker))
        assert.deepStrictEqual(first.exit, Exit.succeed("fine"))
        assert.isBelow(first.millis, 5000)
        assert.strictEqual(yield* storeOf(breaker), "Local")
        yield* fail(breaker)
        yield* fail(breaker)
        assert.strictEqual(yield* tag(breaker), "Open")
        yield* server.thaw
      }).pipe(Effect.scoped))

    it.live("killed: works locally, and with the fleet again after a restart", () =>
      Effect.gen(function*() {
        const server = yield* Servers.redis()
        const breaker = yield* member(server)
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
        yield* server.kill
        assert.strictEqual(yield* CircuitBreaker.protect(fine, breaker), "fine")
        assert.strictEqual(yield* storeOf(breaker), "Local")
        yield* server.start
        yield* eventually(
          Effect.andThen(
            CircuitBreaker.protect(fine, breaker),
            Effect.map(storeOf(breaker), (store) => store === "Fleet")
          ),
          { what: "the breaker works with the fleet again" }
        )
      }).pipe(Effect.scoped))
  })
})
