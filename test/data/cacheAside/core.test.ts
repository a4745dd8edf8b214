import { assert, describe, it } from "@effect/vitest"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import * as Entry from "../../../src/data/cacheAside/entry.ts"
import { Memory } from "../../../src/data/cacheAside/memory.ts"
import * as Payload from "../../../src/data/cacheAside/payload.ts"
import * as Trust from "../../../src/data/cacheAside/trust.ts"
import { codec } from "../../../src/resource/cache/typed.ts"

const policy: Entry.Policy = { eagerRefresh: 0.8, earlyExpiry: 0, staleWhileRevalidate: 20, staleIfError: 50 }

const entry = (
  given?: {
    readonly policy?: Entry.Policy
    readonly kind?: Entry.Kind
    readonly goneAt?: number
    readonly tags?: Array<string>
  }
) =>
  Entry.make<string, never>(given?.policy ?? policy, {
    exit: Exit.succeed(Option.some("v")),
    kind: given?.kind ?? "value",
    id: "",
    tags: given?.tags ?? [],
    delta: 5,
    at: 1_000,
    fresh: 100,
    goneAt: given?.goneAt ?? Infinity,
    generation: 0
  })

const decide = (now: number, retryAt = 0, of = entry()) => Entry.decide(policy, of, now, retryAt, () => 1)

describe("what becomes of an entry", () => {
  it("serve, refresh, revalidate, load: each from exactly its time on", () => {
    const seen = [1_000, 1_079, 1_080, 1_099, 1_100, 1_119, 1_120, 1_149, 1_150].map((now) => decide(now))
    assert.deepStrictEqual(seen, [
      ...["serve", "serve", "refresh", "refresh"],
      ...["revalidate", "revalidate"],
      ...["load", "load", "load"]
    ])
    assert.deepStrictEqual([1_149, 1_150].map((now) => Entry.isGone(entry(), now)), [false, true])
  })

  it("after a failed load nothing is loaded before its pause is over, if there is something to serve", () => {
    const seen = [1_079, 1_080, 1_100, 1_120, 1_149, 1_150].map((now) => decide(now, 2_000))
    assert.deepStrictEqual(seen, ["serve", "serve", "stale", "stale", "stale", "load"])
  })

  it("a failure that is remembered is served for its time, and not after", () => {
    const failure = entry({ kind: "failure" })
    assert.deepStrictEqual([1_080, 1_099, 1_100].map((now) => decide(now, 0, failure)), ["serve", "serve", "load"])
    assert.isTrue(Entry.isGone(failure, 1_100))
  })

  it("a copy ends with its original, in each of its windows", () => {
    assert.deepStrictEqual(decide(1_090, 0, entry({ goneAt: 1_090 })), "load")
    assert.isTrue(Entry.isGone(entry({ goneAt: 1_110 }), 1_110))
  })

  it("chance is asked only where it can matter, and before that a hit is a hit", () =>
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 0, max: 200 }), (draw, millis) => {
        const early: Entry.Policy = { ...policy, eagerRefresh: 1, earlyExpiry: 1 }
        const of = entry({ policy: early })
        const now = 1_000 + millis
        let asked = false
        const action = Entry.decide(early, of, now, 0, () => {
          asked = true
          return draw
        })
        if (now < of.quietUntil) assert.deepStrictEqual([action, asked], ["serve", false])
        else if (now < 1_100) assert.strictEqual(action, now - 5 * Math.log(draw) >= 1_100 ? "refresh" : "serve")
        else assert.isFalse(asked)
      })
    ))

  it("pauses double up to their limit; jitter stays within its share", () => {
    assert.deepStrictEqual([1, 2, 3, 4, 1_000].map((failures) => Entry.backoff(10, 50, failures)), [10, 20, 40, 50, 50])
    assert.deepStrictEqual([0, 0.5, 1].map((draw) => Entry.jittered(100, 0.2, draw)), [100, 90, 80])
  })
})

