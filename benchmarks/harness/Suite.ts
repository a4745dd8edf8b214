/** What a suite is: cases in groups, each group with one of ours, a floor, and peers that do the same job. */

/**
 * - `ours`: a part of this library.
 * - `floor`: the least code that does the job without features; what is above it is the price of ours.
 * - `peer`: another library that a user would take instead.
 * - `bare`: the work with nothing around it, for orientation.
 */
export type Role = "ours" | "floor" | "peer" | "bare"

/** One measurement that a case took itself, as of a process that it started. */
export interface Sample {
  readonly wallNanos: number
  readonly cpuNanos: number
  /** Whatever "bytes a call" means for this case. */
  readonly bytes?: number | undefined
}

interface Named {
  /** Unique within its group. */
  readonly name: string
  /** Cases of one group do the same job, and are measured in turns. */
  readonly group: string
  readonly role: Role
}

/** `run(n)` does the work n times in one fiber or one promise loop, and is measured from outside. */
export interface LoopCase extends Named {
  readonly run: (n: number) => Promise<unknown>
}

/** `sample` does the work once and says what it took. */
export interface SampleCase extends Named {
  readonly sample: () => Promise<Sample>
}

export type Case = LoopCase | SampleCase

/** What we want of ours. Said, never asserted. */
export interface Goal {
  readonly group: string
  /** Name of the case that is judged; default the first of ours in the group. */
  readonly of?: string | undefined
  /** Name of the case it is compared with; default the floor of the group. */
  readonly against?: string | undefined
  /** Which figure; default that of the suite. */
  readonly metric?: Metric | undefined
  /** At most this many times the other. */
  readonly ratio?: number | undefined
  /** At most this figure, in the unit of the metric. */
  readonly value?: number | undefined
}

export type Metric = "cpu" | "wall" | "bytes"

export interface Suite {
  /** One or two sentences under the title in `docs/benchmarks.md`. */
  readonly about: string
  /** What ratios and the chart show. */
  readonly metric: Metric
  /** What "bytes a call" is called where it is something else. */
  readonly bytesTitle?: string | undefined
  /** Measured rounds; default 31. */
  readonly rounds?: number | undefined
  /** No second process that measures bytes: the cases say them, or they do not matter. */
  readonly withoutBytes?: boolean | undefined
  readonly goals: ReadonlyArray<Goal>
  /** Makes what the cases need (servers, builds). `close` ends it. */
  readonly make: () => Promise<{
    readonly cases: ReadonlyArray<Case>
    readonly notes?: ReadonlyArray<string> | undefined
    readonly close?: (() => Promise<void>) | undefined
  }>
}
