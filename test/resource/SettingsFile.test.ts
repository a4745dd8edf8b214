import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import { inspect } from "node:util"
import * as Settings from "../../src/resource/Settings.ts"
import { jsonErrorOffset } from "../../src/resource/settings/json.ts"

/** Writes a file, reads the settings from it, and gives what came of it. The environment is empty. */
const load = Effect.fnUntraced(function*(name: string, text: string | undefined) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(yield* Effect.orDie(fs.makeTempDirectoryScoped()), name)
  if (text !== undefined) yield* Effect.orDie(fs.writeFileString(file, text))
  return yield* Settings.load.pipe(
    Effect.provide(Settings.layerFile(file)),
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: {} })),
    Effect.mapError((error) => ({
      error,
      // The folder is random; tests look at the rest.
      lines: error.message.replaceAll(file, name).split("\n").slice(1).map((line) => line.trim())
    }))
  )
})

const refused = (name: string, text: string | undefined) => Effect.flip(load(name, text))

describe("Settings.layerFile", () => {
  it.effect("reads YAML as people write it", () =>
    Effect.gen(function*() {
      const settings = yield* load(
        "app.yaml",
        [
          "\uFEFFx-defaults: &defaults",
          "  timeout: 2.0",
          "cache:",
          "  <<: *defaults",
          "  driver: redis",
          "  password: 007",
          "  username: 1e3",
          "  nodes: [a:1, \"b:2\"]",
          "filesystem:",
          "  permissions: 0755",
          "  required_dirs:",
          "    - logs",
          "connection_pool:",
          "database:",
          "  ssl: yes"
        ].join("\n")
      )
      assert.strictEqual(settings.cache.driver, "redis")
      assert.strictEqual(Redacted.value(settings.cache.password!), "007")
      assert.strictEqual(settings.cache.username, "1e3")
      assert.deepStrictEqual(settings.cache.nodes, ["a:1", "b:2"])
      assert.strictEqual(settings.filesystem.permissions, 0o755)
      assert.deepStrictEqual(settings.filesystem.required_dirs, ["logs"])
      assert.isTrue(settings.database.ssl)
      assert.match(settings.sources["cache.timeout"]!, /^file .*app\.yaml$/)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("reads permissions as chmod does, however YAML takes them", () =>
    Effect.gen(function*() {
      for (const written of ["0755", "0o755", "755", "\"0755\"", "'755'"]) {
        const settings = yield* load("app.yml", `filesystem:\n  permissions: ${written}\n`)
        assert.strictEqual(settings.filesystem.permissions, 0o755, written)
      }
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("reads JSON, and takes an empty file for no settings", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* load("app.json", "{\"cache\":{\"port\":1}}")).cache.port, 1)
      assert.strictEqual((yield* load("app.yaml", "")).cache.port, 6379)
      assert.strictEqual((yield* load("app.yaml", "# nothing\n")).cache.port, 6379)
    }).pipe(Effect.provide(NodeServices.layer)))

  const mistakes: ReadonlyArray<readonly [title: string, name: string, text: string | undefined, line: string]> = [
    [
      "a file that is not there",
      "app.yaml",
      undefined,
      "app.yaml (file app.yaml): expected a file of settings, got no such file; check the path; it is relative to the working directory"
    ],
    [
      "another ending",
      "app.toml",
      "a = 1",
      "app.toml (file app.toml): expected a name that ends in .yaml, .yml or .json, got another ending"
    ],
    [
      "a list",
      "app.json",
      "[1, 2]",
      "app.json (file app.json): expected sections by name, such as cache and database, got a list of 2 items"
    ],
    [
      "YAML with a quote that is not closed",
      "app.yaml",
      "cache:\n  password: \"hunter2\n",
      "app.yaml (file app.yaml): expected valid YAML, got a missing quote, bracket, brace, comma or colon at line 3, column 1"
    ],
    [
      "YAML with a tab",
      "app.yaml",
      "cache:\n\thunter2: 1\n",
      "app.yaml (file app.yaml): expected valid YAML, got a tab in the indentation at line 2, column 1"
    ],
    [
      "YAML with an option given twice",
      "app.yaml",
      "cache:\n  port: 1\n  port: hunter2\n",
      "app.yaml (file app.yaml): expected valid YAML, got an option that is given twice at line 3, column 3"
    ],
    [
      "YAML with an alias of nothing",
      "app.yaml",
      "cache:\n  password: *hunter2\n",
      "app.yaml (file app.yaml): expected valid YAML, got an alias without its anchor at line 2, column 13"
    ],
    [
      "YAML with a tag that makes a set of a group",
      "app.yaml",
      "cache: !!set {host, hunter2}\n",
      "app.yaml (file app.yaml): expected valid YAML, got a tag that settings do not know at line 1, column 8"
    ],
    [
      "YAML with a tag of another program",
      "app.yaml",
      "cache:\n  password: !vault hunter2\n",
      "app.yaml (file app.yaml): expected valid YAML, got a tag that settings do not know at line 2, column 13"
    ],
    [
      "JSON with a missing comma",
      "app.json",
      "{\n  \"a\": \"hunter2\"\n  \"b\": 1\n}",
      "app.json (file app.json): expected valid JSON, got a mistake at line 3, column 3"
    ],
    [
      "JSON with a bare word",
      "app.json",
      "{\"password\": hunter2}",
      "app.json (file app.json): expected valid JSON, got a mistake at line 1, column 14"
    ],
    [
      "JSON that was cut",
      "app.json",
      "{\"password\": \"hunter2\"",
      "app.json (file app.json): expected valid JSON, got a mistake at line 1, column 23"
    ]
  ]
  for (const [title, name, text, line] of mistakes) {
    it.effect(`refuses ${title} in one line that names the place and quotes nothing`, () =>
      Effect.gen(function*() {
        const { error, lines } = yield* refused(name, text)
        assert.deepStrictEqual(lines, [line])
        assert.notInclude(inspect(error, { depth: Infinity, showHidden: true }), "hunter2")
      }).pipe(Effect.provide(NodeServices.layer)))
  }

  it.effect("refuses aliases that would fill the memory", () =>
    Effect.gen(function*() {
      const levels = Array.from({ length: 12 }, (_, i) =>
        `x-${i}: &a${i} [${Array(10).fill(i === 0 ? "1" : `*a${i - 1}`)}]`)
      const { lines } = yield* refused("app.yaml", levels.join("\n"))
      assert.deepStrictEqual(lines, [
        "app.yaml (file app.yaml): expected valid YAML, got aliases that would fill the memory"
      ])
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("takes 1,000 aliases, and refuses more: each costs the parser a walk", () =>
    Effect.gen(function*() {
      const anchors = (n: number) =>
        [
          `x-a: [${Array.from({ length: n }, (_, i) => `&a${i} ${i}`)}]`,
          `x-b: [${Array.from({ length: n }, (_, i) => `*a${i}`)}]`
        ].join("\n")
      assert.strictEqual((yield* load("app.yaml", anchors(1_000))).cache.port, 6379)
      const { lines } = yield* refused("app.yaml", anchors(1_001))
      assert.deepStrictEqual(lines, [
        "app.yaml (file app.yaml): expected valid YAML, got aliases that would fill the memory"
      ])
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("refuses what is far too large before it reads it, and looks at the name first", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      for (
        const [name, actual] of [["app.yaml", "a file of 1073741824 bytes"], ["app.img", "another ending"]] as const
      ) {
        yield* fs.writeFileString(`${folder}/${name}`, "")
        // A file with a hole: it takes no room on the disk.
        yield* fs.truncate(`${folder}/${name}`, 1_073_741_824)
        const error = yield* Effect.flip(Effect.provide(Settings.load, Settings.layerFile(`${folder}/${name}`)))
        assert.strictEqual(error.issues[0]?.actual, actual)
      }
    }).pipe(Effect.provide(NodeServices.layer)))

  it.effect("refuses a folder and a huge file", () =>
    Effect.gen(function*() {
      const { lines } = yield* refused("app.json", `"${"x".repeat(1_048_576)}"`)
      assert.deepStrictEqual(lines, [
        "app.json (file app.json): expected a file of at most 1 MiB, got a file of 1048578 characters"
      ])
      const fs = yield* FileSystem.FileSystem
      const folder = `${yield* fs.makeTempDirectoryScoped()}.yaml`
      yield* Effect.acquireRelease(fs.makeDirectory(folder), () => Effect.ignore(fs.remove(folder)))
      const error = yield* Effect.flip(Effect.provide(Settings.load, Settings.layerFile(folder)))
      assert.strictEqual(error.issues[0]?.expected, "a file of settings")
    }).pipe(Effect.provide(NodeServices.layer)))

  it("finds the place of a mistake in any JSON", () => {
    fc.assert(fc.property(fc.json(), fc.nat(), (json, cut) => {
      // A proper beginning of an object or a list is never complete: what is missing is missing at its end.
      const text = `[${json}`.slice(0, 1 + cut % (json.length + 1))
      assert.throws(() => JSON.parse(text))
      const offset = jsonErrorOffset(text)
      assert.isAtMost(offset, text.length)
      // What stands before the place can be continued to valid JSON, so the place is not too late.
      assert.isAtLeast(offset, text.replace(/\s*("(?:[^"\\]|\\.)*\\?|[\w.+-]*)$/, "").length)
    }))
    fc.assert(fc.property(fc.json(), (json) => {
      assert.strictEqual(jsonErrorOffset(`${json} !`), json.length + 1)
      assert.strictEqual(jsonErrorOffset(`{"a":${json},}`), json.length + 6)
    }))
  })
})
