/**
 * Real Redis and Postgres for tests: each on a free loopback port, in its own temporary folder, gone with its scope.
 *
 * `Servers.describeWith(["redis"], "name", () => ...)` is the door for suites that need them: where a server is not
 * installed, a developer sees the suite skipped and what to install, and a run with `CI=true` fails.
 */
import { describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { findProgram, watchdog } from "./Processes.ts"
import { ask, HOST, makeServer, type Server, temporaryFolder } from "./Server.ts"

export type { Server } from "./Server.ts"
export { freePort, temporaryFolder } from "./Server.ts"

// ---------------------------------------------------------------------------------------------------------------------
// Which servers this machine has
// ---------------------------------------------------------------------------------------------------------------------

export type ServerName = "redis" | "postgres"

const INSTALL: Record<ServerName, string> = {
  redis: "apt-get install redis-server (Debian, Ubuntu) or brew install redis (macOS)",
  postgres: "apt-get install postgresql (Debian, Ubuntu) or brew install postgresql (macOS)"
}

const subfolders = (parent: string): Array<string> => fs.existsSync(parent) ? fs.readdirSync(parent) : []

/** The folder with `postgres` and `initdb`: newest version first, then the PATH. */
const postgresBin = (): string | undefined => {
  const versions = subfolders("/usr/lib/postgresql")
    .sort((one, other) => Number(other) - Number(one))
    .map((version) => `/usr/lib/postgresql/${version}/bin`)
  const homebrew = ["/opt/homebrew/opt", "/usr/local/opt"].flatMap((parent) =>
    subfolders(parent).filter((name) => name.startsWith("postgresql")).map((name) => `${parent}/${name}/bin`)
  )
  const folders = [...versions, ...(process.env["PATH"] ?? "").split(path.delimiter), ...homebrew]
  return folders.find((folder) => ["postgres", "initdb"].every((name) => fs.existsSync(path.join(folder, name))))
}

export const isInstalled = (name: ServerName): boolean =>
  (name === "redis" ? findProgram("redis-server") : postgresBin()) !== undefined

/** What becomes of a suite, from what is missing and whether this is CI. Pure, so that it can be tested. */
export const decide = (
  missing: ReadonlyArray<ServerName>,
  ci: boolean
): { readonly run: "run" | "skip" | "fail"; readonly message: string } => ({
  run: missing.length === 0 ? "run" : ci ? "fail" : "skip",
  message: missing.map((name) => `${name} is not installed: ${INSTALL[name]}`).join("; ")
})

/** `describe` for suites that need real servers. */
export const describeWith = (needs: ReadonlyArray<ServerName>, name: string, suite: () => void): void => {
  const { message, run } = decide(needs.filter((need) => !isInstalled(need)), process.env["CI"] === "true")
  if (run === "fail") {
    describe(name, () => {
      it("has the servers that it needs", () => {
        throw new Error(message)
      })
    })
    return
  }
  if (run === "skip") console.warn(`\n!!! SKIPPED: "${name}". ${message}\n`)
  describe.skipIf(run === "skip")(name, suite)
}

const notInstalled = (name: ServerName) => Effect.die(new Error(decide([name], true).message))

// ---------------------------------------------------------------------------------------------------------------------
// Redis
// ---------------------------------------------------------------------------------------------------------------------

export interface RedisServer extends Server {
  /** `redis://[:password@]host:port/0` */
  readonly url: string
  readonly password: string | undefined
}

export interface RedisOptions {
  /** Default: no password. */
  readonly password?: string | undefined
  /** Default: a free one. */
  readonly port?: number | undefined
  /** More lines for redis.conf, such as `["maxmemory 1mb"]`. */
  readonly config?: ReadonlyArray<string> | undefined
}

/** A Redis without persistence: after `kill` and `start` it is empty. */
export const redis = (options?: RedisOptions): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const program = findProgram("redis-server")
    if (program === undefined) return yield* notInstalled("redis")
    const password = options?.password
    const folder = yield* temporaryFolder("seaworthy-redis-")
    const config = [
      `bind ${HOST}`,
      `dir ${JSON.stringify(folder)}`,
      `save ""`,
      "appendonly no",
      ...(password === undefined ? [] : [`requirepass ${JSON.stringify(password)}`]),
      ...(options?.config ?? [])
    ]
    const file = path.join(folder, "redis.conf")
    fs.writeFileSync(file, `${config.join("\n")}\n`, { mode: 0o600 })
    const words = (...all: Array<string>) =>
      `*${all.length}\r\n${all.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`
    const question = (password === undefined ? "" : words("AUTH", password)) + words("INFO", "server")
    const server = yield* makeServer({
      name: "redis-server",
      folder,
      port: options?.port,
      launch: (port) => spawn(program, [file, "--port", String(port)], { cwd: folder, detached: true }),
      isReady: (child, port) =>
        ask(port, question, (reply) => /process_id:\d+\r\n/.test(reply.toString())).pipe(
          Effect.map((reply) => reply.toString().includes(`process_id:${child.pid}\r\n`))
        ),
      stopSignal: "SIGTERM",
      releaseSignal: "SIGKILL"
    })
    const credentials = password === undefined ? "" : `:${encodeURIComponent(password)}@`
    return { ...server, password, url: `redis://${credentials}${HOST}:${server.port}/0` }
  })

