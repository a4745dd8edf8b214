import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { answered, blocksFor, clean, cleaning, sent } from "../../src/backends/internal/redisSession.ts"

/** Each command with what the server says to it: nothing is an answer that has not come. */
const after = (...commands: ReadonlyArray<readonly [command: string, answer?: "ok" | string]>) => {
  const state = clean()
  for (const [line, answer] of commands) {
    const [command = "", ...args] = line.split(" ")
    sent(state, command, args)
    if (answer === "ok") answered(state, command)
    else if (answer !== undefined) answered(state, command, answer)
  }
  return cleaning(state)
}

describe("What a borrower leaves on a connection", () => {
  it("is nothing after ordinary commands, and after a transaction that has ended", () => {
    assert.isUndefined(after(["GET a", "ok"], ["EVAL x 0", "ERR no"], ["CLIENT ID", "ok"], ["CLIENT LIST", "ok"]))
    assert.isUndefined(after(["WATCH a", "ok"], ["MULTI", "ok"], ["SET a 1", "ok"], ["EXEC", "ok"]))
    assert.isUndefined(after(["watch a", "ok"], ["unwatch", "ok"]))
    assert.isUndefined(after(["MULTI", "ok"], ["DISCARD", "ok"]))
    assert.isUndefined(after(["MULTI", "ok"], ["NOSUCH", "ERR no"], ["EXEC", "EXECABORT Transaction discarded"]))
  })

  it("is undone with UNWATCH while keys are watched, with DISCARD while commands are queued", () => {
    assert.strictEqual(after(["WATCH a", "ok"]), "UNWATCH")
    assert.strictEqual(after(["WATCH a"]), "UNWATCH")
    assert.strictEqual(after(["WATCH a", "ok"], ["EXEC", "ERR EXEC without MULTI"]), "UNWATCH")
    assert.strictEqual(after(["WATCH a", "ok"], ["MULTI", "ok"]), "DISCARD")
    assert.strictEqual(after(["MULTI"]), "DISCARD")
    assert.strictEqual(after(["MULTI", "ok"], ["UNWATCH", "ok"]), "DISCARD")
    assert.strictEqual(after(["MULTI", "ok"], ["EXEC"]), "DISCARD")
  })

  it("cannot be undone after another user, database, protocol, name or subscription", () => {
    for (
      const line of [
        ...[
          "SELECT 1",
          "AUTH x",
          "HELLO 2",
          "SUBSCRIBE c",
          "psubscribe c*",
          "SSUBSCRIBE c",
          "MONITOR",
          "QUIT",
          "RESET"
        ],
        ...[
          "CLIENT SETNAME x",
          "CLIENT TRACKING on",
          "CLIENT REPLY OFF",
          "client no-evict on",
          "CLIENT",
          "SCRIPT DEBUG YES"
        ]
      ]
    ) {
      assert.isNull(after([line, "ok"]), line)
      assert.isNull(after([line, "ERR no"], ["MULTI", "ok"], ["EXEC", "ok"]), line)
    }
  })
})

describe("How long a command may block", () => {
  it("is what it says itself", () => {
    const cases: ReadonlyArray<readonly [string, number]> = [
      ["GET a", 0],
      ["BLPOP a b 1.5", 1_500],
      ["blpop a 0", Infinity],
      ["BRPOPLPUSH a b 2", 2_000],
      ["BLMOVE a b LEFT RIGHT 3", 3_000],
      ["BZPOPMIN a 4", 4_000],
      ["BLMPOP 5 1 a LEFT", 5_000],
      ["BZMPOP 0 1 a MIN", Infinity],
      ["WAIT 1 250", 250],
      ["WAIT 1 0", Infinity],
      ["WAITAOF 1 0 100", 100],
      ["XREAD COUNT 2 BLOCK 700 STREAMS s 0", 700],
      ["XREAD block 0 streams s $", Infinity],
      ["XREAD STREAMS block 0", 0],
      ["XREADGROUP GROUP g c BLOCK 10 STREAMS s >", 10],
      ["BLPOP a nonsense", 0],
      ["BLPOP a -1", 0],
      ["BLPOP", Infinity],
      ["XREAD BLOCK", 0]
    ]
    for (const [line, millis] of cases) {
      const [command = "", ...args] = line.split(" ")
      assert.strictEqual(blocksFor(command, args), millis, line)
    }
  })

  it("is never negative and never no number, whatever the arguments", () => {
    fc.assert(fc.property(
      fc.constantFrom("BLPOP", "BLMPOP", "WAIT", "XREAD", "GET"),
      fc.array(fc.oneof(fc.string(), fc.constantFrom("BLOCK", "STREAMS", "0", "-1", "1e400", "Infinity"))),
      (command, args) => assert.isTrue(blocksFor(command, args) >= 0)
    ))
  })
})
