/** Medians and ratios of what was measured. */
import type { Goal, Metric, Role } from "./Suite.ts"

/** What one case gave: a figure a round, in the order of the rounds, so that rounds can be compared pair by pair. */
export interface Measured {
  readonly name: string
  readonly group: string
  readonly role: Role
  readonly wall: ReadonlyArray<number>
  readonly cpu: ReadonlyArray<number>
  /** Absent where it was not measured. */
  readonly bytes?: ReadonlyArray<number> | undefined
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
  /** The middle half of the rounds lies between these. */
  readonly lower: number
  readonly upper: number
}

export interface Result {
  readonly suite: string
  readonly group: string
  readonly case: string
  readonly role: Role
  readonly cpuNanos: Spread
  readonly wallNanos: Spread
  readonly bytesPerCall: number | null
  /** Median over the rounds of this case's figure over that of the floor, in the metric of the suite. */
  readonly ratioToFloor: number | null
  /** The same against each peer: below 1, this case is the cheaper one. */
  readonly ratioToPeers: Readonly<Record<string, number>>
  /** This case over ours, for the table. */
  readonly ratioToOurs: number | null
}

export interface GoalResult {
  readonly suite: string
  readonly group: string
  readonly case: string
  /** What is compared with; absent for a goal on the figure itself. */
  readonly against?: string
  readonly metric: Metric
  readonly atMost: number
  readonly is: number
  readonly reached: boolean
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const spread = (values: ReadonlyArray<number>): Spread => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!
  return { median: median(values), min: at(0), max: at(1), lower: at(0.25), upper: at(0.75) }
}

const figures = (measured: Measured, metric: Metric): ReadonlyArray<number> => measured[metric] ?? []

/** A slow moment of the machine slows the neighbours in the same round too: pairs cancel it, medians drop the rest. */
const ratio = (a: Measured, b: Measured | undefined, metric: Metric): number | null => {
  if (b === undefined) return null
  const over = figures(a, metric)
  const under = figures(b, metric)
  const least = metric === "bytes" ? 1 : 0
  const pairs = over.slice(0, under.length).flatMap((value, round) =>
    under[round]! > least ? [value / under[round]!] : []
  )
  return pairs.length === 0 ? null : median(pairs)
}

export const results = (suite: string, metric: Metric, all: ReadonlyArray<Measured>): Array<Result> =>
  all.map((one) => {
    const group = all.filter((other) => other.group === one.group)
    const peers = group.filter((other) => other.role === "peer" && other !== one)
    return {
      suite,
      group: one.group,
      case: one.name,
      role: one.role,
      cpuNanos: spread(one.cpu),
      wallNanos: spread(one.wall),
      bytesPerCall: one.bytes === undefined || one.bytes.length === 0 ? null : median(one.bytes),
      ratioToFloor: ratio(one, group.find(({ role }) => role === "floor"), metric),
      ratioToPeers: Object.fromEntries(
        peers.flatMap((peer) => {
          const value = ratio(one, peer, metric)
          return value === null ? [] : [[peer.name, value]]
        })
      ),
      ratioToOurs: ratio(one, group.find(({ role }) => role === "ours"), metric)
    }
  })

const judge = (suite: string, metric: Metric, goal: Goal, all: ReadonlyArray<Measured>): Array<GoalResult> => {
  const group = all.filter((one) => one.group === goal.group)
  const find = (name: string | undefined, role: Role) =>
    group.find((one) => name === undefined ? one.role === role : one.name === name)
  const of = find(goal.of, "ours")
  if (of === undefined) return []
  const used = goal.metric ?? metric
  const base = { suite, group: goal.group, case: of.name, metric: used }
  if (goal.value !== undefined) {
    const is = median(figures(of, used))
    return [{ ...base, atMost: goal.value, is, reached: is <= goal.value }]
  }
  const against = find(goal.against, "floor")
  const is = ratio(of, against, used)
  if (against === undefined || is === null) return []
  const atMost = goal.ratio ?? 1
  return [{ ...base, against: against.name, atMost, is, reached: is <= atMost }]
}

export const goals = (
  suite: string,
  metric: Metric,
  wanted: ReadonlyArray<Goal>,
  all: ReadonlyArray<Measured>
): Array<GoalResult> => wanted.flatMap((goal) => judge(suite, metric, goal, all))
