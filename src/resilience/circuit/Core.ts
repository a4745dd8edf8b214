import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PubSub from "effect/PubSub"
import * as Random from "effect/Random"
import type * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { monotonicMillis } from "../internal/monotonic.ts"
import * as Outcome from "../Outcome.ts"
import { type Cells, unknownTime } from "./Cells.ts"
import type { Closed } from "./Circuit.ts"
import {
  admittedShare,
  type Circuit,
  close,
  type ClosedRecovery,
  countProbe,
  fresh,
  HalfOpen,
  Manual,
  type ManualMode,
  Open,
  open,
  type Probe,
  type Settings,
  takeProbe
} from "./Circuit.ts"
import type { AnyFiber, Driver, Metrics, State, Transition } from "./Driver.ts"
import { CircuitBreakerOpenError } from "./OpenError.ts"
import { openTimes, startAfter } from "./OpenTimes.ts"
import { load, save, type Snapshot } from "./Snapshot.ts"
import { emptyMemory, readsClock, record, slowMillis } from "./TripRule.ts"
import { stateOf, tagOf, windowOf } from "./View.ts"

/** Options of a breaker, checked and in milliseconds. */
export interface CoreOptions {
  readonly name: string
  readonly settings: Settings
  readonly openTime: number | Schedule.Schedule<unknown, number>
  readonly maxRetryAfterMillis: number
  readonly classify: Outcome.Classify
  readonly cells: Cells
  /** Are the keys those of the user (or is there one circuit under an empty key)? */
  readonly keyed: boolean
}

/** Transitions that a listener may lag behind before it misses the oldest. */
const transitionBuffer = 128

/** The circuits of this process: `Circuit` moved by the calls of fibers. */
export class Core implements Driver {
  readonly name: string
  private readonly options: CoreOptions
  private readonly settings: Settings
  private readonly cells: Cells
  private readonly pubsub: PubSub.PubSub<Transition>
  /** Is the time needed when a call starts, and when a good one ends? */
  private readonly timesCalls: boolean
  private readonly timesResults: boolean
  private readonly slowMillis: number
  private generation = 0
  private lastMillis = 0
  private lastRetryAfter = Duration.zero
  private readonly total = { successes: 0, failures: 0, slow: 0, rejections: 0, openings: 0 }

  constructor(options: CoreOptions, pubsub: PubSub.PubSub<Transition>) {
    this.name = options.name
    this.options = options
    this.settings = options.settings
    this.cells = options.cells
    this.pubsub = pubsub
    this.timesCalls = Number.isFinite(slowMillis(options.settings.rule))
    this.timesResults = readsClock(options.settings.rule)
    this.slowMillis = slowMillis(options.settings.rule)
  }

  static readonly make = (options: CoreOptions): Effect.Effect<Core> =>
    Effect.map(PubSub.sliding<Transition>(transitionBuffer), (pubsub) => new Core(options, pubsub))

  run<A, E, R>(
    key: string,
    self: Effect.Effect<A, E, R>,
    classify: Outcome.Classify<A, E> = this.options.classify
  ): Effect.Effect<A, E | CircuitBreakerOpenError, R> {
    return Effect.withFiber((fiber): Effect.Effect<A, E | CircuitBreakerOpenError, R> => {
      const generation = this.enter(key)
      if (generation < 0) return this.runNotClosed(key, self, classify, fiber)
      const startedAt = this.startTime(fiber)
      return Effect.onExitPrimitive(self, (exit) => this.leave(key, generation, startedAt, exit, classify, fiber), true)
    })
  }

  enter(key: string): number {
    const circuit = this.cells.get(key, unknownTime)
    if (circuit._tag !== "Closed") return -1
    return circuit.recovery === undefined || !circuit.recovery.ramping ? circuit.generation : -1
  }

  startTime(fiber: AnyFiber): number {
    return this.timesCalls ? monotonicMillis(fiber) : 0
  }

  readonly transitions: Stream.Stream<Transition> = Stream.suspend(() => Stream.fromPubSub(this.pubsub))

  state(key: string): Effect.Effect<State> {
    return this.read(key, (circuit, now) => stateOf(this.settings, circuit, now))
  }

  metrics(key: string): Effect.Effect<Metrics> {
    return this.read(key, (circuit, now) => {
      return {
        window: windowOf(this.settings, circuit, now),
        total: { ...this.total },
        circuits: this.cells.size,
        store: "Process"
      }
    })
  }

  readonly states: Effect.Effect<ReadonlyMap<string, State>> = Effect.withFiber((fiber) => {
    const now = monotonicMillis(fiber)
    const states = new Map<string, State>()
    for (const [key, circuit] of this.cells.entries(now)) states.set(key, stateOf(this.settings, circuit, now))
    return Effect.succeed(states)
  })

