import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { PermitQueue } from "../internal/bulkheadQueue.ts"
import { queued, type Refusal } from "../internal/bulkheadWait.ts"
import type { Algorithm } from "./Algorithm.ts"
import * as B from "./bucket.ts"
import type { SourcedAnswer } from "./sources.ts"

/**
 * The callers that wait at one key. One of them has the turn: it alone sleeps and asks again; the others stand behind it,
 * first come, first served. Nobody holds a token while waiting, so an interrupted caller has nothing to give back.
 */
interface Turn {
  readonly queue: PermitQueue
  /** What all waiting callers cost together. */
  cost: number
  /**
   * While the caller that has the turn sleeps: what it costs, and when it expects to be admitted (microseconds of this
   * process).
   */
  head: { readonly cost: number; readonly readyAt: number } | undefined
  /** Lets the caller that has the turn ask again now. */
  poke: (() => void) | undefined
}

/** One call that is ready to wait. */
export interface Waiting<E> {
  readonly key: string
  readonly cost: number
  /** How long it may take, in milliseconds, and what sets that limit. */
  readonly budgetMillis: number
  readonly limitedBy: Refusal
  /** How long until it is admitted if nobody is before it, where that was asked; 0 asks when its turn comes. */
  readonly wait: number
  readonly now: (fiber: Fiber.Fiber<unknown, unknown>) => number
  /** Takes the cost, or answers how long to wait. */
  readonly attempt: Effect.Effect<SourcedAnswer, E>
  /** May the attempt be interrupted? Only where it gives back what it then took for nobody. */
  readonly interruptible: boolean
}

/**
 * How long after a caller of `headCost`, which waits, `cost` more units are admitted: for a bucket exactly, since it is
 * empty then; for windows at the least.
 */
export const backlog = (algorithm: Algorithm, headCost: number, cost: number): number => {
  if (algorithm._tag === "tokenBucket" || algorithm._tag === "gcra") {
    const { perMicro, perToken } = B.bucket(algorithm)
    return Math.ceil(cost * perToken / perMicro)
  }
  return Math.floor((headCost + cost - 1) / algorithm.limit) * algorithm.windowMicros
}

// A timer that ends at once when poked.
const sleep = (fiber: Fiber.Fiber<unknown, unknown>, turn: Turn, micros: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const millis = Math.ceil(micros / 1000)
    const timer = Effect.runForkWith(fiber.context)(fiber.getRef(Clock.Clock).sleep(Duration.millis(millis)))
    timer.addObserver((exit) => {
      if (Exit.isSuccess(exit)) resume(Effect.void)
    })
    const end = () => {
      turn.poke = undefined
      timer.interruptUnsafe()
    }
    turn.poke = () => {
      end()
      fiber.currentDispatcher.scheduleTask(() => resume(Effect.void), 0)
    }
    return Effect.sync(end)
  })

/** The waiting callers of one limiter. A key is in it only while somebody waits there. */
export class WaitingLine {
  private readonly algorithm: Algorithm
  private readonly maxQueue: number
  private readonly turns = new Map<string, Turn>()

  constructor(algorithm: Algorithm, maxQueue: number) {
    this.algorithm = algorithm
    this.maxQueue = maxQueue
  }

  get size(): number {
    let size = 0
    for (const { queue } of this.turns.values()) size += queue.waiting + queue.inUse
    return size
  }

  /** Does anybody wait at this key? Whoever comes then is behind, also with a cost that would fit. */
  has(key: string): boolean {
    return this.turns.size > 0 && this.turns.has(key)
  }

  /**
   * How long until a cost would be admitted behind those that wait, in microseconds. 0 where that is not known: between
   * two turns, or while a store has not answered.
   */
  estimate(key: string, now: number, cost: number): number {
    const turn = this.turns.get(key)
    if (turn?.head === undefined) return 0
    const { head } = turn
    return Math.max(0, head.readyAt - now) + backlog(this.algorithm, head.cost, turn.cost - head.cost + cost)
  }

  /** Lets the first in line at a key ask again, because something was given back. */
  poke(key: string): void {
    this.turns.get(key)?.poke?.()
  }

  /** Waits in line and takes the cost. */
  wait<E, E2>(
    waiting: Waiting<E>,
    refuse: (reason: Refusal, wait: number) => E2
  ): Effect.Effect<SourcedAnswer, E | E2> {
    const { attempt, budgetMillis, cost, key, limitedBy, now } = waiting
    return Effect.uninterruptibleMask((restore): Effect.Effect<SourcedAnswer, E | E2> => {
      const fiber = Fiber.getCurrent()!
      const until = now(fiber) + budgetMillis * 1000
      // From here to the place in the queue nothing yields: the turn is not gone before this caller is in it.
      const turn = this.turn(key)
      const ask: Effect.Effect<SourcedAnswer, E | E2> = Effect.flatMap(
        waiting.interruptible ? restore(attempt) : attempt,
        (answer): Effect.Effect<SourcedAnswer, E | E2> =>
          answer.wait === 0 ? Effect.succeed(answer) : pause(answer.wait)
      )
      const pause = (wait: number): Effect.Effect<SourcedAnswer, E | E2> => {
        const readyAt = now(fiber) + wait
        if (readyAt > until) return Effect.fail(refuse(limitedBy, wait))
        turn.head = { cost, readyAt }
        return Effect.flatMap(restore(sleep(fiber, turn, wait)), () => ask)
      }
      const endTurn = () => {
        turn.head = undefined
        turn.queue.release()
        return undefined
      }
      turn.cost += cost
      const place = { priority: 0, maxWaitMillis: budgetMillis }
      const askInTurn = () =>
        Effect.onExitPrimitive(ask, () => {
          turn.head = undefined
          return undefined
        }, true)
      const inTurn = turn.queue.tryAcquire()
        ? Effect.onExitPrimitive(waiting.wait > 0 ? pause(waiting.wait) : ask, endTurn, true)
        : queued(
          restore,
          turn.queue,
          place,
          askInTurn,
          (refusal) => refuse(refusal === "waited-too-long" ? limitedBy : refusal, this.estimate(key, now(fiber), 0))
        )
      return Effect.onExitPrimitive(inTurn, () => {
        turn.cost -= cost
        if (turn.queue.inUse === 0 && this.turns.get(key) === turn) this.turns.delete(key)
        return undefined
      }, true)
    })
  }

  private turn(key: string): Turn {
    const found = this.turns.get(key)
    if (found !== undefined) return found
    const turn: Turn = {
      // The caller that has the turn waits too.
      queue: new PermitQueue(1, this.maxQueue - 1),
      cost: 0,
      head: undefined,
      poke: undefined
    }
    this.turns.set(key, turn)
    return turn
  }
}
