/**
 * Reads options from the current `ConfigProvider`, by default the environment of the process.
 *
 * @internal
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { makeIssue, type SettingsIssue } from "./error.ts"
import type { Leaf } from "./section.ts"
import { nearest } from "./suggest.ts"

/** What the environment says. */
export interface Environment {
  /** Texts by variable. A list is an array where the provider has arrays. */
  readonly values: ReadonlyMap<string, string | ReadonlyArray<string>>
  readonly warnings: ReadonlyArray<string>
  readonly issues: ReadonlyArray<SettingsIssue>
}

type Provider = ConfigProvider.ConfigProvider

const readVariable = Effect.fnUntraced(function*(provider: Provider, variable: string) {
  const node = yield* provider.load([variable])
  if (node === undefined) return undefined
  if (node.value !== undefined) return node.value
  if (node._tag !== "Array") return undefined
  const items: Array<string> = []
  for (let i = 0; i < Math.min(node.length, 1_000); i++) {
    const item = yield* provider.load([variable, i])
    if (item?.value !== undefined) items.push(item.value)
  }
  return items
})

const maximumNames = 1_000

/** The variables that start with the name of a section. The provider offers names in parts, split at `_`. */
const namesUnder = (provider: Provider, prefixes: ReadonlyArray<string>) => {
  const found: Array<string> = []
  const isNear = (name: string) =>
    prefixes.some((prefix) => name.startsWith(`${prefix}_`) || `${prefix}_`.startsWith(`${name}_`))
  const visit: (path: ReadonlyArray<string>) => Effect.Effect<void, ConfigProvider.SourceError> = Effect.fnUntraced(
    function*(path) {
      if (path.length > 8 || found.length >= maximumNames) return
      const node = yield* provider.load(path)
      if (node?.value !== undefined && path.length > 0) found.push(path.join("_"))
      if (node?._tag !== "Record") return
      for (const key of node.keys) {
        const below = [...path, key]
        if (isNear(below.join("_"))) yield* visit(below)
      }
    }
  )
  return Effect.as(visit([]), found)
}

/** A near miss is a warning, not an error: `CACHE_DIR` may well belong to another program. */
const warningsFor = (names: ReadonlyArray<string>, leaves: ReadonlyArray<Leaf>): ReadonlyArray<string> => {
  const known = new Set(leaves.map((leaf) => leaf.variable))
  const sections = [...new Set(leaves.map((leaf) => leaf.keys[0]!.toUpperCase()))]
  return names.flatMap((name) => {
    const section = sections.filter((section) => name.startsWith(`${section}_`)).sort((a, b) => b.length - a.length)[0]
    if (section === undefined || known.has(name)) return []
    const rest = (variable: string) => variable.slice(section.length + 1)
    const meant = nearest(
      rest(name),
      [...known].filter((variable) => variable.startsWith(`${section}_`)).map(rest),
      (length) => length >= 8 ? 2 : 1
    )
    return meant === undefined
      ? []
      : [`environment ${name} is not an option and has no effect; did you mean ${section}_${meant}?`]
  })
}

/** Reads every option. Variables that are empty count as not set. */
export const readEnvironment = Effect.fnUntraced(function*(leaves: ReadonlyArray<Leaf>) {
  const provider = yield* ConfigProvider.ConfigProvider
  const values = new Map<string, string | ReadonlyArray<string>>()
  const issues: Array<SettingsIssue> = []
  const unreadable = (path: string, source: string) => () =>
    Effect.sync(() => {
      issues.push(makeIssue({ path, source, expected: "a source that can be read", actual: "a failure of the source" }))
      return undefined
    })
  for (const leaf of leaves) {
    const value = yield* Effect.catch(
      readVariable(provider, leaf.variable),
      unreadable(leaf.path, `environment ${leaf.variable}`)
    )
    if (value !== undefined && value !== "") values.set(leaf.variable, value)
  }
  const prefixes = [...new Set(leaves.map((leaf) => leaf.keys[0]!.toUpperCase()))]
  // A source that cannot list its names gives no warnings.
  const names = yield* Effect.orElseSucceed(namesUnder(provider, prefixes), (): ReadonlyArray<string> => [])
  return { values, warnings: warningsFor(names, leaves), issues } satisfies Environment
})
