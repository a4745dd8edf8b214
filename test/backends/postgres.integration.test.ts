import * as PgConnection from "@effect/sql-pg/PgConnection"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import * as net from "node:net"
import { inspect } from "node:util"
import * as PostgresDatabase from "../../src/backends/PostgresDatabase.ts"
import * as StatusModule from "../../src/observability/Status.ts"
import { Database } from "../../src/resource/Database.ts"
import * as Settings from "../../src/resource/Settings.ts"
import * as Supervisor from "../../src/resource/Supervisor.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { startError, suite, suiteOptions } from "../resource/databaseSuite.ts"
import { eventually, timed } from "../support/Live.ts"
import * as Servers from "../support/Servers.ts"
import * as MigrationSuite from "./migrationSuite.ts"

Servers.describeWith(["postgres"], "Postgres", () => {
  // One server for the file; tests that kill or freeze it bring it back.
  const scope = Scope.makeUnsafe()
  let server: Servers.PostgresServer
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.provide(Servers.postgres(), scope))
  }, 60_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 60_000)

  const options = (more: PostgresDatabase.Options = {}): PostgresDatabase.Options => ({
    host: server.host,
    port: server.port,
    database: server.database,
    username: server.username,
    password: Redacted.make(server.password),
    retry_attempts: 0,
    ...more
  })
  const session = (database = server.database) =>
    PgConnection.make({
      host: server.host,
      port: server.port,
      username: server.username,
      database,
      password: Redacted.make(server.password)
    })
  const query = (sql: string, database?: string) =>
    Effect.scoped(
      Effect.flatMap(Effect.suspend(() => session(database)), (own) => Effect.map(own.query(sql), ({ rows }) => rows))
    )
  /** A database that nobody else uses. */
  const freshDatabase = (name: string) =>
    Effect.as(Effect.andThen(query(`DROP DATABASE IF EXISTS ${name}`), query(`CREATE DATABASE ${name}`)), name)

  suite(
    "as a database",
    Layer.unwrap(Effect.sync(() => PostgresDatabase.layerWith(options(suiteOptions)))),
    "pg"
  )
  MigrationSuite.suite("migrations", "pg", Effect.suspend(() => session()))

  describe("connections", () => {
    it.live("carry application name and statement time-out from their startup", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient
        const settings =
          yield* sql`SELECT current_setting('application_name') AS name, current_setting('statement_timeout') AS timeout`
        assert.deepStrictEqual(settings, [{ name: "harbour", timeout: "1s" }])
        const error = yield* Effect.flip(sql`SELECT pg_sleep(30)`)
        assert.strictEqual(error.reason._tag, "StatementTimeoutError")
      }).pipe(Effect.provide(Layer.unwrap(Effect.sync(() =>
        PostgresDatabase.layerWith(options({ application_name: "harbour", statement_timeout: Duration.seconds(1) }))
          .pipe(
            Layer.provide(StatusModule.layer)
          )
      )))))

    it.live("come from DATABASE_URL, which wins over the other options part by part", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.decode({ database: { host: "nowhere.invalid", database: server.database } }, {
          environment: { DATABASE_URL: server.url.replace(/\/postgres$/, "") }
        })
        const layer = PostgresDatabase.layerWith({ ...settings.database, retry_attempts: 0 })
        const name = yield* Effect.provide(
          Effect.flatMap(SqlClient, (sql) => sql`SELECT current_database() AS name`),
          Layer.provide(layer, StatusModule.layer)
        )
        assert.deepStrictEqual(name, [{ name: "postgres" }])
      }))

    it.live("are ended on the server when the resource is released", () =>
      Effect.gen(function*() {
        const layer = PostgresDatabase.layerWith(options({ application_name: "leaver" })).pipe(
          Layer.provide(StatusModule.layer)
        )
        yield* Effect.provide(Effect.flatMap(SqlClient, (sql) => sql`SELECT 1`), layer)
        yield* eventually(
          Effect.map(query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'leaver'"), (rows) =>
            rows.length === 0)
        )
      }))
  })

  describe("a start that cannot succeed", () => {
    const check = (
      title: string,
      make: Effect.Effect<PostgresDatabase.Options, unknown, Scope.Scope>,
      expected: { readonly reason: string; readonly phase?: string; readonly option: string; readonly message: RegExp }
    ) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const layer = PostgresDatabase.layerWith(yield* make)
          const error = yield* startError(layer)
          assert.strictEqual(error.resource, "database")
          assert.strictEqual(error.phase, expected.phase ?? "connect")
          assert.strictEqual(error.reason, expected.reason)
          assert.strictEqual(error.option, expected.option)
          assert.match(error.message, expected.message)
          assert.match(error.message, /remedy: /)
          const everything = [
            error.message,
            error.stack,
            inspect(error, { depth: 20, showHidden: true }),
            JSON.stringify(error)
          ].join()
          assert.notInclude(everything, server.password)
          assert.notInclude(everything, encodeURIComponent(server.password))
          assert.notInclude(everything, "wr0ng-secret")
        }))

    check("tells a wrong password", Effect.sync(() => options({ password: Redacted.make("wr0ng-secret") })), {
      reason: "PermissionDenied",
      option: "database.password",
      message: /127\.0\.0\.1:\d+ refused the password of user "seaworthy"/
    })
    check(
      "tells a wrong password inside a URL",
      Effect.sync(() =>
        options({ url: Redacted.make(server.url.replace(encodeURIComponent(server.password), "wr0ng-secret")) })
      ),
      {
        reason: "PermissionDenied",
        option: "database.url",
        message: /refused the password of user "seaworthy"[^]*the password inside DATABASE_URL/
      }
    )
    check(
      "tells a closed port inside a URL",
      Effect.map(
        Servers.freePort,
        (port) => options({ url: Redacted.make(server.url.replace(`:${server.port}/`, `:${port}/`)) })
      ),
      {
        reason: "ConnectionFailed",
        option: "database.url",
        message: /refused the connection[^]*set host and port in DATABASE_URL/
      }
    )
    check("tells a missing password", Effect.sync(() => options({ password: undefined })), {
      reason: "PermissionDenied",
      option: "database.password",
      message: /asks for a password of user "seaworthy", and none is set/
    })
    check("tells a closed port", Effect.map(Servers.freePort, (port) => options({ port })), {
      reason: "ConnectionFailed",
      option: "database.port",
      message: /refused the connection/
    })
    check("tells a name that does not resolve", Effect.sync(() => options({ host: "no-such-host.invalid" })), {
      reason: "ConnectionFailed",
      option: "database.host",
      message: /the name "no-such-host\.invalid" does not resolve/
    })
    check("tells a database that is not there", Effect.sync(() => options({ database: "atlantis" })), {
      reason: "ConfigurationInvalid",
      option: "database.database",
      message: /there is no database "atlantis" on 127\.0\.0\.1/
    })
    check("tells a server without TLS", Effect.sync(() => options({ ssl: true })), {
      reason: "ConfigurationInvalid",
      option: "database.ssl",
      message: /does not speak TLS/
    })
    check(
      "tells a read-only database",
      Effect.gen(function*() {
        const database = yield* freshDatabase("readonly")
        yield* query(`ALTER DATABASE ${database} SET default_transaction_read_only = on`)
        return options({ database })
      }),
      {
        reason: "PermissionDenied",
        phase: "verify",
        option: "database.host",
        message: /the database "readonly" on .* is read-only/
      }
    )
    check(
      "tells a server of something else",
      Effect.map(listener((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")), (port) => options({ port })),
      { reason: "ConnectionFailed", option: "database.port", message: /Check that what listens there is Postgres/ }
    )

    it.live("shows no secret in errors, logs, status and services, at any level", () =>
      Effect.gen(function*() {
        const wrong = "wr0ng/s3cret"
        const logged: Array<unknown> = []
        const logger = Logger.make(({ cause, message, fiber }) => {
          logged.push(
            message,
            cause,
            fiber.getRef(References.CurrentLogAnnotations),
            fiber.getRef(References.CurrentLogSpans)
          )
        })
        const url = server.url.replace(encodeURIComponent(server.password), encodeURIComponent(wrong))
        const layers = Layer.mergeAll(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, "All"))
        const failed = yield* Effect.exit(Layer.build(
          PostgresDatabase.layerWith(options({ url: Redacted.make(url) })).pipe(
            Layer.provide(StatusModule.layer),
            Layer.provide(layers)
          )
        ))
        const good = yield* Layer.build(
          PostgresDatabase.layerWith(options({ url: Redacted.make(server.url) })).pipe(
            Layer.provideMerge(StatusModule.layer),
            Layer.provide(layers)
          )
        )
        const snapshot = yield* Context.get(good, StatusModule.Status).snapshot
        assert.isTrue(Exit.isFailure(failed))
        assert.isNotEmpty(logged)
        const everything = inspect([failed, good, snapshot, logged], {
          depth: 30,
          showHidden: true,
          maxArrayLength: null
        })
        for (const secret of [wrong, encodeURIComponent(wrong), server.password, encodeURIComponent(server.password)]) {
          assert.notInclude(everything, secret)
        }
      }))

    it.live("ends within its time-out against an address that accepts and never answers", () =>
      Effect.gen(function*() {
        const port = yield* listener(() => {})
        const { exit, millis } = yield* timed(
          startError(PostgresDatabase.layerWith(options({ port, timeout: Duration.millis(300) })))
        )
        assert.isBelow(millis, 5_000)
        const error = yield* exit
        assert.strictEqual(error.reason, "TimedOut")
        assert.strictEqual(error.phase, "connect")
        assert.match(error.message, /option: database\.host\n.*remedy: /)
      }))

    it.live("is tried again while the server is starting", () =>
      Effect.gen(function*() {
        const proxy = yield* FaultProxy.make({ target: server })
        yield* proxy.reset
        const { host, port } = proxy
        const layer = PostgresDatabase.layerWith(
          options({ host, port, retry_attempts: 100, retry_delay: Duration.millis(50) })
        )
        const starting = yield* Effect.forkChild(Effect.scoped(Layer.build(Layer.provide(layer, StatusModule.layer))))
        yield* eventually(Effect.map(proxy.stats, ({ accepted }) => accepted > 1))
        yield* proxy.pass
        yield* Fiber.join(starting)
      }))

    it.live("starts on a read-only database when told so", () =>
      Effect.gen(function*() {
        const database = yield* freshDatabase("replica")
        yield* query(`ALTER DATABASE ${database} SET default_transaction_read_only = on`)
        const layer = PostgresDatabase.layerWith(options({ database, readOnly: true })).pipe(
          Layer.provide(StatusModule.layer)
        )
        assert.deepStrictEqual(yield* Effect.provide(Effect.flatMap(SqlClient, (sql) => sql`SELECT 1 AS n`), layer), [{
          n: 1
        }])
      }))
  })

  /** A database behind a proxy, watched closely. */
  const behindProxy = (more: PostgresDatabase.Options = {}, supervised = false) =>
    Effect.gen(function*() {
      const proxy = yield* FaultProxy.make({ target: server })
      const { host, port } = proxy
      const layer = PostgresDatabase.layerWith(options({
        host,
        port,
        timeout: Duration.seconds(1),
        pool: { max_connections: 2 },
        monitoring: {
          check_interval: Duration.millis(50),
          check_timeout: Duration.millis(250),
          failure_threshold: 2,
          performance_threshold: Duration.millis(120)
        },
        lifecycle: { drain_timeout: Duration.millis(200), release_timeout: Duration.seconds(2) },
        ...more
      }))
      const supervisor = Supervisor.layer({ coolDown: "50 millis", maxRestarts: 1_000 })
      const context = yield* Layer.build(
        (supervised ? Layer.provide(layer, supervisor) : layer).pipe(Layer.provideMerge(StatusModule.layer))
      )
      const { sql } = Context.get(context, Database)
      const status = Context.get(context, StatusModule.Status)
      const state = Effect.map(status.get("database"), (node) => node?.state)
      const becomes = (...wanted: ReadonlyArray<string>) =>
        eventually(state, {
          until: (now) => now !== undefined && wanted.includes(now),
          what: `not ${wanted.join(" or ")}`
        })
      const works = eventually(sql`SELECT 1`, { what: "statements do not work again" })
      return { proxy, sql, status, becomes, works }
    })

  describe("a database that goes away and comes back", () => {
    it.live(
      "is down when the server was killed, reads of status stay instant, and is ready again without a restart",
      () =>
        Effect.gen(function*() {
          const { becomes, sql, status, works } = yield* behindProxy()
          yield* sql`SELECT 1`
          yield* server.kill
          yield* becomes("down")
          const { millis } = yield* timed(status.snapshot)
          assert.isBelow(millis, 50)
          assert.strictEqual((yield* Effect.flip(sql`SELECT 1`)).reason._tag, "ConnectionError")
          yield* server.start
          yield* becomes("ready")
          yield* works
        }),
      60_000
    )

    it.live(
      "behind a black hole is down within the configured time, hanging statements fail, and it comes back",
      () =>
        Effect.gen(function*() {
          const { becomes, proxy, sql, works } = yield* behindProxy()
          yield* Effect.all([sql`SELECT 1`, sql`SELECT 2`], { concurrency: 2 })
          yield* proxy.blackHole
          const hanging = yield* Effect.forkChild(Effect.flip(sql`SELECT 3`))
          const { millis } = yield* timed(becomes("down"))
          // Two checks of at most 250 ms and two pauses of about 50 ms, with room for a busy machine.
          assert.isBelow(millis, 5_000)
          assert.strictEqual((yield* Fiber.join(hanging)).reason._tag, "ConnectionError")
          yield* proxy.pass
          yield* becomes("ready")
          yield* works
        }),
      60_000
    )

    it.live("whose connections are reset goes on with new ones", () =>
      Effect.gen(function*() {
        const { becomes, proxy, sql, works } = yield* behindProxy()
        yield* Effect.all([sql`SELECT 1`, sql`SELECT 2`], { concurrency: 2 })
        yield* proxy.reset
        yield* becomes("degraded", "down")
        yield* proxy.pass
        yield* becomes("ready")
        yield* works
      }), 60_000)

    it.live("is degraded while it is slow", () =>
      Effect.gen(function*() {
        const { becomes, proxy } = yield* behindProxy()
        yield* proxy.latency("80 millis")
        yield* becomes("degraded")
        yield* proxy.pass
        yield* becomes("ready")
      }), 60_000)

    it.live("is down when it became read-only, as after a failover to a standby", () =>
      Effect.gen(function*() {
        const { becomes, status } = yield* behindProxy()
        const alter = (sql: string) =>
          Effect.scoped(Effect.gen(function*() {
            const own = yield* session()
            yield* own.query("SET default_transaction_read_only = off")
            yield* own.query(sql)
            yield* own.query("SELECT pg_reload_conf()")
          }))
        yield* alter("ALTER SYSTEM SET default_transaction_read_only = on")
        yield* becomes("down").pipe(
          Effect.ensuring(Effect.orDie(alter("ALTER SYSTEM RESET default_transaction_read_only")))
        )
        assert.match((yield* status.get("database"))?.lastError?.message ?? "", /is read-only/)
        yield* becomes("ready")
      }), 60_000)

    it.live("is not down because all its connections are in use", () =>
      Effect.scoped(Effect.gen(function*() {
        const { sql, status } = yield* behindProxy({
          // Patient, so that a busy machine is not taken for a slow database.
          monitoring: {
            check_interval: Duration.millis(50),
            check_timeout: Duration.seconds(10),
            performance_threshold: Duration.seconds(10)
          }
        })
        yield* Effect.all([sql.reserve, sql.reserve])
        const beat = Effect.map(status.get("database"), (node) => node?.heartbeat ?? 0)
        const before = yield* beat
        // Some checks have passed since the pool was exhausted.
        yield* eventually(beat, { until: (now) => now > before + 150 })
        assert.strictEqual((yield* status.get("database"))?.state, "ready")
      })), 60_000)

    it.live("gives the error that broke a transaction, not a defect of its rollback", () =>
      Effect.gen(function*() {
        const { proxy, sql } = yield* behindProxy()
        const error = yield* Effect.flip(sql.withTransaction(Effect.andThen(
          sql`SELECT 1`,
          Effect.andThen(proxy.resetConnections, sql`SELECT 2`)
        )))
        assert.strictEqual(error._tag, "SqlError")
        assert.strictEqual(error.reason._tag, "ConnectionError")
      }), 60_000)

    it.live(
      "cuts a statement that outlasts the drain time of a release, and the release does not hang on it",
      () =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const { sql, status } = yield* Scope.provide(behindProxy(), scope)
          const running = yield* Effect.forkChild(Effect.flip(sql`SELECT pg_sleep(60)`))
          yield* eventually(
            query("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"),
            {
              until: (rows) => rows.length === 1
            }
          )
          yield* Scope.close(scope, Exit.void)
          assert.strictEqual((yield* Fiber.join(running)).reason._tag, "ConnectionError")
          const release = (yield* status.get("database"))?.phases.find(({ phase }) => phase === "release")
          assert.strictEqual(release?.message, "1 operations were still running and were cut off")
        }),
      60_000
    )

    it.live(
      "is restarted by a supervisor, and the client that users hold works after it",
      () =>
        Effect.gen(function*() {
          const { becomes, proxy, sql, status, works } = yield* behindProxy({}, true)
          const phases = Effect.map(status.get("database"), (node) => node?.phases.length ?? 0)
          const before = yield* phases
          yield* sql`SELECT 1`
          yield* proxy.blackHole
          yield* becomes("down", "connecting", "validating")
          yield* eventually(phases, { until: (now) => now > before, what: "no restart" })
          yield* proxy.pass
          yield* becomes("ready")
          yield* works
        }),
      60_000
    )
  })
})

const listener = (onConnection: (socket: net.Socket) => void): Effect.Effect<number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: net.Server; readonly sockets: Set<net.Socket> }>((resume) => {
      const sockets = new Set<net.Socket>()
      const server = net.createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        onConnection(socket)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, sockets })))
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  ).pipe(Effect.map(({ server }) => (server.address() as net.AddressInfo).port))
