/** Cases that measure the time until resources are ready: of a whole process, and within one. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Start, Target } from "../programs/target.ts"
import { type Package, timeToLine, write } from "./package.ts"
import type { Role, Sample, SampleCase } from "./Suite.ts"

const inFolder = async <A>(work: (folder: string) => Promise<A>): Promise<A> => {
  const folder = mkdtempSync(join(tmpdir(), "seaworthy-bench-"))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** From the start of a process that runs a program of `benchmarks/programs` to its word that all is ready. */
export const wholeProgram = async (
  group: string,
  name: string,
  role: Role,
  built: Package,
  program: string,
  servers: Target["servers"]
): Promise<SampleCase> => {
  await built.program(program)
  const main = write(
    built.folder,
    `${program}.main.mjs`,
    `import { start } from "./${program}.mjs"
await start(JSON.parse(process.env.TARGET))
process.stdout.write("ready\\n")
`
  )
  return {
    group,
    name,
    role,
    sample: () =>
      inFolder((folder) => {
        const target: Target = { folder: join(folder, "base"), ...(servers === undefined ? {} : { servers }) }
        return timeToLine([main], /^ready$/m, { cwd: folder, env: { TARGET: JSON.stringify(target) } })
      })
  }
}

/** From the start of `seaworthy up` to its event `ready`. */
export const wholeCommand = (
  group: string,
  name: string,
  built: Package,
  env: Readonly<Record<string, string>>
): SampleCase => ({
  group,
  name,
  role: "ours",
  sample: () =>
    inFolder((cwd) =>
      timeToLine([join(built.home, "dist/operations/bin.js"), "up", "--json"], /"event":"ready"/, { cwd, env })
    )
})

/** The start alone, in this process; stopping is not counted. */
export const within = (
  group: string,
  name: string,
  role: Role,
  start: Start,
  servers: Target["servers"]
): SampleCase => ({
  group,
  name,
  role,
  sample: () =>
    inFolder(async (folder): Promise<Sample> => {
      const target: Target = { folder: join(folder, "base"), ...(servers === undefined ? {} : { servers }) }
      const cpu = process.cpuUsage()
      const begin = process.hrtime.bigint()
      const stop = await start(target)
      const wallNanos = Number(process.hrtime.bigint() - begin)
      const { system, user } = process.cpuUsage(cpu)
      await stop()
      return { wallNanos, cpuNanos: (system + user) * 1000 }
    })
})
