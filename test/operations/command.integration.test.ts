import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { eventually } from "../support/Live.ts"
import { finished, folder, seaworthy } from "./support.ts"

const order = (text: string, pattern: RegExp) => Array.from(text.matchAll(pattern), (match) => match[1])

describe("seaworthy up", () => {
  it.live(
    "starts filesystem, cache and database on embedded defaults; Ctrl-C releases in reverse",
    () =>
      Effect.gen(function*() {
        const command = yield* seaworthy(["up"])
        yield* command.waitForLine(/^ready in/, { within: "2 minutes" })
        const started = yield* command.stdout
        assert.deepStrictEqual(order(started, /^ {2}(\w+): ready/gm), ["filesystem", "cache", "database"])
        yield* command.signal("SIGINT")
        assert.deepStrictEqual(yield* command.exit(), { code: 130, signal: null })
        const all = yield* command.stdout
        assert.deepStrictEqual(order(all, /^■ (\w+) released/gm), ["database", "cache", "filesystem"])
        assert.strictEqual(yield* command.stderr, "")
      }),
    60_000
  )

  it.live("--once exits 0 after ready and release", () =>
    Effect.gen(function*() {
      const run = yield* finished(["up", "--once", "--only", "filesystem,cache"])
      assert.strictEqual(run.code, 0, run.output)
      assert.deepStrictEqual(order(run.stdout, /^■ (\w+) released/gm), ["cache", "filesystem"])
    }), 60_000)

  // Linux alone has a device that is always full.
  it.live.runIf(fs.existsSync("/dev/full"))(
    "output that cannot be written ends nothing, and is said once",
    () =>
      Effect.gen(function*() {
        const base = yield* folder
        const run = yield* finished(["up", "--once", "--only", "filesystem,cache"], {
          cwd: base,
          redirect: ">/dev/full"
        })
        assert.strictEqual(run.code, 0, run.output)
        assert.strictEqual(run.stderr, "standard output cannot be written (ENOSPC)\n")
      }),
    60_000
  )

  it.live("--json is one object a line, with phases, ready, states and end", () =>
    Effect.gen(function*() {
      const run = yield* finished(["up", "--once", "--json", "--only", "filesystem,cache"])
      assert.strictEqual(run.code, 0, run.output)
      const events = run.stdout.trim().split("\n").map((line) => JSON.parse(line))
      const ready = events.find((event) => event.event === "ready")
      assert.deepStrictEqual(ready.resources.map((r: { id: string; state: string }) => [r.id, r.state]), [
        ["filesystem", "ready"],
        ["cache", "ready"]
      ])
      assert.strictEqual(events[events.length - 1].event, "ended")
      assert.isTrue(events.some((event) => event.event === "phase" && event.resource === "cache"))
    }), 60_000)

  it.live(
    "the second of three fails: the first is released, the third never starts, the exit code is 1",
    () =>
      Effect.gen(function*() {
        const run = yield* finished(["up", "--json"], {
          env: { CACHE_DRIVER: "redis", CACHE_HOST: "127.0.0.1", CACHE_PORT: "1", CACHE_RETRY_ATTEMPTS: "0" }
        })
        assert.strictEqual(run.code, 1, run.output)
        const events = run.stdout.trim().split("\n").map((line) => JSON.parse(line))
        const states = (id: string) =>
          events.filter((event) => event.event === "state" && event.resource === id).map((event) => event.state)
        assert.deepStrictEqual(states("filesystem").filter((s) => s === "stopped"), ["stopped"])
        assert.strictEqual(states("cache").at(-1), "failed")
        assert.deepStrictEqual(states("database"), [])
        const failed = events.find((event) => event.event === "failed")
        assert.deepInclude(failed.error, { resource: "cache", phase: "connect", reason: "ConnectionFailed" })
      }),
    60_000
  )
})

