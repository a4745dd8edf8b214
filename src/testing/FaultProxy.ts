/**
 * A TCP proxy between your program and a real server, that can be told to misbehave: latency, black hole, refused and
 * reset connections, cuts in the middle of a reply, a narrow line.
 *
 * **When to use**
 *
 * Put it before a Redis, a Postgres or any other TCP server in a test, connect your client to the proxy, and switch modes
 * while the program runs. To inject failures into effects without a network, use `Chaos`.
 *
 * **Details**
 *
 * - There is one mode at a time. A switch applies to connections that are open and to those that come, at once.
 * - Bytes arrive in order and unchanged in every mode. Back-pressure is passed on: a connection holds at most
 *   `bufferBytes` in each direction, then the sender is not read.
 * - `blackHole` is a partition: the kernel still accepts connections and bytes, nobody answers, and ends of connections do
 *   not get through either. Back in `pass`, all that was held is delivered.
 * - When the target refuses or resets, the client of the proxy is reset.
 * - Everything is closed when the scope closes.
 *
 * **Gotchas**
 *
 * - Latency counts in each direction: a round trip takes twice the delay. What flies is bounded by `bufferBytes`.
 * - Delays are real time, also under a `TestClock`: the server at the other end does not know it.
 * - `refuse` leaves open connections alone; add `resetConnections` for a server that is gone.
 * - Keep-alive probes are answered by the kernel, also by a black hole.
 *
 * The faults are those of Toxiproxy.
 *
 * **Example** (A partition, and its end)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { once } from "node:events"
 * import { createServer } from "node:http"
 * import type { AddressInfo } from "node:net"
 * import { FaultProxy } from "seaworthy/testing"
 *
 * const server = createServer((_, response) => response.end("hello")).listen(0, "127.0.0.1")
 * await once(server, "listening")
 *
 * const program = Effect.gen(function*() {
 *   const { port } = server.address() as AddressInfo
 *   const proxy = yield* FaultProxy.make({ target: { host: "127.0.0.1", port } })
 *   const get = Effect.tryPromise((signal) => fetch(`http://${proxy.host}:${proxy.port}`, { signal }).then((r) => r.text()))
 *   console.log(yield* get) // => 'hello'
 *   yield* proxy.blackHole
 *   console.log(Option.isNone(yield* Effect.timeoutOption(get, "50 millis"))) // => true
 *   yield* proxy.pass
 *   console.log(yield* get) // => 'hello'
 * })
 *
 * await Effect.runPromise(Effect.scoped(program))
 * server.close()
 * ```
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as net from "node:net"
import { finiteMillis, integerAtLeast } from "../resilience/internal/options.ts"
import { type Connection, makeConnection } from "./internal/faultConnection.ts"
import type * as Pipe from "./internal/faultPipe.ts"
import { pause } from "./internal/realTime.ts"

/** `"in"`: from the client to the target, as requests go. `"out"`: from the target to the client, as replies go. */
export type Direction = Pipe.Direction

/** What the proxy does now. */
export type Mode = Pipe.Mode

/** The port cannot be listened on. `code` is the one of the operating system, such as `EADDRINUSE`. */
export class FaultProxyListenError extends Data.TaggedError("FaultProxyListenError")<{
  readonly host: string
  readonly port: number
  readonly code: string
}> {
  override get message(): string {
    return `cannot listen on ${this.host}:${this.port} (${this.code})`
  }
}

/** Where a proxy listens and where it leads. */
export interface Options {
  /** The server behind the proxy. It need not run yet. */
  readonly target: { readonly host: string; readonly port: number }
  /** The address to listen on. Default `"127.0.0.1"`. */
  readonly host?: string | undefined
  /** The port to listen on. Default 0: a free one, which the proxy then keeps, also over `refuse`. */
  readonly port?: number | undefined
  /** How many bytes a connection holds in each direction before its sender is not read. Default 262144. */
  readonly bufferBytes?: number | undefined
}

