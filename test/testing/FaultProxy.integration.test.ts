import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as fc from "fast-check"
import { Redis } from "ioredis"
import * as net from "node:net"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { allowance, departure, type Mode, pieceBytes } from "../../src/testing/internal/faultPipe.ts"
import { eventually, pause, timed } from "../support/Live.ts"
import * as Servers from "../support/Servers.ts"

/** A server of our own, for what is about bytes and not about Redis. */
const serve = (onSocket: (socket: net.Socket) => void): Effect.Effect<number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const sockets = new Set<net.Socket>()
      const server = net.createServer({ allowHalfOpen: true }, (socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        onSocket(socket)
      })
      const close = () => {
        server.close()
        for (const socket of sockets) socket.destroy()
      }
      server.listen(0, "127.0.0.1", () => {
        resume(Effect.succeed({ port: (server.address() as net.AddressInfo).port, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ).pipe(Effect.map(({ port }) => port))

const echo = serve((socket) => socket.pipe(socket))

interface Client {
  readonly socket: net.Socket
  readonly send: (text: string | Buffer) => Effect.Effect<void>
  readonly received: Effect.Effect<string>
  /** Waits until exactly this has arrived. */
  readonly receives: (text: string) => Effect.Effect<unknown>
  /** How the connection ended: "end", an error code, or undefined while it is open. */
  readonly ending: Effect.Effect<string | undefined>
  readonly ends: (how: string) => Effect.Effect<unknown>
}

const connect = (
  address: { readonly host: string; readonly port: number }
): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Client>((resume) => {
      const socket = net.connect({ host: address.host, port: address.port })
      let text = ""
      let ending: string | undefined
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1")
      })
      socket.on("end", () => {
        ending ??= "end"
      })
      socket.on("error", (error: NodeJS.ErrnoException) => {
        ending ??= error.code
        resume(Effect.succeed(client))
      })
      const client: Client = {
        socket,
        send: (bytes) => Effect.sync(() => void socket.write(bytes)),
        received: Effect.sync(() => text),
        receives: (expected) =>
          eventually(Effect.sync(() => text), { until: (all) => all === expected, what: `receives ${expected}` }),
        ending: Effect.sync(() => ending),
        ends: (how) =>
          eventually(Effect.sync(() => ending), { until: (seen) => seen === how, what: `ends with ${how}` })
      }
      socket.on("connect", () => resume(Effect.succeed(client)))
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const proxyTo = (port: number, options?: Partial<FaultProxy.Options>) =>
  FaultProxy.make({ target: { host: "127.0.0.1", port }, ...options })

/** A client is connected once the kernel says so; that the proxy has taken the connection comes a moment later. */
const accepted = (proxy: FaultProxy.FaultProxy, count: number) =>
  eventually(proxy.stats, { until: (stats) => stats.accepted === count, what: `${count} accepted` })

/** A client that never reconnects or queues, so that each answer is about the one connection. */
const redisClient = (address: { readonly host: string; readonly port: number }, commandTimeout = 5_000) =>
  Effect.acquireRelease(
    Effect.callback<Redis>((resume) => {
      const client = new Redis({
        ...{ host: address.host, port: address.port, commandTimeout },
        ...{ retryStrategy: () => null, maxRetriesPerRequest: 0, enableReadyCheck: false }
      })
      client.on("error", () => {})
      client.once("ready", () => resume(Effect.succeed(client)))
      client.once("end", () => resume(Effect.succeed(client)))
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const ping = (client: Redis) => Effect.tryPromise(() => client.ping())

describe("when a byte may leave", () => {
  const latency: Mode = { _tag: "Latency", delayMillis: 100, jitterMillis: 20 }
  const narrow: Mode = { _tag: "Bandwidth", bytesPerSecond: 1000 }
  it("at once in pass, never in a black hole", () => {
    assert.strictEqual(departure({ _tag: "Pass" }, 5, 0.5, 0), 5)
    assert.strictEqual(departure({ _tag: "BlackHole" }, 5, 0.5, 0), Infinity)
  })
  it("after the delay and its share of the jitter", () => {
    assert.strictEqual(departure(latency, 5, 0, 0), 105)
    assert.strictEqual(departure(latency, 5, 0.5, 0), 115)
  })
  it("when the narrow line is free, in pieces of a twentieth of a second", () => {
    assert.strictEqual(departure(narrow, 5, 0, 40), 40)
    assert.strictEqual(departure(narrow, 50, 0, 40), 50)
    assert.strictEqual(pieceBytes(narrow), 50)
    assert.strictEqual(pieceBytes({ _tag: "Bandwidth", bytesPerSecond: 1 }), 1)
    assert.strictEqual(pieceBytes(latency), Infinity)
  })
  it("before the cut, which counts in one direction", () => {
    const cut: Mode = { _tag: "CutAfter", bytes: 7, direction: "in" }
    assert.strictEqual(allowance(cut, "in"), 7)
    assert.strictEqual(allowance(cut, "out"), Infinity)
  })
})

describe("FaultProxy", () => {
  it.live("forwards both ways, and counts", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      assert.deepStrictEqual(yield* proxy.mode, { _tag: "Pass" })
      const client = yield* connect(proxy)
      yield* client.send("hello")
      yield* client.receives("hello")
      assert.deepStrictEqual(yield* proxy.stats, { open: 1, accepted: 1, bytesIn: 5, bytesOut: 5 })
      client.socket.end()
      yield* client.ends("end")
      yield* eventually(Effect.map(proxy.stats, ({ open }) => open === 0))
    }))

  it.live("passes a half-closed connection on: the reply after the end of the request arrives", () =>
    Effect.gen(function*() {
      const port = yield* serve((socket) => {
        socket.resume()
        socket.on("end", () => socket.end("goodbye"))
      })
      const client = yield* connect(yield* proxyTo(port))
      client.socket.end("request")
      yield* client.receives("goodbye")
      yield* client.ends("end")
    }))

  it.live("resets a client whose target is not there", () =>
    Effect.gen(function*() {
      const client = yield* connect(yield* proxyTo(yield* Servers.freePort))
      yield* client.ends("ECONNRESET")
    }))

  it.live("delays open connections in each direction and keeps the order", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const client = yield* connect(proxy)
      yield* proxy.latency("100 millis", { jitter: "20 millis" })
      const round = yield* timed(Effect.gen(function*() {
        for (let n = 0; n < 10; n++) {
          yield* client.send(String(n))
          yield* pause("2 millis")
        }
        yield* client.receives("0123456789")
      }))
      assert.strictEqual(round.exit._tag, "Success")
      assert.isAtLeast(round.millis, 200)
    }))

  it.live("delivers at once what was delayed, when the latency ends", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const client = yield* connect(proxy)
      yield* proxy.latency("1 hour")
      yield* client.send("late")
      yield* pause("50 millis")
      assert.strictEqual(yield* client.received, "")
      yield* proxy.pass
      yield* client.receives("late")
    }))

  it.live("narrows the line", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      yield* proxy.bandwidth(10_000)
      const client = yield* connect(proxy)
      const text = "x".repeat(2_000)
      const round = yield* timed(Effect.andThen(client.send(text), client.receives(text)))
      assert.strictEqual(round.exit._tag, "Success")
      // 2000 bytes at 10 kB/s, less the first piece, which does not wait.
      assert.isAtLeast(round.millis, 140)
    }))

  it.live("holds open and new connections in a black hole, and delivers all after it", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const open = yield* connect(proxy)
      yield* open.send("one ")
      yield* open.receives("one ")
      yield* proxy.blackHole
      yield* open.send("two ")
      yield* open.send("three")
      const fresh = yield* connect(proxy)
      yield* fresh.send("fresh")
      yield* pause("100 millis")
      assert.strictEqual(yield* open.received, "one ")
      assert.strictEqual(yield* fresh.received, "")
      assert.isUndefined(yield* open.ending)
      assert.isUndefined(yield* fresh.ending)
      assert.strictEqual((yield* proxy.stats).open, 2)
      yield* proxy.pass
      yield* open.receives("one two three")
      yield* fresh.receives("fresh")
    }))

  it.live("keeps the end of a connection in the black hole too, and tells it after", () =>
    Effect.gen(function*() {
      let ended = 0
      const port = yield* serve((socket) => {
        socket.on("end", () => {
          ended++
          socket.end()
        })
        socket.resume()
      })
      const proxy = yield* proxyTo(port)
      const client = yield* connect(proxy)
      yield* client.send("x")
      yield* eventually(Effect.map(proxy.stats, ({ bytesIn }) => bytesIn === 1))
      yield* proxy.blackHole
      client.socket.destroy()
      yield* eventually(Effect.map(proxy.stats, ({ open }) => open === 0))
      yield* pause("50 millis")
      assert.strictEqual(ended, 0)
      yield* proxy.pass
      yield* eventually(Effect.sync(() => ended === 1))
    }))

  it.live("refuses new connections and lets open ones go on; then listens on the same port", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const open = yield* connect(proxy)
      yield* accepted(proxy, 1)
      yield* proxy.refuse
      yield* (yield* connect(proxy)).ends("ECONNREFUSED")
      yield* open.send("still")
      yield* open.receives("still")
      yield* proxy.pass
      const again = yield* connect(proxy)
      yield* again.send("back")
      yield* again.receives("back")
    }))

  it.live("resets open and new connections", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const open = yield* connect(proxy)
      yield* open.send("x")
      yield* open.receives("x")
      yield* proxy.reset
      yield* open.ends("ECONNRESET")
      yield* (yield* connect(proxy)).ends("ECONNRESET")
      yield* proxy.pass
      const again = yield* connect(proxy)
      yield* again.send("back")
      yield* again.receives("back")
    }))

  it.live("resets the open connections once, without a change of mode", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const open = yield* connect(proxy)
      yield* eventually(Effect.map(proxy.stats, (stats) => stats.open === 1))
      yield* proxy.resetConnections
      yield* open.ends("ECONNRESET")
      const again = yield* connect(proxy)
      yield* again.send("back")
      yield* again.receives("back")
    }))

  it.live("cuts a reply after so many bytes, on each connection", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const open = yield* connect(proxy)
      yield* open.send("before ")
      yield* open.receives("before ")
      yield* proxy.cutAfter(4, "out")
      for (const client of [open, yield* connect(proxy)]) {
        yield* client.send("123456789")
        yield* client.ends("end")
      }
      assert.strictEqual(yield* open.received, "before 1234")
      assert.deepStrictEqual((yield* proxy.stats).bytesOut, 7 + 4 + 4)
      yield* eventually(Effect.map(proxy.stats, (stats) => stats.open === 0))
    }))

  it.live("cuts a request after so many bytes", () =>
    Effect.gen(function*() {
      let got = ""
      const port = yield* serve((socket) => socket.on("data", (chunk) => (got += String(chunk))))
      const proxy = yield* proxyTo(port)
      yield* proxy.cutAfter(3, "in")
      const client = yield* connect(proxy)
      yield* client.send("request")
      yield* eventually(client.ending, { until: (how) => how !== undefined })
      yield* eventually(Effect.sync(() => got === "req"))
    }))

  it.live("loses the reply to a request that was done, when it cuts after no byte of it", () =>
    Effect.gen(function*() {
      let done = 0
      const port = yield* serve((socket) =>
        socket.on("data", () => {
          done++
          socket.write("done")
        })
      )
      const proxy = yield* proxyTo(port)
      const client = yield* connect(proxy)
      yield* proxy.cutAfter(0, "out")
      yield* client.send("do")
      yield* client.ends("end")
      assert.strictEqual(done, 1)
      assert.strictEqual(yield* client.received, "")
    }))

  it.live("stops reading a sender whose receiver does not read, with at most its buffer held", () =>
    Effect.gen(function*() {
      const sockets: Array<net.Socket> = []
      const port = yield* serve((socket) => {
        socket.pause()
        sockets.push(socket)
      })
      const proxy = yield* proxyTo(port, { bufferBytes: 65_536 })
      const client = yield* connect(proxy)
      const bytes = Buffer.alloc(64 * 1024 * 1024, "y")
      yield* client.send(bytes)
      // The kernel's buffers fill (some megabytes), and then nothing moves any more.
      const stuck = yield* eventually(
        Effect.gen(function*() {
          const before = (yield* proxy.stats).bytesIn
          yield* pause("100 millis")
          return { before, after: (yield* proxy.stats).bytesIn }
        }),
        { until: ({ after, before }) => before > 0 && after === before }
      )
      assert.isBelow(stuck.after, bytes.length / 2)
      assert.isAbove(client.socket.writableLength, bytes.length / 4)
      let got = 0
      for (const socket of sockets) {
        socket.on("data", (chunk) => (got += chunk.length))
        socket.resume()
      }
      yield* eventually(Effect.sync(() => got === bytes.length), { within: "20 seconds" })
    }))

  it.live("stops reading a sender in a black hole, too", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo, { bufferBytes: 65_536 })
      const client = yield* connect(proxy)
      yield* proxy.blackHole
      yield* client.send(Buffer.alloc(64 * 1024 * 1024, "y"))
      yield* pause("200 millis")
      assert.isAbove(client.socket.writableLength, 16 * 1024 * 1024)
      assert.strictEqual((yield* proxy.stats).bytesIn, 0)
    }))

  it.live("delivers every byte once and in order, whatever modes it went through", () =>
    Effect.gen(function*() {
      const port = yield* echo
      const step = fc.oneof(
        fc.record({ send: fc.string({ unit: fc.constantFrom("a", "b", "c", "d"), minLength: 1, maxLength: 3000 }) }),
        fc.record({ mode: fc.constantFrom("pass", "latency", "bandwidth", "blackHole", "refuse") })
      )
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 15 }), (steps) =>
            Effect.runPromise(Effect.scoped(Effect.gen(function*() {
              const proxy = yield* proxyTo(port, { bufferBytes: 1_000 })
              const modes: Record<string, Effect.Effect<void>> = {
                pass: proxy.pass,
                latency: proxy.latency("2 millis", { jitter: "5 millis" }),
                bandwidth: proxy.bandwidth(100_000),
                blackHole: proxy.blackHole,
                refuse: proxy.refuse
              }
              const client = yield* connect(proxy)
              yield* accepted(proxy, 1)
              let sent = ""
              for (const each of steps) {
                if ("send" in each) {
                  sent += each.send
                  yield* client.send(each.send)
                } else {
                  yield* modes[each.mode]!
                }
                yield* pause("1 millis")
              }
              yield* proxy.pass
              yield* client.receives(sent)
              assert.deepStrictEqual(yield* proxy.stats, {
                open: 1,
                accepted: 1,
                bytesIn: sent.length,
                bytesOut: sent.length
              })
            })))),
          { numRuns: 30 }
        )
      )
    }))

  it.live("closes the port and all connections with its scope, in every mode", () =>
    Effect.gen(function*() {
      const port = yield* echo
      for (const mode of ["pass", "blackHole", "refuse"] as const) {
        const { client, proxy } = yield* Effect.scoped(Effect.gen(function*() {
          const proxy = yield* proxyTo(port)
          const client = yield* connect(proxy)
          yield* eventually(Effect.map(proxy.stats, ({ open }) => open === 1))
          yield* proxy[mode]
          // It has to outlive the scope, so it is not the scope's.
          return { proxy, client: { ended: new Promise<void>((done) => client.socket.once("close", () => done())) } }
        }))
        yield* Effect.promise(() => client.ended)
        yield* (yield* connect(proxy)).ends("ECONNREFUSED")
        assert.strictEqual((yield* proxy.stats).open, 0)
      }
    }))

  it.live("fails with the address when its port is taken", () =>
    Effect.gen(function*() {
      const port = yield* echo
      const failure = yield* Effect.flip(proxyTo(port, { port }))
      assert.strictEqual(failure._tag, "FaultProxyListenError")
      assert.strictEqual(failure.message, `cannot listen on 127.0.0.1:${port} (EADDRINUSE)`)
    }))

  it.live("dies with a RangeError that names the option, and stays as it was", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      const message = (effect: Effect.Effect<unknown, unknown, Scope.Scope>) =>
        Effect.map(
          Effect.exit(effect),
          (exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "no failure"
        )
      assert.match(yield* message(proxy.cutAfter(-1, "in")), /RangeError: bytes must be/)
      assert.match(yield* message(proxy.latency("-1 seconds")), /RangeError: delay must be/)
      assert.match(yield* message(proxy.latency(1, { jitter: Infinity })), /RangeError: jitter must be/)
      assert.match(yield* message(proxy.bandwidth(0)), /RangeError: bytesPerSecond must be/)
      assert.match(yield* message(proxyTo(1, { bufferBytes: 0 })), /RangeError: bufferBytes must be/)
      assert.deepStrictEqual(yield* proxy.mode, { _tag: "Pass" })
    }))

  it.effect("runs on real time under a TestClock", () =>
    Effect.gen(function*() {
      const proxy = yield* proxyTo(yield* echo)
      yield* proxy.latency("20 millis")
      const client = yield* connect(proxy)
      yield* client.send("tick")
      yield* client.receives("tick")
    }))
})

