/**
 * A node process under test: its output, its exit code, signals, and waiting for a line with a bound.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { eventually } from "./Live.ts"
import { hasEnded, killTree, signal, watchdog } from "./Processes.ts"

export interface CommandExit {
  /** The exit code, or `null` when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Command {
  readonly pid: number
  /** What it has printed so far. */
  readonly stdout: Effect.Effect<string>
  readonly stderr: Effect.Effect<string>
  /** Both streams in the order of arrival. */
  readonly output: Effect.Effect<string>
  readonly write: (text: string) => Effect.Effect<void>
  /** Sends a signal to the process alone. Nothing if it has ended. */
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  /** The first line of either stream that matches, printed before or after this call. Default bound 15 seconds. */
  readonly waitForLine: (
    pattern: RegExp,
    options?: { readonly within?: Duration.Input | undefined }
  ) => Effect.Effect<string>
  /** Waits for the end of the process and of its output. Default bound 15 seconds. */
  readonly exit: (options?: { readonly within?: Duration.Input | undefined }) => Effect.Effect<CommandExit>
}

export interface CommandOptions {
  /** The whole environment of the process, besides PATH, HOME and TMPDIR: nothing leaks in from the test run. */
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
  /** Default: the node that runs the tests. */
  readonly program?: string | undefined
}

const INHERITED = ["PATH", "HOME", "TMPDIR"]
const DEFAULT_BOUND = "15 seconds"

/**
 * Runs `node ...args` and kills it, with its children, at the end of the scope. TypeScript runs with
 * `spawnCommand(["--import", "tsx", "src/operations/bin.ts", "up"])`.
 */
export const spawnCommand = (
  args: ReadonlyArray<string>,
  options?: CommandOptions
): Effect.Effect<Command, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const inherited = INHERITED.flatMap((name) => process.env[name] === undefined ? [] : [[name, process.env[name]]])
      const child = spawn(options?.program ?? process.execPath, args, {
        cwd: options?.cwd,
        env: { ...Object.fromEntries(inherited), ...options?.env },
        detached: true,
        stdio: ["pipe", "pipe", "pipe"]
      })
      let ended: CommandExit | undefined
      const text = { stdout: "", stderr: "", output: "" }
      const collect = (stream: "stdout" | "stderr") => (chunk: string) => {
        text[stream] += chunk
        text.output += chunk
      }
      child.stdout.setEncoding("utf8").on("data", collect("stdout"))
      child.stderr.setEncoding("utf8").on("data", collect("stderr"))
      child.stdin.on("error", () => {})
      child.on("error", (error) => collect("stderr")(`${error.message}\n`))
      child.on("close", (code, by) => {
        ended = { code, signal: by }
      })
      const { pid } = child
      if (pid === undefined) return Effect.die(new Error(`could not run ${child.spawnfile}`))
      const guard = watchdog()
      guard.guard([-pid])

      const lineOf = (pattern: RegExp) =>
        [text.stdout, text.stderr].flatMap((all) => all.split("\n")).find((line) => line.search(pattern) >= 0)
      const toEnd = (within: Duration.Input | undefined) => ({ within: within ?? DEFAULT_BOUND })
      const command: Command = {
        pid,
        stdout: Effect.sync(() => text.stdout),
        stderr: Effect.sync(() => text.stderr),
        output: Effect.sync(() => text.output),
        write: (input) => Effect.sync(() => void child.stdin.write(input)),
        signal: (name) => Effect.sync(() => hasEnded(child) ? undefined : signal(pid, name)),
        waitForLine: (pattern, wait) =>
          Effect.gen(function*() {
            const found = yield* eventually(
              Effect.sync(() => ({ line: lineOf(pattern), over: ended !== undefined, text: text.output })),
              {
                ...toEnd(wait?.within),
                until: ({ line, over }) => line !== undefined || over,
                what: `no line matches ${pattern}`
              }
            )
            if (found.line !== undefined) return found.line
            return yield* Effect.die(
              new Error(`the process ended (${JSON.stringify(ended)}) before a line matched ${pattern}:\n${found.text}`)
            )
          }),
        exit: (wait) =>
          eventually(Effect.sync(() => ({ ended, text: text.output })), {
            ...toEnd(wait?.within),
            until: (seen) => seen.ended !== undefined,
            what: "the process did not end"
          }).pipe(Effect.map((seen) => seen.ended!))
      }
      const release = Effect.gen(function*() {
        if (!hasEnded(child)) killTree(pid)
        yield* eventually(Effect.sync(() => hasEnded(child)))
        guard.farewell()
      })
      return Effect.succeed({ command, release })
    }),
    ({ release }) => release
  ).pipe(Effect.map(({ command }) => command))
