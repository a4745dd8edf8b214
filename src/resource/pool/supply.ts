// Makes the connections of a pool, asks them, hands them to whoever waits first, and closes them: all in fibers of its own,
// so that a borrower can leave at any moment and nothing is lost.
//
// Places (see `shelf.ts`): a waiting borrower and its task share one; a task without a borrower has one; so does a
// connection while it is being closed. Never are more open than may be.
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { millisOf } from "../../resilience/internal/monotonic.ts"
import { reportUnhandled } from "../../resilience/internal/unhandled.ts"
import type { PoolExhaustedError } from "../database/errors.ts"
import type { Gate, Restore } from "../database/gate.ts"
import { bounded } from "../internal/bounded.ts"
import type { Limits } from "./options.ts"
import { type Entry, type Kind, settle, type Waiter } from "./parts.ts"
import { Shelf } from "./shelf.ts"

/** Up to a tenth of the lifetime less. */
const jitter = 0.1

/** A connection that breaks sooner, in milliseconds, is not replaced until it is asked for: the next would fare alike. */
const tooSoon = 1_000

export class Supply<C, E> {
  readonly shelf: Shelf<Entry<C>, Waiter<C, E>>
  closed = false
  private readonly limits: Limits
  private readonly kind: Kind<C, E>
  private readonly gate: Gate
  private readonly clock: Clock.Clock
  private readonly context: Context.Context<never>
  private readonly tasks = new Set<Fiber.Fiber<void>>()
  private readonly closings = new Set<Fiber.Fiber<void>>()
  private reaper: Fiber.Fiber<void> | undefined

  constructor(limits: Limits, kind: Kind<C, E>, gate: Gate, context: Context.Context<never>) {
    this.limits = limits
    this.kind = kind
    this.gate = gate
    this.clock = Context.get(context, Clock.Clock)
    this.context = Context.omit(Tracer.ParentSpan)(context) as Context.Context<never>
    this.shelf = new Shelf(limits)
  }

  now(): number {
    return millisOf(this.clock)
  }

  /** An idle connection that can be lent as it is. Spent ones above it are closed. */
  take(): Entry<C> | undefined {
    const { idle } = this.shelf
    const now = this.now()
    for (let top = idle.at(-1); top !== undefined; top = idle.at(-1)) {
      const fitness = this.shelf.fitness(top, now)
      if (fitness === "ask" && this.kind.validate !== undefined) return undefined
      if (fitness === "spent") {
        this.drop(top)
        continue
      }
      idle.pop()
      this.shelf.lend(top)
      return top
    }
    return undefined
  }

  /** From now on the waiter is served, fails, or leaves `shelf.waiters` by itself. */
  wait(waiter: Waiter<C, E>): void {
    this.shelf.waiters.add(waiter)
    this.startTask(this.prepare)
  }

  /** Whoever has a connection and a place gives both away. */
  put(entry: Entry<C>): void {
    const now = this.now()
    if (this.closed || this.shelf.fitness(entry, now) === "spent") return this.discard(entry)
    this.hand(entry, now)
  }

  /** As `put`, after the connection was reset. */
  putAfter(entry: Entry<C>, reset: Effect.Effect<unknown, unknown>): void {
    const task = Effect.uninterruptibleMask((restore) =>
      Effect.map(this.answers(restore, reset), (ok) => ok ? this.put(entry) : this.discard(entry))
    )
    this.inBackground(this.tasks, task)
  }

  /** Closes it, and gives its place away then. */
  discard(entry: Entry<C>): void {
    const closed = Effect.sync(() => this.vacate(!entry.broken || this.now() - entry.openedAt >= tooSoon))
    this.inBackground(this.closings, Effect.andThen(this.release(entry), closed))
  }

  /** Closes an idle one, which takes a place for as long as that lasts. */
  drop(entry: Entry<C>): void {
    this.gate.occupy()
    this.discard(entry)
  }

  /** Opens what is missing to the minimum. What fails is tried again with the next connection that is closed. */
  fill(): void {
    if (this.closed) return
    const room = this.limits.maxConnections - this.gate.inside() - this.shelf.idle.length
    for (let left = Math.min(this.shelf.missing, room); left > 0; left--) {
      this.gate.occupy()
      this.startTask(this.openNew)
    }
  }

