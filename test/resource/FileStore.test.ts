import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Cause, Effect, Exit, Fiber, FileSystem, Layer, Path, Stream } from "effect"
import * as Status from "../../src/observability/Status.ts"
import * as FileStore from "../../src/resource/FileStore.ts"

/** A store in a folder of its own, on the real disk and the real clock. */
const inFolder = <A, E>(
  name: string,
  body: (
    tools: { readonly files: FileStore.FileStore["Service"]; readonly base: string; readonly fs: FileSystem.FileSystem }
  ) => Effect.Effect<A, E, Status.Status | FileSystem.FileSystem | Path.Path | Scope.Scope>
) =>
  it.live(name, () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "seaworthy-files-" })
      const base = path.join(folder, "base")
      const context = yield* Layer.build(FileStore.layerWith({ base_path: base }))
      const files = yield* Effect.provideContext(FileStore.FileStore, context)
      return yield* body({ files, base, fs })
    }).pipe(Effect.scoped, Effect.provide([Status.layer, NodeServices.layer])))

const reasonOf = <A>(effect: Effect.Effect<A, FileStore.FileStoreError>) =>
  Effect.map(Effect.flip(effect), (e) => e.reason)

describe("FileStore", () => {
  inFolder(
    "creates the base and the required directories with the configured permissions",
    ({ base, fs }) =>
      Effect.gen(function*() {
        for (const dir of ["", "/cache", "/logs", "/uploads"]) {
          const info = yield* fs.stat(base + dir)
          assert.strictEqual(info.type, "Directory")
          assert.strictEqual(info.mode & 0o777, 0o755, dir)
        }
        assert.deepStrictEqual((yield* fs.readDirectory(base)).sort(), ["cache", "logs", "uploads"])
      })
  )

  inFolder("reads back what it wrote, as bytes, text and stream", ({ files }) =>
    Effect.gen(function*() {
      yield* files.write("a/b/c.txt", "größe")
      assert.strictEqual(yield* files.readString("a/b/c.txt"), "größe")
      const bytes = new Uint8Array(300_000).map((_, index) => index % 251)
      yield* files.write("big.bin", bytes)
      assert.deepStrictEqual(yield* files.read("big.bin"), bytes)
      const chunks = yield* Stream.runCollect(files.stream("big.bin"))
      assert.strictEqual(chunks.reduce((sum, chunk) => sum + chunk.length, 0), bytes.length)
      assert.isTrue(yield* files.exists("a/b"))
      assert.isFalse(yield* files.exists("a/x"))
    }))

  inFolder(
    "a write replaces the file as a whole and leaves no temporary file",
    ({ base, files, fs }) =>
      Effect.gen(function*() {
        yield* files.write("f", "old and longer")
        yield* Effect.all(
          Array.from({ length: 20 }, (_, n) => files.write("f", `new ${n}`)),
          { concurrency: "unbounded" }
        )
        assert.match(yield* files.readString("f"), /^new \d+$/)
        assert.deepStrictEqual((yield* fs.readDirectory(base)).sort(), ["cache", "f", "logs", "uploads"])
      })
  )

  inFolder(
    "a failed write leaves the old content and no temporary file",
    ({ base, files, fs }) =>
      Effect.gen(function*() {
        yield* files.makeDirectory("taken")
        yield* files.write("taken/inside", "x")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(files.write("taken", "a file over a directory"))))
        assert.deepStrictEqual((yield* fs.readDirectory(base)).sort(), ["cache", "logs", "taken", "uploads"])
      })
  )

  inFolder("lists with types, sorted", ({ files }) =>
    Effect.gen(function*() {
      yield* files.write("logs/b", "")
      yield* files.write("logs/a", "")
      yield* files.makeDirectory("logs/c")
      assert.deepStrictEqual(yield* files.list("logs"), [
        { path: "logs/a", type: "file" },
        { path: "logs/b", type: "file" },
        { path: "logs/c", type: "directory" }
      ])
      assert.deepStrictEqual((yield* files.list("")).map((e) => e.path), ["cache", "logs", "uploads"])
    }))

  inFolder("below a file there is nothing, as in a directory that is not there", ({ files }) =>
    Effect.gen(function*() {
      yield* files.write("f", "x")
      for (const path of ["f/below", "f/far/below", "no/where"]) {
        assert.isFalse(yield* files.exists(path), path)
        yield* files.delete(path)
      }
      assert.strictEqual(yield* reasonOf(files.write("f/below", "x")), "AlreadyExists")
      assert.strictEqual(yield* files.readString("f"), "x")
    }))

  inFolder("a name may have as many bytes as the disk allows, in any script", ({ files }) =>
    Effect.gen(function*() {
      for (const name of ["n".repeat(255), "字".repeat(85), "🚢".repeat(63)]) {
        yield* files.write(name, "x")
        assert.strictEqual(yield* files.readString(name), "x")
      }
    }))

  inFolder("the base itself is no file: nothing is written beside it", ({ base, files, fs }) =>
    Effect.gen(function*() {
      const before = (yield* fs.stat(`${base}/..`)).mtime
      for (const path of ["", ".", "./", "./."]) {
        assert.strictEqual(yield* reasonOf(files.write(path, "x")), "PathRefused", path)
      }
      assert.deepStrictEqual((yield* fs.stat(`${base}/..`)).mtime, before)
    }))

  inFolder(
    "shows neither what is being written nor its own probes, in a listing or to a watcher",
    ({ files }) =>
      Effect.gen(function*() {
        const seen = new Set<string>()
        const watching = yield* Effect.forkChild(
          Stream.runForEachWhile(files.watch("logs"), (change) =>
            Effect.sync(() => {
              seen.add(change.path)
              return change.path !== "logs/end"
            }))
        )
        // A watch has no moment at which it is known to be set: write until it has seen enough.
        const writing = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(files.write("logs/x", "y"), Effect.sleep("10 millis")))
        )
        const listed = new Set<string>()
        while (!seen.has("logs/x") || listed.size === 0) {
          for (const entry of yield* files.list("logs")) listed.add(entry.path)
          yield* Effect.sleep("1 millis")
        }
        yield* files.write("logs/end", "")
        yield* Effect.timeout(Fiber.join(watching), "20 seconds")
        yield* Fiber.interrupt(writing)
        assert.deepStrictEqual([...listed].filter((path) => path !== "logs/x"), [])
        assert.deepStrictEqual([...seen].sort(), ["logs/end", "logs/x"])
      })
  )

  inFolder("deletes files, and directories only when told", ({ files }) =>
    Effect.gen(function*() {
      yield* files.write("d/f", "x")
      yield* files.delete("not there")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(files.delete("d"))))
      yield* files.delete("d", { recursive: true })
      assert.isFalse(yield* files.exists("d"))
      assert.strictEqual(yield* reasonOf(files.delete("", { recursive: true })), "PathRefused")
    }))

  inFolder(
    "what is not there is NotFound, and the message does not show the base",
    ({ base, files }) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(files.read("nope.txt"))
        assert.strictEqual(error.reason, "NotFound")
        assert.strictEqual(error.message, "read \"nope.txt\": there is no such file or directory")
        assert.notInclude(JSON.stringify(error), base)
      })
  )

  inFolder("no operation leaves the base: as written", ({ files }) =>
    Effect.gen(function*() {
      for (const path of ["../x", "/etc/passwd", "a/../../x", "a\0", "%2e%2e/x", "..\\x"]) {
        assert.strictEqual(yield* reasonOf(files.read(path)), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(files.write(path, "x")), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(files.list(path)), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(files.exists(path)), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(files.delete(path)), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(files.makeDirectory(path)), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(Stream.runDrain(files.stream(path))), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(Stream.runDrain(files.watch(path))), "PathRefused", path)
      }
    }))

  inFolder("no operation leaves the base: by symbolic links", ({ base, files, fs }) =>
    Effect.gen(function*() {
      const outside = `${base}-outside`
      yield* fs.makeDirectory(outside)
      yield* fs.writeFileString(`${outside}/secret`, "secret")
      yield* fs.symlink(outside, `${base}/dir`)
      yield* fs.symlink(`${outside}/secret`, `${base}/file`)
      yield* fs.symlink(`${outside}/new`, `${base}/dangling`)
      for (const path of ["dir/secret", "file", "dangling"]) {
        assert.strictEqual(yield* reasonOf(files.read(path)), "PathRefused", path)
        assert.strictEqual(yield* reasonOf(files.write(path, "x")), "PathRefused", path)
      }
      assert.strictEqual(yield* reasonOf(files.write("dir/new/deep", "x")), "PathRefused")
      assert.strictEqual(yield* reasonOf(files.list("dir")), "PathRefused")
      assert.strictEqual(yield* reasonOf(files.delete("dir/secret")), "PathRefused")
      yield* files.delete("file")
      assert.strictEqual(yield* fs.readFileString(`${outside}/secret`), "secret")
      assert.deepStrictEqual(yield* fs.readDirectory(outside), ["secret"])
    }))

  inFolder("a symbolic link that stays inside is followed", ({ base, files, fs }) =>
    Effect.gen(function*() {
      yield* files.write("real/f", "x")
      yield* fs.symlink(`${base}/real`, `${base}/alias`)
      assert.strictEqual(yield* files.readString("alias/f"), "x")
    }))

  inFolder("watches a directory", ({ files }) =>
    Effect.gen(function*() {
      // A watch has no moment at which it is known to be set: write until it has seen one.
      const seen = yield* Effect.forkChild(
        Stream.runHead(Stream.filter(files.watch("logs"), (change) => change.path === "logs/x"))
      )
      const writing = yield* Effect.forkChild(
        Effect.forever(Effect.andThen(files.write("logs/x", "y"), Effect.sleep("20 millis")))
      )
      const change = yield* Effect.timeout(Fiber.join(seen), "20 seconds")
      yield* Fiber.interrupt(writing)
      assert.strictEqual(change._tag, "Some")
    }))

  inFolder("operations are counted in the status tree", ({ files }) =>
    Effect.gen(function*() {
      yield* files.write("f", "x")
      yield* files.read("f")
      yield* Effect.exit(files.read("nope"))
      const node = yield* (yield* Status.Status).get("filesystem")
      assert.deepStrictEqual(
        [node?.operations["write"]?.successes, node?.operations["read"]?.successes, node?.operations["read"]?.failures],
        [1, 1, 1]
      )
    }))

  it.live("a base that cannot be written to names option and remedy, and is not retried", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* fs.writeFileString(`${folder}/file`, "not a directory")
      const exit = yield* Effect.exit(Layer.build(FileStore.layerWith({ base_path: `${folder}/file/base` })))
      const error = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
      if (error?._tag !== "ResourceError") throw new Error("expected a ResourceError")
      assert.deepStrictEqual([error.resource, error.option, error.attempts], ["filesystem", "filesystem.base_path", 1])
      assert.include(error.message, `${folder}/file`)
    }).pipe(Effect.scoped, Effect.provide([Status.layer, NodeServices.layer])))
})
