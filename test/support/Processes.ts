/**
 * Operating-system processes that never outlive the test that started them.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"

/**
 * The shell that cleans up when the test process dies without running its finalizers (SIGKILL, crash): it reads the
 * process ids to kill from its standard input and, when that pipe closes without a farewell, kills them and removes
 * the folder. SIGCONT is not needed: SIGKILL also ends a stopped process.
 */
const WATCHDOG = `
pids=
while read -r line; do
  case "$line" in
    farewell) exit 0 ;;
    *) pids="$line" ;;
  esac
done
for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done
sleep 1
if [ -n "$1" ]; then rm -rf -- "$1"; fi
`

export interface Watchdog {
  /** Which processes to kill if we die. A negative id is a process group. */
  readonly guard: (pids: ReadonlyArray<number>) => void
  /** All is released: nothing is left to clean. */
  readonly farewell: () => void
}

export const watchdog = (folder?: string): Watchdog => {
  const child = spawn("sh", ["-c", WATCHDOG, "watchdog", folder ?? ""], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  child.on("error", () => {})
  child.stdin.on("error", () => {})
  child.unref()
  // Node keeps the pipe alive for us; it must not keep the test process alive.
  const handle = child.stdin as unknown as { readonly unref?: () => void }
  handle.unref?.()
  return {
    guard: (pids) => {
      child.stdin.write(`${pids.join(" ")}\n`)
    },
    farewell: () => {
      child.stdin.end("farewell\n")
    }
  }
}

/** The parent of every process: from /proc where it exists, else (macOS) from `ps`. */
const parents = (): Map<number, number> => {
  const table = new Map<number, number>()
  if (!fs.existsSync("/proc/self/stat")) {
    for (const line of execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).split("\n")) {
      const [pid, parent] = line.trim().split(/\s+/)
      if (parent !== undefined) table.set(Number(pid), Number(parent))
    }
    return table
  }
  for (const name of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, "utf8")
      // The command name is in parentheses and may itself hold spaces and parentheses.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
      table.set(Number(name), Number(fields[1]))
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return table
}

/** The process and all that descend from it. Postgres backends have sessions of their own, so a group is not enough. */
export const tree = (pid: number): Array<number> => {
  const table = parents()
  const found = [pid]
  for (const ancestor of found) {
    for (const [child, parent] of table) {
      if (parent === ancestor) found.push(child)
    }
  }
  return found
}

export const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
}

/** Stops the root first, so that it cannot start a child that we have not seen; gives all that were stopped. */
export const freezeTree = (pid: number): Array<number> => {
  signal(pid, "SIGSTOP")
  const all = tree(pid)
  for (const each of all) signal(each, "SIGSTOP")
  return all
}

export const thawTree = (pid: number): void => {
  for (const each of tree(pid).reverse()) signal(each, "SIGCONT")
}

/** SIGKILL for the whole tree, as when the machine loses power. */
export const killTree = (pid: number): void => {
  for (const each of freezeTree(pid).reverse()) signal(each, "SIGKILL")
}

export const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** The absolute path of a program on the PATH or in one of the extra folders, if it is there. */
export const findProgram = (name: string, extraFolders: ReadonlyArray<string> = []): string | undefined => {
  const folders = [...(process.env["PATH"] ?? "").split(path.delimiter), ...extraFolders]
  for (const folder of folders) {
    if (folder === "") continue
    const candidate = path.join(folder, name)
    try {
      fs.accessSync(candidate, fs.constants.X_OK)
      return candidate
    } catch {
      // Not here.
    }
  }
  return undefined
}
