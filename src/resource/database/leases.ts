// Who holds a connection, and for how long: so that one that is never given back can be told, with who took it.
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { CurrentBegin } from "./hooks.ts"

/** One connection that is lent. */
export interface Lease {
  /** Unix milliseconds. */
  readonly since: number
  /** Milliseconds. */
  readonly held: number
  /** Transaction, named functions and spans around the borrower, innermost first; `unnamed` without any. */
  readonly borrower: string
}

interface Held {
  readonly since: number
  readonly start: number
  readonly warnAt: number
  readonly borrower: string
  warned: boolean
}

const maxNames = 8

const borrowerOf = (fiber: Fiber.Fiber<unknown, unknown>): string => {
  const names: Array<string> = []
  const begun = fiber.getRef(CurrentBegin)
  if (begun !== undefined) names.push(`transaction "${begun.name}"`)
  let frame = fiber.getRef(References.CurrentStackFrame)
  for (; frame !== undefined && names.length < maxNames; frame = frame.parent) names.push(frame.name)
  let span = Context.getOrUndefined(fiber.context, Tracer.ParentSpan)
  while (span !== undefined && span._tag === "Span" && names.length < maxNames) {
    if (!names.includes(span.name)) names.push(span.name)
    span = span.parent._tag === "Some" ? span.parent.value : undefined
  }
  return names.length === 0 ? "unnamed" : names.join(" < ")
}

/** How long a connection may be held before a warning, by default: longer than a transaction lasts by default. */
export const LeakAfter: Context.Reference<Duration.Duration> = Context.Reference<Duration.Duration>(
  "seaworthy/Database/LeakAfter",
  { defaultValue: () => Duration.minutes(1) }
)

const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

export class Leases {
  private readonly all = new Set<Held>()
  private watcher: Fiber.Fiber<void> | undefined
  private wakeAt = Infinity
  private leaks = 0

  /** Counts a lease until the scope closes. */
  readonly track: Effect.Effect<void, never, Scope.Scope> = Effect.uninterruptible(
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.withFiber((fiber) => {
        const clock = fiber.getRef(Clock.Clock)
        const start = monotonic(clock)
        const held: Held = {
          since: clock.currentTimeMillisUnsafe(),
          start,
          warnAt: start + Duration.toMillis(fiber.getRef(LeakAfter)),
          borrower: borrowerOf(fiber),
          warned: false
        }
        this.all.add(held)
        if (this.watcher === undefined || held.warnAt < this.wakeAt) {
          this.watcher?.interruptUnsafe()
          const context = Context.omit(Tracer.ParentSpan)(fiber.context) as Context.Context<never>
          this.watcher = Effect.runForkWith(context)(this.watch)
        }
        return Scope.addFinalizer(scope, Effect.sync(() => this.end(held)))
      }))
  )

  /** The watcher runs only while something is lent. */
  private end(held: Held) {
    this.all.delete(held)
    if (this.all.size > 0) return
    this.watcher?.interruptUnsafe()
    this.watcher = undefined
  }

  private readonly watch: Effect.Effect<void> = Effect.clockWith((clock) =>
    Effect.suspend(() => {
      const now = monotonic(clock)
      const due: Array<Held> = []
      let next = Infinity
      for (const held of this.all) {
        if (held.warned) continue
        if (held.warnAt <= now) due.push(held)
        else next = Math.min(next, held.warnAt)
      }
      const warnings = Effect.forEach(due, (held) => {
        held.warned = true
        this.leaks++
        const seconds = Math.round((now - held.start) / 1_000)
        return Effect.logWarning(`a database connection has been held for ${seconds} s, by: ${held.borrower}`)
      }, { discard: true })
      this.wakeAt = next
      // With nothing left to warn of, it ends or is replaced by the next lease.
      return Effect.andThen(
        warnings,
        next === Infinity ? Effect.never : Effect.sleep(Duration.millis(Math.max(1, next - now)))
      )
    })
  ).pipe(Effect.forever)

  read(clock: Clock.Clock): ReadonlyArray<Lease> {
    const now = monotonic(clock)
    return Array.from(this.all, ({ borrower, since, start }) => ({ borrower, since, held: now - start }))
  }
  /** How many warnings there were. */
  get warned(): number {
    return this.leaks
  }
}
