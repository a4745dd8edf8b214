/**
 * The states of a circuit and what may happen in each: values and total functions, the time passed in as milliseconds
 * of a monotonic clock.
 *
 *     closed --rule trips--> open --open time over--> half-open --enough successes--> closed
 *                             ^                           |
 *                             +---- enough failures ------+
 *
 * A transition makes a new value. What is counted while a state lasts (window, probes) is counted in place. A result is
 * fenced by the value it was admitted under: if another one stands now, the result changes nothing.
 */
import { emptyMemory, type Memory, type TripRule } from "./TripRule.ts"

/** What the machine needs to know of a breaker's options. */
export interface Settings {
  readonly rule: TripRule
  /** Probes in flight at a time. */
  readonly permitted: number
  /** Probes that have to succeed to close. */
  readonly successes: number
  /** Probes that have to fail to open again. */
  readonly failures: number
  /** How long a probe may take before another caller can have its place. */
  readonly leaseMillis: number
  /** After closing: how long the admitted share rises, and where it starts. Zero: all are admitted at once. */
  readonly rampMillis: number
  readonly rampFrom: number
}

/** Where a growing backoff stands. Only `OpenTimes` looks inside. */
export type Backoff = unknown

/** How long a circuit stays open, time after time. */
export interface OpenTimes {
  readonly start: () => Backoff
  /** Milliseconds of the next opening. */
  readonly next: (backoff: Backoff) => number
}

/** What a circuit remembers of having been open. */
export interface Recovery {
  /** Openings since the backoff last started over. */
  readonly openings: number
  /** How long it was last open. */
  readonly openMillis: number
  readonly backoff: Backoff
}

/** Calls run and are counted. One object of six words: there may be a hundred thousand of them. */
export class Closed {
  /** 0 for a circuit that never was anything but closed. */
  readonly generation: number
  memory: Memory
  readonly recovery: ClosedRecovery | undefined

  constructor(generation: number, memory: Memory, recovery: ClosedRecovery | undefined) {
    this.generation = generation
    this.memory = memory
    this.recovery = recovery
  }

  get _tag(): "Closed" {
    return "Closed"
  }
}

/** What a closed circuit remembers of having been open. */
export interface ClosedRecovery extends Recovery {
  readonly closedAt: number
  /** False as soon as the ramp-up was seen to be over, so that the clock is left alone. */
  ramping: boolean
}

/** Calls are rejected until `until`. */
export class Open {
  readonly generation: number
  readonly until: number
  readonly recovery: Recovery

  constructor(generation: number, until: number, recovery: Recovery) {
    this.generation = generation
    this.until = until
    this.recovery = recovery
  }

  get _tag(): "Open" {
    return "Open"
  }
}

/** The place that a probe holds. */
export interface Probe {
  readonly expires: number
}

/** A few calls run as probes, the others are rejected. */
export class HalfOpen {
  readonly generation: number
  readonly recovery: Recovery
  /** Probes in flight, oldest first. All leases are equally long, so the first one expires first. */
  readonly probes = new Set<Probe>()
  successes = 0
  failures = 0

  constructor(generation: number, recovery: Recovery) {
    this.generation = generation
    this.recovery = recovery
  }

  get _tag(): "HalfOpen" {
    return "HalfOpen"
  }
}

/** A state that an operator chose. */
export type ManualMode = "ForcedOpen" | "Disabled" | "MetricsOnly"

/** An operator's state over the one that stood before, which comes back untouched. */
export class Manual {
  readonly generation: number
  readonly mode: ManualMode
  readonly before: Automatic
  /** Counts calls while `mode` is `MetricsOnly`. */
  memory: Memory

  constructor(generation: number, mode: ManualMode, before: Automatic, memory: Memory) {
    this.generation = generation
    this.mode = mode
    this.before = before
    this.memory = memory
  }

  get _tag(): "Manual" {
    return "Manual"
  }
}

/** A state that the circuit took by itself. */
export type Automatic = Closed | Open | HalfOpen

/** The state of a circuit. */
export type Circuit = Automatic | Manual

/** A closed circuit that remembers nothing. */
export const fresh = (rule: TripRule, generation: number): Closed =>
  new Closed(generation, emptyMemory(rule), undefined)

/**
 * Opens from closed or half-open. A backoff in progress goes on, unless the circuit has been closed for as long as it
 * was last open: then it starts over.
 */
export const open = (
  from: Closed | HalfOpen,
  generation: number,
  now: number,
  times: OpenTimes,
  retryAfterMillis: number
): Open => {
  const before = from.recovery
  const kept = before === undefined || (from._tag === "Closed" && now - from.recovery!.closedAt >= before.openMillis)
    ? undefined
    : before
  const backoff = kept === undefined ? times.start() : kept.backoff
  const openMillis = Math.max(times.next(backoff), retryAfterMillis)
  return new Open(generation, now + openMillis, { openings: (kept?.openings ?? 0) + 1, openMillis, backoff })
}

/** Closes after enough probes succeeded. */
export const close = (settings: Settings, from: HalfOpen, generation: number, now: number): Closed => {
  const { backoff, openMillis, openings } = from.recovery
  const ramping = settings.rampMillis > 0
  return new Closed(generation, emptyMemory(settings.rule), { openings, openMillis, backoff, closedAt: now, ramping })
}

/**
 * Takes a place for a probe, if there is one: a free one, or that of the oldest probe when its lease has run out. The
 * owner of a place that was taken over finds it gone, and its result changes nothing.
 */
export const takeProbe = (settings: Settings, circuit: HalfOpen, now: number): Probe | undefined => {
  const { probes } = circuit
  if (probes.size >= settings.permitted) {
    for (const oldest of probes) {
      if (now < oldest.expires) return undefined
      probes.delete(oldest)
      break
    }
  }
  const probe: Probe = { expires: now + settings.leaseMillis }
  probes.add(probe)
  return probe
}

/** Counts a probe's result and says what follows from it. */
export const countProbe = (settings: Settings, circuit: HalfOpen, failed: boolean): "close" | "open" | "stay" => {
  if (failed) return ++circuit.failures >= settings.failures ? "open" : "stay"
  return ++circuit.successes >= settings.successes ? "close" : "stay"
}

/** The share of calls that a closed circuit admits: rising from `rampFrom` to 1 after it has closed. */
export const admittedShare = (settings: Settings, recovery: ClosedRecovery, now: number): number => {
  if (!recovery.ramping) return 1
  const passed = (now - recovery.closedAt) / settings.rampMillis
  if (passed >= 1) {
    recovery.ramping = false
    return 1
  }
  return settings.rampFrom + (1 - settings.rampFrom) * Math.max(0, passed)
}
