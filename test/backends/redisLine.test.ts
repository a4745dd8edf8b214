import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import type { Redis } from "ioredis"
import * as Line from "../../src/backends/internal/redisLine.ts"
import type { Plan } from "../../src/backends/internal/redisPlan.ts"

/** A client that remembers what was asked of its socket. */
const fakeClient = () => {
  const did: Array<string> = []
  const stream = { cork: () => did.push("cork"), uncork: () => did.push("uncork") }
  const client = { status: "ready", stream, disconnect: (again: boolean) => did.push(`disconnect ${again}`) }
  return { client: client as unknown as Redis, did }
}

const plan = { commandTimeout: 500 } as Plan

/** A command whose end the test decides, with what its user heard. */
const command = (line: Line.Line) => {
  const heard: Array<string> = []
  let settle = { reply: (_: string) => {}, fail: (_: Error) => {} }
  const promise = new Promise<string>((reply, fail) => {
    settle = { reply, fail }
  })
  line.send(
    () => promise,
    (reply, millis) => heard.push(`${reply} after ${millis}`),
    (error, millis) => heard.push(`${(error as Error).message} after ${millis}`)
  )
  return { heard, ...settle }
}

const turn = Effect.promise(() => new Promise<void>((done) => setImmediate(done)))

describe("The way of commands to a Redis client", () => {
  it.effect("gives the reply or the error, and how long it took", () =>
    Effect.gen(function*() {
      const line = yield* Line.make(plan, fakeClient().client)
      const [good, bad] = [command(line), command(line)]
      yield* TestClock.adjust("20 millis")
      good.reply("OK")
      bad.fail(new Error("ERR no"))
      yield* turn
      assert.deepStrictEqual([good.heard, bad.heard], [["OK after 20"], ["ERR no after 20"]])
    }))

  it.effect("ends each command when its own time is up, and is deaf to a late reply", () =>
    Effect.gen(function*() {
      const line = yield* Line.make(plan, fakeClient().client)
      const first = command(line)
      yield* TestClock.adjust("300 millis")
      const second = command(line)
      yield* TestClock.adjust("199 millis")
      assert.deepStrictEqual([first.heard, second.heard], [[], []])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual([first.heard, second.heard], [["Command timed out after 500"], []])
      first.reply("late")
      second.reply("in time")
      yield* turn
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([first.heard, second.heard], [["Command timed out after 500"], ["in time after 200"]])
    }))

  it.effect("gives up a connection that owes answers and has been silent for twice the time-out", () =>
    Effect.gen(function*() {
      const { client, did } = fakeClient()
      const line = yield* Line.make(plan, client)
      command(line)
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(did, [])
      // One user after the other, each timed out before the next comes.
      command(line)
      yield* TestClock.adjust("500 millis")
      assert.include(did, "disconnect true")
    }))

  it.effect("keeps a connection that is slow but answers", () =>
    Effect.gen(function*() {
      const { client, did } = fakeClient()
      const line = yield* Line.make(plan, client)
      for (let i = 0; i < 10; i++) {
        const late = command(line)
        yield* TestClock.adjust("600 millis")
        late.reply("late")
        yield* turn
        assert.deepStrictEqual(late.heard, ["Command timed out after 500"])
      }
      assert.notInclude(did, "disconnect true")
    }))

  it.effect("an idle connection is not silent", () =>
    Effect.gen(function*() {
      const { client, did } = fakeClient()
      const line = yield* Line.make(plan, client)
      const one = command(line)
      one.reply("OK")
      yield* turn
      yield* TestClock.adjust("1 hour")
      command(line)
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(did, [])
    }))

  it.effect("sends a lone command at once and writes those that come together together", () =>
    Effect.gen(function*() {
      const { client, did } = fakeClient()
      const line = yield* Line.make(plan, client)
      const lone = command(line)
      lone.reply("OK")
      yield* turn
      assert.deepStrictEqual(did, [])
      const all = [command(line), command(line), command(line)]
      assert.deepStrictEqual(did, ["cork"])
      yield* turn
      assert.deepStrictEqual(did, ["cork", "uncork"])
      for (const one of all) one.reply("OK")
      yield* turn
      assert.deepStrictEqual(all.map((one) => one.heard.length), [1, 1, 1])
    }))

  it.effect("ten thousand commands, answered in any order, are each heard once", () =>
    Effect.gen(function*() {
      const line = yield* Line.make(plan, fakeClient().client)
      const all = Array.from({ length: 10_000 }, () => command(line))
      for (let i = 0; i < all.length; i++) if (i % 3 !== 0) all[all.length - 1 - i]!.reply("OK")
      yield* turn
      yield* TestClock.adjust("1 second")
      const heard = all.map((one) => one.heard.join())
      assert.strictEqual(heard.filter((words) => words === "OK after 0").length, 6_666)
      assert.strictEqual(heard.filter((words) => words === "Command timed out after 500").length, 3_334)
    }))
})
