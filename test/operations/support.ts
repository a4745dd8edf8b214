// Runs the command under test as a user would, from a folder of its own.
import { Effect, type Scope } from "effect"
import { build } from "esbuild"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { type Command, spawnCommand } from "../support/Command.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** The command and the fixtures as JavaScript, made once a test file: compiling them at every start costs seconds. */
const compiled: Effect.Effect<string> = Effect.promise(async () => {
  const outdir = path.join(root, ".cache", `command-${process.env["VITEST_POOL_ID"] ?? process.pid}`)
  const fixtures = path.join(root, "test/operations/fixtures")
  await build({
    entryPoints: {
      bin: path.join(root, "src/operations/bin.ts"),
      ...Object.fromEntries(fs.readdirSync(fixtures).map((file) => [path.parse(file).name, path.join(fixtures, file)]))
    },
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    packages: "external",
    logLevel: "error"
  })
  return outdir
}).pipe(Effect.cached, Effect.runSync)

export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "seaworthy-cli-")))),
  (dir) => Effect.sync(() => fs.rmSync(dir, { recursive: true, force: true }))
)

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
  /** A program of test/operations/fixtures in place of the command. */
  readonly fixture?: string | undefined
  /** As a shell has it: `>/dev/full`. */
  readonly redirect?: string | undefined
}

export const seaworthy = (
  args: ReadonlyArray<string>,
  options?: RunOptions
): Effect.Effect<Command, never, Scope.Scope> =>
  Effect.gen(function*() {
    const cwd = options?.cwd ?? (yield* folder)
    const node = [path.join(yield* compiled, `${options?.fixture ?? "bin"}.js`), ...args]
    const env = { ...options?.env }
    if (options?.redirect === undefined) return yield* spawnCommand(node, { cwd, env })
    const script = `exec "$0" "$@" ${options.redirect}`
    return yield* spawnCommand(["-c", script, process.execPath, ...node], { cwd, env, program: "/bin/sh" })
  })

/** Runs to the end and gives what a script would see. */
export const finished = (args: ReadonlyArray<string>, options?: RunOptions) =>
  Effect.gen(function*() {
    const command = yield* seaworthy(args, options)
    const { code } = yield* command.exit({ within: "40 seconds" })
    return { code, stdout: yield* command.stdout, stderr: yield* command.stderr, output: yield* command.output }
  })