/** What went through a proxy so far. */
export interface Stats {
  /** Connections whose client has not ended it: none left behind a black hole means that the program leaks none. */
  readonly open: number
  /** Connections ever accepted. */
  readonly accepted: number
  /** Bytes forwarded to the target. */
  readonly bytesIn: number
  /** Bytes forwarded to clients. */
  readonly bytesOut: number
}

/** A running proxy, made by {@link make}. A bad argument is a defect: a `RangeError` that names it. */
export interface FaultProxy {
  readonly host: string
  readonly port: number
  /** Forwards everything at once, with what was held. The mode a proxy starts in. */
  readonly pass: Effect.Effect<void>
  /** Delays all that arrives, in each direction, by `delay` and up to `jitter` (default zero) more. The order is kept. */
  readonly latency: (
    delay: Duration.Input,
    options?: { readonly jitter?: Duration.Input | undefined }
  ) => Effect.Effect<void>
  /** Sends at most so many bytes a second, on each connection and in each direction. At least 1. */
  readonly bandwidth: (bytesPerSecond: number) => Effect.Effect<void>
  /** Accepts, holds what it is sent and forwards nothing, until another mode lets it go. */
  readonly blackHole: Effect.Effect<void>
  /**
   * Ends each connection, open or new, once so many more bytes have passed in a direction; with 0, at the first byte.
   * `cutAfter(0, "out")` lets the request through and loses the reply: the outcome is unknown to the client.
   */
  readonly cutAfter: (bytes: number, direction: Direction) => Effect.Effect<void>
  /** Closes the listening port: new connections are refused. Those that are open go on. */
  readonly refuse: Effect.Effect<void>
  /** Resets (RST) the open connections, and every new one as soon as it is accepted. */
  readonly reset: Effect.Effect<void>
  /** Resets the open connections once, in whatever mode. */
  readonly resetConnections: Effect.Effect<void>
  /** The mode in force. */
  readonly mode: Effect.Effect<Mode>
  readonly stats: Effect.Effect<Stats>
}

const DEFAULT_HOST = "127.0.0.1"
const DEFAULT_BUFFER_BYTES = 262_144
const RELISTEN_TRIES = 40
const RELISTEN_PAUSE_MILLIS = 50

const listen = (
  host: string,
  port: number,
  onConnection: (socket: net.Socket) => void
): Effect.Effect<net.Server, FaultProxyListenError> =>
  Effect.callback((resume) => {
    const server = net.createServer({ allowHalfOpen: true }, onConnection)
    server.once("error", (error: NodeJS.ErrnoException) => {
      resume(Effect.fail(new FaultProxyListenError({ host, port, code: error.code ?? "UNKNOWN" })))
    })
    server.listen(port, host, () => {
      // Such as a passing lack of file descriptors: the client sees its connection fail, which is what we are for.
      server.on("error", () => {})
      resume(Effect.succeed(server))
    })
    return Effect.sync(() => server.close())
  })

const portOf = (server: net.Server): number => (server.address() as net.AddressInfo).port

/**
 * Starts a proxy in mode `pass`, for as long as the scope is open.
 *
 * Fails with {@link FaultProxyListenError} when its port is taken. An option out of range is a defect: a `RangeError`.
 */
