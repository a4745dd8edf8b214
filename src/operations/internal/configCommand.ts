// `seaworthy config`: effective settings with their sources, the JSON Schema, the reference.
import * as Effect from "effect/Effect"
import * as Settings from "../../resource/Settings.ts"
import type { Output } from "./output.ts"

export const config = (
  output: Output,
  flags: { readonly json: boolean; readonly schema: boolean; readonly docs: boolean }
): Effect.Effect<void, Settings.SettingsError> => {
  if (flags.schema) return output.verbatim(JSON.stringify(Settings.jsonSchema(), null, 2))
  if (flags.docs) return output.verbatim(Settings.docs())
  return Effect.gen(function*() {
    const settings = yield* Settings.load
    for (const warning of settings.warnings) yield* output.complain(`warning: ${warning}`)
    const rows = Settings.effective(settings)
    if (flags.json) return yield* output.json(rows)
    const cell = (value: unknown) => typeof value === "string" ? value : JSON.stringify(value)
    const table = rows.map((row) => [row.path, cell(row.value), row.source] as const)
    const width = (column: 0 | 1) => Math.max(...table.map((row) => row[column].length))
    const [first, second] = [width(0), Math.min(width(1), 40)]
    for (const [path, value, source] of table) {
      yield* output.print(`${path.padEnd(first)}  ${value.padEnd(second)}  ${source}`)
    }
  })
}
