/**
 * The sections of the settings: options, valid values, defaults and meanings. The reference page is made from this file.
 *
 * @internal
 */
import * as Schema from "effect/Schema"
import {
  boolean,
  choice,
  choices,
  fraction,
  host,
  integer,
  permissions,
  seconds,
  secret,
  secretUrl,
  text,
  textOrNothing,
  texts,
  withDefault
} from "./option.ts"
import { section } from "./section.ts"

const nodePattern = /^(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\]):(?:[1-9]\d{0,4})$/
const tenYears = 315_360_000

export const filesystem = section(
  "filesystem",
  Schema.Struct({
    base_path: withDefault(text("Folder that holds all files, relative to the working directory"), "./.seaworthy/data"),
    permissions: withDefault(permissions("Permissions of the folders that are created, in octal as for chmod"), "0755"),
    required_dirs: withDefault(
      texts("Folders under base_path that are created when missing", {
        expected: "a list of relative folder names without ..",
        pattern: /^(?![/\\~]|[A-Za-z]:)(?!(?:.*[/\\])?\.\.(?:[/\\]|$))[^\0\r\n]{1,500}$/
      }),
      ["cache", "logs", "uploads"]
    )
  }),
  { meaning: "The directory tree of `FileStore`." }
)

export const cache = section(
  "cache",
  Schema.Struct({
    driver: withDefault(choice("Where entries live: in this process, or in Redis", ["memory", "redis"]), "memory"),
    host: withDefault(host("Host of the Redis server"), "localhost"),
    port: withDefault(integer("Port of the Redis server", 1, 65_535), 6379),
    url: Schema.optionalKey(
      secretUrl("Address of the Redis server; wins over host, port, username, password, db and tls", [
        "redis",
        "rediss"
      ])
    ),
    username: Schema.optionalKey(text("Redis user (ACL)")),
    password: Schema.optionalKey(secret("Redis password")),
    db: withDefault(integer("Redis database number", 0, 65_535), 0),
    tls: withDefault(boolean("Connect with TLS"), false),
    mode: withDefault(choice("How Redis is deployed", ["standalone", "sentinel", "cluster"]), "standalone"),
    nodes: withDefault(
      texts("Addresses of the sentinels, or of some nodes of the cluster", {
        expected: "a list of host:port",
        pattern: nodePattern
      }),
      []
    ),
    sentinel_name: Schema.optionalKey(text("Name of the primary that the sentinels watch")),
    prefix: withDefault(textOrNothing("Text before every key"), ""),
    ttl: Schema.optionalKey(
      seconds("Time to live of an entry that has none of its own; without it, for ever", 0.001, tenYears)
    ),
    max_entries: withDefault(integer("Most entries that the memory driver keeps", 1, 10_000_000), 10_000),
    timeout: withDefault(seconds("Longest wait for a connection", 0.001), 5),
    command_timeout: withDefault(seconds("Longest wait for the answer to a command", 0.001), 0.5),
    retry_attempts: withDefault(integer("How often a failed connection is tried again at start", 0, 1_000), 3),
    retry_delay: withDefault(seconds("Wait before the first new try; it doubles with each", 0), 1)
  }),
  {
    meaning: "The cache.",
    check: ({ db, mode, nodes, sentinel_name }) => [
      ...(mode === "sentinel" || mode === "cluster") && nodes?.length === 0
        ? [{
          option: "nodes",
          expected: `at least one host:port, because cache.mode is ${mode}`,
          actual: "an empty list"
        }]
        : [],
      ...mode === "sentinel" && nodes !== undefined && sentinel_name === undefined
        ? [{
          option: "sentinel_name",
          expected: "the name of the primary, because cache.mode is sentinel",
          actual: "not set"
        }]
        : [],
      ...mode === "cluster" && db !== undefined && db !== 0
        ? [{ option: "db", expected: "0, the only database of a cluster", actual: `the number ${db}` }]
        : []
    ]
  }
)

export const database = section(
  "database",
  Schema.Struct({
    driver: withDefault(choice("Embedded database, or a Postgres server", ["pglite", "postgres"]), "pglite"),
    host: withDefault(host("Host of the Postgres server, or the folder of its socket"), "localhost"),
    port: withDefault(integer("Port of the Postgres server", 1, 65_535), 5432),
    database: withDefault(text("Name of the database"), "app_db"),
    username: withDefault(text("User of the database"), "app_user"),
    password: Schema.optionalKey(secret("Password of the user")),
    url: Schema.optionalKey(
      secretUrl("Address of the Postgres server; wins over host, port, database, username and password", [
        "postgres",
        "postgresql"
      ])
    ),
    data_dir: withDefault(
      text("Folder of the embedded database, relative to the working directory; `memory://` keeps it in memory"),
      "./.seaworthy/database"
    ),
    ssl: withDefault(boolean("Connect with TLS"), false),
    application_name: withDefault(
      text("Name of this program in pg_stat_activity", {
        expected: "1 to 63 printable ASCII characters",
        pattern: /^[\x20-\x7e]{1,63}$/
      }),
      "seaworthy"
    ),
    statement_timeout: withDefault(seconds("Longest run of a statement; 0 for no limit", 0), 30),
    migrations: Schema.optionalKey(text("Folder with migrations that run at start")),
    timeout: withDefault(seconds("Longest wait for a connection", 0.001), 5),
    retry_attempts: withDefault(integer("How often a failed connection is tried again at start", 0, 1_000), 3),
    retry_delay: withDefault(seconds("Wait before the first new try; it doubles with each", 0), 1)
  }),
  { meaning: "The database." }
)