describe("seaworthy check", () => {
  it.live("validates, connects, verifies and releases, and initializes nothing", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      const run = yield* finished(["check", "--only", "filesystem,cache"], { cwd })
      assert.strictEqual(run.code, 0, run.output)
      assert.notMatch(run.stdout, /initialize [<\d]/)
      assert.deepStrictEqual(fs.readdirSync(path.join(cwd, ".seaworthy/data")), [])
    }), 60_000)
})

describe("what comes from outside", () => {
  it.live("neither moves the cursor nor recolours the terminal", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      const strange = "\u001b[31mred\u001b[2J\u001b]0;title\u0007\u009b1m"
      fs.writeFileSync(path.join(cwd, `${strange}.yaml`), "cache:\n  prefix: x\n")
      const env = {
        FILESYSTEM_BASE_PATH: `/proc/${strange}`,
        CACHE_PREFIX: strange,
        SEAWORTHY_CONFIG: `${strange}.yaml`
      }
      const check = yield* finished(["check", "--only", "filesystem"], { cwd, env })
      assert.strictEqual(check.code, 1, check.output)
      const config = yield* finished(["config"], { cwd, env })
      assert.strictEqual(config.code, 0, config.output)
      for (const run of [check, config]) {
        assert.include(run.output, "red")
        assert.notMatch(run.output, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
      }
    }), 60_000)
})

describe("seaworthy config", () => {
  it.live("shows effective settings with their sources, secrets hidden", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      fs.writeFileSync(path.join(cwd, "app.yaml"), "cache:\n  host: from-file\n  port: 7000\n")
      const run = yield* finished(["config", "--file", "app.yaml", "--json"], {
        cwd,
        env: { CACHE_PORT: "7001", CACHE_PASSWORD: "hunter2-secret", DATABASE_URL: "postgres://u:s3cr3t-pw@h/db" }
      })
      assert.strictEqual(run.code, 0, run.output)
      const rows: Array<{ path: string; value: unknown; source: string }> = JSON.parse(run.stdout)
      const row = (name: string) => rows.find((r) => r.path === name)
      assert.deepInclude(row("cache.host"), { value: "from-file" })
      assert.include(row("cache.host")?.source, "app.yaml")
      assert.deepInclude(row("cache.port"), { value: 7001 })
      assert.include(row("cache.port")?.source, "CACHE_PORT")
      assert.include(row("cache.driver")?.source, "default")
      assert.notInclude(run.output, "hunter2-secret")
      assert.notInclude(run.output, "s3cr3t-pw")
    }), 60_000)

  it.live("--schema is a JSON Schema, --docs is the reference page", () =>
    Effect.gen(function*() {
      const schema = yield* finished(["config", "--schema"])
      assert.strictEqual(schema.code, 0, schema.output)
      assert.isObject(JSON.parse(schema.stdout))
      const docs = yield* finished(["config", "--docs"])
      assert.strictEqual(docs.stdout.trim(), fs.readFileSync("docs/reference/settings.md", "utf8").trim())
    }), 60_000)
})

