// One timer for all transactions: nearly all of them end before their time-out, and a fiber and a timer for each would be
// a good part of what a transaction costs.
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { millisOf } from "../../resilience/internal/monotonic.ts"

/** What is to happen at a time, unless it is taken off before. */
export class Call {
  /** Monotonic milliseconds. */
  readonly at: number
  readonly ring: () => void
  previous: Call | undefined = undefined
  next: Call | undefined = undefined
  listed = false

  constructor(at: number, ring: () => void) {
    this.at = at
    this.ring = ring
  }
}

export class Alarm {
  private readonly clock: Clock.Clock
  // A linked list: the tables that a `Set` leaves behind hold on to what was in them, and the collector to all of that.
  private first: Call | undefined
  private sleeper: Fiber.Fiber<void> | undefined
  private wakeAt = Infinity
  private stopping = false

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  add(call: Call): void {
    if (call.at === Infinity) return
    call.listed = true
    call.next = this.first
    if (this.first !== undefined) this.first.previous = call
    this.first = call
    if (this.sleeper === undefined || call.at < this.wakeAt) this.sleepUntil(call.at)
  }

  /** Without calls the timer ends, though not before work that is ready has had its chance to add one. */
  remove(call: Call, by: Fiber.Fiber<unknown, unknown>): void {
    if (!call.listed) return
    this.unlink(call)
    if (this.first !== undefined || this.stopping) return
    this.stopping = true
    by.currentDispatcher.scheduleTask(() => {
      this.stopping = false
      if (this.first === undefined) this.stop()
    }, 0)
  }

  private unlink(call: Call): void {
    const { next, previous } = call
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next !== undefined) next.previous = previous
    call.previous = undefined
    call.next = undefined
    call.listed = false
  }

  private stop(): void {
    this.sleeper?.interruptUnsafe()
    this.sleeper = undefined
    this.wakeAt = Infinity
  }

  private sleepUntil(at: number): void {
    this.stop()
    this.wakeAt = at
    const sleeper = Effect.runFork(this.clock.sleep(Duration.millis(Math.max(0, at - millisOf(this.clock)))))
    this.sleeper = sleeper
    sleeper.addObserver((exit) => {
      if (Exit.isSuccess(exit) && sleeper === this.sleeper) this.wake(at)
    })
  }

  // What was slept for is due, also on a clock that has not moved meanwhile.
  private wake(target: number): void {
    this.stop()
    const now = Math.max(target, millisOf(this.clock))
    const due: Array<Call> = []
    let next = Infinity
    for (let call = this.first; call !== undefined; call = call.next) {
      if (call.at <= now) due.push(call)
      else next = Math.min(next, call.at)
    }
    for (const call of due) this.unlink(call)
    if (next < Infinity) this.sleepUntil(next)
    due.sort((one, other) => one.at - other.at)
    for (const call of due) call.ring()
  }
}

const alarms = new WeakMap<Clock.Clock, Alarm>()

export const of = (clock: Clock.Clock): Alarm => {
  const found = alarms.get(clock)
  if (found !== undefined) return found
  const alarm = new Alarm(clock)
  alarms.set(clock, alarm)
  return alarm
}
