import { assert, describe, it } from "@effect/vitest"
import { goals, type Measured, median, results } from "../../benchmarks/harness/statistics.ts"
import type { Role } from "../../benchmarks/harness/Suite.ts"

const measured = (name: string, role: Role, cpu: ReadonlyArray<number>, bytes?: ReadonlyArray<number>): Measured => ({
  name,
  group: "calls",
  role,
  cpu,
  wall: cpu.map((value) => value * 2),
  bytes
})

// The second round fell into a slow moment of the machine, which met all cases.
const ours = measured("ours", "ours", [120, 1200, 120], [10, 30, 20])
const floor = measured("floor", "floor", [100, 1000, 100])
const peer = measured("peer", "peer", [480, 4800, 480])
const all = [ours, floor, peer]

describe("figures of the benchmarks", () => {
  it("are medians, of an odd and of an even number of rounds", () => {
    assert.strictEqual(median([3, 1, 2]), 2)
    assert.strictEqual(median([4, 1, 2, 3]), 2.5)
  })

  it("show the noise: smallest and largest round, and the middle half", () => {
    const [first] = results("suite", "cpu", [measured("one", "ours", [5, 1, 4, 2, 3])])
    assert.deepStrictEqual(first?.cpuNanos, { median: 3, min: 1, max: 5, lower: 2, upper: 4 })
  })

  it("compare with the floor and with each peer, round by round", () => {
    const [one, other, third] = results("suite", "cpu", all)
    assert.strictEqual(one?.ratioToFloor, 1.2)
    assert.deepStrictEqual(one?.ratioToPeers, { peer: 0.25 })
    assert.strictEqual(one?.bytesPerCall, 20)
    assert.strictEqual(other?.bytesPerCall, null)
    assert.strictEqual(third?.ratioToOurs, 4)
    assert.deepStrictEqual(third?.ratioToPeers, {})
  })

  it("keep groups apart", () => {
    const elsewhere: Measured = { ...measured("floor", "floor", [1, 1, 1]), group: "other calls" }
    const [one] = results("suite", "cpu", [ours, elsewhere])
    assert.strictEqual(one?.ratioToFloor, null)
  })

  it("judge goals on ratios and on figures, and leave out what was not measured", () => {
    const judged = goals("suite", "cpu", [
      { group: "calls", ratio: 1.5 },
      { group: "calls", against: "peer", ratio: 0.2 },
      { group: "calls", metric: "bytes", value: 15 },
      { group: "calls", against: "nobody", ratio: 1 },
      { group: "no such group", ratio: 1 }
    ], all)
    assert.deepStrictEqual(judged.map(({ against, is, reached }) => ({ against, is, reached })), [
      { against: "floor", is: 1.2, reached: true },
      { against: "peer", is: 0.25, reached: false },
      { against: undefined, is: 20, reached: false }
    ])
  })
})