/** The same as a service, for `layer(Servers.Redis.layer(), { excludeTestServices: true })`. */
export class Redis extends Context.Service<Redis, RedisServer>()("seaworthy/test/Redis") {
  static layer(options?: RedisOptions): Layer.Layer<Redis> {
    return Layer.effect(Redis, redis(options))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Postgres
// ---------------------------------------------------------------------------------------------------------------------

export interface PostgresServer extends Server {
  readonly database: string
  readonly username: string
  readonly password: string
  /** `postgresql://username:password@host:port/database` */
  readonly url: string
}

export interface PostgresOptions {
  /** Default: a free one. */
  readonly port?: number | undefined
  /** Default "seaworthy"; a superuser. */
  readonly username?: string | undefined
  /** Default: a random one, so that a test can search for it where it must not be. */
  readonly password?: string | undefined
  /** More server settings, such as `{ default_transaction_read_only: "on" }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** Postgres refuses to run as root: then it runs as `postgres`, or as `nobody`. */
const unprivilegedUser = (): { readonly uid: number; readonly gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const users = new Map(
    fs.readFileSync("/etc/passwd", "utf8").split("\n").map((line) => line.split(":")).map((
      fields
    ) => [fields[0], fields])
  )
  const entry = users.get("postgres") ?? users.get("nobody")
  if (entry === undefined) throw new Error("Postgres does not run as root, and there is no user postgres or nobody")
  return { uid: Number(entry[2]), gid: Number(entry[3]) }
}

const completed = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const output: Array<Buffer> = []
    const guard = watchdog()
    if (child.pid !== undefined) guard.guard([child.pid])
    child.stdout?.on("data", (chunk: Buffer) => output.push(chunk))
    child.stderr?.on("data", (chunk: Buffer) => output.push(chunk))
    const finish = (why: string | undefined) => {
      guard.farewell()
      resume(why === undefined ? Effect.void : Effect.die(new Error(`${why}:\n${Buffer.concat(output).toString()}`)))
    }
    child.on("error", (error) => finish(error.message))
    child.on("close", (code) => finish(code === 0 ? undefined : `${child.spawnfile} ended with ${code}`))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** The first message of the wire protocol: the server answers "R" (authenticate) once it takes connections. */
const startupMessage = (username: string, database: string): Buffer => {
  const parameters = Buffer.from(`user\0${username}\0database\0${database}\0\0`)
  const head = Buffer.alloc(8)
  head.writeInt32BE(8 + parameters.length, 0)
  head.writeInt32BE(196_608, 4)
  return Buffer.concat([head, parameters])
}

/** The server writes its own pid and "ready" into postmaster.pid: that it is this one that answers on the port. */
const isPostmaster = (data: string, pid: number | undefined): boolean => {
  try {
    const lines = fs.readFileSync(path.join(data, "postmaster.pid"), "utf8").split("\n")
    return lines[0] === String(pid) && lines[7]?.trim() === "ready"
  } catch {
    return false
  }
}

/** A Postgres with password authentication (scram-sha-256) and no fsync. It keeps its data over `kill` and `start`. */
export const postgres = (options?: PostgresOptions): Effect.Effect<PostgresServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const bin = postgresBin()
    if (bin === undefined) return yield* notInstalled("postgres")
    const user = unprivilegedUser()
    const username = options?.username ?? "seaworthy"
    const password = options?.password ?? `secret-${randomUUID()}`
    const database = "postgres"
    const folder = yield* temporaryFolder("seaworthy-pg-", user)
    const data = path.join(folder, "data")
    const secret = path.join(folder, "password")
    fs.writeFileSync(secret, `${password}\n`, { mode: 0o600 })
    if (user !== undefined) fs.chownSync(secret, user.uid, user.gid)
    const run = (program: string, args: ReadonlyArray<string>) =>
      spawn(path.join(bin, program), args, {
        ...user,
        cwd: folder,
        detached: true,
        env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC", HOME: folder },
        stdio: ["ignore", "pipe", "pipe"]
      })

    yield* completed(run("initdb", [
      ...["-D", data, "-U", username, "-E", "UTF8"],
      ...["--auth=scram-sha-256", `--pwfile=${secret}`, "--no-locale", "--no-sync"]
    ]))
    const settings: Record<string, string> = {
      listen_addresses: HOST,
      unix_socket_directories: folder,
      max_connections: "100",
      shared_buffers: "16MB",
      // In the data folder, so that nothing stays in /dev/shm after SIGKILL.
      dynamic_shared_memory_type: "mmap",
      // Fast, yet what was committed survives SIGKILL: the log reaches the operating system at each commit.
      fsync: "off",
      full_page_writes: "off",
      ...options?.settings
    }
    const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    const startup = startupMessage(username, database)
    const server = yield* makeServer({
      name: "postgres",
      folder,
      port: options?.port,
      launch: (port) => run("postgres", ["-D", data, "-p", String(port), ...flags]),
      isReady: (child, port) =>
        Effect.suspend(() =>
          isPostmaster(data, child.pid)
            ? Effect.map(ask(port, startup, (reply) => reply.length > 0), (reply) =>
              reply.toString("latin1", 0, 1) === "R")
            : Effect.succeed(false)
        ),
      // Fast shutdown; immediate shutdown, which still frees its shared memory.
      stopSignal: "SIGINT",
      releaseSignal: "SIGQUIT"
    })
    const url = `postgresql://${encodeURIComponent(username)}:${
      encodeURIComponent(password)
    }@${HOST}:${server.port}/${database}`
    return { ...server, database, username, password, url }
  })

/** The same as a service, for `layer(Servers.Postgres.layer(), { excludeTestServices: true })`. */
export class Postgres extends Context.Service<Postgres, PostgresServer>()("seaworthy/test/Postgres") {
  static layer(options?: PostgresOptions): Layer.Layer<Postgres> {
    return Layer.effect(Postgres, postgres(options))
  }
}
