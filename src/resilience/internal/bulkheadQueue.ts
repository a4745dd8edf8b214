import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"

/** A caller in the queue. */
export interface Waiter {
  readonly lane: Lane
  /** Where the caller is resumed: on its own dispatcher, never within the stack of the one who gave the permit. */
  readonly dispatcher: Scheduler.SchedulerDispatcher
  state: "queued" | "granted" | "gone"
  resume: ((effect: Effect.Effect<void>) => void) | undefined
  timer: Fiber.Fiber<void> | undefined
  previous: Waiter | undefined
  next: Waiter | undefined
}

/** The callers of one priority, first come first. */
interface Lane {
  readonly priority: number
  head: Waiter | undefined
  tail: Waiter | undefined
}

/**
 * Permits and the queue for them, without any effect.
 *
 * A freed permit is handed to the first waiter in the step that frees it, so it is never free while somebody waits:
 * nobody can barge in, no wake-up can be lost, and a caller that finds a permit need not look at the queue.
 */
export class PermitQueue {
  limit: number
  inUse = 0
  waiting = 0
  started = 0
  readonly maxQueue: number
  /** Called when the last permit has come back. */
  readonly onIdle: (() => void) | undefined
  // Highest priority first. Empty lanes are removed: there are never more lanes than waiters.
  private readonly lanes: Array<Lane> = []

  constructor(limit: number, maxQueue: number, onIdle?: (() => void) | undefined) {
    this.limit = limit
    this.maxQueue = maxQueue
    this.onIdle = onIdle
  }

  /** Takes a free permit. To be given back with `release`. */
  tryAcquire(): boolean {
    if (this.inUse >= this.limit) return false
    this.inUse++
    this.started++
    return true
  }

  release(): void {
    this.inUse--
    if (this.waiting > 0) this.grantFree()
    else if (this.inUse === 0) this.onIdle?.()
  }

  /** More permits wake waiters; with fewer, permits in use are not handed on until few enough are left. */
  resize(limit: number): void {
    this.limit = limit
    this.grantFree()
  }

  get isFull(): boolean {
    return this.waiting >= this.maxQueue
  }

  /** Queues a caller that found no permit. It has to `leave`, whatever becomes of it. */
  enqueue(priority: number, dispatcher: Scheduler.SchedulerDispatcher): Waiter {
    const lane = this.lane(priority)
    const waiter: Waiter = {
      lane,
      dispatcher,
      state: "queued",
      resume: undefined,
      timer: undefined,
      previous: lane.tail,
      next: undefined
    }
    if (lane.tail === undefined) lane.head = waiter
    else lane.tail.next = waiter
    lane.tail = waiter
    this.waiting++
    return waiter
  }

  /** Gives back what the waiter has: its permit, or its place in the queue. */
  leave(waiter: Waiter): void {
    const state = waiter.state
    if (state === "queued") this.remove(waiter)
    waiter.state = "gone"
    waiter.timer?.interruptUnsafe()
    if (state === "granted") this.release()
  }

  private grantFree(): void {
    while (this.waiting > 0 && this.inUse < this.limit) {
      const waiter = this.lanes[0]!.head!
      this.remove(waiter)
      this.inUse++
      this.started++
      waiter.state = "granted"
      waiter.timer?.interruptUnsafe()
      waiter.dispatcher.scheduleTask(() => waiter.resume?.(Effect.void), 0)
    }
  }

  private lane(priority: number): Lane {
    const lanes = this.lanes
    let at = 0
    while (at < lanes.length && lanes[at]!.priority > priority) at++
    const found = lanes[at]
    if (found !== undefined && found.priority === priority) return found
    const lane: Lane = { priority, head: undefined, tail: undefined }
    lanes.splice(at, 0, lane)
    return lane
  }

  private remove(waiter: Waiter): void {
    const { lane, next, previous } = waiter
    if (previous === undefined) lane.head = next
    else previous.next = next
    if (next === undefined) lane.tail = previous
    else next.previous = previous
    // A removed one that the collector has made old would keep all that came after it.
    waiter.previous = undefined
    waiter.next = undefined
    this.waiting--
    if (lane.head === undefined) this.lanes.splice(this.lanes.indexOf(lane), 1)
  }
}
