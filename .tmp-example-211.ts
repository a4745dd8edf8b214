import { ConfigProvider, Effect, Schema } from "effect"
import { Settings } from "seaworthy"

const payments = Settings.section("payments", Schema.Struct({
  endpoint: Schema.String.annotate({ description: "Where charges go" }),
  attempts: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(3)))
}))
const program = Settings.get(payments).pipe(
  Effect.provide(Settings.layerWith({ sections: [payments] })),
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: { PAYMENTS_ENDPOINT: "https://pay" } }))
)
console.log(await Effect.runPromise(program)) // => { endpoint: "https://pay", attempts: 3 }
