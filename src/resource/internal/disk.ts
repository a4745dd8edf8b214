// A directory tree on disk. Every method takes a path relative to the base that pathJail has passed, and looks at the
// disk itself for links that lead out.
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Stream from "effect/Stream"
import type { Change, Entry } from "../FileStore.ts"
import { isInside } from "./pathJail.ts"

export class Escape extends Data.TaggedError("Escape")<{ readonly why: string }> {}

type Io<A> = Effect.Effect<A, PlatformError | Escape>

export interface Disk {
  readonly base: string
  readonly read: (path: string) => Io<Uint8Array>
  readonly stream: (path: string) => Stream.Stream<Uint8Array, PlatformError | Escape>
  readonly writeAtomic: (path: string, content: Uint8Array, options: {
    readonly mode: number
    /** Makes the temporary name unique. */
    readonly salt: string
  }) => Io<void>
  readonly exists: (path: string) => Io<boolean>
  readonly list: (path: string) => Io<ReadonlyArray<Entry>>
  /** `true` when something was created. */
  readonly makeDirectory: (path: string) => Io<boolean>
  readonly remove: (path: string, recursive: boolean) => Io<void>
  readonly watch: (path: string) => Stream.Stream<Change, PlatformError | Escape>
}

/** Below a file there is nothing either. */
const isNotFound = (error: PlatformError) =>
  error.reason._tag === "NotFound" ||
  (error.reason.cause as { readonly code?: unknown } | undefined)?.code === "ENOTDIR"

const orUndefined = <A>(effect: Effect.Effect<A, PlatformError>): Effect.Effect<A | undefined, PlatformError> =>
  Effect.catch(effect, (error) => isNotFound(error) ? Effect.succeed(undefined) : Effect.fail(error))

/** What a store puts into its folders for a moment, and leaves there when the process is killed. */
const isOwn = (name: string): boolean => name.startsWith(probeName) || temporaryName.test(name)

export const probeName = ".seaworthy-probe-"

const temporaryName = /^\..*\.seaworthy-tmp$/s

const escapes = new Escape({ why: "a symbolic link leads out of the base" })

export const open = (
  fs: FileSystem.FileSystem,
  path: Path.Path,
  options: { readonly base_path: string; readonly permissions: number }
): Io<Disk> =>
  Effect.gen(function*() {
    /** Creates what is missing and gives it the configured permissions; what was there is left as it is. */
    const makeAll = (absolute: string): Effect.Effect<boolean, PlatformError> =>
      Effect.gen(function*() {
        const known = yield* orUndefined(fs.stat(absolute))
        if (known?.type === "Directory") return false
        const parent = path.dirname(absolute)
        if (known === undefined && parent !== absolute) yield* makeAll(parent)
        // mkdir's own mode is cut by the umask; two processes may create it at the same time.
        const created = yield* Effect.catch(
          Effect.as(fs.makeDirectory(absolute), true),
          (error) =>
            error.reason._tag === "AlreadyExists" && known === undefined ? Effect.succeed(false) : Effect.fail(error)
        )
        if (created) yield* fs.chmod(absolute, options.permissions)
        return created
      })

    const wanted = path.resolve(options.base_path)
    yield* makeAll(wanted)
    const base = yield* fs.realPath(wanted)
    yield* fs.access(base, { readable: true, writable: true })

    const inside = (real: string) => isInside(base, real, path.sep)

    /** The real place of `relative`, which may not exist yet; fails when a link on the way leads out. */
    const locate = (relative: string): Io<string> => {
      const absolute = path.join(base, relative)
      return Effect.flatMap(orUndefined(fs.realPath(absolute)), (real): Io<string> => {
        if (real !== undefined) return inside(real) ? Effect.succeed(real) : Effect.fail(escapes)
        if (absolute === base) return Effect.succeed(base)
        return Effect.flatMap(orUndefined(fs.lstat(absolute)), (entry): Io<string> =>
          // A link to nowhere: writing through it would create its target.
          entry !== undefined ? Effect.fail(escapes) : Effect.map(
            locate(path.dirname(relative) === "." ? "" : path.dirname(relative)),
            (parent) => path.join(parent, path.basename(relative))
          ))
      })
    }

    /** Renames are durable once the directory is on disk; not every platform can sync one. */
    const syncDirectory = (directory: string) =>
      Effect.ignore(Effect.scoped(Effect.flatMap(fs.open(directory, { flag: "r" }), (file) => file.sync)))

    const relativeTo = (absolute: string) => path.relative(base, absolute).split(path.sep).join("/")

    const disk: Disk = {
      base,
      read: (relative) => Effect.flatMap(locate(relative), fs.readFile),
      stream: (relative) => Stream.unwrap(Effect.map(locate(relative), (real) => fs.stream(real))),
      writeAtomic: (relative, content, { mode, salt }) =>
        Effect.gen(function*() {
          const target = yield* locate(relative)
          const directory = path.dirname(target)
          yield* makeAll(directory)
          // A name has at most 255 bytes on most disks, of which a character takes up to three.
          const temporary = path.join(directory, `.${path.basename(target).slice(0, 60)}.${salt}.seaworthy-tmp`)
          yield* Effect.scoped(Effect.gen(function*() {
            const file = yield* fs.open(temporary, { flag: "wx", mode, noFollow: true })
            yield* file.writeAll(content)
            yield* file.sync
          })).pipe(
            Effect.andThen(fs.rename(temporary, target)),
            Effect.onError(() => Effect.ignore(fs.remove(temporary, { force: true })))
          )
          yield* syncDirectory(directory)
        }),
      exists: (relative) =>
        Effect.flatMap(
          locate(relative),
          (real) => Effect.map(orUndefined(fs.stat(real)), (info) => info !== undefined)
        ),
      list: (relative) =>
        Effect.gen(function*() {
          const real = yield* locate(relative)
          const entries = yield* fs.readDirectoryEntries(real)
          const prefix = relative === "" ? "" : `${relative}/`
          return entries
            .filter((entry) => !isOwn(entry.name))
            .map((entry): Entry => ({
              path: prefix + entry.name,
              type: entry.type === "File" ? "file" : entry.type === "Directory" ? "directory" : "other"
            }))
            .sort((a, b) => a.path < b.path ? -1 : 1)
        }),
      makeDirectory: (relative) => Effect.flatMap(locate(relative), makeAll),
      remove: (relative, recursive) =>
        Effect.gen(function*() {
          const parent = yield* locate(path.dirname(relative) === "." ? "" : path.dirname(relative))
          // The entry itself, not what a link points to.
          const target = path.join(parent, path.basename(relative))
          if ((yield* orUndefined(fs.lstat(target))) === undefined) return
          yield* fs.remove(target, { recursive, force: true })
          yield* syncDirectory(parent)
        }),
      watch: (relative) =>
        Stream.unwrap(Effect.map(locate(relative), (real) =>
          fs.watch(real).pipe(
            Stream.filter((event) => !isOwn(path.basename(event.path))),
            Stream.map((event): Change => {
              const absolute = path.isAbsolute(event.path) ? event.path : path.join(real, event.path)
              return {
                type: event._tag === "Create" ? "created" : event._tag === "Update" ? "updated" : "removed",
                path: relativeTo(absolute)
              }
            })
          )))
    }
    return disk
  })
