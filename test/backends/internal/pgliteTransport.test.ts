import { assert, describe, it } from "@effect/vitest"
import type { Duplex } from "node:stream"
import * as Protocol from "../../../src/backends/internal/pgliteProtocol.ts"
import { type Engine, Session } from "../../../src/backends/internal/pgliteTransport.ts"

const message = (type: string, body = ""): Buffer => {
  const head = Buffer.alloc(5)
  head.write(type, 0, "latin1")
  head.writeInt32BE(4 + Buffer.byteLength(body), 1)
  return Buffer.concat([head, Buffer.from(body)])
}
const startup = (() => {
  const body = Buffer.from("user\0ada\0\0")
  const head = Buffer.alloc(8)
  head.writeInt32BE(8 + body.length, 0)
  head.writeInt32BE(196_608, 4)
  return Buffer.concat([head, body])
})()
const key = message("K", "12345678")
const query = (sql: string) => message("Q", `${sql}\0`)

/** Understands BEGIN, COMMIT and ROLLBACK, and notes what runs. */
const fakeEngine = () => {
  const ran: Array<string> = []
  const state = { open: false, closed: false, fail: false }
  let turn: Promise<unknown> = Promise.resolve()
  const engine: Engine = {
    get closed() {
      return state.closed
    },
    isInTransaction: () => state.open,
    runExclusive: (work) => {
      const mine = turn.then(work)
      turn = mine.catch(() => undefined)
      return mine
    },
    execProtocolRawStream: async (batch, { onRawData }) => {
      await Promise.resolve()
      if (state.fail) throw new Error("out of memory")
      const buffer = Buffer.from(batch)
      if (buffer.equals(startup)) return onRawData(Buffer.concat([message("R", "0000"), key, message("Z", "I")]))
      const text = buffer.toString("latin1").replace(/[^\x20-\x7e]/g, " ").replace(/ +/g, " ").trim()
      ran.push(text)
      if (text.includes("BEGIN")) state.open = true
      if (/COMMIT|ROLLBACK/.test(text)) state.open = false
      onRawData(Buffer.concat([message("C", text), message("Z", state.open ? "T" : "I")]))
    }
  }
  return { engine, ran, state }
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Lets the streams work until something has happened. */
const until = async (check: () => boolean) => {
  for (let turn = 0; turn < 10_000 && !check(); turn++) await settle()
}

const connect = async (session: Session) => {
  const socket = session.dial()
  let received = Buffer.alloc(0)
  socket.on("data", (data: Buffer) => received = Buffer.concat([received, data]))
  socket.on("error", () => {})
  socket.write(startup)
  await until(() => received.length > 0)
  const greeting = received
  received = Buffer.alloc(0)
  return { socket, greeting, text: () => received.toString("latin1") }
}

const numberOf = (greeting: Buffer): Buffer => greeting.subarray(greeting.indexOf("K") + 5, greeting.indexOf("K") + 9)

const cancelRequest = (number: Buffer): Buffer => {
  const buffer = Buffer.alloc(16)
  buffer.writeInt32BE(16, 0)
  buffer.writeInt32BE(Protocol.cancelCode, 4)
  number.copy(buffer, 8)
  return buffer
}

describe("Connections to one session", () => {
  it("run batches whole, however their bytes arrive", async () => {
    const { engine, ran } = fakeEngine()
    const { socket } = await connect(new Session(engine))
    const bytes = Buffer.concat([
      message("P", "\0one\0"),
      message("B", "b"),
      message("E", "e"),
      message("S"),
      query("two")
    ])
    for (const byte of bytes) socket.write(Buffer.from([byte]))
    await until(() => ran.length === 2)
    assert.deepStrictEqual(ran.map((text) => text.match(/one|two/)?.[0]), ["one", "two"])
  })

  it("wait while the transaction of another is open, and go on in their order after it", async () => {
    const { engine, ran } = fakeEngine()
    const session = new Session(engine)
    const [one, two] = [await connect(session), await connect(session)]
    one.socket.write(query("BEGIN"))
    await until(() => ran.length === 1)
    two.socket.write(query("SELECT two"))
    one.socket.write(query("SELECT one"))
    await until(() => ran.length === 2)
    await settle()
    assert.isTrue(session.busy)
    assert.deepStrictEqual(ran, ["Q BEGIN", "Q SELECT one"])
    one.socket.write(query("COMMIT"))
    await until(() => ran.length === 4 && !session.busy)
    assert.deepStrictEqual(ran, ["Q BEGIN", "Q SELECT one", "Q COMMIT", "Q SELECT two"])
    assert.isFalse(session.busy)
  })

  it("that die in a transaction are rolled back before another one runs", async () => {
    for (const end of [(socket: Duplex) => socket.destroy(), (socket: Duplex) => socket.end(message("X"))]) {
      const { engine, ran } = fakeEngine()
      const session = new Session(engine)
      const [one, two] = [await connect(session), await connect(session)]
      one.socket.write(query("BEGIN"))
      await until(() => ran.length === 1)
      two.socket.write(query("SELECT two"))
      one.socket.write(query("SELECT never"))
      end(one.socket)
      await until(() => ran.includes("Q SELECT two") && !session.busy)
      assert.deepStrictEqual(ran.slice(-2), ["Q ROLLBACK", "Q SELECT two"])
      assert.isFalse(session.busy)
    }
  })

  it("that are canceled while they wait are answered so, and stay usable", async () => {
    const { engine, ran } = fakeEngine()
    const session = new Session(engine)
    const [one, two] = [await connect(session), await connect(session)]
    assert.isFalse(numberOf(one.greeting).equals(numberOf(two.greeting)))
    one.socket.write(query("BEGIN"))
    await until(() => ran.length === 1)
    two.socket.write(query("SELECT late"))
    const request = session.dial()
    request.write(cancelRequest(numberOf(two.greeting)))
    await until(() => two.text() !== "")
    assert.match(two.text(), /C57014/)
    assert.isTrue(two.text().endsWith("I"))
    one.socket.write(query("COMMIT"))
    two.socket.write(query("SELECT again"))
    await until(() => ran.length === 3)
    assert.deepStrictEqual(ran, ["Q BEGIN", "Q COMMIT", "Q SELECT again"])
  })

  it("refuse encryption, which makes no sense in a process", async () => {
    const { engine } = fakeEngine()
    const socket = new Session(engine).dial()
    const answer = new Promise<Buffer>((resolve) => socket.once("data", resolve))
    const request = Buffer.alloc(8)
    request.writeInt32BE(8, 0)
    request.writeInt32BE(Protocol.sslCode, 4)
    socket.write(request)
    assert.strictEqual((await answer).toString(), "N")
  })

  it("end with an error when the engine fails, and the session says why", async () => {
    const { engine, state } = fakeEngine()
    const session = new Session(engine)
    const one = await connect(session)
    const ended = new Promise<Error>((resolve) => one.socket.once("error", resolve))
    state.fail = true
    one.socket.write(query("SELECT 1"))
    assert.match((await ended).message, /out of memory/)
    assert.match(session.broken!.message, /out of memory/)
  })

  it("are over when the engine is closed", () => {
    const { engine, state } = fakeEngine()
    const session = new Session(engine)
    assert.isUndefined(session.broken)
    state.closed = true
    assert.match(session.broken!.message, /closed/)
  })
})