describe("FaultProxy.blackHoleServer", () => {
  it.live("accepts, never answers, and closes with its client", () =>
    Effect.gen(function*() {
      const server = yield* FaultProxy.blackHoleServer()
      const client = yield* connect(server)
      yield* client.send("anybody?")
      yield* pause("100 millis")
      assert.strictEqual(yield* client.received, "")
      assert.isUndefined(yield* client.ending)
      assert.deepStrictEqual(yield* server.stats, { open: 1, accepted: 1 })
      client.socket.destroy()
      yield* eventually(server.stats, { until: ({ open }) => open === 0 })
    }))
})

Servers.describeWith(["redis"], "FaultProxy before a real Redis", () => {
  it.live("delays, silences, heals, cuts and resets a real client", () =>
    Effect.gen(function*() {
      const redis = yield* Servers.redis()
      const proxy = yield* proxyTo(redis.port)
      const client = yield* redisClient(proxy)
      assert.strictEqual(yield* ping(client), "PONG")

      yield* proxy.latency("50 millis")
      const delayed = yield* timed(ping(client))
      assert.deepStrictEqual(delayed.exit, Exit.succeed("PONG"))
      assert.isAtLeast(delayed.millis, 100)

      yield* proxy.blackHole
      const waiting = client.ping()
      yield* pause("100 millis")
      assert.strictEqual(client.status, "ready")
      yield* proxy.pass
      assert.strictEqual(yield* Effect.promise(() => waiting), "PONG")

      // The increment is done, its reply is lost.
      yield* proxy.cutAfter(0, "out")
      assert.strictEqual((yield* Effect.exit(Effect.tryPromise(() => client.incr("counter"))))._tag, "Failure")
      yield* proxy.pass
      const second = yield* redisClient(proxy)
      assert.strictEqual(yield* Effect.promise(() => second.get("counter")), "1")

      yield* proxy.reset
      yield* eventually(Effect.sync(() => second.status === "end"))
      yield* proxy.refuse
      assert.strictEqual((yield* redisClient(proxy)).status, "end")
      yield* proxy.pass
      assert.strictEqual(yield* ping(yield* redisClient(proxy)), "PONG")
    }))

  it.live("follows a target that dies and comes back", () =>
    Effect.gen(function*() {
      const redis = yield* Servers.redis()
      const proxy = yield* proxyTo(redis.port)
      const client = yield* redisClient(proxy)
      yield* redis.kill
      yield* eventually(Effect.sync(() => client.status === "end"))
      yield* redis.start
      assert.strictEqual(yield* ping(yield* redisClient(proxy)), "PONG")
    }))
})
