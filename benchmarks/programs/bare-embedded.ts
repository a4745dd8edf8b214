/** The same by hand: folders, a map, and PGlite with a round trip. */
import { PGlite } from "@electric-sql/pglite"
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

export const start: Start = async ({ folder }) => {
  await startFiles(folder)
  const cache = new Map<string, string>()
  cache.set("probe", "1")
  const database = await PGlite.create("memory://")
  await database.query("BEGIN")
  await database.query("CREATE TEMPORARY TABLE verify (n integer) ON COMMIT DROP")
  await database.query("INSERT INTO verify VALUES (1)")
  const { rows } = await database.query<{ n: number }>("SELECT n FROM verify")
  await database.query("ROLLBACK")
  if (rows[0]?.n !== 1) throw new Error("read back differently")
  return () => database.close()
}
