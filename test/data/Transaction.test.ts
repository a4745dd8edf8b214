import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PgliteDatabase from "../../src/backends/PgliteDatabase.ts"
import * as Transaction from "../../src/data/Transaction.ts"
import { suite } from "./transactionSuite.ts"

describe("options", () => {
  const message = (make: () => unknown): string => {
    try {
      make()
    } catch (error) {
      if (error instanceof RangeError) return error.message
      throw error
    }
    throw new Error("it was accepted")
  }

  it("out of range throw a RangeError that names the option and what is valid", () => {
    const run = (options: object) => message(() => Transaction.run(Effect.void, options as Transaction.Options))
    assert.match(run({ timeout: 0 }), /^timeout must be a duration above zero/)
    assert.match(run({ retry: -1 }), /^retry\.times must be a whole number of at least 0/)
    assert.match(run({ retry: { base: Infinity } }), /^retry\.base must be a finite duration/)
    assert.match(run({ isolation: "SNAPSHOT" }), /^isolation must be one of READ_UNCOMMITTED, .*, got SNAPSHOT/)
    assert.match(run({ propagation: "always" }), /^propagation must be one of required, /)
    assert.match(run({ deferrable: true }), /^deferrable must be used with readOnly and isolation SERIALIZABLE/)
    assert.match(run({ verifyTimeout: 0 }), /^verifyTimeout must be a duration above zero/)
    assert.match(message(() => Transaction.batch([], { size: 0 })), /^size must be a whole number of at least 1/)
  })
})

suite("on the embedded database", PgliteDatabase.layerWith({ data_dir: "memory://" }), true)