export const connectionPool = section(
  "connection_pool",
  Schema.Struct({
    max_connections: withDefault(integer("Most connections that are open at once", 1, 10_000), 10),
    min_connections: withDefault(integer("Connections that stay open while idle", 0, 10_000), 0),
    idle_timeout: withDefault(seconds("A connection above the minimum is closed after this long unused", 0.001), 300),
    max_lifetime: withDefault(seconds("A connection is replaced after this long", 0.001), 3600),
    validation_interval: withDefault(
      seconds("An idle connection that lay unused for longer is asked whether it lives before it is lent", 0.001),
      60
    ),
    acquire_timeout: withDefault(seconds("Longest wait for a free connection", 0.001), 5),
    max_waiting: withDefault(
      integer("Most callers that wait for a connection; others are refused at once", 0, 1_000_000),
      100
    ),
    leak_after: withDefault(
      seconds("A connection that is held for longer is logged with who took it, as a possible leak", 0.001),
      60
    )
  }),
  {
    meaning: "The pool of database connections, and that of dedicated Redis connections.",
    check: ({ max_connections, min_connections }) =>
      max_connections !== undefined && min_connections !== undefined && min_connections > max_connections
        ? [{
          option: "min_connections",
          expected: `at most connection_pool.max_connections, which is ${max_connections}`,
          actual: `the number ${min_connections}`
        }]
        : []
  }
)

export const transaction = section(
  "transaction",
  Schema.Struct({
    isolation_level: withDefault(
      choice("Isolation of a transaction that asks for none", [
        "READ_UNCOMMITTED",
        "READ_COMMITTED",
        "REPEATABLE_READ",
        "SERIALIZABLE"
      ]),
      "REPEATABLE_READ"
    ),
    timeout: withDefault(seconds("Longest run of a transaction", 0.001), 30),
    retry_attempts: withDefault(integer("How often a transaction that may be repeated is tried again", 0, 1_000), 3),
    deadlock_retry: withDefault(boolean("Repeat a transaction that ended in a deadlock"), true)
  }),
  { meaning: "Transactions." }
)

export const monitoring = section(
  "monitoring",
  Schema.Struct({
    metrics_interval: withDefault(seconds("Metrics are collected this often", 0.001), 60),
    check_interval: withDefault(seconds("A resource is checked this often", 0.001), 5),
    check_timeout: withDefault(seconds("Longest run of a check", 0.001), 2),
    failure_threshold: withDefault(integer("Failed checks in a row until a resource counts as down", 1, 1_000), 3),
    success_threshold: withDefault(integer("Passed checks in a row until it counts as ready again", 1, 1_000), 1),
    alert_threshold: withDefault(fraction("Share of a limit in use (0.9 of a pool, say) that raises an alert", 0), 0.9),
    error_threshold: withDefault(fraction("Share of failed operations that raises an alert", 0), 0.1),
    performance_threshold: withDefault(seconds("An operation that takes longer counts as slow", 0.001), 1)
  }),
  { meaning: "Checks, metrics and alerts." }
)

export const errorHandling = section(
  "error_handling",
  Schema.Struct({
    retry: Schema.Struct({
      max_attempts: withDefault(integer("Tries in all, the first included", 1, 1_000), 3),
      delay: withDefault(seconds("Wait before the second try", 0), 1),
      backoff: withDefault(choice("How the wait grows", ["exponential", "linear", "fixed"]), "exponential")
    }),
    circuit_breaker: Schema.Struct({
      threshold: withDefault(fraction("Share of failed calls that opens the circuit", 0.001), 0.5),
      window: withDefault(seconds("Time over which calls are counted", 0.001), 60),
      reset_timeout: withDefault(seconds("The circuit stays open this long before it is probed", 0.001), 300)
    }),
    fallback: Schema.Struct({
      enabled: withDefault(boolean("Use fallbacks"), true),
      strategies: withDefault(
        choices("Fallbacks in the order in which they are tried", ["cache", "local", "default"]),
        [
          "cache",
          "local",
          "default"
        ]
      )
    })
  }),
  { meaning: "What happens when a call fails." }
)

export const lifecycle = section(
  "lifecycle",
  Schema.Struct({
    drain_delay: withDefault(
      seconds("Wait between failing readiness and ending work, so that load balancers see it", 0),
      0
    ),
    drain_timeout: withDefault(seconds("Longest wait for work in flight to end", 0), 10),
    release_timeout: withDefault(
      seconds("Longest release of one resource; then it is named and passed over", 0.001),
      5
    ),
    startup_timeout: withDefault(seconds("Longest start of all resources together", 0.001), 60)
  }),
  { meaning: "Start and stop of the whole program." }
)

/** All sections in the order of the reference page. */
export const builtIn = [
  filesystem,
  cache,
  database,
  connectionPool,
  transaction,
  monitoring,
  errorHandling,
  lifecycle
] as const
