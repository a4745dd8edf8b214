import { build, type BuildOptions } from "esbuild"
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { join, relative } from "node:path"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { manifest } from "../../scripts/lib/files.ts"
import { bytes } from "../harness/format.ts"
import { makePackage, root, write } from "../harness/package.ts"
import type { Role, Sample, SampleCase, Suite } from "../harness/Suite.ts"

const run = promisify(execFile)

const peers = () => Object.keys(manifest(root).peerDependencies)

/** What a bundler makes of some code. What is loaded on demand is in files of its own. */
const bundle = async (code: string, options: Pick<BuildOptions, "packages" | "external" | "minify">) => {
  const { metafile, outputFiles } = await build({
    ...options,
    stdin: { contents: code, resolveDir: root, loader: "js" },
    absWorkingDir: root,
    bundle: true,
    splitting: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "node",
    outdir: join(root, ".cache/bench/bundle"),
    logLevel: "error"
  })
  const outputs = new Set<string>()
  const externals = new Set<string>()
  const visit = (output: string) => {
    if (outputs.has(output)) return
    outputs.add(output)
    for (const { external, kind, path } of metafile.outputs[output]!.imports) {
      if (kind !== "import-statement") continue
      if (external === true) externals.add(path)
      else visit(path)
    }
  }
  visit(Object.keys(metafile.outputs).find((output) => metafile.outputs[output]!.entryPoint === "<stdin>")!)
  return {
    /** Everything outside that it loads at once. */
    externals: [...externals].sort(),
    files: outputFiles.filter(({ path }) => outputs.has(relative(root, path)))
  }
}

const all = (file: string) => `import * as all from ${JSON.stringify(file)}; globalThis.all = all`

/** The size minified and compressed, with or without Effect; drivers are never in it. */
const size = async (code: string, effect: "with Effect" | "without Effect"): Promise<number> => {
  const left = peers().filter((peer) => peer !== "effect" || effect === "without Effect")
  const { files } = await bundle(code, { minify: true, external: left.flatMap((peer) => [peer, `${peer}/*`]) })
  return files.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0)
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

const importing = (
  group: string,
  name: string,
  role: Role,
  script: string,
  bytes?: number
): SampleCase => ({
  group,
  name,
  role,
  sample: async () => {
    const { stdout } = await run(process.execPath, [script], { cwd: root })
    return { ...JSON.parse(stdout) as Sample, bytes }
  }
})

export const suite: Suite = {
  about:
    "The import of each built entry point in a process of its own, beside the import of just the modules of Effect, " +
    "Node and the drivers that it loads. Sizes are of a bundle with Effect inside and drivers outside, by esbuild. What is above the floor is mostly " +
    "Node finding and reading one file a module: bundled into one file (\"bundled\") it is nearly gone.",
  metric: "wall",
  bytesTitle: "minified, gzipped",
  withoutBytes: true,
  rounds: 11,
  goals: [{ group: "seaworthy", ratio: 1.15 }],
  make: async () => {
    const { entries, folder, home } = await makePackage("import")
    const cases: Array<SampleCase> = []
    const notes: Array<string> = []
    for (const [group, file] of entries) {
      if (!existsSync(file)) continue
      const name = group.replaceAll("/", "-")
      const { externals } = await bundle(all(file), { packages: "external" })
      const alone = write(folder, `${name}.modules.mjs`, externals.map((module) => `import "${module}"\n`).join(""))
      const own = await size(all(file), "without Effect")
      const withEffect = await size(all(file), "with Effect")
      cases.push(
        importing(group, "seaworthy", "ours", write(folder, `${name}.ours.mjs`, program(file)), withEffect),
        importing(
          group,
          `the ${externals.length} modules that it uses`,
          "floor",
          write(folder, `${name}.floor.mjs`, program(alone))
        )
      )
      if (group === "seaworthy") {
        const bundled = join(folder, "bundled.mjs")
        await build({ entryPoints: [file], outfile: bundled, bundle: true, packages: "external", format: "esm" })
        const script = write(folder, `${name}.bundled.mjs`, program(bundled))
        cases.push(importing(group, "seaworthy, bundled into one file", "bare", script))
      }
      notes.push(`${group}: ${bytes(own)} minified and gzipped without Effect, ${bytes(withEffect)} with it`)
    }
    const one = `export { CircuitBreaker } from ${JSON.stringify(join(home, "dist/index.js"))}`
    const [own, withEffect] = [await size(one, "without Effect"), await size(one, "with Effect")]
    notes.push(`seaworthy, only \`CircuitBreaker\`: ${bytes(own)} without Effect, ${bytes(withEffect)} with it`)
    return { cases, notes }
  }
}
