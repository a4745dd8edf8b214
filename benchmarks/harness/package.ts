/** The package as it is installed, for suites that start processes: built by tsc, found under its own name. */
import { build } from "esbuild"
import { execFile, spawn } from "node:child_process"
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { manifest } from "../../scripts/lib/files.ts"
import type { Sample } from "./Suite.ts"

/** The runner starts suites there: a bundled file does not know where its source was. */
export const root = process.cwd()

const run = promisify(execFile)

export interface Package {
  /** Programs in this folder can import `seaworthy` and all that is installed here. */
  readonly folder: string
  /** The package itself. */
  readonly home: string
  /** `seaworthy/redis` -> the built file of that entry. */
  readonly entries: ReadonlyArray<readonly [name: string, file: string]>
  /** Puts a program of `benchmarks/programs` there, as plain JavaScript. */
  readonly program: (name: string) => Promise<string>
}

/** Builds the package anew for a suite. */
export const makePackage = async (suite: string): Promise<Package> => {
  const folder = join(root, ".cache/bench", `${suite}-work`)
  const home = join(folder, "package")
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, "node_modules"), { recursive: true })
  mkdirSync(home)
  copyFileSync(join(root, "package.json"), join(home, "package.json"))
  symlinkSync(home, join(folder, "node_modules/seaworthy"))
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  const options = ["-p", "tsconfig.build.json", "--outDir", join(home, "dist"), "--declaration", "false"]
  // tsc writes what it can even where it has something to say, and that is not for here.
  await run(process.execPath, [tsc, ...options, "--declarationMap", "false"], { cwd: root }).catch(() => {})
  return {
    folder,
    home,
    entries: Object.entries(manifest(root).exports).flatMap(([name, target]) =>
      typeof target === "string" ? [] : [[join("seaworthy", name), join(home, target.default)]]
    ),
    program: async (name) => {
      const outfile = join(folder, `${name}.mjs`)
      await build({
        entryPoints: [join(root, `benchmarks/programs/${name}.ts`)],
        outfile,
        format: "esm",
        platform: "node",
        target: "node20",
        logLevel: "warning"
      })
      return outfile
    }
  }
}

/** CPU time of a process so far, in steps of 10 ms; where the system does not say, none. */
const cpuNanosOf = (pid: number): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[11]) + Number(fields[12])) * 1e7
  } catch {
    return 0
  }
}

/** Runs a program until it prints a line that matches: the time from its start to that line. */
export const timeToLine = (
  args: ReadonlyArray<string>,
  line: RegExp,
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> }
): Promise<Sample> =>
  new Promise((resolve, reject) => {
    const start = process.hrtime.bigint()
    const child = spawn(process.execPath, args, {
      cwd: options.cwd,
      env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...options.env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let output = ""
    let sample: Sample | undefined
    const collect = (chunk: Buffer) => {
      output += chunk.toString()
      if (sample !== undefined || !line.test(output)) return
      sample = { wallNanos: Number(process.hrtime.bigint() - start), cpuNanos: cpuNanosOf(child.pid!) }
      // It may still release what it holds, but need not.
      child.kill("SIGKILL")
    }
    child.stdout.on("data", collect)
    child.stderr.on("data", collect)
    child.on("error", reject)
    child.on("close", (code) => {
      if (sample !== undefined) resolve(sample)
      else reject(new Error(`${args.join(" ")} ended with ${code}:\n${output}`))
    })
  })

/** Writes a file of the suite's folder. */
export const write = (folder: string, name: string, text: string): string => {
  const file = join(folder, name)
  writeFileSync(file, text)
  return file
}