  readonly purge: Effect.Effect<void> = Effect.suspend(() => {
    if (this.closed) return Effect.void
    this.shelf.generation++
    for (const entry of [...this.shelf.idle]) this.drop(entry)
    return Fiber.awaitAll([...this.closings])
  })

  /** Those who wait get `refusal`; what is open is closed, lent or not. */
  close(refusal: PoolExhaustedError): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.closed = true
      this.stopReaper()
      const waiters = [...this.shelf.waiters]
      // Their places go with the tasks.
      this.shelf.waiters.clear()
      for (const waiter of waiters) settle(waiter, Effect.fail(refusal))
      for (const task of this.tasks) task.interruptUnsafe()
      for (const entry of [...this.shelf.all]) this.inBackground(this.closings, this.release(entry))
      const ended = Effect.andThen(
        Fiber.awaitAll([...this.tasks]),
        Effect.suspend(() => Fiber.awaitAll([...this.closings]))
      )
      return Effect.asVoid(bounded(ended, this.limits.closeTimeout))
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Tasks
  // -------------------------------------------------------------------------------------------------------------------

  private inBackground(fibers: Set<Fiber.Fiber<void>>, effect: Effect.Effect<void>): void {
    const fiber = Effect.runForkWith(this.context)(effect)
    if (fiber.pollUnsafe() !== undefined) return
    fibers.add(fiber)
    fiber.addObserver(() => fibers.delete(fiber))
  }

  private startTask(task: Effect.Effect<void>): void {
    this.shelf.tasks++
    this.inBackground(this.tasks, task)
  }

  private readonly endTask: Effect.Effect<void> = Effect.sync(() => {
    this.shelf.tasks--
    this.gate.leave()
  })

