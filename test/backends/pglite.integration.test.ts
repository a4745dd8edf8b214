import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { spawnCommand } from "../support/Command.ts"
import { temporaryFolder } from "../support/Servers.ts"

const fixture = fileURLToPath(new URL("./startsDatabase.fixture.ts", import.meta.url))
const bound = { within: "4 minutes" } as const

describe("The directory of an embedded database", () => {
  it.live(
    "belongs to one process, and after it was killed to the next one, with all that was committed",
    () =>
      Effect.gen(function*() {
        const folder = path.join(yield* temporaryFolder("seaworthy-pglite-"), "data")
        const start = (sql: string) =>
          spawnCommand(["--import", "tsx", fixture, "pglite"], { env: { DATABASE_DATA_DIR: folder, RUN_SQL: sql } })

        const first = yield* start("CREATE TABLE boats AS SELECT 'Ark' AS name")
        yield* first.waitForLine(/^answer/, bound)

        const second = yield* start("SELECT 1")
        assert.strictEqual(
          yield* second.waitForLine(/^ready|^failed/, bound),
          `failed Conflict: ${folder} is in use by process ${first.pid}`
        )

        yield* first.signal("SIGKILL")
        yield* first.exit()
        const third = yield* start("SELECT name FROM boats")
        assert.strictEqual(yield* third.waitForLine(/^answer|^failed/, bound), "answer [{\"name\":\"Ark\"}]")
      }),
    900_000
  )
})
