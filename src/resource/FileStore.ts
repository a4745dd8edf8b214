/**
 * A directory tree with a fixed base: atomic writes, and no way out of it.
 *
 * **When to use**
 *
 * For uploads, caches, exports, anything an application keeps in files. `FileStore.layer` is a managed resource named
 * `filesystem`: it creates the base and the required directories and proves that they can be written to.
 *
 * **Details**
 *
 * Settings: `filesystem.base_path` (default `./.seaworthy/data`), `filesystem.permissions` of directories it creates
 * (default 0755), `filesystem.required_dirs` (default cache, logs, uploads). `write` puts the content into a temporary file
 * beside the target, syncs it, renames it and syncs the directory: readers see the old content or the new, also after a
 * power cut. Every operation is counted in the status tree.
 *
 * **Gotchas**
 *
 * Paths are relative to the base with `/` between segments. Absolute paths, `..`, backslashes, control characters and
 * percent-encoded forms of them are refused, and so is a symbolic link that leads out. Another process that can write
 * inside the base can still swap a directory for a link between check and use: do not share the base with strangers.
 *
 * **Example** (Write, read, and a path that is refused)
 *
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect, Layer } from "effect"
 * import { FileStore, Status } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const files = yield* FileStore.FileStore
 *   yield* files.write("logs/today.txt", "calm sea")
 *   const refused = yield* Effect.flip(files.readString("../secrets"))
 *   return [yield* files.readString("logs/today.txt"), refused.reason]
 * })
 * const FilesLayer = FileStore.layerWith({ base_path: `.tmp/doc-${process.pid}` }).pipe(
 *   Layer.provide(Status.layer),
 *   Layer.provide(NodeServices.layer)
 * )
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(FilesLayer)))) // => [ "calm sea", "PathRefused" ]
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import { type Status, track } from "../observability/Status.ts"
import * as Disk from "./internal/disk.ts"
import * as PathJail from "./internal/pathJail.ts"
import { resourceOptions } from "./internal/settingsOptions.ts"
import * as ManagedResource from "./ManagedResource.ts"
import type { ResourceError } from "./ResourceError.ts"
import * as Settings from "./Settings.ts"

/**
 * What can go wrong with a file.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason =
  | "PathRefused"
  | "NotFound"
  | "AlreadyExists"
  | "PermissionDenied"
  | "NoSpace"
  | "Unavailable"
  | "Unknown"

/**
 * A file operation failed. Paths are relative to the base; the base itself is not in the message.
 *
 * @category errors
 * @since 0.1.0
 */
export class FileStoreError extends Data.TaggedError("FileStoreError")<{
  readonly operation: string
  readonly path: string
  readonly reason: Reason
  readonly detail: string
}> {
  override get message() {
    return `${this.operation} ${JSON.stringify(this.path)}: ${this.detail}`
  }
}

/**
 * A file or directory in a listing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  /** Relative to the base. */
  readonly path: string
  readonly type: "file" | "directory" | "other"
}

/**
 * A change under the base.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly type: "created" | "updated" | "removed"
  /** Relative to the base. */
  readonly path: string
}

type Result<A> = Effect.Effect<A, FileStoreError>

/**
 * Files below one base directory.
 *
 * @category services
 * @since 0.1.0
 */
export class FileStore extends Context.Service<FileStore, {
  /** Replaces a file as a whole; missing directories are created. */
  readonly write: (path: string, content: string | Uint8Array, options?: {
    /** Octal mode of the file. Default 0o644, less the process's umask. */
    readonly mode?: number | undefined
  }) => Result<void>
  readonly read: (path: string) => Result<Uint8Array>
  /** As UTF-8. */
  readonly readString: (path: string) => Result<string>
  readonly stream: (path: string) => Stream.Stream<Uint8Array, FileStoreError>
  readonly exists: (path: string) => Result<boolean>
  /** Sorted; `""` or `"."` for the base. Files that are being written are not in it. */
  readonly list: (path: string) => Result<ReadonlyArray<Entry>>
  readonly makeDirectory: (path: string) => Result<void>
  /** Succeeds when there was nothing. A directory only with `recursive`. */
  readonly delete: (path: string, options?: { readonly recursive?: boolean | undefined }) => Result<void>
  /** Changes of a directory's direct children from now on; `""` for the base. */
  readonly watch: (path: string) => Stream.Stream<Change, FileStoreError>
}>()("seaworthy/FileStore") {}

