import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { acquire, isGone, self, staleAfter } from "../../../src/backends/internal/dirLock.ts"
import { eventually } from "../../support/Live.ts"

// The file system's clock is the machine's, and so is this one.
const now = () => performance.timeOrigin + performance.now()

const inFolder = (body: (file: string) => void) => () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "seaworthy-lock-"))
  try {
    body(path.join(folder, "data.lock"))
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

const me = self()
const elsewhere = { pid: 1, started: "1", place: "another boot", host: "other" }

describe("The lock of a directory", () => {
  it(
    "is taken by one, and free again after its release",
    inFolder((file) => {
      const first = acquire(file, now())
      assert.isTrue(first.locked)
      const second = acquire(file, now())
      assert.isFalse(second.locked)
      if (!second.locked) assert.deepStrictEqual([second.holder?.pid, second.seen], [process.pid, true])
      if (first.locked) first.release()
      assert.isFalse(fs.existsSync(file))
      const third = acquire(file, now())
      assert.isTrue(third.locked)
      if (third.locked) third.release()
    })
  )

  it(
    "is taken over from a process that is gone",
    inFolder((file) => {
      // A process that has ended: number reused by nobody, since the highest possible.
      fs.writeFileSync(file, JSON.stringify({ ...me, pid: 4_194_304, started: "5" }))
      const outcome = acquire(file, now())
      assert.isTrue(outcome.locked)
      assert.strictEqual(JSON.parse(fs.readFileSync(file, "utf8")).pid, process.pid)
      assert.deepStrictEqual(fs.readdirSync(path.dirname(file)), ["data.lock"])
      if (outcome.locked) outcome.release()
    })
  )

  it(
    "is not taken from a place that cannot be looked into while it is renewed, and is when it no longer is",
    inFolder((file) => {
      fs.writeFileSync(file, JSON.stringify(elsewhere))
      const fresh = acquire(file, now())
      assert.isFalse(fresh.locked)
      if (!fresh.locked) assert.deepStrictEqual([fresh.holder?.host, fresh.seen], ["other", false])
      const old = (now() - staleAfter - 1000) / 1000
      fs.utimesSync(file, old, old)
      const outcome = acquire(file, now())
      assert.isTrue(outcome.locked)
      if (outcome.locked) outcome.release()
    })
  )

  it(
    "is renewed by its holder",
    inFolder((file) => {
      const outcome = acquire(file, now())
      const later = Math.round(now()) + 60_000
      if (outcome.locked) outcome.renew(later)
      assert.strictEqual(Math.round(fs.statSync(file).mtimeMs), later)
      if (outcome.locked) outcome.release()
    })
  )

  it(
    "that is being written counts as held, and as left behind when it stays so",
    inFolder((file) => {
      fs.writeFileSync(file, "{\"pid\":")
      assert.isFalse(acquire(file, now()).locked)
      const old = (now() - staleAfter - 1000) / 1000
      fs.utimesSync(file, old, old)
      const outcome = acquire(file, now())
      assert.isTrue(outcome.locked)
      if (outcome.locked) outcome.release()
    })
  )

  it(
    "is not removed by a release after someone else has taken it",
    inFolder((file) => {
      const outcome = acquire(file, now())
      fs.writeFileSync(file, JSON.stringify(elsewhere))
      if (outcome.locked) outcome.release()
      assert.isTrue(fs.existsSync(file))
    })
  )

  it.live("is taken over from a process that was killed and whose parent has not asked how it ended", () =>
    Effect.gen(function*() {
      // As under a container's first process that is no init: the number stays taken, but nobody runs there.
      const parent = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sh", ["-c", "sleep 60 & echo $!; exec sleep 60"])),
        (parent) => Effect.sync(() => parent.kill("SIGKILL"))
      )
      const pid = yield* Effect.callback<number>((resume) => {
        parent.stdout.once("data", (data) => resume(Effect.succeed(Number(String(data)))))
      })
      const holder = { ...me, pid, started: "" }
      assert.isFalse(isGone(holder, me, 0, false), "runs")
      if (!fs.existsSync("/proc/self/stat")) return
      const stat = (of: number) => fs.readFileSync(`/proc/${of}/stat`, "utf8")
      // From here on the parent is a program that asks after nobody.
      yield* eventually(Effect.sync(() => stat(parent.pid!)), { until: (text) => text.includes("(sleep)") })
      const started = stat(pid).split(" ")[21] ?? ""
      process.kill(pid, "SIGKILL")
      yield* eventually(Effect.sync(() => stat(pid)), { until: (text) => text.includes(") Z ") })
      assert.isTrue(isGone({ ...holder, started }, me, 0, false), "a zombie")
    }))

  it("knows a holder that is gone by process, start and renewal", () => {
    const parent = { ...me, pid: process.ppid, started: "" }
    assert.isFalse(isGone(parent, me, 0, false), "runs")
    assert.isTrue(isGone({ ...parent, pid: 4_194_304 }, me, 0, false), "does not run")
    assert.isTrue(isGone({ ...parent, started: "1" }, me, 0, false), "its number is of another process now")
    assert.isFalse(isGone(me, me, 0, true), "this process holds it")
    assert.isTrue(isGone(me, me, 0, false), "this process has the number of one that is gone")
    assert.isFalse(isGone(elsewhere, me, staleAfter, false))
    assert.isTrue(isGone(elsewhere, me, staleAfter + 1, false))
  })
})
