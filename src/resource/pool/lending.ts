// Lends the connections of a pool: the door (who comes in, in what order, how long they wait) before the supply.
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { PoolExhaustedError } from "../database/errors.ts"
import * as Gate from "../database/gate.ts"
import { type Lease, Leases } from "../database/leases.ts"
import type { Limits } from "./options.ts"
import type { Entry, Kind, Waiter } from "./parts.ts"
import { Supply } from "./supply.ts"

export interface Gauges {
  readonly max: number
  readonly active: number
  readonly idle: number
  readonly waiting: number
}

export class Lending<C, E> {
  private readonly limits: Limits
  private readonly kind: Kind<C, E>
  private readonly gate: Gate.Gate
  private readonly supply: Supply<C, E>
  private readonly held: Leases
  /** Hears how acquiring went and how long it took. */
  private readonly record: (success: boolean, millis: number) => void

  constructor(
    limits: Limits,
    kind: Kind<C, E>,
    context: Context.Context<never>,
    record: (success: boolean, millis: number) => void
  ) {
    this.limits = limits
    this.kind = kind
    this.record = record
    this.gate = Gate.make({
      maxConnections: limits.maxConnections,
      maxWaiting: limits.maxWaiting,
      acquireTimeout: Duration.millis(limits.acquireTimeout),
      pool: limits.name
    })
    this.held = new Leases(`connection of the pool "${limits.name}"`, Duration.millis(limits.leakAfter))
    this.supply = new Supply(limits, kind, this.gate, context)
    this.supply.fill()
  }

  gauges(): Gauges {
    const { idle, lent, waiters } = this.supply.shelf
    return {
      max: this.limits.maxConnections,
      // Those whose connection is being made have their place.
      active: lent.size + waiters.size,
      idle: idle.length,
      waiting: this.gate.waiting()
    }
  }

  /** How many were warned of. */
  get leaks(): number {
    return this.held.warned
  }

  readonly leases: Effect.Effect<ReadonlyArray<Lease>> = Effect.clockWith((clock) =>
    Effect.sync(() => this.held.read(clock))
  )

  use<A, E2, R>(f: (connection: C) => Effect.Effect<A, E2, R>): Effect.Effect<A, E | E2 | PoolExhaustedError, R> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(this.borrow(restore), (entry) =>
        Effect.withFiber((fiber) => {
          const lease = this.held.begin(fiber)
          return Effect.onExitPrimitive(restore(Effect.suspend(() => f(entry.connection))), (exit) => {
            this.held.end(lease)
            this.giveBack(entry, exit)
            return undefined
          }, true)
        }))
    )
  }

  readonly reserve: Effect.Effect<C, E | PoolExhaustedError, Scope.Scope> = Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.scope,
      (scope) =>
        Effect.flatMap(this.borrow(restore), (entry) =>
          Effect.withFiber((fiber) => {
            const lease = this.held.begin(fiber)
            const giveBack = (exit: Exit.Exit<unknown, unknown>) =>
              Effect.sync(() => {
                this.held.end(lease)
                this.giveBack(entry, exit)
              })
            return Effect.as(Scope.addFinalizerExit(scope, giveBack), entry.connection)
          }))
    )
  )

  /** Closed now if idle, otherwise when it comes back. */
  invalidate(connection: C): void {
    const { all, idle } = this.supply.shelf
    for (const entry of all) {
      if (entry.connection !== connection) continue
      entry.broken = true
      if (idle.includes(entry)) this.supply.drop(entry)
      return
    }
  }

  get purge(): Effect.Effect<void> {
    return this.supply.purge
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.gate.close()
    this.held.close()
    return this.supply.close(this.gate.refuse("Closed"))
  })

  /** Runs where nothing interrupts: whoever gets one owes a `giveBack`. */
  private borrow(restore: Gate.Restore): Effect.Effect<Entry<C>, E | PoolExhaustedError> {
    return Effect.clockWith((clock: Clock.Clock) => {
      const start = clock.monotonicTimeNanosUnsafe()
      const millis = () => Number(clock.monotonicTimeNanosUnsafe() - start) / 1e6
      const entry = Effect.flatMap(this.gate.admit(restore), () => this.find(restore, millis))
      return Effect.onExitPrimitive(entry, (exit) => {
        if (Exit.isSuccess(exit) || !Exit.hasInterrupts(exit)) this.record(Exit.isSuccess(exit), millis())
        return undefined
      })
    })
  }

  private find(restore: Gate.Restore, waited: () => number): Effect.Effect<Entry<C>, E | PoolExhaustedError> {
    if (this.supply.closed) {
      this.gate.leave()
      return Effect.fail(this.gate.refuse("Closed"))
    }
    const entry = this.supply.take()
    return entry === undefined
      ? this.wait(restore, Math.max(0, this.limits.acquireTimeout - waited()))
      : Effect.succeed(entry)
  }

  /** For one that is made, or given back meanwhile. */
  private wait(restore: Gate.Restore, patience: number): Effect.Effect<Entry<C>, E | PoolExhaustedError> {
    const waiter: Waiter<C, E> = { entry: undefined, outcome: undefined, wake: undefined }
    // In the same step as the look at the shelf, so that nobody comes between.
    this.supply.wait(waiter)
    if (waiter.entry !== undefined) return Effect.succeed(waiter.entry)
    const served = Effect.callback<void, E | PoolExhaustedError>((resume) => {
      waiter.wake = resume
      if (waiter.outcome !== undefined) resume(waiter.outcome)
    })
    const settled = Effect.onExitPrimitive(
      restore(Effect.timeoutOption(served, Duration.millis(patience))),
      (exit) => {
        // Gave up: the place goes with a task, and what that makes is kept.
        if (this.supply.shelf.waiters.delete(waiter)) return undefined
        // Served at the very moment it was interrupted.
        if (waiter.entry !== undefined && Exit.isFailure(exit)) this.giveBack(waiter.entry, Exit.void)
        return undefined
      },
      true
    )
    return Effect.flatMap(settled, () =>
      waiter.entry === undefined
        ? Effect.fail(this.gate.refuse(this.supply.closed ? "Closed" : "AcquireTimeout"))
        : Effect.succeed(waiter.entry))
  }

  private giveBack(entry: Entry<C>, exit: Exit.Exit<unknown, unknown>): void {
    this.supply.shelf.lent.delete(entry)
    // Closed with the pool.
    if (this.supply.closed) return this.gate.leave()
    const { connection } = entry
    let reset: Effect.Effect<unknown, unknown> | undefined
    try {
      if (Exit.isFailure(exit) && this.kind.isBroken(exit.cause, connection)) entry.broken = true
      if (!entry.broken) reset = this.kind.reset(connection)
    } catch {
      // A callback of the user's: now nobody knows what state the connection is in.
      entry.broken = true
    }
    if (reset === undefined) this.supply.put(entry)
    else this.supply.putAfter(entry, reset)
  }
}
