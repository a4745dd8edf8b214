/** One direction of one proxied connection: a bounded queue between two sockets, emptied as the mode of the proxy allows. */
import type { Socket } from "node:net"
import { after, now } from "./realTime.ts"

/** "in": from the client to the target (requests). "out": from the target to the client (replies). */
export type Direction = "in" | "out"

export type Mode =
  | { readonly _tag: "Pass" }
  | { readonly _tag: "Latency"; readonly delayMillis: number; readonly jitterMillis: number }
  | { readonly _tag: "Bandwidth"; readonly bytesPerSecond: number }
  | { readonly _tag: "BlackHole" }
  | { readonly _tag: "CutAfter"; readonly bytes: number; readonly direction: Direction }
  | { readonly _tag: "Refuse" }
  | { readonly _tag: "Reset" }

interface Item {
  readonly kind: "bytes" | "end" | "reset"
  bytes: Buffer
  readonly arrivedAt: number
  /** This item's share of the jitter, drawn once, so that a new mode does not draw again. */
  readonly spread: number
}

/** When an item may leave. `freeAt` is when the narrow line has sent what went before. */
export const departure = (mode: Mode, arrivedAt: number, spread: number, freeAt: number): number => {
  switch (mode._tag) {
    case "BlackHole":
      return Infinity
    case "Latency":
      return arrivedAt + mode.delayMillis + spread * mode.jitterMillis
    case "Bandwidth":
      return Math.max(arrivedAt, freeAt)
    default:
      return arrivedAt
  }
}

/** A narrow line sends 20 pieces a second, so that a large chunk does not arrive as one burst. */
export const pieceBytes = (mode: Mode): number =>
  mode._tag === "Bandwidth" ? Math.max(1, Math.floor(mode.bytesPerSecond / 20)) : Infinity

/** How many more bytes may pass before the cut. */
export const allowance = (mode: Mode, direction: Direction): number =>
  mode._tag === "CutAfter" && mode.direction === direction ? mode.bytes : Infinity

/** RST, so that the peer reads "connection reset" and not an orderly end. */
export const reset = (socket: Socket): void => {
  if (socket.connecting) socket.destroy()
  else socket.resetAndDestroy()
}

export interface Pipe {
  /** Where the bytes go; until it is known they are held. */
  readonly attach: (target: Socket) => void
  /** The proxy has a new mode. */
  readonly modeChanged: () => void
  /** Forwards nothing any more. */
  readonly stop: () => void
}

export interface PipeOptions {
  readonly source: Socket
  readonly direction: Direction
  readonly mode: () => Mode
  readonly random: () => number
  /** From this many held bytes on, the source is not read. */
  readonly bufferBytes: number
  readonly onForwarded: (bytes: number) => void
  /** The allowance is used up. */
  readonly onCut: () => void
}

export const makePipe = (options: PipeOptions): Pipe => {
  const { source } = options
  const queue: Array<Item> = []
  let held = 0
  let target: Socket | undefined
  let blocked = false
  let stopped = false
  let freeAt = 0
  let remaining = allowance(options.mode(), options.direction)
  let cancelTimer = () => {}

  const stop = () => {
    stopped = true
    cancelTimer()
    queue.length = 0
    held = 0
  }

  const forward = (item: Item, to: Socket) => {
    const mode = options.mode()
    const piece = item.bytes.subarray(0, Math.min(item.bytes.length, pieceBytes(mode), remaining))
    item.bytes = item.bytes.subarray(piece.length)
    if (item.bytes.length === 0) queue.shift()
    held -= piece.length
    remaining -= piece.length
    if (mode._tag === "Bandwidth") freeAt = Math.max(freeAt, now()) + piece.length / mode.bytesPerSecond * 1000
    blocked = !to.write(piece)
    options.onForwarded(piece.length)
    if (remaining === 0) options.onCut()
  }

  const deliver = (item: Item, to: Socket) => {
    if (item.kind === "end") {
      queue.shift()
      to.end()
    } else if (item.kind === "reset") {
      queue.shift()
      reset(to)
    } else if (to.destroyed) {
      // Nobody is there any more: the sender learns it as from a real network.
      stop()
      reset(source)
    } else if (remaining === 0) {
      options.onCut()
    } else {
      forward(item, to)
    }
  }

  const next = (): Item | undefined => stopped || blocked ? undefined : queue[0]

  const pump = () => {
    cancelTimer()
    if (target !== undefined) {
      for (let item = next(); item !== undefined; item = next()) {
        const wait = departure(options.mode(), item.arrivedAt, item.spread, freeAt) - now()
        if (wait > 0) {
          if (wait < Infinity) cancelTimer = after(wait, pump)
          break
        }
        deliver(item, target)
      }
    }
    if (held < options.bufferBytes && source.isPaused()) source.resume()
  }

  const push = (kind: Item["kind"], bytes: Buffer) => {
    if (stopped) return
    queue.push({ kind, bytes, arrivedAt: now(), spread: options.random() })
    held += bytes.length
    if (held >= options.bufferBytes) source.pause()
    pump()
  }

  const nothing = Buffer.alloc(0)
  source.on("data", (chunk: Buffer) => push("bytes", chunk))
  source.on("end", () => push("end", nothing))
  source.on("error", () => push("reset", nothing))

  return {
    attach: (socket) => {
      target = socket
      socket.on("drain", () => {
        blocked = false
        pump()
      })
      pump()
    },
    modeChanged: () => {
      freeAt = 0
      remaining = allowance(options.mode(), options.direction)
      pump()
    },
    stop
  }
}
