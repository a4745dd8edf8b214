/** Started as a process by tests: brings a database up with settings from the environment, says so, and stays. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Status from "../../src/observability/Status.ts"
import { Database } from "../../src/resource/Database.ts"

const driver = process.argv[2]
const layer = driver === "pglite"
  ? (await import("../../src/backends/PgliteDatabase.ts")).layer
  : (await import("../../src/backends/PostgresDatabase.ts")).layer

const program = Effect.gen(function*() {
  const { migrated, sql } = yield* Database
  yield* sql`SELECT 1`
  console.log(`ready with ${(yield* migrated).map(({ file }) => file).join(" ") || "nothing"}`)
  const statement = process.env["RUN_SQL"]
  if (statement !== undefined) console.log(`answer ${JSON.stringify(yield* sql.unsafe(statement))}`)
  return yield* Effect.never
}).pipe(
  Effect.provide(Layer.provide(layer, Status.layer)),
  Effect.catchTag("ResourceError", (error) => Effect.sync(() => console.log(`failed ${error.reason}: ${error.detail}`)))
)

await Effect.runPromise(program)
