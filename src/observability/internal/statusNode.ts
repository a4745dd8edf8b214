// The mutable cell behind a status node. Kept apart from the service so that reading and writing are plain functions.
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Quantile from "../Quantile.ts"
import type {
  Change,
  Counter,
  Health,
  NodeSnapshot,
  Operation,
  OperationSnapshot,
  PhaseRecord,
  RegisterOptions,
  StatusNode
} from "../Status.ts"

const maxNames = 64
const maxPhases = 64

export interface OperationCell extends Operation {
  readonly read: () => OperationSnapshot
}

export interface Cell {
  readonly id: string
  readonly options: RegisterOptions
  readonly clock: Clock.Clock
  readonly registered: number
  readonly origin: bigint
  live: boolean
  state: string
  health: Health
  wasReady: boolean
  since: number
  detail: string | undefined
  lastError: { readonly message: string; readonly at: number } | undefined
  heartbeat: number | undefined
  readonly counters: Map<string, Counter>
  readonly operations: Map<string, OperationCell>
  phases: Array<PhaseRecord>
}

export const make = (
  options: RegisterOptions,
  clock: Clock.Clock,
  { expected, origin }: { readonly expected: boolean; readonly origin: bigint }
): Cell => {
  const now = clock.currentTimeMillisUnsafe()
  return {
    id: options.id,
    options,
    clock,
    registered: now,
    origin,
    live: !expected,
    state: options.state ?? "pending",
    health: "unknown",
    wasReady: false,
    since: now,
    detail: undefined,
    lastError: undefined,
    heartbeat: undefined,
    counters: new Map(),
    operations: new Map(),
    phases: []
  }
}

/** Health follows the state's name; a node that was never ready is unknown unless it has failed for good. */
export const healthOf = (state: string, wasReady: boolean): Health => {
  switch (state) {
    case "ready":
      return "up"
    case "degraded":
      return "degraded"
    case "failed":
      return "down"
    default:
      return wasReady ? "down" : "unknown"
  }
}

/** Figures from outside: where they cannot be read, the rest of the tree still can. */
const given = (counters: RegisterOptions["counters"]): Readonly<Record<string, number>> => {
  try {
    return counters?.() ?? {}
  } catch {
    return {}
  }
}

export const snapshot = (cell: Cell): NodeSnapshot => ({
  id: cell.id,
  kind: cell.options.kind,
  parent: cell.options.parent,
  state: cell.state,
  health: cell.health,
  since: cell.since,
  registered: cell.registered,
  detail: cell.detail,
  needs: cell.options.needs ?? [],
  wants: cell.options.wants ?? [],
  after: cell.options.after ?? [],
  counters: {
    ...given(cell.options.counters),
    ...Object.fromEntries(Array.from(cell.counters, ([name, counter]) => [name, counter.value]))
  },
  operations: Object.fromEntries(Array.from(cell.operations, ([name, operation]) => [name, operation.read()])),
  lastError: cell.lastError,
  heartbeat: cell.heartbeat,
  phases: cell.phases.slice()
})

/** At most `maxNames` series a node: a name made from user input must not grow memory without bound. */
const series = <A>(map: Map<string, A>, name: string, make: () => A): A => {
  const known = map.get(name)
  if (known !== undefined) return known
  if (map.size >= maxNames && name !== "other") return series(map, "other", make)
  const made = make()
  map.set(name, made)
  return made
}

/** Also for what is counted without a node. */
export const makeOperation = (): OperationCell => {
  const latency = Quantile.make()
  let successes = 0
  let failures = 0
  return {
    record: (success, millis) => {
      if (success) successes++
      else failures++
      Quantile.record(latency, millis)
    },
    read: () => {
      return {
        attempts: successes + failures,
        successes,
        failures,
        mean: Quantile.mean(latency) ?? 0,
        p50: Quantile.quantile(latency, 0.5) ?? 0,
        p95: Quantile.quantile(latency, 0.95) ?? 0,
        p99: Quantile.quantile(latency, 0.99) ?? 0,
        max: Quantile.quantile(latency, 1) ?? 0
      }
    }
  }
}

export const handle = (cell: Cell, publish: (type: Change["type"], cell: Cell) => void): StatusNode => {
  const now = () => cell.clock.currentTimeMillisUnsafe()
  const elapsed = () => Number(cell.clock.monotonicTimeNanosUnsafe() - cell.origin) / 1e6
  return {
    id: cell.id,
    snapshot: Effect.sync(() => snapshot(cell)),
    state: () => cell.state,
    set: (state, options) =>
      Effect.sync(() => {
        if (state === "ready" || state === "degraded") cell.wasReady = true
        if (state !== cell.state) cell.since = now()
        cell.state = state
        cell.health = options?.health ?? healthOf(state, cell.wasReady)
        cell.detail = options?.detail
        if (options?.error !== undefined) cell.lastError = { message: options.error, at: now() }
        publish("state", cell)
      }),
    phase: (phase) =>
      Effect.sync(() => {
        let record: PhaseRecord = {
          phase,
          start: elapsed(),
          duration: undefined,
          attempts: 1,
          outcome: "running",
          message: undefined
        }
        if (cell.phases.length >= maxPhases) cell.phases.shift()
        cell.phases.push(record)
        publish("phase", cell)
        const update = (next: PhaseRecord) => {
          const index = cell.phases.indexOf(record)
          record = next
          if (index !== -1) cell.phases[index] = next
          publish("phase", cell)
        }
        return {
          attempt: (attempts, message) => Effect.sync(() => update({ ...record, attempts, message })),
          end: (outcome, message) =>
            Effect.sync(() => update({ ...record, outcome, message, duration: elapsed() - record.start }))
        }
      }),
    heartbeat: Effect.sync(() => {
      cell.heartbeat = now()
    }),
    counter: (name) => series(cell.counters, name, () => ({ value: 0 })),
    operation: (name) => series(cell.operations, name, makeOperation)
  }
}
