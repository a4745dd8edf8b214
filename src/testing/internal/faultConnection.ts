/** One proxied connection: the client's socket, the socket to the target, and a pipe each way. */
import * as net from "node:net"
import { type Direction, makePipe, type Mode, type Pipe, reset } from "./faultPipe.ts"

export interface ConnectionOptions {
  readonly client: net.Socket
  readonly target: { readonly host: string; readonly port: number }
  readonly mode: () => Mode
  readonly random: () => number
  readonly bufferBytes: number
  readonly onForwarded: (direction: Direction, bytes: number) => void
  /** Both sockets are closed. */
  readonly onClosed: () => void
}

export interface Connection {
  readonly client: net.Socket
  readonly modeChanged: () => void
  /** RST to both sides. */
  readonly reset: () => void
  /** Closes both sides and frees all that is held. */
  readonly destroy: () => void
}

export const makeConnection = (options: ConnectionOptions): Connection => {
  const { client } = options
  const pipes: Array<Pipe> = []
  let upstream: net.Socket | undefined

  const settle = () => {
    if (client.closed && (upstream === undefined || upstream.closed)) {
      for (const pipe of pipes) pipe.stop()
      options.onClosed()
    }
  }

  const all = (action: (socket: net.Socket) => void) => {
    for (const pipe of pipes) pipe.stop()
    action(client)
    if (upstream !== undefined) action(upstream)
  }

  const addPipe = (source: net.Socket, direction: Direction, to: () => net.Socket | undefined): Pipe => {
    const pipe = makePipe({
      source,
      direction,
      mode: options.mode,
      random: options.random,
      bufferBytes: options.bufferBytes,
      onForwarded: (bytes) => options.onForwarded(direction, bytes),
      onCut: () => {
        for (const each of pipes) each.stop()
        source.destroy()
        // An end and not a RST: the receiver gets exactly the bytes before the cut, on every machine.
        const receiver = to()
        receiver?.end(() => receiver.destroy())
      }
    })
    pipes.push(pipe)
    return pipe
  }

  const inbound = addPipe(client, "in", () => upstream)

  const connect = () => {
    const socket = net.connect({ ...options.target, allowHalfOpen: true, noDelay: true })
    upstream = socket
    // A failure to connect reaches the client through this pipe, as a reset.
    addPipe(socket, "out", () => client).attach(client)
    socket.on("close", settle)
    inbound.attach(socket)
  }

  client.setNoDelay(true)
  client.on("close", settle)
  // Behind a partition the target never hears of a new connection, so neither does ours until it heals.
  if (options.mode()._tag !== "BlackHole") connect()

  return {
    client,
    modeChanged: () => {
      if (upstream === undefined && options.mode()._tag !== "BlackHole") connect()
      for (const pipe of pipes) pipe.modeChanged()
    },
    reset: () => all(reset),
    destroy: () => all((socket) => socket.destroy())
  }
}
