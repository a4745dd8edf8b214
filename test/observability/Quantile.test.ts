import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Quantile from "../../src/observability/Quantile.ts"

const exact = (values: ReadonlyArray<number>, q: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(q * (sorted.length - 1))]!
}

const of = (values: Iterable<number>, options?: Quantile.Options): Quantile.Histogram => {
  const histogram = Quantile.make(options)
  for (const value of values) Quantile.record(histogram, value)
  return histogram
}

const latency = fc.oneof(
  fc.double({ min: 0.001, max: 10, noNaN: true }),
  fc.double({ min: 0.001, max: 1e5, noNaN: true }),
  fc.integer({ min: 1, max: 86_400_000 })
)

describe("Quantile", () => {
  it("reports every quantile within the relative error of the value at that rank", () => {
    fc.assert(
      fc.property(
        fc.array(latency, { minLength: 1, maxLength: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom(0.005, 0.02, 0.1),
        (values, q, relativeError) => {
          const truth = exact(values, q)
          const estimate = Quantile.quantile(of(values, { relativeError }), q)!
          assert.isAtMost(Math.abs(estimate - truth), truth * relativeError * (1 + 1e-9) + 1e-12)
        }
      )
    )
  })

  it("never decreases as q rises, and stays between the exact smallest and largest value", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1e12, noNaN: true }), { minLength: 1, maxLength: 100 }),
        (values) => {
          const histogram = of(values)
          let last = histogram.min
          for (let q = 0; q <= 1; q += 0.125) {
            const value = Quantile.quantile(histogram, q)!
            assert.isAtLeast(value, last)
            assert.isAtMost(value, histogram.max)
            last = value
          }
          assert.strictEqual(Quantile.quantile(histogram, 0), Math.min(...values))
          assert.strictEqual(Quantile.quantile(histogram, 1), Math.max(...values))
        }
      )
    )
  })

  it("merges without loss: two halves give what one whole gives", () => {
    fc.assert(
      fc.property(fc.array(latency, { maxLength: 100 }), fc.array(latency, { maxLength: 100 }), (left, right) => {
        const merged = of(left)
        Quantile.merge(merged, of(right))
        const whole = of([...left, ...right])
        assert.strictEqual(merged.count, whole.count)
        for (const q of [0, 0.5, 0.9, 0.99, 1]) {
          assert.strictEqual(Quantile.quantile(merged, q), Quantile.quantile(whole, q))
        }
      })
    )
  })

  it("uses the same memory however many values are recorded", () => {
    const histogram = Quantile.make()
    const before = histogram.bytes
    for (let i = 0; i < 200_000; i++) Quantile.record(histogram, (i * 7919) % 1_000_003)
    assert.strictEqual(histogram.bytes, before)
    assert.isBelow(histogram.bytes, 8 * 1024)
    assert.strictEqual(histogram.count, 200_000)
  })

  it("has no quantile and no mean when empty, and is empty again after reset", () => {
    const histogram = Quantile.make()
    assert.isUndefined(Quantile.quantile(histogram, 0.5))
    assert.isUndefined(Quantile.mean(histogram))
    Quantile.record(histogram, 12)
    assert.strictEqual(Quantile.mean(histogram), 12)
    Quantile.reset(histogram)
    assert.isUndefined(Quantile.quantile(histogram, 0.5))
    assert.deepStrictEqual([histogram.count, histogram.sum], [0, 0])
    Quantile.record(histogram, 3)
    assert.strictEqual(Quantile.quantile(histogram, 0.5), 3)
  })

  it("counts the mean exactly", () => {
    assert.strictEqual(Quantile.mean(of([1, 2, 3, 10])), 4)
  })

  it("ignores what is not a finite number and counts negative values as zero", () => {
    const histogram = of([NaN, Infinity, -Infinity])
    assert.strictEqual(histogram.count, 0)
    Quantile.record(histogram, -5)
    assert.strictEqual(histogram.count, 1)
    assert.strictEqual(Quantile.quantile(histogram, 1), 0)
  })

  it("keeps values outside the range within the smallest and largest value seen", () => {
    const histogram = of([0.0001, 0.0002, 0.0003, 5_000, 6_000, 7_000], { min: 1, max: 1_000 })
    assert.isAtLeast(Quantile.quantile(histogram, 0.3)!, 0.0001)
    assert.isAtMost(Quantile.quantile(histogram, 0.3)!, 1)
    assert.isAtLeast(Quantile.quantile(histogram, 0.8)!, 1_000)
    assert.isAtMost(Quantile.quantile(histogram, 0.8)!, 7_000)
  })

  it.each([
    [{ relativeError: 0 }, "relativeError"],
    [{ relativeError: 1 }, "relativeError"],
    [{ relativeError: NaN }, "relativeError"],
    [{ min: 0 }, "min"],
    [{ min: Infinity }, "min"],
    [{ min: 10, max: 10 }, "max"],
    [{ max: NaN }, "max"]
  ])("refuses %j by naming the option", (options, name) => {
    assert.throws(() => Quantile.make(options), new RegExp(`^${name} must be`))
  })

  it("refuses a q outside 0 to 1, and merging unlike histograms", () => {
    const histogram = of([1])
    assert.throws(() => Quantile.quantile(histogram, 1.1), /^q must be/)
    assert.throws(() => Quantile.quantile(histogram, NaN), /^q must be/)
    assert.throws(() => Quantile.merge(histogram, Quantile.make({ relativeError: 0.1 })), /^from must be/)
  })
})
