// Transports from the client of `@effect/sql-pg` to a PGlite in this process, without a port.
//
// PGlite is one session; the client opens several connections. Each connection's messages are collected into batches
// that end with Sync, a batch runs without another in between, and a connection whose transaction is open keeps the
// session until it ends. (PGlite's own socket server queues single messages, and parallel transactions corrupt each
// other.) What belongs to a session is shared by all connections: SET without LOCAL, temporary tables, advisory locks.
import { Duplex } from "node:stream"
import * as Protocol from "./pgliteProtocol.ts"

/** The part of PGlite that is used. */
export interface Engine {
  readonly closed: boolean
  readonly isInTransaction: () => boolean
  readonly runExclusive: <T>(work: () => Promise<T>) => Promise<T>
  readonly execProtocolRawStream: (
    message: Uint8Array,
    options: { readonly onRawData: (data: Uint8Array) => void }
  ) => Promise<void>
}

interface Job {
  readonly connection: Connection | undefined
  readonly batch: Buffer
  /** Ends with Sync: unless in a transaction, others may run after it. */
  readonly whole: boolean
  readonly answer: (output: Buffer) => void
}

/** The one session, and who has it. */
export class Session {
  readonly engine: Engine
  private readonly connections = new Map<number, Connection>()
  private queue: Array<Job> = []
  private owner: Connection | undefined
  private running = false
  private failure: Error | undefined
  private ids = 0

  constructor(engine: Engine) {
    this.engine = engine
  }

  /** Something runs or holds a transaction open: it is alive, and a question would have to wait. */
  get busy(): boolean {
    return this.running || this.owner !== undefined
  }

  /** Why it can no longer be used. */
  get broken(): Error | undefined {
    return this.failure ?? (this.engine.closed ? new Error("the embedded database is closed") : undefined)
  }

  readonly dial = (): Duplex => {
    const connection: Connection = new Connection(this, ++this.ids)
    this.connections.set(connection.id, connection)
    return connection
  }

  submit(job: Job): void {
    this.queue.push(job)
    void this.drain()
  }

  /** A batch that still waits for the session is answered as canceled; one that runs blocks this thread anyway. */
  cancel(id: number): void {
    const connection = this.connections.get(id)
    const waiting = this.queue.filter((job) => job.connection === connection)
    if (connection === undefined || waiting.length === 0 || this.owner === connection) return
    this.queue = this.queue.filter((job) => job.connection !== connection)
    for (const job of waiting) job.answer(Protocol.canceled)
  }

  forget(connection: Connection): void {
    this.connections.delete(connection.id)
    this.queue = this.queue.filter((job) => job.connection !== connection)
    if (this.owner === connection && !this.running) this.abandon()
  }

  /** The owner died: what it left open is rolled back before anyone else gets the session. */
  private abandon(): void {
    this.owner = undefined
    if (!this.engine.isInTransaction()) return void this.drain()
    this.queue.unshift({ connection: undefined, batch: Protocol.rollback, whole: true, answer: () => {} })
    void this.drain()
  }

  private next(): Job | undefined {
    const index = this.owner === undefined ? 0 : this.queue.findIndex((job) => job.connection === this.owner)
    return index < 0 ? undefined : this.queue.splice(index, 1)[0]
  }

  private async drain(): Promise<void> {
    if (this.running) return
    this.running = true
    try {
      for (let job = this.next(); job !== undefined && this.broken === undefined; job = this.next()) {
        await this.run(job)
      }
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error))
    } finally {
      this.running = false
    }
    const { broken } = this
    if (broken !== undefined) { for (const connection of [...this.connections.values()]) connection.destroy(broken) }
  }

  private async run(job: Job): Promise<void> {
    const output: Array<Buffer> = []
    await this.engine.runExclusive(() =>
      this.engine.execProtocolRawStream(job.batch, { onRawData: (data) => void output.push(Buffer.from(data)) })
    )
    const open = this.engine.isInTransaction()
    this.owner = open || !job.whole ? job.connection : undefined
    job.answer(Buffer.concat(output))
    if (job.connection?.destroyed === true && this.owner === job.connection) this.abandon()
  }
}

class Connection extends Duplex {
  readonly id: number
  private readonly session: Session
  private received: Buffer = Buffer.alloc(0)
  private batch: Array<Buffer> = []
  private started = false

  constructor(session: Session, id: number) {
    super({ allowHalfOpen: false })
    this.session = session
    this.id = id
  }

  // Answers are pushed whole, when they are there.
  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk])
    for (
      let length = Protocol.messageLength(this.received, this.started);
      length !== undefined && !this.destroyed;
      length = Protocol.messageLength(this.received, this.started)
    ) {
      const message = this.received.subarray(0, length)
      this.received = this.received.subarray(length)
      if (this.started) this.collect(message)
      else this.start(message)
    }
    done()
  }

  override _final(done: () => void): void {
    this.push(null)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.session.forget(this)
    done(error)
  }

  private start(message: Buffer): void {
    const code = message.readInt32BE(4)
    if (code === Protocol.sslCode) {
      this.push("N")
      return
    }
    if (code === Protocol.cancelCode) {
      this.session.cancel(message.readInt32BE(8))
      this.push(null)
      return
    }
    this.started = true
    this.send(Buffer.from(message), true, (answer) => Protocol.withKey(answer, this.id))
  }

  private collect(message: Buffer): void {
    const boundary = Protocol.boundary(message[0] as number)
    if (boundary === "terminate") {
      this.push(null)
      this.end()
      return
    }
    this.batch.push(message)
    if (boundary === "none") return
    const batch = Buffer.concat(this.batch)
    this.batch = []
    this.send(batch, boundary === "end", (answer) => answer)
  }

  private send(batch: Buffer, whole: boolean, edit: (answer: Buffer) => Buffer): void {
    this.session.submit({
      connection: this,
      batch,
      whole,
      answer: (output) => {
        if (!this.destroyed) this.push(edit(output))
      }
    })
  }
}
