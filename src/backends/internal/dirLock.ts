// One process at a time on a data directory: PGlite has no lock, and two of them destroy the files. A lock file beside
// the directory says who has it. After a crash the file stays behind, so a holder that is gone loses the lock: its
// process does not run, or runs in a place we cannot look into and has not renewed the file.
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

export interface Holder {
  readonly pid: number
  /** When the process started, in the operating system's ticks; numbers of processes come again. */
  readonly started: string
  /** The machine as of its last start and the space in which `pid` counts: containers have their own. */
  readonly place: string
  readonly host: string
}

/** A holder we cannot see is taken for gone when it has not renewed its lock for this many milliseconds. */
export const staleAfter = 10_000

/** How often a holder renews its lock, in milliseconds. */
export const renewEvery = 2_500

const tryRead = (file: string): string => {
  try {
    return fs.readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

const tryLink = (file: string): string => {
  try {
    return fs.readlinkSync(file)
  } catch {
    return ""
  }
}

/** When a process started, empty where the system does not tell (other than Linux) or when it does not run. */
const startOf = (pid: number): string => {
  const stat = tryRead(`/proc/${pid}/stat`)
  // The name in parentheses can hold anything; the start is the 20th field after it, the first one the state.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  // A zombie has ended, although its number is still taken.
  return fields[0] === "Z" || fields[0] === "X" ? "" : fields[19] ?? ""
}

export const self = (): Holder => ({
  pid: process.pid,
  started: startOf(process.pid),
  place: `${tryRead("/proc/sys/kernel/random/boot_id").trim()} ${tryLink("/proc/self/ns/pid")}`.trim() || os.hostname(),
  host: os.hostname()
})

const runs = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** Locks of this process, by file: another layer in it is as much in the way as another process. */
const own = new Set<string>()

/** Whether a holder is gone. `age`: milliseconds since it last renewed. */
export const isGone = (holder: Holder, me: Holder, age: number, held: boolean): boolean => {
  if (holder.place !== me.place) return age > staleAfter
  if (holder.pid === me.pid && holder.started === me.started) return !held
  return !runs(holder.pid) || (holder.started !== "" && holder.started !== startOf(holder.pid))
}

const parse = (text: string): Holder | undefined => {
  try {
    const value = JSON.parse(text) as Partial<Holder>
    return typeof value.pid === "number" && typeof value.place === "string" && typeof value.started === "string"
      ? { pid: value.pid, place: value.place, started: value.started, host: String(value.host ?? "") }
      : undefined
  } catch {
    return undefined
  }
}

export type Outcome =
  | { readonly locked: true; readonly release: () => void; readonly renew: (now: number) => void }
  | { readonly locked: false; readonly holder: Holder | undefined; readonly seen: boolean }

const ageOf = (file: string, now: number): number => {
  try {
    return now - fs.statSync(file).mtimeMs
  } catch {
    return 0
  }
}

const create = (file: string, content: string): boolean => {
  try {
    fs.writeFileSync(file, content, { flag: "wx", mode: 0o600 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false
    throw error
  }
}

/**
 * Removes the lock of a holder that is gone. Two that try at once are kept apart by a file of their own. A lock that
 * was written or renewed since it was judged stays.
 */
const takeAway = (file: string, content: string, age: number, now: number): void => {
  const guard = `${file}.takeover`
  if (!create(guard, "")) {
    if (ageOf(guard, now) > staleAfter) fs.rmSync(guard, { force: true })
    return
  }
  try {
    if (tryRead(file) === content && ageOf(file, now) === age) fs.rmSync(file, { force: true })
  } finally {
    fs.rmSync(guard, { force: true })
  }
}

/** Takes the lock, or says who has it. `now`: Unix milliseconds. Throws what the file system throws. */
export const acquire = (file: string, now: number): Outcome => {
  const key = path.resolve(file)
  const me = self()
  const content = JSON.stringify(me)
  if (!create(key, content)) {
    const found = tryRead(key)
    const holder = parse(found)
    const age = ageOf(key, now)
    // A file that is not complete is being written, or its writer crashed.
    const gone = holder === undefined ? age > staleAfter : isGone(holder, me, age, own.has(key))
    if (gone) takeAway(key, found, age, now)
    if (!gone || !create(key, content)) return { locked: false, holder, seen: holder?.place === me.place }
  }
  own.add(key)
  return {
    locked: true,
    renew: (time) => fs.utimesSync(key, time / 1000, time / 1000),
    release: () => {
      own.delete(key)
      if (tryRead(key) === content) fs.rmSync(key, { force: true })
    }
  }
}
