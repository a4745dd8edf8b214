/** The value that caches keep: some fields, some nesting, as of an application. */
import * as Schema from "effect/Schema"

export const Order = Schema.Struct({
  id: Schema.Number,
  customer: Schema.String,
  lines: Schema.Array(Schema.Struct({ sku: Schema.String, count: Schema.Number, cents: Schema.Number })),
  paid: Schema.Boolean
})

export const order = {
  id: 4711,
  customer: "Ada Lovelace",
  lines: [{ sku: "engine-1", count: 1, cents: 129_900 }, { sku: "card-7", count: 24, cents: 250 }],
  paid: true
}
