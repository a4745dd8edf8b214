/** Redis as a cluster of three primaries, and Redis behind a sentinel: real processes on free ports. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { eventually } from "./Live.ts"
import { findProgram } from "./Processes.ts"
import { ask, freePort, HOST, makeServer, type Server, temporaryFolder } from "./Server.ts"
import * as Servers from "./Servers.ts"

/** Asks one server something on a connection of its own. */
export const tell = (
  port: number,
  password: string | undefined,
  ...command: ReadonlyArray<string>
): Effect.Effect<unknown> =>
  Effect.promise(async () => {
    const client = new Redis({
      host: HOST,
      port,
      ...(password === undefined ? {} : { password }),
      lazyConnect: true,
      retryStrategy: () => null
    })
    client.on("error", () => {})
    try {
      await client.connect()
      const [name, ...args] = command
      return await client.call(name!, ...args)
    } finally {
      client.disconnect()
    }
  })

export interface Cluster {
  readonly nodes: ReadonlyArray<Servers.RedisServer>
  /** `["127.0.0.1:7000", ...]` */
  readonly addresses: Array<string>
}

const slots = 16_384

export const cluster = (password?: string): Effect.Effect<Cluster, never, Scope.Scope> =>
  Effect.gen(function*() {
    const nodes: Array<Servers.RedisServer> = []
    const buses: Array<number> = []
    for (let i = 0; i < 3; i++) {
      // By default 10000 above the port, which may be no port at all.
      const bus = yield* freePort
      buses.push(bus)
      nodes.push(
        yield* Servers.redis({
          password,
          config: [
            "cluster-enabled yes",
            `cluster-config-file nodes-${i}.conf`,
            `cluster-port ${bus}`,
            "cluster-node-timeout 2000",
            // The part of the keys that is left is served when a node is gone.
            "cluster-require-full-coverage no",
            ...(password === undefined ? [] : [`masterauth ${password}`])
          ]
        })
      )
    }
    for (const [i, node] of nodes.entries()) {
      const from = Math.floor(slots * i / 3)
      const to = Math.floor(slots * (i + 1) / 3) - 1
      yield* tell(node.port, password, "CLUSTER", "ADDSLOTSRANGE", String(from), String(to))
      if (i > 0) {
        yield* tell(node.port, password, "CLUSTER", "MEET", HOST, String(nodes[0]!.port), String(buses[0]!))
      }
    }
    for (const node of nodes) {
      yield* eventually(
        Effect.map(tell(node.port, password, "CLUSTER", "INFO"), (info) =>
          String(info).includes("cluster_state:ok") &&
          String(info).includes(`cluster_slots_ok:${slots}`) &&
          String(info).includes("cluster_known_nodes:3")),
        { within: "20 seconds", what: "the nodes find each other" }
      )
    }
    return { nodes, addresses: nodes.map(({ host, port }) => `${host}:${port}`) }
  })

export interface Watched {
  readonly primary: Servers.RedisServer
  readonly replica: Servers.RedisServer
  readonly sentinel: Server
  readonly name: string
}

/** A primary with one replica, and one sentinel that makes the replica the primary about a second after it is gone. */
export const sentinel = (): Effect.Effect<Watched, never, Scope.Scope> =>
  Effect.gen(function*() {
    const name = "main"
    const program = findProgram("redis-server")!
    const primary = yield* Servers.redis()
    const replica = yield* Servers.redis({
      config: [`replicaof ${primary.host} ${primary.port}`, "repl-diskless-sync-delay 0"]
    })
    yield* eventually(
      Effect.map(tell(replica.port, undefined, "INFO", "replication"), (info) =>
        String(info).includes("master_link_status:up")),
      { within: "20 seconds", what: "the replica follows" }
    )
    const folder = yield* temporaryFolder("seaworthy-sentinel-")
    const file = path.join(folder, "sentinel.conf")
    fs.writeFileSync(
      file,
      [
        `bind ${HOST}`,
        `dir ${JSON.stringify(folder)}`,
        `sentinel monitor ${name} ${primary.host} ${primary.port} 1`,
        `sentinel down-after-milliseconds ${name} 700`,
        `sentinel failover-timeout ${name} 3000`,
        ""
      ].join("\n")
    )
    const ping = "*1\r\n$4\r\nPING\r\n"
    const server = yield* makeServer({
      name: "redis-sentinel",
      folder,
      launch: (port) =>
        spawn(program, [file, "--port", String(port), "--sentinel"], { cwd: folder, detached: true }),
      isReady: (_, port) =>
        Effect.map(ask(port, ping, (reply) => reply.length > 0), (reply) => reply.toString() === "+PONG\r\n"),
      stopSignal: "SIGTERM",
      releaseSignal: "SIGKILL"
    })
    yield* eventually(
      Effect.map(tell(server.port, undefined, "SENTINEL", "REPLICAS", name), (replicas) =>
        Array.isArray(replicas) && replicas.length === 1),
      { within: "20 seconds", what: "the sentinel knows the replica" }
    )
    return { primary, replica, sentinel: server, name }
  })
