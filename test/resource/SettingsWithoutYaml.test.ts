import * as NodeServices from "@effect/platform-node/NodeServices"
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

/** Loads a real file of that name. */
const load = (name: string, text: string) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = `${yield* fs.makeTempDirectoryScoped({ prefix: "seaworthy-settings-" })}/${name}`
    yield* fs.writeFileString(path, text)
    return yield* Effect.provide(Settings.load, Settings.layerFile(path))
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer), emptyEnvironment)

describe("Settings.layerFile without the package yaml", () => {
  it.effect("says what to install for a YAML file", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(load("app.yaml", "cache:\n  port: 1\n"))
      const issues = error._tag === "SettingsError" ? error.issues : []
      assert.deepStrictEqual(issues.map(({ actual, expected, hint }) => ({ actual, expected, hint })), [{
        expected: "a file that this installation can read",
        actual: "YAML without the package that reads it",
        hint: "npm install yaml, or use JSON"
      }])
    }))

  it.effect("reads a JSON file all the same", () =>
    Effect.gen(function*() {
      const settings = yield* load("app.json", "{\"cache\":{\"port\":1}}")
      assert.strictEqual(settings.cache.port, 1)
    }))
})
