import { build } from "esbuild"
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { manifest } from "../../scripts/lib/files.ts"
import { bytes } from "../harness/format.ts"
import type { Sample, SampleCase, Suite } from "../harness/Suite.ts"

const run = promisify(execFile)

/** The runner starts suites there: a bundled file does not know where its source was. */
const root = process.cwd()

const folder = join(root, ".cache/bench/import-work")
const dist = join(folder, "dist")

/** `./redis` -> the built file of that entry. */
const entries = (): Array<readonly [name: string, file: string]> =>
  Object.entries(manifest(root).exports).flatMap(([name, target]) =>
    typeof target === "string" ? [] : [[join("seaworthy", name), join(dist, target.default.replace("./dist/", ""))]]
  )

const peers = () => Object.keys(manifest(root).peerDependencies)

/** Everything outside of this package that an entry loads at once: what it loads on demand is not in it. */
const externals = async (file: string): Promise<Array<string>> => {
  const { metafile } = await build({
    entryPoints: { entry: file },
    bundle: true,
    splitting: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "node",
    packages: "external",
    outdir: join(folder, "meta"),
    logLevel: "error"
  })
  const found = new Set<string>()
  const seen = new Set<string>()
  const visit = (output: string) => {
    if (seen.has(output)) return
    seen.add(output)
    for (const { external, kind, path } of metafile.outputs[output]!.imports) {
      if (kind !== "import-statement") continue
      if (external === true) found.add(path)
      else visit(path)
    }
  }
  visit(Object.keys(metafile.outputs).find((output) => metafile.outputs[output]!.entryPoint !== undefined)!)
  return [...found].sort()
}

/** Size of what a bundler makes of some code, minified and compressed. */
const size = async (code: string, external: ReadonlyArray<string>): Promise<number> => {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: root, loader: "js" },
    bundle: true,
    splitting: true,
    outdir: join(folder, "size"),
    write: false,
    minify: true,
    format: "esm",
    platform: "node",
    external: [...external],
    logLevel: "error"
  })
  // What is loaded on demand is in other files.
  const [main] = outputFiles.filter(({ path }) => /stdin\.js$/.test(path))
  return gzipSync(main!.contents, { level: 9 }).length
}

const program = (file: string) => `
const cpu = process.cpuUsage()
const start = process.hrtime.bigint()
await import(${JSON.stringify(file)})
const wallNanos = Number(process.hrtime.bigint() - start)
const { system, user } = process.cpuUsage(cpu)
process.stdout.write(JSON.stringify({ wallNanos, cpuNanos: (system + user) * 1000 }))
process.exit(0)
`

const importing = (group: string, name: string, role: "ours" | "floor", script: string, bytes?: number): SampleCase => ({
  group,
  name,
  role,
  sample: async () => {
    const { stdout } = await run(process.execPath, [script], { cwd: root })
    return { ...JSON.parse(stdout) as Sample, bytes }
  }
})

const compile = async () => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  // tsc writes what it can even where it has something to say, and that is not for here.
  await run(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", dist], { cwd: root }).catch(() => {})
}

export const suite: Suite = {
  about: "The import of each built entry point in a process of its own, beside the import of just the modules of Effect, " +
    "Node and the drivers that it loads. Sizes are of a bundle with Effect inside and drivers outside, by esbuild.",
  metric: "wall",
  bytesTitle: "minified, gzipped",
  withoutBytes: true,
  rounds: 11,
  goals: [{ group: "seaworthy", ratio: 1.15 }],
  make: async () => {
    await compile()
    const cases: Array<SampleCase> = []
    const notes: Array<string> = []
    for (const [group, file] of entries()) {
      if (!existsSync(file)) continue
      const name = group.replaceAll("/", "-")
      const modules = await externals(file)
      const target = { ours: join(folder, `${name}.ours.mjs`), floor: join(folder, `${name}.floor.mjs`) }
      const floorFile = join(folder, `${name}.modules.mjs`)
      writeFileSync(floorFile, modules.map((module) => `import ${JSON.stringify(module)}\n`).join(""))
      writeFileSync(target.ours, program(file))
      writeFileSync(target.floor, program(floorFile))

      const all = `export * from ${JSON.stringify(file)}`
      const own = await size(all, [...peers(), ...peers().map((peer) => `${peer}/*`)])
      const withEffect = await size(all, peers().filter((peer) => peer !== "effect"))
      cases.push(
        importing(group, "seaworthy", "ours", target.ours, withEffect),
        importing(group, `its ${modules.length} modules alone`, "floor", target.floor)
      )
      notes.push(`${group}: ${bytes(own)} minified and gzipped without Effect, ${bytes(withEffect)} with it`)
    }
    const one = `export { CircuitBreaker } from ${JSON.stringify(join(dist, "index.js"))}`
    const own = await size(one, ["effect", "effect/*"])
    notes.push(`seaworthy, \`CircuitBreaker\` alone: ${bytes(own)} without Effect, ${bytes(await size(one, []))} with it`)
    return { cases, notes }
  }
}