  control(key: string, mode: ManualMode | "Automatic" | "Reset"): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      const now = monotonicMillis(fiber)
      const circuit = this.cells.get(key, now)
      const before = circuit._tag === "Manual" ? circuit.before : circuit
      if (mode === "Reset") {
        this.move(key, circuit, fresh(this.settings.rule, ++this.generation), now)
      } else if (mode === "Automatic") {
        this.move(key, circuit, before, now)
      } else if (tagOf(circuit) !== mode) {
        this.move(key, circuit, new Manual(++this.generation, mode, before, emptyMemory(this.settings.rule)), now)
      }
      return Effect.void
    })
  }

  snapshot(key: string): Effect.Effect<Snapshot> {
    return this.read(
      key,
      (circuit, now, fiber) =>
        save(this.settings.rule, circuit, now, fiber.getRef(Clock.Clock).currentTimeMillisUnsafe())
    )
  }

  restore(key: string, snapshot: Snapshot): Effect.Effect<void> {
    return Effect.withFiber((fiber) => {
      const now = monotonicMillis(fiber)
      const times = openTimes(this.options.openTime, fiber.context)
      const wallNow = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
      const generation = () => ++this.generation
      const circuit = load(this.settings, snapshot, generation, now, wallNow, (n) => startAfter(times, n))
      this.move(key, this.cells.get(key, now), circuit, now)
      return Effect.void
    })
  }

  /** What the closed circuit does not admit at once: rejects it, runs it uncounted, or runs it as a probe. */
  runNotClosed<A, E, R>(
    key: string,
    self: Effect.Effect<A, E, R>,
    classify: Outcome.Classify<A, E> = this.options.classify,
    fiber: AnyFiber
  ): Effect.Effect<A, E | CircuitBreakerOpenError, R> {
    const circuit = this.cells.get(key, unknownTime)
    if (circuit._tag === "Closed") {
      const { generation, recovery } = circuit
      if (recovery !== undefined && recovery.ramping && !this.rampAdmits(recovery, fiber)) {
        return this.reject(key, "RampingUp", undefined)
      }
      const startedAt = this.startTime(fiber)
      return Effect.onExitPrimitive(self, (exit) => this.leave(key, generation, startedAt, exit, classify, fiber), true)
    }
    if (circuit._tag === "Manual") {
      if (circuit.mode === "Disabled") return self
      if (circuit.mode === "ForcedOpen") return this.reject(key, "ForcedOpen", undefined)
      const { generation } = circuit
      const startedAt = this.startTime(fiber)
      return Effect.onExitPrimitive(self, (exit) => this.leave(key, generation, startedAt, exit, classify, fiber), true)
    }
    if (circuit._tag === "Open") {
      const now = monotonicMillis(fiber)
      if (now < circuit.until) return this.reject(key, "Open", circuit.until - now)
    }
    // A place is taken where no interruption can come between taking it and the finalizer that gives it back.
    return Effect.uninterruptibleMask((restore) => {
      const now = monotonicMillis(fiber)
      const halfOpen = this.halfOpen(key, now)
      if (halfOpen === undefined) return restore(this.run(key, self, classify))
      const probe = takeProbe(this.settings, halfOpen, now)
      if (probe === undefined) return this.reject(key, "HalfOpen", undefined)
      return Effect.onExitPrimitive(
        restore(self),
        (exit) => this.settleProbe(key, halfOpen, probe, now, exit, classify, fiber),
        true
      )
    })
  }

  /** The half-open circuit of a key, from open when its time is over; undefined when another state stands now. */
  private halfOpen(key: string, now: number): HalfOpen | undefined {
    const circuit = this.cells.get(key, now)
    if (circuit._tag === "HalfOpen") return circuit
    if (circuit._tag !== "Open" || now < circuit.until) return undefined
    const next = new HalfOpen(++this.generation, circuit.recovery)
    this.move(key, circuit, next, now)
    return next
  }

  /** Counts a call that was admitted by a closed or a metrics-only circuit. */
  leave<A, E>(
    key: string,
    generation: number,
    startedAt: number,
    exit: Exit.Exit<A, E>,
    classify: Outcome.Classify<A, E> = this.options.classify,
    fiber: AnyFiber
  ): undefined {
    const outcome = Outcome.isInterruption(exit) ? Outcome.ignored : classify(exit)
    if (outcome._tag === "Ignored") return
    const failed = outcome._tag === "Failure"
    const now = failed || this.timesResults ? monotonicMillis(fiber) : unknownTime
    const circuit = this.cells.get(key, now)
    if (circuit.generation !== generation) return
    if (circuit._tag !== "Closed" && circuit._tag !== "Manual") return
    const slow = now - startedAt >= this.slowMillis
    this.count(failed, slow)
    const counting = circuit === this.cells.unstored ? this.store(key, failed, fiber) : circuit
    if (counting === undefined) return
    const trips = record(this.settings.rule, counting, failed, slow, now)
    if (trips && counting._tag === "Closed") this.open(key, counting, outcome, now, fiber)
  }

  /** Gives back a probe's place and counts its result. */
  private settleProbe<A, E>(
    key: string,
    halfOpen: HalfOpen,
    probe: Probe,
    startedAt: number,
    exit: Exit.Exit<A, E>,
    classify: Outcome.Classify<A, E>,
    fiber: AnyFiber
  ): undefined {
    if (!halfOpen.probes.delete(probe)) return
    const outcome = Outcome.isInterruption(exit) ? Outcome.ignored : classify(exit)
    const now = monotonicMillis(fiber)
    if (outcome._tag === "Ignored" || this.cells.get(key, now) !== halfOpen) return
    const failed = outcome._tag === "Failure"
    const slow = now - startedAt >= this.slowMillis
    this.count(failed, slow)
    switch (countProbe(this.settings, halfOpen, failed || slow)) {
      case "open":
        return this.open(key, halfOpen, outcome, now, fiber)
      case "close":
        return this.move(key, halfOpen, close(this.settings, halfOpen, ++this.generation, now), now)
      case "stay":
        return
    }
  }

  private open(
    key: string,
    from: Closed | HalfOpen,
    outcome: Outcome.Outcome,
    now: number,
    fiber: AnyFiber
  ): undefined {
    const hint = outcome._tag === "Failure" && outcome.retryAfter !== undefined
      ? Math.min(Duration.toMillis(outcome.retryAfter), this.options.maxRetryAfterMillis)
      : 0
    this.total.openings++
    const times = openTimes(this.options.openTime, fiber.context)
    this.move(key, from, open(from, ++this.generation, now, times, hint), now)
  }

  /** The one place where a circuit is replaced by another. */
  private move(key: string, from: Circuit, to: Circuit, now: number): undefined {
    if (from === to) return
    this.cells.set(key, to, now)
    if (tagOf(from) === tagOf(to)) return
    const transition: Transition = {
      name: this.name,
      ...(this.options.keyed ? { key } : undefined),
      from: tagOf(from),
      to: tagOf(to),
      ...(to._tag === "Open" ? { retryAfter: Duration.millis(Math.max(0, to.until - now)) } : undefined)
    }
    this.publish(transition)
  }

  publish(transition: Transition): void {
    if (!PubSub.publishUnsafe(this.pubsub, transition)) {
      // Sliding, done by hand because a transition is one synchronous step: the oldest makes room.
      this.pubsub.pubsub.slide()
      PubSub.publishUnsafe(this.pubsub, transition)
    }
  }

  isManual(key: string, now: number): boolean {
    return this.cells.peek(key, now)._tag === "Manual"
  }

  /**
   * Takes over what the store of a fleet says of a circuit, without a transition: open for so many milliseconds, or
   * letting calls through.
   */
  mirror(key: string, openMillis: number | undefined, fiber: AnyFiber): void {
    const now = monotonicMillis(fiber)
    const circuit = this.cells.peek(key, now)
    if (circuit._tag === "Manual") return
    if (openMillis === undefined) {
      if (circuit._tag !== "Closed") this.cells.set(key, fresh(this.settings.rule, ++this.generation), now)
      return
    }
    const backoff = openTimes(this.options.openTime, fiber.context).start()
    this.cells.set(
      key,
      new Open(++this.generation, now + openMillis, { openings: 1, openMillis, backoff }),
      now
    )
  }

  /** A circuit of its own for a key that had none, unless it has nothing to remember. */
  private store(key: string, failed: boolean, fiber: AnyFiber): Closed | undefined {
    if (!failed && this.settings.rule._tag === "Consecutive") return undefined
    const circuit = fresh(this.settings.rule, 0)
    this.cells.set(key, circuit, monotonicMillis(fiber))
    return circuit
  }

  count(failed: boolean, slow: boolean): void {
    if (failed) this.total.failures++
    else this.total.successes++
    if (slow) this.total.slow++
  }

  private rampAdmits(recovery: ClosedRecovery, fiber: AnyFiber): boolean {
    const share = admittedShare(this.settings, recovery, monotonicMillis(fiber))
    return share >= 1 || fiber.getRef(Random.Random).nextDoubleUnsafe() < share
  }

  reject(
    key: string,
    state: CircuitBreakerOpenError["state"],
    millis: number | undefined
  ): Effect.Effect<never, CircuitBreakerOpenError> {
    this.total.rejections++
    return Exit.fail(
      new CircuitBreakerOpenError({
        strategy: this.name,
        key: this.options.keyed ? key : undefined,
        retryAfter: millis === undefined ? undefined : this.retryAfter(millis),
        state
      })
    )
  }

  /** In whole milliseconds, never early. Rejections come in bursts, and those of one millisecond share the duration. */
  private retryAfter(millis: number): Duration.Duration {
    const whole = Math.ceil(millis)
    if (whole !== this.lastMillis) {
      this.lastMillis = whole
      this.lastRetryAfter = Duration.millis(whole)
    }
    return this.lastRetryAfter
  }

  private read<A>(key: string, f: (circuit: Circuit, now: number, fiber: AnyFiber) => A): Effect.Effect<A> {
    return Effect.withFiber((fiber) => {
      const now = monotonicMillis(fiber)
      return Effect.succeed(f(this.cells.peek(key, now), now, fiber))
    })
  }
}