  /** A connection for whoever waits first: an idle one that answers, or a new one. */
  private readonly prepare: Effect.Effect<void> = Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      if (this.closed) return this.endTask
      const entry = this.shelf.idle.pop()
      if (entry === undefined) {
        const [closing] = this.closings
        // What would have been lent is being closed: until then, one more would be one too many.
        const isFull = this.shelf.all.size + this.shelf.opening + this.closings.size >= this.limits.maxConnections
        return closing !== undefined && isFull
          ? Effect.andThen(Effect.exit(restore(Fiber.await(closing))), this.prepare)
          : this.open(restore)
      }
      switch (this.shelf.fitness(entry, this.now())) {
        case "spent":
          return Effect.andThen(this.release(entry), this.prepare)
        case "fit":
          return Effect.sync(() => this.deliver(entry))
        case "ask": {
          const { validate } = this.kind
          const question = validate === undefined ? Effect.void : Effect.suspend(() => validate(entry.connection))
          return Effect.flatMap(this.answers(restore, question), (ok) => {
            // Purged or closed while it was asked.
            const spent = !ok || this.shelf.fitness(entry, this.now()) === "spent" || !this.shelf.all.has(entry)
            if (spent) return Effect.andThen(this.release(entry), this.prepare)
            this.deliver(entry)
            return Effect.void
          })
        }
      }
    })
  )

  private readonly openNew: Effect.Effect<void> = Effect.uninterruptibleMask((restore) => this.open(restore))

  private open(restore: Restore): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      const { generation } = this.shelf
      const scope = Scope.makeUnsafe()
      const attempt = Effect.timeoutOption(
        Scope.provide(this.kind.acquire, scope),
        Duration.millis(this.limits.connectTimeout)
      )
      this.shelf.opening++
      return Effect.flatMap(Effect.exit(restore(attempt)), (exit): Effect.Effect<void> => {
        this.shelf.opening--
        if (Exit.isFailure(exit)) return Effect.andThen(this.closeScope(scope, exit), this.failed(exit.cause))
        if (Option.isNone(exit.value)) return Effect.andThen(this.closeScope(scope, Exit.void), this.again)
        const now = this.now()
        const entry: Entry<C> = {
          connection: exit.value.value,
          scope,
          openedAt: now,
          generation,
          expiresAt: now + this.limits.maxLifetime * (1 - jitter * fiber.getRef(Random.Random).nextDoubleUnsafe()),
          idleSince: now,
          broken: false
        }
        this.shelf.all.add(entry)
        if (this.closed) return Effect.andThen(this.release(entry), this.endTask)
        // Purged meanwhile: it may lead to what was to be left.
        if (generation !== this.shelf.generation) {
          return Effect.andThen(this.release(entry), Effect.andThen(this.again, Effect.sync(() => this.fill())))
        }
        this.deliver(entry)
        return Effect.void
      })
    })
  }

  /** After an attempt that came to nothing. */
  private readonly again: Effect.Effect<void> = Effect.suspend(() =>
    this.shelf.waiters.size > 0 ? this.prepare : this.endTask
  )

  private failed(cause: Cause.Cause<E>): Effect.Effect<void> {
    return Effect.andThen(
      this.endTask,
      Effect.suspend(() => {
        const waiter = this.shelf.wanting ? this.shelf.nextWaiter() : undefined
        if (waiter !== undefined) settle(waiter, Effect.failCause(cause))
        return waiter !== undefined || this.closed
          ? Effect.void
          : reportUnhandled(`the pool "${this.limits.name}" could not open a connection`, cause)
      })
    )
  }

  private deliver(entry: Entry<C>): void {
    this.shelf.tasks--
    this.hand(entry, this.now())
  }

  private hand(entry: Entry<C>, now: number): void {
    entry.idleSince = now
    const waiter = this.shelf.serve(entry)
    // Its place is now that of the connection; the place of whoever hands it over is that of the waiter's task, if it runs.
    if (waiter !== undefined) return settle(waiter, Effect.void)
    this.shelf.idle.push(entry)
    this.gate.leave()
    this.startReaper()
  }

  private answers(restore: Restore, question: Effect.Effect<unknown, unknown>): Effect.Effect<boolean> {
    const inTime = Effect.timeoutOption(question, Duration.millis(this.limits.validationTimeout))
    return Effect.map(
      Effect.exit(restore(inTime)),
      (exit) => Exit.isSuccess(exit) && Option.isSome(exit.value) && exit.value.value !== false
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Closing
  // -------------------------------------------------------------------------------------------------------------------

  /** From this moment on it is not open any more; the effect closes it, once. */
  private release(entry: Entry<C>): Effect.Effect<void> {
    return this.shelf.remove(entry) ? this.closeScope(entry.scope, Exit.void) : Effect.void
  }

  private closeScope(scope: Scope.Closeable, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    const { closeTimeout, name } = this.limits
    return Effect.flatMap(bounded(Effect.exit(Scope.close(scope, exit)), closeTimeout), (closed) => {
      if (Option.isNone(closed)) {
        return Effect.logWarning(`a connection of the pool "${name}" did not close within ${closeTimeout} ms`)
      }
      return Exit.isFailure(closed.value)
        ? reportUnhandled(`a connection of the pool "${name}" did not close`, closed.value.cause)
        : Effect.void
    })
  }

  private vacate(refill: boolean): void {
    this.gate.leave()
    if (!this.shelf.canShrink) this.stopReaper()
    if (refill) this.fill()
  }

  /** Runs while an idle connection is above the minimum, and looks when the first of them will have been idle for too long. */
  private readonly reap: Effect.Effect<void> = Effect.suspend(() => {
    let left = this.shelf.untilIdle(this.now())
    for (; left !== undefined && left <= 0; left = this.shelf.untilIdle(this.now())) this.drop(this.shelf.idle[0]!)
    if (left === undefined) {
      this.reaper = undefined
      return Effect.void
    }
    return Effect.andThen(Effect.sleep(Duration.millis(Math.max(1, Math.ceil(left)))), this.reap)
  })

  private startReaper(): void {
    if (this.reaper !== undefined || !this.shelf.canShrink || this.limits.idleTimeout === Infinity) return
    const fiber = Effect.runForkWith(this.context)(this.reap)
    if (fiber.pollUnsafe() === undefined) this.reaper = fiber
  }

  private stopReaper(): void {
    this.reaper?.interruptUnsafe()
    this.reaper = undefined
  }
}