/**
 * The `filesystem` section with every field optional.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = NonNullable<Settings.Values["filesystem"]>

interface Connection {
  readonly disk: Disk.Disk
  readonly settings: Settings.Shape["filesystem"]
}

const reasons: Partial<Record<string, Reason>> = {
  NotFound: "NotFound",
  AlreadyExists: "AlreadyExists",
  PermissionDenied: "PermissionDenied"
}

const details: Record<Reason, string> = {
  PathRefused: "the path is refused",
  NotFound: "there is no such file or directory",
  AlreadyExists: "it exists already",
  PermissionDenied: "permission denied",
  NoSpace: "the disk is full",
  Unavailable: "the store is not available",
  Unknown: "the operation failed"
}

const codeOf = (error: Failure | ResourceError): string => {
  const cause = error._tag === "PlatformError" ? error.reason.cause : undefined
  return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
}

const fileError = (operation: string, path: string) => (error: PlatformError | Disk.Escape | ResourceError) => {
  if (error._tag === "Escape") {
    return new FileStoreError({ operation, path, reason: "PathRefused", detail: `the path is refused: ${error.why}` })
  }
  if (error._tag === "ResourceError") {
    return new FileStoreError({ operation, path, reason: "Unavailable", detail: error.detail })
  }
  const code = codeOf(error)
  const reason: Reason = code === "ENOSPC" || code === "EDQUOT" ? "NoSpace" : reasons[error.reason._tag] ?? "Unknown"
  return new FileStoreError({
    operation,
    path,
    reason,
    detail: reason === "Unknown" && code !== "" ? `${details.Unknown} (${code})` : details[reason]
  })
}

const service = (handle: ManagedResource.Handle<Connection>): FileStore["Service"] => {
  const operation = <A>(
    name: string,
    path: string,
    f: (disk: Disk.Disk, path: string) => Effect.Effect<A, PlatformError | Disk.Escape>
  ): Result<A> => {
    const run = Effect.suspend((): Effect.Effect<A, PlatformError | Disk.Escape | ResourceError> => {
      const why = path === "" || path === "." ? undefined : PathJail.refusal(path)
      return why === undefined
        ? handle.use(({ disk }) => f(disk, PathJail.normalize(path)))
        : Effect.fail(new Disk.Escape({ why }))
    })
    return track(Effect.mapError(run, fileError(name, path)), handle.node.operation(name))
  }
  const read = (path: string) => operation("read", path, (disk, p) => disk.read(p))
  return {
    write: (path, content, options) =>
      operation(
        "write",
        path,
        (disk, p) =>
          p === "" ?
            Effect.fail(new Disk.Escape({ why: "the base itself is no file" })) :
            Effect.flatMap(Random.nextIntBetween(0, 0x7fffffff), (salt) =>
              disk.writeAtomic(p, typeof content === "string" ? new TextEncoder().encode(content) : content, {
                mode: options?.mode ?? 0o644,
                salt: salt.toString(36)
              }))
      ),
    read,
    readString: (path) => Effect.map(read(path), (bytes) => new TextDecoder().decode(bytes)),
    stream: (path) =>
      Stream.unwrap(operation("stream", path, (disk, p) => Effect.succeed(disk.stream(p)))).pipe(
        Stream.mapError((error) => error._tag === "FileStoreError" ? error : fileError("stream", path)(error))
      ),
    exists: (path) => operation("exists", path, (disk, p) => disk.exists(p)),
    list: (path) => operation("list", path, (disk, p) => disk.list(p)),
    makeDirectory: (path) => operation("makeDirectory", path, (disk, p) => Effect.asVoid(disk.makeDirectory(p))),
    delete: (path, options) =>
      operation("delete", path, (disk, p) =>
        p === ""
          ? Effect.fail(new Disk.Escape({ why: "the base itself cannot be deleted" }))
          : disk.remove(p, options?.recursive ?? false)),
    watch: (path) =>
      Stream.unwrap(operation("watch", path, (disk, p) => Effect.succeed(disk.watch(p)))).pipe(
        Stream.mapError((error) => error._tag === "FileStoreError" ? error : fileError("watch", path)(error))
      )
  }
}

type Failure = PlatformError | Disk.Escape | ProbeMismatch

class ProbeMismatch extends Data.TaggedError("ProbeMismatch")<{}> {}

const probe = (disk: Disk.Disk) =>
  Effect.gen(function*() {
    const salt = (yield* Random.nextIntBetween(0, 0x7fffffff)).toString(36)
    const path = Disk.probeName + salt
    const written = new TextEncoder().encode(salt)
    yield* disk.writeAtomic(path, written, { mode: 0o600, salt })
    const read = yield* Effect.ensuring(disk.read(path), Effect.ignore(disk.remove(path, false)))
    if (new TextDecoder().decode(read) !== salt) return yield* new ProbeMismatch()
  })

const explain = (error: Failure) => {
  if (error._tag === "ProbeMismatch") {
    return {
      reason: "Unknown" as const,
      detail: "a file read back differently from what was written",
      option: "filesystem.base_path",
      remedy: "Check the disk."
    }
  }
  const failed = fileError("open", "")(error)
  const denied = failed.reason === "PermissionDenied" || codeOf(error) === "EROFS"
  return {
    reason: denied
      ? "PermissionDenied" as const
      : failed.reason === "AlreadyExists"
      ? "Conflict" as const
      : "Unknown" as const,
    detail: `${denied ? "the directory cannot be written to" : failed.detail}${where(error)}`,
    option: "filesystem.base_path",
    remedy: denied
      ? "Give the user of this process write permission there, or set FILESYSTEM_BASE_PATH to a directory that it may write to."
      : "Set FILESYSTEM_BASE_PATH to a directory on a disk with room.",
    retryable: false
  }
}

const where = (error: Failure): string =>
  error._tag === "PlatformError" && error.reason._tag !== "BadArgument" && error.reason.pathOrDescriptor !== undefined
    ? ` (${error.reason.pathOrDescriptor})`
    : ""

const makeLayer = <R>(settings: Effect.Effect<Settings.Shape, never, R>) =>
  ManagedResource.layer(FileStore, {
    id: "filesystem",
    kind: "filesystem",
    validate: settings,
    connect: (all) =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        return { disk: yield* Disk.open(fs, path, all.filesystem), settings: all.filesystem }
      }),
    initialize: ({ disk, settings: section }) =>
      Effect.forEach(section.required_dirs, (dir) => {
        const why = PathJail.refusal(dir)
        return why === undefined ? disk.makeDirectory(PathJail.normalize(dir)) : Effect.fail(new Disk.Escape({ why }))
      }, { discard: true }),
    verify: ({ disk }) => probe(disk),
    explain,
    options: (all) => resourceOptions(all, {}),
    service
  })

/**
 * The file store with settings from environment and file.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  FileStore,
  ResourceError | Settings.SettingsError,
  Status | FileSystem.FileSystem | Path.Path
> = makeLayer(Settings.Settings).pipe(Layer.provide(Settings.layer))

/**
 * The file store with settings given in code; what is left out has its default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<FileStore, ResourceError | Settings.SettingsError, Status | FileSystem.FileSystem | Path.Path> =>
  Layer.unwrap(Effect.map(Settings.make({ filesystem: options }), (settings) => makeLayer(Effect.succeed(settings))))