export const make = (options: Options): Effect.Effect<FaultProxy, FaultProxyListenError, Scope.Scope> =>
  Effect.gen(function*() {
    const bufferBytes = integerAtLeast("bufferBytes", 1, options.bufferBytes ?? DEFAULT_BUFFER_BYTES)
    const host = options.host ?? DEFAULT_HOST
    const random = yield* Random.Random
    const switching = yield* Semaphore.make(1)
    const connections = new Set<Connection>()
    const totals = { accepted: 0, in: 0, out: 0 }
    let mode: Mode = { _tag: "Pass" }
    let server: net.Server | undefined

    const onConnection = (client: net.Socket) => {
      totals.accepted++
      if (mode._tag === "Reset") {
        client.on("error", () => {})
        client.resetAndDestroy()
        return
      }
      const connection = makeConnection({
        client,
        target: options.target,
        mode: () => mode,
        random: () => random.nextDoubleUnsafe(),
        bufferBytes,
        onForwarded: (direction, bytes) => {
          totals[direction] += bytes
        },
        onClosed: () => connections.delete(connection)
      })
      connections.add(connection)
    }

    const each = (action: (connection: Connection) => void) => {
      for (const connection of [...connections]) action(connection)
    }

    yield* Effect.acquireRelease(
      Effect.map(listen(host, options.port ?? 0, onConnection), (started) => {
        server = started
      }),
      () =>
        Effect.sync(() => {
          mode = { _tag: "Reset" }
          server?.close()
          each((connection) => connection.destroy())
        })
    )
    const port = portOf(server!)

    // Another process may use the port of a closed listener for a moment; if it keeps it, the test cannot go on.
    const listenAgain = Effect.gen(function*() {
      for (let tries = 1; server === undefined; tries++) {
        const started = yield* Effect.result(listen(host, port, onConnection))
        if (started._tag === "Success") server = started.success
        else if (tries === RELISTEN_TRIES) return yield* Effect.die(started.failure)
        else yield* pause(RELISTEN_PAUSE_MILLIS)
      }
    })

    const resetConnections = Effect.sync(() => each((connection) => connection.reset()))

    const enter = (next: () => Mode): Effect.Effect<void> =>
      Effect.gen(function*() {
        mode = next()
        if (mode._tag === "Reset") yield* resetConnections
        else each((connection) => connection.modeChanged())
        if (mode._tag === "Refuse") {
          server?.close()
          server = undefined
        } else {
          yield* listenAgain
        }
      }).pipe(Effect.uninterruptible, Semaphore.withPermits(switching, 1))

    return {
      host,
      port,
      pass: enter(() => ({ _tag: "Pass" })),
      latency: (delay, latency) =>
        enter(() => ({
          _tag: "Latency",
          delayMillis: finiteMillis("delay", delay),
          jitterMillis: finiteMillis("jitter", latency?.jitter ?? 0)
        })),
      bandwidth: (bytesPerSecond) =>
        enter(() => ({ _tag: "Bandwidth", bytesPerSecond: integerAtLeast("bytesPerSecond", 1, bytesPerSecond) })),
      blackHole: enter(() => ({ _tag: "BlackHole" })),
      cutAfter: (bytes, direction) =>
        enter(() => ({ _tag: "CutAfter", bytes: integerAtLeast("bytes", 0, bytes), direction })),
      refuse: enter(() => ({ _tag: "Refuse" })),
      reset: enter(() => ({ _tag: "Reset" })),
      resetConnections,
      mode: Effect.sync(() => mode),
      stats: Effect.sync(() => ({
        open: [...connections].filter(({ client }) => !client.closed && !client.readableEnded).length,
        accepted: totals.accepted,
        bytesIn: totals.in,
        bytesOut: totals.out
      }))
    }
  })

/** A server that accepts and never says a word, made by {@link blackHoleServer}. */
export interface BlackHoleServer {
  readonly host: string
  readonly port: number
  readonly stats: Effect.Effect<Pick<Stats, "open" | "accepted">>
}

/**
 * Starts a server that accepts every connection, reads and forgets what it is sent, and never answers: what a client meets
 * behind a firewall or before a hung process. When the client gives up, its connection is closed here too.
 *
 * Fails with {@link FaultProxyListenError} when its port is taken.
 */
export const blackHoleServer = (
  options?: Pick<Options, "host" | "port">
): Effect.Effect<BlackHoleServer, FaultProxyListenError, Scope.Scope> =>
  Effect.gen(function*() {
    const host = options?.host ?? DEFAULT_HOST
    const sockets = new Set<net.Socket>()
    let accepted = 0
    const server = yield* Effect.acquireRelease(
      listen(host, options?.port ?? 0, (socket) => {
        accepted++
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("end", () => socket.destroy())
        socket.on("close", () => sockets.delete(socket))
        socket.resume()
      }),
      (started) =>
        Effect.sync(() => {
          started.close()
          for (const socket of sockets) socket.destroy()
        })
    )
    return { host, port: portOf(server), stats: Effect.sync(() => ({ open: sockets.size, accepted })) }
  })
