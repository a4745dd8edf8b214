import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { Algorithm } from "./Algorithm.ts"
import { KeyTable } from "./keyTable.ts"
import { makeRows, type Rows } from "./rows.ts"
import { type Answer, RateLimiterStore, type Request } from "./Store.ts"

/** Monotonic time in whole microseconds. */
export const nowMicros = (fiber: Fiber.Fiber<unknown, unknown>): number =>
  // Rounded, not cut: past 104 days the nanoseconds are no longer exact as a number, and a whole microsecond would be cut.
  Math.round(Number(fiber.getRef(Clock.Clock).monotonicTimeNanosUnsafe()) / 1000)

/** The states of one limiter in this process. */
export interface Memory {
  readonly size: number
  /** Takes the cost and answers 0, or answers the wait and changes nothing. */
  tryTake(key: string, now: number, cost: number): number
  look(key: string, now: number, cost: number): Answer
  refund(key: string, now: number, cost: number, takenAt: number): void
}

/** One state, whatever the key. */
class One implements Memory {
  readonly size = 1
  private readonly rows: Rows

  constructor(algorithm: Algorithm) {
    this.rows = makeRows(algorithm, 1)
  }

  tryTake(_key: string, now: number, cost: number): number {
    const wait = this.rows.wait(0, now, cost)
    if (wait === 0) this.rows.take(0, now, cost)
    return wait
  }

  look(_key: string, now: number, cost: number): Answer {
    const { rows } = this
    return { wait: rows.wait(0, now, cost), remaining: rows.remaining(0, now), reset: rows.reset(0, now), at: now }
  }

  refund(_key: string, now: number, cost: number, takenAt: number): void {
    this.rows.refund(0, now, cost, takenAt)
  }
}

const FIRST_ROOM = 16

/** A state for each key, for at most `maxKeys` keys. */
class Many implements Memory {
  private readonly algorithm: Algorithm
  private readonly rows: Rows
  private readonly table: KeyTable

  constructor(algorithm: Algorithm, maxKeys: number) {
    const room = Math.min(FIRST_ROOM, maxKeys)
    this.algorithm = algorithm
    this.rows = makeRows(algorithm, room)
    this.table = new KeyTable(this.rows, room, maxKeys)
  }

  get size(): number {
    return this.table.size
  }

  tryTake(key: string, now: number, cost: number): number {
    // A call that can never pass must not make room for itself.
    if (cost > this.algorithm.capacity) return Infinity
    const row = this.table.use(key, now)
    const wait = this.rows.wait(row, now, cost)
    if (wait === 0) this.rows.take(row, now, cost)
    return wait
  }

  look(key: string, now: number, cost: number): Answer {
    const { algorithm, rows, table } = this
    const row = table.find(key)
    return row === undefined
      ? { wait: cost > algorithm.capacity ? Infinity : 0, remaining: algorithm.capacity, reset: 0, at: now }
      : { wait: rows.wait(row, now, cost), remaining: rows.remaining(row, now), reset: rows.reset(row, now), at: now }
  }

  refund(key: string, now: number, cost: number, takenAt: number): void {
    const row = this.table.find(key)
    if (row !== undefined) this.rows.refund(row, now, cost, takenAt)
  }
}

export const makeOne = (algorithm: Algorithm): Memory => new One(algorithm)

export const makeMany = (algorithm: Algorithm, maxKeys: number): Memory => new Many(algorithm, maxKeys)

/** A store in this process, for tests and for programs that run once. At most `maxKeys` keys a limiter. */
export const layerStoreMemory = (options?: { readonly maxKeys?: number | undefined }): Layer.Layer<RateLimiterStore> =>
  Layer.sync(RateLimiterStore, () => {
    const limiters = new Map<string, Memory>()
    const on = <A>(request: Request, f: (memory: Memory, now: number) => A): Effect.Effect<A> =>
      Effect.withFiber((fiber) => {
        const id = `${request.algorithm._tag}:${request.name}`
        let memory = limiters.get(id)
        if (memory === undefined) limiters.set(id, memory = makeMany(request.algorithm, options?.maxKeys ?? 100_000))
        return Effect.succeed(f(memory, nowMicros(fiber)))
      })
    return RateLimiterStore.of({
      consume: (request) =>
        on(request, (memory, now) => {
          const wait = memory.tryTake(request.key, now, request.cost)
          return { ...memory.look(request.key, now, request.cost), wait }
        }),
      peek: (request) => on(request, (memory, now) => memory.look(request.key, now, request.cost)),
      refund: (request, takenAt) => on(request, (memory, now) => memory.refund(request.key, now, request.cost, takenAt))
    })
  })
