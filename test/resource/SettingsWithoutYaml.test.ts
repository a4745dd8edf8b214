import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { vi } from "vitest"
import * as Settings from "../../src/resource/Settings.ts"

// As if the optional package were not installed.
vi.mock("yaml", () => {
  throw new Error("Cannot find package 'yaml'")
})

const emptyEnvironment = Effect.provideService(
  ConfigProvider.ConfigProvider,
  ConfigProvider.fromEnv({ env: {} })
)

const files = FileSystem.layerNoop({
  readFileString: (path) => Effect.succeed(path.endsWith(".json") ? "{\"cache\":{\"port\":1}}" : "cache:\n  port: 1\n")
})

describe("Settings.layerFile without the package yaml", () => {
  it.effect("says what to install for a YAML file", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provide(Settings.load, Settings.layerFile("app.yaml")))
      assert.deepStrictEqual(error.issues, [{
        path: "app.yaml",
        source: "file app.yaml",
        expected: "a file that this installation can read",
        actual: "YAML without the package that reads it",
        hint: "npm install yaml, or use JSON"
      }])
    }).pipe(Effect.provide(files), emptyEnvironment))

  it.effect("reads a JSON file all the same", () =>
    Effect.gen(function*() {
      const settings = yield* Effect.provide(Settings.load, Settings.layerFile("app.json"))
      assert.strictEqual(settings.cache.port, 1)
    }).pipe(Effect.provide(files), emptyEnvironment))
})
