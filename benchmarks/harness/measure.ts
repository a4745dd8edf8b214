/** Measures the cases of a suite, in turns: A B C A B C, so that a slow moment of the machine meets all of them. */
import type { Measured } from "./statistics.ts"
import type { Case, LoopCase, Sample } from "./Suite.ts"

export interface Options {
  readonly rounds: number
  /** How long one measurement of a `run(n)` case takes, in milliseconds: n follows from it. */
  readonly sampleMillis: number
  readonly warmupMillis: number
  readonly progress: (line: string) => void
}

const collect = globalThis.gc ?? (() => {})

const time = async (work: () => Promise<unknown>): Promise<Sample> => {
  const cpu = process.cpuUsage()
  const start = process.hrtime.bigint()
  await work()
  const wallNanos = Number(process.hrtime.bigint() - start)
  const { system, user } = process.cpuUsage(cpu)
  return { wallNanos, cpuNanos: (system + user) * 1000 }
}

/** Runs the case until it is warm, and gives the n that takes `sampleMillis`. */
const calibrate = async (one: LoopCase, { sampleMillis, warmupMillis }: Options): Promise<number> => {
  let n = 1
  let wall = 0
  let cpu = 0
  for (;;) {
    const { cpuNanos, wallNanos } = await time(() => one.run(n))
    // Where others use the machine too, little of the time is ours: then it takes longer.
    const millis = Math.max(cpuNanos, wallNanos / 4) / 1e6
    wall += wallNanos / 1e6
    cpu += cpuNanos / 1e6
    const warm = wall >= warmupMillis && (cpu >= warmupMillis / 2 || wall >= 4 * warmupMillis)
    if (millis < sampleMillis / 4) n *= 2
    else if (warm) return Math.max(1, Math.round(n * sampleMillis / millis))
  }
}

/** A case that is ready to be measured, as often as asked. */
const prepare = async (one: Case, options: Options): Promise<() => Promise<Sample>> => {
  if ("sample" in one) {
    await one.sample()
    return one.sample
  }
  const n = await calibrate(one, options)
  return async () => {
    // Each case pays for its own garbage, not for that of the one before.
    collect({ type: "minor" })
    const { cpuNanos, wallNanos } = await time(() => one.run(n))
    return { cpuNanos: cpuNanos / n, wallNanos: wallNanos / n }
  }
}

const groupsOf = (cases: ReadonlyArray<Case>) =>
  [...new Set(cases.map(({ group }) => group))].map((group) => cases.filter((one) => one.group === group))

/** Rounds that settle what the other cases of the group did to the compiled code. */
const settling = 2

export const measureTime = async (cases: ReadonlyArray<Case>, options: Options): Promise<Array<Measured>> => {
  const measured: Array<Measured> = []
  for (const group of groupsOf(cases)) {
    options.progress(`${group[0]!.group}: warming up`)
    const ready: Array<{ readonly one: Case; readonly take: () => Promise<Sample>; readonly samples: Array<Sample> }> =
      []
    for (const one of group) ready.push({ one, take: await prepare(one, options), samples: [] })
    const extra = group.some((one) => "run" in one) ? settling : 0
    for (let round = -extra; round < options.rounds; round++) {
      options.progress(`${group[0]!.group}: round ${Math.max(0, round + 1)} of ${options.rounds}`)
      for (const { samples, take } of ready) {
        const sample = await take()
        if (round >= 0) samples.push(sample)
      }
    }
    for (const { one, samples } of ready) {
      const bytes = samples.flatMap((sample) => sample.bytes === undefined ? [] : [sample.bytes])
      measured.push({
        name: one.name,
        group: one.group,
        role: one.role,
        wall: samples.map((sample) => sample.wallNanos),
        cpu: samples.map((sample) => sample.cpuNanos),
        bytes: bytes.length === 0 ? undefined : bytes
      })
    }
  }
  return measured
}

/** Calls and repetitions of a measurement of bytes. */
const bytesCalls = 4000
const bytesRounds = 7

/**
 * Bytes that a call allocates: how much the heap grows over some calls without a collection. To be run in a process whose
 * new space is larger than that.
 */
export const measureBytes = async (cases: ReadonlyArray<Case>, options: Options) => {
  const all: Array<{ readonly group: string; readonly name: string; readonly bytes: ReadonlyArray<number> }> = []
  for (const one of cases) {
    if (!("run" in one)) continue
    options.progress(`${one.group}: bytes`)
    const n = Math.min(bytesCalls, 4 * await calibrate(one, options))
    const bytes: Array<number> = []
    for (let round = 0; round < bytesRounds; round++) {
      collect()
      const before = process.memoryUsage().heapUsed
      await one.run(n)
      bytes.push(Math.max(0, process.memoryUsage().heapUsed - before) / n)
    }
    all.push({ group: one.group, name: one.name, bytes })
  }
  return all
}
