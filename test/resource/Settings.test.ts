import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { readFileSync } from "node:fs"
import { inspect } from "node:util"
import * as Settings from "../../src/resource/Settings.ts"
import * as Redaction from "../../src/security/Redaction.ts"

const withEnvironment = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))

const withFile = (content: Record<string, unknown>) =>
  Effect.provideService(Settings.FileSource, { path: "app.yaml", content })

const issuesOf = (raw: unknown, environment: Record<string, string> = {}) =>
  Effect.map(Effect.flip(Settings.decode(raw, { path: "app.yaml", environment })), (error) => error.issues)

/** Every option with its variable. */
const options = Effect.runSync(Effect.map(Settings.decode({}), Settings.effective))

describe("Settings", () => {
  describe("defaults", () => {
    it.effect("are the numbers of the seeds, on embedded drivers, without any credential", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.decode({})
        assert.deepStrictEqual(settings.filesystem, {
          base_path: "./.seaworthy/data",
          permissions: 0o755,
          required_dirs: ["cache", "logs", "uploads"]
        })
        assert.strictEqual(settings.cache.driver, "memory")
        assert.strictEqual(settings.cache.port, 6379)
        assert.strictEqual(Duration.toMillis(settings.cache.command_timeout), 500)
        assert.strictEqual(settings.database.driver, "pglite")
        assert.strictEqual(settings.database.port, 5432)
        assert.strictEqual(Duration.toSeconds(settings.connection_pool.max_lifetime), 3600)
        assert.strictEqual(settings.transaction.isolation_level, "REPEATABLE_READ")
        assert.strictEqual(settings.monitoring.alert_threshold, 0.9)
        assert.strictEqual(Duration.toSeconds(settings.error_handling.circuit_breaker.reset_timeout), 300)
        assert.deepStrictEqual(settings.error_handling.fallback.strategies, ["cache", "local", "default"])
        assert.strictEqual(Duration.toSeconds(settings.lifecycle.drain_timeout), 10)
        for (
          const secret of [
            settings.cache.password,
            settings.cache.url,
            settings.database.password,
            settings.database.url
          ]
        ) {
          assert.strictEqual(secret, undefined)
        }
        assert.deepStrictEqual([...new Set(Object.values(settings.sources))], ["default"])
      }))
  })

  describe("sources", () => {
    it.effect("environment wins over file, file over default, and each option tells its source", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.Settings
        assert.strictEqual(settings.cache.host, "from-environment")
        assert.strictEqual(settings.cache.port, 6400)
        assert.strictEqual(settings.cache.db, 0)
        assert.strictEqual(Duration.toSeconds(settings.error_handling.circuit_breaker.reset_timeout), 7)
        assert.strictEqual(settings.sources["cache.host"], "environment CACHE_HOST")
        assert.strictEqual(settings.sources["cache.port"], "file app.yaml")
        assert.strictEqual(settings.sources["cache.db"], "default")
      }).pipe(
        Effect.provide(Settings.layer),
        withEnvironment({ CACHE_HOST: "from-environment", ERROR_HANDLING_CIRCUIT_BREAKER_RESET_TIMEOUT: "7" }),
        withFile({ cache: { host: "from-file", port: 6400 } })
      ))

    it.effect("any ConfigProvider will do, and lists may be arrays there", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.load
        assert.strictEqual(settings.cache.port, 1)
        assert.deepStrictEqual(settings.cache.nodes, ["a:1", "b:2"])
        assert.deepStrictEqual(settings.filesystem.required_dirs, ["x", "y"])
      }).pipe(
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromUnknown({ CACHE_PORT: 1, CACHE_NODES: ["a:1", "b:2"], FILESYSTEM_REQUIRED_DIRS: "x, y," })
        )
      ))

    it.effect("a list in a variable is separated by commas, or written in JSON", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.load
        assert.deepStrictEqual(settings.cache.nodes, ["a:1", "b:2"])
        assert.deepStrictEqual(settings.filesystem.required_dirs, ["x, y", "z"])
      }).pipe(withEnvironment({ CACHE_NODES: " a:1 ,b:2", FILESYSTEM_REQUIRED_DIRS: "[\"x, y\", \"z\"]" })))

    it.effect("a provider can be nested under a prefix of the application", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.load
        assert.strictEqual(settings.cache.host, "x")
        assert.deepStrictEqual(settings.warnings, [
          "environment CACHE_PROT is not an option and has no effect; did you mean CACHE_PORT?"
        ])
      }).pipe(
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnv({ env: { APP_CACHE_HOST: "x", APP_CACHE_PROT: "1" } }).pipe(
            ConfigProvider.nested("APP")
          )
        )
      ))

    it.effect("an empty variable and a key with nothing behind it count as not set", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.decode(
          { cache: { port: null }, database: null, error_handling: { retry: null } },
          { environment: { CACHE_HOST: "" } }
        )
        assert.strictEqual(settings.cache.host, "localhost")
        assert.strictEqual(settings.cache.port, 6379)
        assert.strictEqual(settings.error_handling.retry.max_attempts, 3)
      }))

    it.effect("a near miss in the environment is a warning, what may belong to others is not", () =>
      Effect.gen(function*() {
        const { warnings } = yield* Settings.decode({}, {
          environment: {
            CACHE_PROT: "1",
            CONNECTION_POOL_MAX_CONECTIONS: "1",
            CACHE_DIR: "/x",
            CACHE_HOST: "x",
            DATABASE: "x",
            DATABASE_HOSTNAME_OF_ANOTHER: "x",
            CACHED_PORT: "1"
          }
        })
        assert.deepStrictEqual([...warnings].sort(), [
          "environment CACHE_PROT is not an option and has no effect; did you mean CACHE_PORT?",
          "environment CONNECTION_POOL_MAX_CONECTIONS is not an option and has no effect; did you mean CONNECTION_POOL_MAX_CONNECTIONS?"
        ])
      }))

    it.effect("a source that cannot be read is an issue of each option, not a crash", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Settings.load)
        assert.strictEqual(error.issues[0]?.actual, "a failure of the source")
        assert.notInclude(inspect(error, { depth: Infinity }), "hunter2")
      }).pipe(
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.make(() => Effect.fail(new ConfigProvider.SourceError({ message: "hunter2" })))
        )
      ))
  })

  describe("values", () => {
    const valid: ReadonlyArray<
      readonly [title: string, raw: unknown, read: (settings: Settings.Shape) => unknown, expected: unknown]
    > = [
      ["0755 as YAML reads it", { filesystem: { permissions: 755 } }, (s) => s.filesystem.permissions, 0o755],
      ["0755 as text", { filesystem: { permissions: "0755" } }, (s) => s.filesystem.permissions, 0o755],
      ["0o644", { filesystem: { permissions: "0o644" } }, (s) => s.filesystem.permissions, 0o644],
      ["set-group-id", { filesystem: { permissions: "2775" } }, (s) => s.filesystem.permissions, 0o2775],
      ["a number as text", { cache: { port: " 80 " } }, (s) => s.cache.port, 80],
      ["yes", { cache: { tls: "yes" } }, (s) => s.cache.tls, true],
      ["OFF", { cache: { tls: "OFF" } }, (s) => s.cache.tls, false],
      ["a number of seconds", { cache: { timeout: 1.5 } }, (s) => Duration.toMillis(s.cache.timeout), 1500],
      ["a number of seconds as text", { cache: { timeout: ".25" } }, (s) => Duration.toMillis(s.cache.timeout), 250],
      ["a duration", { cache: { timeout: "500 millis" } }, (s) => Duration.toMillis(s.cache.timeout), 500],
      ["a duration of minutes", { cache: { ttl: "2 minutes" } }, (s) => Duration.toSeconds(s.cache.ttl!), 120],
      [
        "another case",
        { transaction: { isolation_level: "read committed" } },
        (s) => s.transaction.isolation_level,
        "READ_COMMITTED"
      ],
      ["a user of digits", { cache: { username: 1234 } }, (s) => s.cache.username, "1234"],
      ["a password of digits", { cache: { password: 1234 } }, (s) => Redacted.value(s.cache.password!), "1234"],
      ["an IPv6 node", { cache: { nodes: ["[::1]:26379"] } }, (s) => s.cache.nodes, ["[::1]:26379"]],
      ["a socket folder", { database: { host: "/var/run/postgresql" } }, (s) => s.database.host, "/var/run/postgresql"],
      ["shared anchors", { "x-common": { a: 1 }, cache: { port: 1 } }, (s) => s.cache.port, 1],
      [
        "a URL",
        { cache: { url: "rediss://:p%40ss@h:1/2" } },
        (s) => Redacted.value(s.cache.url!),
        "rediss://:p%40ss@h:1/2"
      ],
      ["postgres without host", { database: { driver: "postgres" } }, (s) => s.database.host, "localhost"],
      ["in memory", { database: { data_dir: "memory://" } }, (s) => s.database.data_dir, "memory://"]
    ]
    for (const [title, raw, read, expected] of valid) {
      it.effect(`accepts ${title}`, () =>
        Effect.map(Settings.decode(raw), (settings) => assert.deepStrictEqual(read(settings), expected)))
    }
  })

  describe("errors", () => {
    const file = "file app.yaml"
    const seconds = "seconds from 0.001 to 2147483, or a duration such as \"500 millis\""
    const wrong: ReadonlyArray<readonly [title: string, raw: unknown, issue: Settings.SettingsIssue]> = [
      ["a text for a number", { cache: { port: "abc" } }, {
        path: "cache.port",
        source: file,
        expected: "an integer from 1 to 65535",
        actual: "text of 3 characters that is not a number"
      }],
      ["a number out of range", { cache: { port: 70_000 } }, {
        path: "cache.port",
        source: file,
        expected: "an integer from 1 to 65535",
        actual: "the number 70000"
      }],
      ["a fraction for an integer", { cache: { max_entries: "1.5" } }, {
        path: "cache.max_entries",
        source: file,
        expected: "an integer from 1 to 10000000",
        actual: "the number 1.5"
      }],
      ["an unknown word", { cache: { driver: "redsi" } }, {
        path: "cache.driver",
        source: file,
        expected: "memory or redis",
        actual: "text of 5 characters",
        hint: "did you mean redis?"
      }],
      ["a list for a word", { cache: { mode: ["sentinel"] } }, {
        path: "cache.mode",
        source: file,
        expected: "standalone, sentinel or cluster",
        actual: "a list of one item"
      }],
      ["a switch that is neither", { cache: { tls: "maybe" } }, {
        path: "cache.tls",
        source: file,
        expected: "true or false (also yes, no, on, off, 1, 0)",
        actual: "text of 5 characters"
      }],
      ["a time span in other words", { cache: { timeout: "5 min" } }, {
        path: "cache.timeout",
        source: file,
        expected: seconds,
        actual: "text of 5 characters that is not a number"
      }],
      ["no time where some is needed", { cache: { timeout: 0 } }, {
        path: "cache.timeout",
        source: file,
        expected: seconds,
        actual: "the number 0"
      }],
      ["a time longer than timers can be", { cache: { timeout: "30 days" } }, {
        path: "cache.timeout",
        source: file,
        expected: seconds,
        actual: "a duration of 2592000 seconds"
      }],
      ["decimal permissions", { filesystem: { permissions: 493 } }, {
        path: "filesystem.permissions",
        source: file,
        expected: "octal permissions such as 0755",
        actual: "the number 493",
        hint: "write three or four octal digits, as for chmod"
      }],
      ["a folder outside", { filesystem: { required_dirs: ["a", "b/../../c"] } }, {
        path: "filesystem.required_dirs",
        source: file,
        expected: "a list of relative folder names without ..",
        actual: "a list of 2 items, of which item 2 is not valid"
      }],
      ["a number that YAML changed", { cache: { password: 1e21 } }, {
        path: "cache.password",
        source: file,
        expected: "text of 1 to 4096 characters",
        actual: "a number",
        hint: "put it in quotes"
      }],
      ["credentials in a host", { cache: { host: "app:hunter2@cache" } }, {
        path: "cache.host",
        source: file,
        expected: "a host name or an address, without scheme, port or credentials",
        actual: "text of 17 characters"
      }],
      ["another scheme", { cache: { url: "http://:hunter2@cache" } }, {
        path: "cache.url",
        source: file,
        expected: "a URL with a host that starts with redis:// or rediss://",
        actual: "text of 21 characters",
        hint: "percent-encode @ : / ? # and % in the user name and the password"
      }],
      ["an unencoded password in a URL", { database: { url: "postgres://app:hun/ter2@db/app" } }, {
        path: "database.url",
        source: file,
        expected: "a URL with a host that starts with postgres:// or postgresql://",
        actual: "text of 30 characters",
        hint: "percent-encode @ : / ? # and % in the user name and the password"
      }],
      ["an unknown option", { cache: { hst: "x" } }, {
        path: "cache.hst",
        source: file,
        expected: "an option of cache",
        actual: "an unknown name",
        hint: "did you mean cache.host?"
      }],
      ["an unknown option of a group", { error_handling: { retry: { maxAttempts: 1 } } }, {
        path: "error_handling.retry.maxAttempts",
        source: file,
        expected: "an option of error_handling.retry",
        actual: "an unknown name",
        hint: "did you mean error_handling.retry.max_attempts?"
      }],
      ["an unknown section", { chache: {} }, {
        path: "chache",
        source: file,
        expected: "the name of a section",
        actual: "an unknown name",
        hint: "did you mean cache?"
      }],
      ["a value for a section", { cache: "redis" }, {
        path: "cache",
        source: file,
        expected: "a group of options",
        actual: "text of 5 characters"
      }],
      ["a name that may be a secret", { transaction: { "hunter 2": 1 } }, {
        path: "transaction.<name of 8 characters>",
        source: file,
        expected: "an option of transaction",
        actual: "an unknown name",
        hint: "there are isolation_level, timeout, retry_attempts, deadlock_retry"
      }],
      ["a minimum above the maximum", { connection_pool: { min_connections: 20 } }, {
        path: "connection_pool.min_connections",
        source: file,
        expected: "at most connection_pool.max_connections, which is 10",
        actual: "the number 20"
      }],
      ["a cluster without nodes", { cache: { mode: "cluster" } }, {
        path: "cache.nodes",
        source: "default",
        expected: "at least one host:port, because cache.mode is cluster",
        actual: "an empty list"
      }],
      ["sentinels without the name to watch", { cache: { mode: "sentinel", nodes: "a:1,b:2" } }, {
        path: "cache.sentinel_name",
        source: "default",
        expected: "the name of the primary, because cache.mode is sentinel",
        actual: "not set"
      }],
      ["a database of a cluster", { cache: { mode: "cluster", nodes: ["a:1"], db: 3 } }, {
        path: "cache.db",
        source: file,
        expected: "0, the only database of a cluster",
        actual: "the number 3"
      }]
    ]
    for (const [title, raw, issue] of wrong) {
      it.effect(`names ${title}`, () => Effect.map(issuesOf(raw), (issues) => assert.deepStrictEqual(issues, [issue])))
    }

    it.effect("come from all sections at once, in a report that names path, source, shape and remedy", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Settings.decode(
          { cache: { prot: 1, mode: "cluster" }, error_handling: { fallback: { strategies: ["cache", "locl"] } } },
          { path: "app.yaml", environment: { CACHE_PORT: "abc", DATABASE_SSL: "?", LIFECYCLE_DRAIN_DELAY: "-1" } }
        ))
        assert.instanceOf(error, Settings.SettingsError)
        assert.strictEqual(
          error.message,
          [
            "Invalid settings: 6 options are wrong.",
            "  cache.prot (file app.yaml): expected an option of cache, got an unknown name; did you mean cache.port?",
            "  cache.port (environment CACHE_PORT): expected an integer from 1 to 65535, got text of 3 characters that is not a number",
            "  cache.nodes (default): expected at least one host:port, because cache.mode is cluster, got an empty list",
            "  database.ssl (environment DATABASE_SSL): expected true or false (also yes, no, on, off, 1, 0), got text of one character",
            "  error_handling.fallback.strategies (file app.yaml): expected a list of cache, local, default, got a list of 2 items, of which item 2 is not valid; did you mean local?",
            "  lifecycle.drain_delay (environment LIFECYCLE_DRAIN_DELAY): expected seconds from 0 to 2147483, or a duration such as \"500 millis\", got the number -1"
          ].join("\n")
        )
      }))

    it.effect("name a whole that is no group of sections", () =>
      Effect.gen(function*() {
        for (const raw of ["cache: 1", [1], 5]) {
          assert.strictEqual((yield* issuesOf(raw))[0]?.expected, "sections by name")
        }
        assert.strictEqual((yield* Settings.decode(null)).cache.port, 6379)
      }))

    it.effect("can be caught by tag, and their message passes through redaction unchanged", () =>
      Effect.gen(function*() {
        const message = yield* Settings.decode({ cache: { password: [], username: [] }, database: { password: {} } })
          .pipe(
            Effect.as(""),
            Effect.catchTag("SettingsError", (error) => Effect.succeed(error.message))
          )
        assert.include(message, "cache.password (code): expected text of 1 to 4096 characters, got a list of 0 items")
        assert.strictEqual(Redaction.error(new Error(message)).message, message)
      }))
  })

  describe("secrets", () => {
    it.effect("are Redacted and known to Redaction, those inside URLs in both forms", () =>
      Effect.gen(function*() {
        yield* Settings.decode(
          { cache: { password: "plain-s3cret", url: "redis://app:in%2Furl%40s3cret@cache" } },
          { environment: { DATABASE_URL: "postgres://db/app?password=in-query-s3cret" } }
        )
        assert.strictEqual(
          Redaction.text("a plain-s3cret b in%2Furl%40s3cret c in/url@s3cret d in-query-s3cret e cache"),
          "a <redacted> b <redacted> c <redacted> d <redacted> e cache"
        )
      }))

    it.effect("are known to Redaction even if the settings are invalid", () =>
      Effect.gen(function*() {
        yield* Effect.flip(Settings.decode({
          cache: { port: "x", url: "http://:of-a-wrong-url@cache" },
          database: { url: "perhaps-a-password" }
        }))
        assert.strictEqual(Redaction.text("of-a-wrong-url perhaps-a-password"), "<redacted> <redacted>")
      }))

    it.effect("never show when settings are printed", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.decode({
          cache: { password: "printed-s3cret", url: "redis://u:printed-s3cret@h", username: "printed-s3cret" }
        })
        const rows = Settings.effective(settings)
        // A user name is no secret of ours, but here it equals one.
        const { cache: _, ...rest } = settings
        const printed = inspect({ ...settings.cache, username: "" }, { depth: Infinity, showHidden: true }) +
          inspect(rest, { depth: Infinity }) + JSON.stringify(rows) + String(settings.cache.password)
        assert.notInclude(printed, "printed-s3cret")
        assert.deepInclude(rows, {
          path: "cache.password",
          variable: "CACHE_PASSWORD",
          value: "<redacted>",
          source: "code"
        })
      }))

    it.effect("random wrong options are all reported, and a planted secret leaks nowhere", () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.uniqueArray(fc.nat(options.length - 1), { minLength: 1, maxLength: 12 }),
            fc.stringMatching(/^[a-z]{4}[A-Z0-9$%@:/?#"' ]{4,20}[a-z]{4}$/).map((s) => `zq!${s}`),
            fc.boolean(),
            async (chosen, secret, fromEnvironment) => {
              const raw: Record<string, Record<string, unknown>> = {}
              const environment: Record<string, string> = {}
              const bad = chosen.map((i) => options[i]!).filter(({ path }) => acceptsNoSecret(path))
              for (const { path, variable } of bad) {
                if (fromEnvironment) environment[variable] = secret
                else plant(raw, path.split("."), secret)
              }
              raw["cache"] = { ...raw["cache"], password: secret }
              raw["database"] = { ...raw["database"], password: secret }
              const outcome = await Effect.runPromise(Effect.result(Settings.decode(raw, { environment })))
              const printed = outcome._tag === "Failure"
                ? [
                  outcome.failure.message,
                  String(outcome.failure),
                  outcome.failure.stack,
                  JSON.stringify(outcome.failure),
                  inspect(outcome.failure, { depth: Infinity, showHidden: true })
                ]
                : [
                  JSON.stringify(outcome.success),
                  inspect(outcome.success, { depth: Infinity }),
                  JSON.stringify(Settings.effective(outcome.success))
                ]
              Redaction.unregister(secret)
              for (const text of printed) {
                assert.notInclude(text, secret)
                assert.notInclude(text, JSON.stringify(secret).slice(1, -1))
              }
              const reported = outcome._tag === "Failure" ? outcome.failure.issues.map(({ path }) => path) : []
              assert.sameMembers(reported, bad.map(({ path }) => path))
            }
          ),
          { numRuns: 200 }
        )
      ))
  })

  describe("code", () => {
    it.effect("gives decoded values, validated like all others", () =>
      Effect.gen(function*() {
        const settings = yield* Settings.make({
          filesystem: { permissions: 0o700, base_path: undefined },
          cache: { timeout: Duration.seconds(2), password: Redacted.make("made-s3cret") }
        })
        assert.strictEqual(settings.filesystem.permissions, 0o700)
        assert.strictEqual(settings.filesystem.base_path, "./.seaworthy/data")
        assert.strictEqual(Duration.toSeconds(settings.cache.timeout), 2)
        assert.strictEqual(settings.sources["cache.timeout"], "code")
        assert.strictEqual(Redaction.text("made-s3cret"), "<redacted>")
        const error = yield* Effect.flip(Settings.make({ cache: { port: 0, timeout: Duration.infinity } }))
        assert.deepStrictEqual(error.issues.map(({ path, source }) => `${path} ${source}`), [
          "cache.port code",
          "cache.timeout code"
        ])
      }))
  })

  describe("sections of one's own", () => {
    const payments = Settings.section(
      "payments",
      Schema.Struct({
        endpoint: Schema.String.annotate({ description: "Where charges go" }),
        attempts: Schema.Int.check(Schema.isGreaterThan(0)).pipe(Schema.withDecodingDefaultKey(Effect.succeed(3))),
        key: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
        api_token: Schema.optionalKey(Schema.String),
        currencies: Schema.optionalKey(Schema.Array(Schema.Literals(["EUR", "USD"]))),
        patience: Schema.optionalKey(Schema.DurationFromString),
        limits: Schema.Struct({ daily: Schema.optionalKey(Schema.Number) })
      }),
      {
        check: ({ attempts, endpoint }) =>
          endpoint === "slow" && (attempts ?? 0) > 5
            ? [{ option: "attempts", expected: "at most 5", actual: "more" }]
            : []
      }
    )
    const limited = Settings.section(
      "limited",
      Schema.Struct({
        low: Schema.Number.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))),
        high: Schema.Number.pipe(Schema.withDecodingDefaultKey(Effect.succeed(2)))
      }).check(Schema.makeFilter(({ high, low }) => low <= high || "low must not be above high"))
    )
    const sections = [payments, limited]

    it.effect("are decoded from the same sources and read with their type", () =>
      Effect.gen(function*() {
        const own = yield* Settings.get(payments)
        assert.strictEqual(own.endpoint, "https://pay")
        assert.strictEqual(own.attempts, 5)
        assert.deepStrictEqual(own.currencies, ["EUR", "USD"])
        assert.strictEqual(Duration.toSeconds(own.patience!), 5)
        assert.strictEqual(own.limits.daily, 10)
        assert.strictEqual(Redacted.value(own.key!), "own-s3cret")
        const cache = yield* Settings.get(Settings.sections.cache)
        assert.strictEqual(cache.port, 6379)
        const rows = Settings.effective(yield* Settings.Settings)
        for (const path of ["payments.key", "payments.api_token"]) {
          assert.strictEqual(rows.find((row) => row.path === path)?.value, "<redacted>")
        }
        assert.strictEqual(Redaction.text("own-s3cret own-t0ken"), "<redacted> <redacted>")
      }).pipe(
        Effect.provide(Settings.layerWith({ sections })),
        withEnvironment({
          PAYMENTS_ATTEMPTS: "5",
          PAYMENTS_KEY: "own-s3cret",
          PAYMENTS_CURRENCIES: "EUR, USD",
          PAYMENTS_PATIENCE: "5 seconds"
        }),
        withFile({ payments: { endpoint: "https://pay", limits: { daily: 10 }, api_token: "own-t0ken" } })
      ))

    it.effect("a secret in a list, a record or an option of theirs is hidden and registered as any other", () =>
      Effect.gen(function*() {
        const secret = Schema.RedactedFromValue(Schema.String)
        const keys = Settings.section(
          "keys",
          Schema.Struct({
            list: Schema.Array(secret),
            record: Schema.Record(Schema.String, secret),
            deep: Schema.Array(Schema.Struct({ name: Schema.String, key: secret })),
            passwords: Schema.Array(Schema.String)
          })
        )
        const settings = yield* Settings.decode(
          {
            keys: {
              record: { a: "rec0rd-key" },
              deep: [{ name: "shown", key: "deep-k3y" }],
              passwords: ["by-n4me-only"]
            }
          },
          { sections: [keys], environment: { KEYS_LIST: "l1st-key,l2st-key" } }
        )
        const rows = Settings.effective(settings).filter(({ path }) => path.startsWith("keys."))
        assert.deepStrictEqual(Object.fromEntries(rows.map(({ path, value }) => [path, value])), {
          "keys.list": ["<redacted>", "<redacted>"],
          "keys.record": { a: "<redacted>" },
          "keys.deep": [{ name: "shown", key: "<redacted>" }],
          "keys.passwords": "<redacted>"
        })
        assert.strictEqual(
          Redaction.text("a l1st-key b l2st-key c rec0rd-key d deep-k3y e by-n4me-only"),
          "a <redacted> b <redacted> c <redacted> d <redacted> e <redacted>"
        )
      }))

    it.effect("report missing and wrong options, and what their checks say, with all others", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Settings.decode(
          { payments: { currencies: ["EUR", "GBP"], attemts: 1 }, limited: { low: 5 }, cache: { port: 0 } },
          { sections, environment: { PAYMENTS_ATTEMPTS: "0" } }
        ))
        assert.deepStrictEqual(error.issues.map(({ actual, hint, path }) => [path, actual, hint]), [
          ["payments.attemts", "an unknown name", "did you mean payments.attempts?"],
          ["cache.port", "the number 0", undefined],
          ["payments.endpoint", "nothing", "set PAYMENTS_ENDPOINT"],
          ["payments.attempts", "the number 0", undefined],
          ["payments.currencies", "a list of 2 items", undefined],
          ["limited", "options that do not fit together", undefined]
        ])
        assert.include(error.message, "limited (default): expected low must not be above high, got options")
        const [issue] = (yield* Effect.flip(
          Settings.decode({ payments: { endpoint: "slow", attempts: 9 } }, { sections })
        )).issues
        assert.deepStrictEqual(issue, {
          path: "payments.attempts",
          source: "code",
          expected: "at most 5",
          actual: "more"
        })
      }))

    it.effect("a section that was not added is a defect that says what to do", () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Settings.get(payments))
        assert.include(
          inspect(exit, { depth: Infinity }),
          "section payments is not loaded: add it to Settings.layerWith({ sections })"
        )
      }).pipe(Effect.provide(Settings.layer), withEnvironment({})))

    it("a name that is taken is refused", () => {
      const again = Settings.section("cache", Schema.Struct({}))
      assert.throws(() => Settings.layerWith({ sections: [again] }), RangeError, "the name cache is taken")
    })
  })

  describe("documentation", () => {
    it("the reference page is current (npm run settings-docs)", () => {
      const page = readFileSync(new URL("../../docs/reference/settings.md", import.meta.url), "utf8")
      assert.strictEqual(page, Settings.docs())
      assert.match(page, /^<!-- Generated from /)
    })

    it("names every option with variable, valid values, default and meaning", () => {
      const rows = Settings.docs().split("\n").filter((line) => line.startsWith("| `"))
      assert.strictEqual(rows.length, options.length)
      for (const row of rows) {
        const cells = row.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim())
        assert.strictEqual(cells.length, 5)
        assert.isTrue(cells.every((cell) => cell !== ""), row)
      }
      assert.include(
        Settings.docs(),
        "| `port` | `CACHE_PORT` | an integer from 1 to 65535 | `6379` | Port of the Redis server |"
      )
    })

    it("the JSON Schema has every option with its default and forbids others", () => {
      const schema = Settings.jsonSchema() as {
        readonly additionalProperties: boolean
        readonly properties: Record<string, { readonly properties: Record<string, Record<string, unknown>> }>
      }
      assert.isFalse(schema.additionalProperties)
      const cache = schema.properties["cache"]!.properties
      assert.strictEqual(cache["port"]!["default"], 6379)
      assert.strictEqual(cache["password"]!["writeOnly"], true)
      assert.isFalse("default" in cache["password"]!)
      assert.strictEqual(schema.properties["filesystem"]!.properties["permissions"]!["default"], "0755")
      assert.doesNotThrow(() => JSON.stringify(schema))
    })
  })
})

/** Options for which no text with spaces, quotes and signs is valid. */
const acceptsNoSecret = (path: string): boolean =>
  !/\.(?:password|username|prefix|base_path|data_dir|migrations|sentinel_name|database|required_dirs|application_name)$/
    .test(path)

const plant = (root: Record<string, unknown>, keys: ReadonlyArray<string>, value: unknown): void => {
  let group = root
  for (const key of keys.slice(0, -1)) group = (group[key] ??= {}) as Record<string, unknown>
  group[keys[keys.length - 1]!] = value
}