describe("memory", () => {
  it("holds what was put last and not removed, never more than its capacity, and no tag without a key", () =>
    fc.assert(fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(
        fc.tuple(
          fc.constantFrom("put", "put", "remove", "tag", "prefix", "use", "clear", "disturb"),
          fc.constantFrom("a1", "a2", "b1", "b2", "c1", "c2", "d1")
        )
      ),
      (capacity, steps) => {
        const memory = new Memory<string, never>(capacity)
        /** What may be there; what is missing besides was evicted. */
        const model = new Map<string, Entry.Entry<string, never>>()
        for (const [step, key] of steps) {
          const before = memory.evicted
          if (step === "put") {
            const full = !memory.slots.has(key) && memory.size === capacity
            const one = entry({ tags: [key[1]!] })
            model.set(key, one)
            memory.put(key, one)
            assert.strictEqual(memory.evicted - before, full ? 1 : 0)
            assert.strictEqual(memory.get(key), one)
            assert.strictEqual(memory.quiet[memory.slots.get(key)!], one.quietUntil)
          } else if (step === "remove") {
            memory.remove(key)
            model.delete(key)
          } else if (step === "tag") {
            memory.removeTag(key[1]!)
            for (const one of model.keys()) if (one[1] === key[1]) model.delete(one)
          } else if (step === "prefix") {
            memory.removePrefix(key[0]!)
            for (const one of model.keys()) if (one[0] === key[0]) model.delete(one)
          } else if (step === "clear") {
            memory.clear()
            model.clear()
          } else if (step === "disturb") {
            memory.disturb()
            for (const slot of memory.slots.values()) assert.strictEqual(memory.quiet[slot], -Infinity)
          } else memory.touch(key)

          assert.isAtMost(memory.size, capacity)
          for (const one of model.keys()) if (!memory.slots.has(one)) model.delete(one)
          assert.deepStrictEqual([...memory.slots.keys()].sort(), [...model.keys()].sort())
          const tagged = new Map<string, Set<string>>()
          for (const [present, slot] of memory.slots) {
            assert.strictEqual(memory.get(present), model.get(present))
            assert.strictEqual(memory.exits[slot], model.get(present)!.exit)
            tagged.set(present[1]!, (tagged.get(present[1]!) ?? new Set()).add(present))
          }
          assert.deepStrictEqual(memory.tagged, tagged)
        }
      }
    )))

  it("what was read is spared once; among what was not, the oldest goes first", () => {
    const memory = new Memory<string, never>(3)
    for (const key of ["a", "b", "c"]) memory.put(key, entry({}))
    memory.touch("a")
    memory.put("d", entry({}))
    assert.deepStrictEqual([...memory.slots.keys()].sort(), ["a", "c", "d"])
    memory.put("e", entry({}))
    memory.put("f", entry({}))
    assert.deepStrictEqual([...memory.slots.keys()].sort(), ["d", "e", "f"])
  })
})

describe("an entry as text", () => {
  const text = codec(Schema.String)

  it("is what it was, whatever the value, the tags and the times", () =>
    fc.assert(fc.property(
      fc.option(fc.string({ unit: "binary" }), { nil: undefined }),
      fc.array(fc.string({ unit: "grapheme" })),
      fc.oneof(fc.nat(), fc.constant(Infinity)),
      (value, tags, fresh) => {
        const header = { id: "n.1", fresh, life: fresh, delta: 3, tags }
        const json = value === undefined ? undefined : JSON.stringify(value)
        assert.deepStrictEqual(Payload.decode(text, Payload.encode(header, json)), {
          ...header,
          option: Option.fromUndefinedOr(value)
        })
      }
    )))

  it("of another version, cut short, or of another schema is no entry, and never an exception", () =>
    fc.assert(fc.property(fc.string(), fc.nat(40), (noise, cut) => {
      const good = Payload.encode({ id: "n.1", fresh: 1, life: 2, delta: 3, tags: ["t"] }, "\"value\"")
      for (
        const bad of [
          noise,
          `2${good.slice(1)}`,
          good.slice(0, Math.min(cut, good.length - 1)),
          `${good.slice(0, -7)}17`
        ]
      ) {
        assert.strictEqual(Payload.decode(text, bad), undefined)
      }
    })))
})

describe("trust in what memory holds", () => {
  const hear = (trust: Trust.Trust, sequence: number, invalidation = false, epoch = "e") =>
    Trust.hear(trust, { epoch, sequence }, invalidation, 100)

  it("holds while every number is heard, and a sign of life repeats the last", () => {
    const trust = Trust.make()
    hear(trust, 4)
    const { generation } = trust
    assert.deepStrictEqual([hear(trust, 5, true), hear(trust, 5), hear(trust, 6, true)], [false, false, false])
    assert.strictEqual(trust.generation, generation)
    assert.strictEqual(Trust.until(trust, 50), 150)
  })

  it("ends with a number that is missing, another epoch, or a lost subscription; each begins a generation", () => {
    const trust = Trust.make()
    hear(trust, 4)
    const { generation } = trust
    assert.isTrue(hear(trust, 6, true))
    assert.isTrue(hear(trust, 7))
    assert.isTrue(hear(trust, 0, false, "f"))
    Trust.lose(trust)
    assert.strictEqual(trust.generation, generation + 4)
    assert.strictEqual(Trust.until(trust, 50), -Infinity)
    assert.isFalse(hear(trust, 0, false, "f"))
  })
})
