import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"

/** What becomes of a question. */
export interface Handlers<A, E, B, E2> {
  readonly onExit: (exit: Exit.Exit<A, E>) => Effect.Effect<B, E2>
  readonly onTimeout: () => Effect.Effect<B, E2>
  /** Undoes an answer that comes after the time is up, or for a caller that is gone. */
  readonly tooLate: (answer: A, why: "timed-out" | "abandoned") => Effect.Effect<unknown, unknown>
}

interface Question {
  readonly until: number
  open: boolean
  readonly expire: () => void
  previous: Question | undefined
  next: Question | undefined
}

/** Open questions in the order in which their time is up, under one clock. One timer for all, and none without any. */
class Line {
  private readonly clock: Clock.Clock
  private readonly millis: number
  private head: Question | undefined = undefined
  private tail: Question | undefined = undefined
  private timer: Fiber.Fiber<void> | undefined = undefined
  private closing = false

  constructor(clock: Clock.Clock, millis: number) {
    this.clock = clock
    this.millis = millis
  }

  private now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }

  add(caller: Fiber.Fiber<unknown, unknown>, expire: () => void): Question {
    const question: Question = {
      until: this.now() + this.millis,
      open: true,
      expire,
      previous: this.tail,
      next: undefined
    }
    if (this.tail === undefined) this.head = question
    else this.tail.next = question
    this.tail = question
    if (this.timer === undefined) this.start(caller, question, this.millis)
    return question
  }

  remove(question: Question, dispatcher: Scheduler.SchedulerDispatcher): void {
    const { next, previous } = question
    question.open = false
    // A removed one that the collector has made old would keep all that came after it.
    question.previous = undefined
    question.next = undefined
    if (previous === undefined) this.head = next
    else previous.next = next
    if (next === undefined) this.tail = previous
    else next.previous = previous
    if (this.head === undefined && !this.closing) {
      this.closing = true
      // Whoever asks one question after the other does so before this runs, and goes on with the same timer.
      dispatcher.scheduleTask(() => {
        this.closing = false
        if (this.head !== undefined) return
        this.timer?.interruptUnsafe()
        this.timer = undefined
      }, 0)
    }
  }

  private start(caller: Fiber.Fiber<unknown, unknown>, first: Question, millis: number): void {
    const timer = Effect.runForkWith(caller.context)(this.clock.sleep(Duration.millis(millis)))
    this.timer = timer
    timer.addObserver((exit) => {
      if (Exit.isFailure(exit)) return
      this.timer = undefined
      // The timer was for this one, also if it came a little early.
      if (first.open) first.expire()
      const now = this.now()
      while (this.head !== undefined && this.head.until <= now) this.head.expire()
      if (this.head !== undefined && this.timer === undefined) this.start(caller, this.head, this.head.until - now)
    })
  }
}

/**
 * Asks something that may be far away, each question for `millis` at most. A caller that is interrupted leaves at once.
 *
 * The question itself goes on, for it cannot be called back: an answer that nobody waits for any more is undone.
 */
export class Questions {
  private readonly millis: number
  private readonly lines = new WeakMap<Clock.Clock, Line>()

  constructor(millis: number) {
    this.millis = millis
  }

  private line(clock: Clock.Clock): Line {
    let line = this.lines.get(clock)
    if (line === undefined) this.lines.set(clock, line = new Line(clock, this.millis))
    return line
  }

  ask<A, E, B, E2>(question: Effect.Effect<A, E>, handlers: Handlers<A, E, B, E2>): Effect.Effect<B, E2> {
    return Effect.callback<B, E2>((resume) => {
      const caller = Fiber.getCurrent()!
      const run = Effect.runForkWith(caller.context)
      const asking = run(question)
      const early = asking.pollUnsafe()
      if (early !== undefined) return resume(handlers.onExit(early))
      let state: "open" | "timed-out" | "abandoned" = "open"
      const line = this.millis === Infinity ? undefined : this.line(caller.getRef(Clock.Clock))
      const open = line?.add(caller, () => close("timed-out"))
      const close = (why: typeof state) => {
        state = why
        if (open !== undefined) line!.remove(open, caller.currentDispatcher)
        if (why === "timed-out") resume(handlers.onTimeout())
      }
      asking.addObserver((exit) => {
        if (state === "open") {
          if (open !== undefined) line!.remove(open, caller.currentDispatcher)
          resume(handlers.onExit(exit))
        } else if (Exit.isSuccess(exit)) {
          run(Effect.ignore(handlers.tooLate(exit.value, state)))
        }
      })
      return Effect.sync(() => close("abandoned"))
    })
  }
}
