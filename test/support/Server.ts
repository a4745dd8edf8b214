/**
 * One real server process: started on a free loopback port, asked by a real connection whether it is ready, killed,
 * frozen and restarted on the same port, and gone when the scope closes.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { pause } from "./Live.ts"
import { freezeTree, hasEnded, killTree, signal, thawTree, watchdog } from "./Processes.ts"

/** What a test can do to a server. A server that does not start is a broken machine, so that is a defect. */
export interface Server {
  readonly host: string
  readonly port: number
  /** SIGKILL for all its processes; connections are cut by the operating system. Done when it is gone. */
  readonly kill: Effect.Effect<void>
  /** An orderly shutdown, with `kill` after 5 seconds. */
  readonly stop: Effect.Effect<void>
  /** Starts it again on the same port with the same folder, and waits until it is ready. Nothing if it runs. */
  readonly start: Effect.Effect<void>
  /** SIGSTOP for all its processes: connections stay open and accepted, and nobody answers. */
  readonly freeze: Effect.Effect<void>
  /** SIGCONT: what was sent meanwhile is answered. */
  readonly thaw: Effect.Effect<void>
  /** The end of what it has printed, for messages of failed tests. */
  readonly log: Effect.Effect<string>
}

export const HOST = "127.0.0.1"
const START_BOUND_MILLIS = 30_000
const STOP_BOUND_MILLIS = 5_000
const LOG_CHARACTERS = 8_000

export interface ServerPlan {
  readonly name: string
  readonly folder: string
  /** A fixed port; else the operating system chooses. */
  readonly port?: number | undefined
  readonly launch: (port: number) => ChildProcess
  /** Whether this very process, and no other on the port, serves. */
  readonly isReady: (child: ChildProcess, port: number) => Effect.Effect<boolean>
  /** The signal for an orderly shutdown, and the one for the end of the scope, when only speed counts. */
  readonly stopSignal: NodeJS.Signals
  readonly releaseSignal: NodeJS.Signals
}

/** Asks the operating system for a free port. Another process may take it before it is used: the caller retries. */
export const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = net.createServer()
  server.once("error", (error) => resume(Effect.die(error)))
  server.listen(0, HOST, () => {
    const { port } = server.address() as net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** A folder that is removed at the end, with all in it. `owner` is who may write there. */
export const temporaryFolder = (
  prefix: string,
  owner?: { readonly uid: number; readonly gid: number }
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), prefix))
      if (owner !== undefined) fs.chownSync(folder, owner.uid, owner.gid)
      return folder
    }),
    // A killed process may still be closing its files, hence the retries.
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }))
  )

/** Sends bytes on a new connection and gives the reply so far, once it satisfies `enough`; "" when nothing came. */
export const ask = (
  port: number,
  request: string | Uint8Array,
  enough: (reply: Buffer) => boolean,
  boundMillis = 1_000
): Effect.Effect<Buffer> =>
  Effect.callback((resume) => {
    let reply = Buffer.alloc(0)
    const socket = net.connect({ host: HOST, port })
    const finish = () => {
      socket.destroy()
      resume(Effect.succeed(reply))
    }
    socket.setTimeout(boundMillis, finish)
    socket.on("error", finish)
    socket.on("close", finish)
    socket.on("connect", () => socket.write(request))
    socket.on("data", (chunk) => {
      reply = Buffer.concat([reply, chunk])
      if (enough(reply)) finish()
    })
    return Effect.sync(() => socket.destroy())
  })

const awaitEnd = (child: ChildProcess, boundMillis: number): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    const deadline = performance.now() + boundMillis
    while (!hasEnded(child) && performance.now() < deadline) yield* pause("5 millis")
    return hasEnded(child)
  })

/** Starts the planned server and keeps it until the scope closes. */
export const makeServer = (plan: ServerPlan): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function*() {
    let port = plan.port ?? (yield* freePort)
    let child: ChildProcess | undefined
    let log = ""
    const guard = watchdog(plan.folder)

    const running = () => child !== undefined && child.pid !== undefined && !hasEnded(child) ? child : undefined

    const launch = () => {
      const started = plan.launch(port)
      const listen = (chunk: Buffer) => {
        log = (log + chunk.toString()).slice(-LOG_CHARACTERS)
      }
      started.stdout?.on("data", listen)
      started.stderr?.on("data", listen)
      started.on("error", (error) => listen(Buffer.from(`${error.message}\n`)))
      child = started
      if (started.pid !== undefined) guard.guard([started.pid])
      return started
    }

    const startWith = (anotherPort: boolean): Effect.Effect<void> =>
      Effect.gen(function*() {
        if (running() !== undefined) return
        const deadline = performance.now() + START_BOUND_MILLIS
        let current = launch()
        while (performance.now() < deadline) {
          if (current.pid === undefined || hasEnded(current)) {
            // The port was taken in between, or children of a killed server are still going away.
            yield* pause("100 millis")
            if (anotherPort) port = yield* freePort
            current = launch()
          } else if (yield* plan.isReady(current, port)) {
            return
          } else {
            yield* pause("20 millis")
          }
        }
        return yield* Effect.die(
          new Error(`${plan.name} was not ready within ${START_BOUND_MILLIS} ms. It said:\n${log}`)
        )
      })

    const thaw = Effect.sync(() => {
      const current = running()
      if (current === undefined) return
      thawTree(current.pid!)
      guard.guard([current.pid!])
    })

    const kill = Effect.suspend(() => {
      const current = running()
      if (current === undefined) return Effect.void
      killTree(current.pid!)
      return Effect.asVoid(awaitEnd(current, STOP_BOUND_MILLIS))
    })

    const stopBy = (name: NodeJS.Signals) =>
      Effect.gen(function*() {
        const current = running()
        if (current === undefined) return
        yield* thaw
        signal(current.pid!, name)
        if (!(yield* awaitEnd(current, STOP_BOUND_MILLIS))) yield* kill
      })

    yield* Effect.addFinalizer(() => Effect.andThen(stopBy(plan.releaseSignal), Effect.sync(() => guard.farewell())))
    yield* startWith(plan.port === undefined)

    return {
      host: HOST,
      port,
      kill,
      stop: stopBy(plan.stopSignal),
      start: startWith(false),
      freeze: Effect.sync(() => {
        const current = running()
        if (current !== undefined) guard.guard(freezeTree(current.pid!))
      }),
      thaw,
      log: Effect.sync(() => log)
    }
  })
