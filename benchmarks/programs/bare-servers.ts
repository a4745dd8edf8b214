/** The same by hand on the bare clients: each is made, and a real round trip shows that it works. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import * as fs from "node:fs/promises"
import { join } from "node:path"
import type { Start } from "./target.ts"

const startFiles = async (folder: string) => {
  await fs.mkdir(folder, { recursive: true })
  for (const name of ["cache", "logs", "uploads"]) await fs.mkdir(join(folder, name), { recursive: true })
  const probe = join(folder, ".probe")
  const file = await fs.open(`${probe}.tmp`, "wx")
  await file.writeFile("probe")
  await file.sync()
  await file.close()
  await fs.rename(`${probe}.tmp`, probe)
  const directory = await fs.open(folder, "r")
  await directory.sync()
  await directory.close()
  if (await fs.readFile(probe, "utf8") !== "probe") throw new Error("read back differently")
  await fs.rm(probe)
}

export const start: Start = async ({ folder, servers }) => {
  const { postgres, redis } = servers!
  await startFiles(folder)

  const client = new Redis({ ...redis, lazyConnect: true })
  await client.connect()
  await client.ping()
  const [, found] = await Promise.all([
    client.set("probe", "1", "PX", 10_000),
    client.get("probe"),
    client.del("probe")
  ])
  if (found !== "1") throw new Error("read back differently")

  const scope = Scope.makeUnsafe()
  const layer = PgClient.layer({ ...postgres, password: Redacted.make(postgres.password) })
  const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  const verify = Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const connection = yield* sql.reserve
    const ask = (text: string) => connection.executeUnprepared(text, [], undefined)
    yield* ask("BEGIN")
    yield* ask("CREATE TEMPORARY TABLE verify (n integer) ON COMMIT DROP")
    yield* ask("INSERT INTO verify VALUES (1)")
    const [row] = (yield* ask("SELECT n FROM verify")) as ReadonlyArray<{ readonly n: number }>
    yield* ask("ROLLBACK")
    if (row?.n !== 1) throw new Error("read back differently")
  })
  await Effect.runPromise(Effect.scoped(Effect.provideContext(verify, context)))
  return async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await client.quit()
  }
}