describe("mistakes", () => {
  const mistakes: ReadonlyArray<{
    readonly name: string
    readonly args?: ReadonlyArray<string>
    readonly env?: Record<string, string>
    readonly files?: Record<string, string>
    readonly code: number
    readonly says: ReadonlyArray<string | RegExp>
  }> = [
    {
      name: "invalid YAML",
      args: ["--file", "app.yaml"],
      files: { "app.yaml": "cache:\n  host: [unclosed\n" },
      code: 2,
      says: ["app.yaml", /line \d+/]
    },
    {
      name: "a file that is not there",
      args: ["--file", "nope.yaml"],
      code: 2,
      says: ["nope.yaml"]
    },
    {
      name: "an unknown option",
      args: ["--file", "app.yaml"],
      files: { "app.yaml": "cache:\n  hots: x\n" },
      code: 2,
      says: ["cache.hots", "cache.host"]
    },
    {
      name: "several wrong values of several sections, all at once",
      env: { CACHE_PORT: "many", CONNECTION_POOL_MAX_CONNECTIONS: "-1", FILESYSTEM_PERMISSIONS: "rwx" },
      code: 2,
      says: ["cache.port", "CACHE_PORT", "connection_pool.max_connections", "filesystem.permissions"]
    },
    {
      name: "an unknown resource",
      args: ["--only", "cache,disk"],
      code: 2,
      says: ["disk", "filesystem, cache, database"]
    },
    {
      name: "a time-out that is none",
      args: ["--timeout", "soon"],
      code: 2,
      says: ["timeout", "seconds"]
    },
    {
      name: "a closed port",
      env: { CACHE_DRIVER: "redis", CACHE_HOST: "127.0.0.1", CACHE_PORT: "1", CACHE_RETRY_ATTEMPTS: "0" },
      args: ["--only", "cache"],
      code: 1,
      says: ["cache did not connect", "option: cache.", "remedy:"]
    },
    {
      name: "a base path that cannot be a directory",
      env: { FILESYSTEM_BASE_PATH: "taken/base" },
      files: { taken: "a file" },
      args: ["--only", "filesystem"],
      code: 1,
      says: ["filesystem did not connect", "option: filesystem.base_path", "remedy:"]
    }
  ]
  for (const mistake of mistakes) {
    it.live(`${mistake.name}: one clear message, exit code ${mistake.code}`, () =>
      Effect.gen(function*() {
        const cwd = yield* folder
        for (const [name, content] of Object.entries(mistake.files ?? {})) {
          fs.writeFileSync(path.join(cwd, name), content)
        }
        const secret = "Planted-Secret-42"
        const run = yield* finished(["up", "--once", "--log-level", "all", ...(mistake.args ?? [])], {
          cwd,
          env: { ...mistake.env, CACHE_PASSWORD: secret, DATABASE_PASSWORD: secret }
        })
        assert.strictEqual(run.code, mistake.code, run.output)
        for (const part of mistake.says) {
          if (typeof part === "string") assert.include(run.output, part)
          else assert.match(run.output, part)
        }
        assert.notInclude(run.output, secret)
        // No stack trace of ours or of a driver: a message for people.
        assert.notMatch(run.output, /^\s+at .*\(.*:\d+:\d+\)/m)
      }), 60_000)
  }

  it.live("an unwritable directory names option and remedy", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      fs.mkdirSync(path.join(cwd, "sealed"), { mode: 0o555 })
      fs.chmodSync(cwd, 0o755)
      const run = yield* finished(["up", "--once", "--only", "filesystem"], {
        cwd,
        env: { FILESYSTEM_BASE_PATH: path.join(cwd, "sealed/base") },
        fixture: "asNobody"
      })
      assert.strictEqual(run.code, 1, run.output)
      for (const part of ["cannot be written to", "sealed", "option: filesystem.base_path", "remedy:"]) {
        assert.include(run.output, part)
      }
    }), 60_000)
})

describe("the way out", () => {
  it.live("a finalizer that hangs is named, and the process ends within its budget", () =>
    Effect.gen(function*() {
      const command = yield* seaworthy([], { fixture: "hung" })
      yield* command.waitForLine(/^ready$/)
      yield* command.signal("SIGTERM")
      assert.deepStrictEqual(yield* command.exit({ within: "10 seconds" }), { code: 130, signal: null })
      const output = yield* command.output
      assert.deepStrictEqual(order(output, /^close (\w+)/gm), ["third", "second", "first"])
      assert.include(output, "second: its release did not end within 500ms and was passed over")
    }), 60_000)

  it.live("a second signal leaves at once", () =>
    Effect.gen(function*() {
      const command = yield* seaworthy([], { fixture: "stuckMain" })
      yield* command.waitForLine(/^ready$/)
      yield* command.signal("SIGINT")
      // Two signals that arrive before the first is handled are one: send until the second was seen as such.
      yield* eventually(
        Effect.andThen(command.signal("SIGINT"), command.stderr),
        { within: "15 seconds", every: "100 millis", until: (text) => text.includes("leaving at once") }
      )
      assert.deepStrictEqual(yield* command.exit(), { code: 130, signal: null })
    }), 60_000)
})
