import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Windows from "../../src/observability/Windows.ts"

const contents = ({ calls, failures, slow }: Windows.Window) => ({ calls, failures, slow })

interface Call {
  readonly failed: boolean
  readonly slow: boolean
  readonly after: number
}

const aCall: fc.Arbitrary<Call> = fc.record({
  failed: fc.boolean(),
  slow: fc.boolean(),
  after: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 90, max: 400 }))
})

const tally = (calls: ReadonlyArray<{ readonly failed: boolean; readonly slow: boolean }>) => ({
  calls: calls.length,
  failures: calls.filter((c) => c.failed).length,
  slow: calls.filter((c) => c.slow).length
})

describe("Windows", () => {
  describe("a count window", () => {
    it("starts empty and counts up to its size", () => {
      const window = Windows.countWindow(2)
      assert.deepStrictEqual(contents(window), { calls: 0, failures: 0, slow: 0 })
      window.record(true, false, 0)
      window.record(false, true, 0)
      assert.deepStrictEqual(contents(window), { calls: 2, failures: 1, slow: 1 })
      window.record(false, false, 0)
      assert.deepStrictEqual(contents(window), { calls: 2, failures: 0, slow: 1 })
    })

    it("counts the same as a list of the last calls, of any size and through save and load", () => {
      fc.assert(fc.property(fc.integer({ min: 1, max: 70 }), fc.array(aCall, { maxLength: 200 }), (size, calls) => {
        let window = Windows.countWindow(size)
        const last: Array<Call> = []
        for (const [i, call] of calls.entries()) {
          window.record(call.failed, call.slow, 0)
          last.push(call)
          if (last.length > size) last.shift()
          assert.deepStrictEqual(contents(window), tally(last))
          if (i % 37 === 36) {
            const copy = Windows.countWindow(size)
            copy.load(window.save(0), 0)
            window = copy
          }
        }
      }))
    })

    it("may start with good calls in it", () => {
      for (const good of [0, 1, 2, 3]) {
        const [window, counted] = [Windows.countWindow(3, good), Windows.countWindow(3)]
        for (let n = 0; n < good; n++) counted.record(false, false, 0)
        for (const failed of [true, false, false, true]) {
          window.record(failed, false, 0)
          counted.record(failed, false, 0)
          assert.deepStrictEqual(window.save(0), counted.save(0))
        }
      }
    })

    it("keeps the newest calls when it loads more than it can hold", () => {
      const small = Windows.countWindow(2)
      small.load({ _tag: "Count", calls: "1102" }, 0)
      assert.deepStrictEqual(contents(small), { calls: 2, failures: 0, slow: 1 })
    })

    it("loads nothing from a time window", () => {
      const window = Windows.countWindow(2)
      window.record(true, true, 0)
      window.load({ _tag: "Time", buckets: [[0, 1, 1, 1]] }, 0)
      assert.deepStrictEqual(contents(window), { calls: 0, failures: 0, slow: 0 })
    })
  })

  describe("a time window", () => {
    it("forgets a call when its bucket has left the window", () => {
      const window = Windows.timeWindow(1000, 10)
      window.record(true, true, 50)
      window.advance(999)
      assert.deepStrictEqual(contents(window), { calls: 1, failures: 1, slow: 1 })
      window.advance(1000)
      assert.deepStrictEqual(contents(window), { calls: 0, failures: 0, slow: 0 })
    })

    it("counts the same as a list of calls by bucket, after any gap and through save and load", () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 12 }),
          fc.integer({ min: 1, max: 30 }),
          fc.array(aCall, { maxLength: 120 }),
          (buckets, width, calls) => {
            let window = Windows.timeWindow(buckets * width, buckets)
            let now = 1_000_003
            let kept: Array<Call & { readonly at: number }> = []
            for (const [i, call] of calls.entries()) {
              now += call.after
              window.record(call.failed, call.slow, now)
              kept.push({ ...call, at: now })
              kept = kept.filter((c) => Math.floor(now / width) - Math.floor(c.at / width) < buckets)
              assert.deepStrictEqual(contents(window), tally(kept))
              if (i % 23 === 22) {
                const copy = Windows.timeWindow(buckets * width, buckets)
                copy.load(window.save(now), now)
                window = copy
              }
            }
            now += buckets * width
            window.advance(now)
            assert.deepStrictEqual(contents(window), { calls: 0, failures: 0, slow: 0 })
          }
        )
      )
    })

    it("keeps counting when the time runs backwards", () => {
      const window = Windows.timeWindow(1000, 10)
      window.record(true, false, 5000)
      window.record(true, false, 100)
      assert.deepStrictEqual(contents(window), { calls: 2, failures: 2, slow: 0 })
    })

    it("loads a saved window into a clock with another origin, without what has expired", () => {
      const window = Windows.timeWindow(1000, 10)
      window.record(true, false, 10_050)
      window.record(false, true, 10_950)
      const copy = Windows.timeWindow(1000, 10)
      copy.load(window.save(10_950), 77)
      assert.deepStrictEqual(contents(copy), { calls: 2, failures: 1, slow: 1 })
      const later = Windows.timeWindow(500, 5)
      later.load(window.save(10_950), 77)
      assert.deepStrictEqual(contents(later), { calls: 1, failures: 0, slow: 1 })
    })
  })

  it("refuses sizes that make no sense, naming them", () => {
    assert.throws(() => Windows.countWindow(0), RangeError, "size")
    assert.throws(() => Windows.countWindow(1.5), RangeError, "size")
    assert.throws(() => Windows.countWindow(2, 3), RangeError, "good")
    assert.throws(() => Windows.timeWindow(0), RangeError, "millis")
    assert.throws(() => Windows.timeWindow(Number.POSITIVE_INFINITY), RangeError, "millis")
    assert.throws(() => Windows.timeWindow(1000, 0), RangeError, "buckets")
  })
})
