// The few pieces of the Postgres wire protocol that the embedded database's transport has to know: where a message
// ends, which of them ends a batch, and the answer to a canceled one. Pure.

export const cancelCode = 80877102
export const sslCode = 80877103

/** Length of a message that starts at `offset`, or `undefined` while it is incomplete. `typed`: after the startup. */
export const messageLength = (buffer: Buffer, typed: boolean): number | undefined => {
  const head = typed ? 1 : 0
  if (buffer.length < head + 4) return undefined
  const length = head + buffer.readInt32BE(head)
  return buffer.length < length ? undefined : length
}

const types = { query: 0x51, sync: 0x53, flush: 0x48, password: 0x70, terminate: 0x58 }

/** What the arrival of a message means for the batch it ends. */
export const boundary = (type: number): "none" | "end" | "flush" | "terminate" => {
  if (type === types.sync || type === types.query) return "end"
  if (type === types.flush || type === types.password) return "flush"
  return type === types.terminate ? "terminate" : "none"
}

const message = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5)
  head.write(type, 0, "latin1")
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

/** ErrorResponse 57014 and ReadyForQuery, outside a transaction. */
export const canceled: Buffer = Buffer.concat([
  message("E", Buffer.from("SERROR\0VERROR\0C57014\0Mcanceling statement due to user request\0\0")),
  message("Z", Buffer.from("I"))
])

export const rollback: Buffer = message("Q", Buffer.from("ROLLBACK\0"))

/** Writes a connection's own number into the BackendKeyData of the answer to its startup: all have the same from PGlite. */
export const withKey = (answer: Buffer, id: number): Buffer => {
  for (let at = 0; at + 5 <= answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    if (answer[at] !== 0x4b) continue
    const copy = Buffer.from(answer)
    copy.writeInt32BE(id, at + 5)
    return copy
  }
  return answer
}
