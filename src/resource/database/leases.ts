// Who holds a connection, and for how long: so that one that is never given back can be told, with who took it.
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { millisOf } from "../../resilience/internal/monotonic.ts"
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

export interface Held {
  readonly since: number
  readonly start: number
  readonly warnAt: number
  /** Of who took it: the names are only put together when somebody wants to read them. */
  readonly context: Context.Context<never>
  warned: boolean
}

const maxNames = 8

const borrowerOf = (context: Context.Context<never>): string => {
  const names: Array<string> = []
  const begun = Context.get(context, CurrentBegin)
  if (begun !== undefined) names.push(`transaction "${begun.name}"`)
  let frame = Context.get(context, References.CurrentStackFrame)
  for (; frame !== undefined && names.length < maxNames; frame = frame.parent) names.push(frame.name)
  let span = Context.getOrUndefined(context, Tracer.ParentSpan)
  while (span !== undefined && span._tag === "Span" && names.length < maxNames) {
    if (!names.includes(span.name)) names.push(span.name)
    span = span.parent._tag === "Some" ? span.parent.value : undefined
  }
  return names.length === 0 ? "unnamed" : names.join(" < ")
}

/** By default, longer than a transaction lasts by default. */
const defaultLeakAfter = Duration.minutes(1)

/** Where it is provided, it wins over what the pool has from its settings. */
export const LeakAfter: Context.Reference<Duration.Duration> = Context.Reference<Duration.Duration>(
  "seaworthy/Database/LeakAfter",
  { defaultValue: () => defaultLeakAfter }
)

export class Leases {
  private readonly all = new Set<Held>()
  private watcher: Fiber.Fiber<void> | undefined
  private clock: Clock.Clock | undefined
  private wakeAt = Infinity
  private leaks = 0
  private readonly what: string
  /** How long a connection may be held before a warning, unless `LeakAfter` says otherwise to the borrower. */
  leakAfter: Duration.Duration

  constructor(what = "database connection", leakAfter = defaultLeakAfter) {
    this.what = what
    this.leakAfter = leakAfter
  }

  /** Counts a lease until the scope closes. */
  readonly track: Effect.Effect<void, never, Scope.Scope> = Effect.uninterruptible(
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.withFiber((fiber) => {
        const held = this.begin(fiber)
        return Scope.addFinalizer(scope, Effect.sync(() => this.end(held)))
      }))
  )

  /** Counts a lease of the fiber until `end`. */
  begin(fiber: Fiber.Fiber<unknown, unknown>): Held {
    const clock = fiber.getRef(Clock.Clock)
    const start = millisOf(clock)
    const limit = Context.getOrUndefined(fiber.context, LeakAfter) ?? this.leakAfter
    const held: Held = {
      since: clock.currentTimeMillisUnsafe(),
      start,
      warnAt: start + Duration.toMillis(limit),
      context: fiber.context as Context.Context<never>,
      warned: false
    }
    this.all.add(held)
    if (this.watcher === undefined || held.warnAt < this.wakeAt || clock !== this.clock) this.start(clock)
    return held
  }

  end(held: Held): void {
    this.all.delete(held)
  }

  /** Ends the watcher. Nothing is warned of any more until the next lease. */
  close(): void {
    this.watcher?.interruptUnsafe()
    this.watcher = undefined
  }

  // It outlives the leases by one look at most, since a fiber and a timer for each of them would cost more than the rest.
  private start(clock: Clock.Clock): void {
    this.close()
    this.clock = clock
    this.watcher = Effect.runForkWith(Context.make(Clock.Clock, clock))(this.watch(clock))
  }

  private watch(clock: Clock.Clock): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = millisOf(clock)
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
        const warning = `a ${this.what} has been held for ${seconds} s, by: ${borrowerOf(held.context)}`
        return Effect.provideContext(Effect.logWarning(warning), Context.omit(Tracer.ParentSpan)(held.context))
      }, { discard: true })
      this.wakeAt = next
      // With nothing left to warn of, the next lease starts another.
      if (next === Infinity) {
        this.watcher = undefined
        return warnings
      }
      const pause = Effect.sleep(Duration.millis(Math.max(1, next - now)))
      return Effect.flatMap(Effect.andThen(warnings, pause), () => this.watch(clock))
    })
  }

  read(clock: Clock.Clock): ReadonlyArray<Lease> {
    const now = millisOf(clock)
    return Array.from(this.all, ({ context, since, start }) => ({
      borrower: borrowerOf(context),
      since,
      held: now - start
    }))
  }
  /** How many warnings there were. */
  get warned(): number {
    return this.leaks
  }
}
