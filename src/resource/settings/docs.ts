/**
 * The reference page and the JSON Schema of sections, made from the same facts as the error messages.
 *
 * @internal
 */
import * as Schema from "effect/Schema"
import { type AnySection, defaultOf, encodeLeaf, type Leaf, leavesOf } from "./section.ts"

const cell = (text: string): string => text.replace(/\|/g, "\\|").replace(/\s+/g, " ")

const code = (text: string): string => text === "" ? "" : `\`${text}\``

const defaultText = (leaf: Leaf): string => {
  const value = defaultOf(leaf)
  if (value === undefined) return "not set"
  const encoded = encodeLeaf(leaf, value)
  if (Array.isArray(encoded)) return encoded.length === 0 ? "empty" : code(encoded.join(", "))
  return encoded === "" ? "empty" : code(typeof encoded === "string" ? encoded : JSON.stringify(encoded))
}

const row = (leaf: Leaf): string => {
  const option = leaf.keys.slice(1).join(".")
  const columns = [code(option), code(leaf.variable), leaf.facts.expected, defaultText(leaf), leaf.facts.meaning]
  return `| ${columns.map(cell).join(" | ")} |`
}

const introduction = `<!-- Generated from src/resource/settings by "npm run settings-docs". Do not edit. -->

# Settings

Every option can be given as an environment variable or in a file; what is given nowhere has its default. The environment
wins over the file, the file wins over the default.

- The file is YAML (\`.yaml\`, \`.yml\`; needs the package \`yaml\`) or JSON (\`.json\`): sections, and options in them.
  Names that start with \`x-\` at the top are ignored, as a place for YAML anchors.
- An environment variable that is empty counts as not set. Lists are separated by commas, or in JSON.
- Times are numbers of seconds, or texts such as \`500 millis\`, \`2 minutes\`.
- Options marked *(secret)* have no default and are never shown. Numbers that YAML would change (\`007\`, \`1e3\`) are read as
  they are written where a text is wanted.
- All mistakes in all sections are reported at once. An unknown name in the file is an error; an environment variable that
  looks like a misspelt option is a warning.
`

/** A table a section. */
export const markdown = (sections: ReadonlyArray<AnySection>): string =>
  [
    introduction,
    ...sections.map((section) =>
      [
        `## ${section.name}`,
        "",
        ...section.meaning === undefined ? [] : [section.meaning, ""],
        "| Option | Environment variable | Valid values | Default | Meaning |",
        "|---|---|---|---|---|",
        ...leavesOf(section).map(row),
        ""
      ].join("\n")
    )
  ].join("\n")

type JsonObject = { [key: string]: unknown }

const leafSchema = (leaf: Leaf): JsonObject => {
  const schema = { ...Schema.toJsonSchemaDocument(leaf.schema).schema } as JsonObject
  const value = defaultOf(leaf)
  return {
    ...schema,
    description: [leaf.facts.meaning, `Valid: ${leaf.facts.expected}.`, `Environment: ${leaf.variable}.`]
      .filter((text) => text !== "").join(". ").replace(/\.\. /g, ". "),
    ...value === undefined ? {} : { default: encodeLeaf(leaf, value) },
    ...leaf.facts.isSecret === true ? { writeOnly: true } : {}
  }
}

const group = (): JsonObject => ({ type: "object", properties: {}, additionalProperties: false })

/** A JSON Schema (draft 2020-12) of a settings file, for editors and for checks before a release. */
export const jsonSchema = (sections: ReadonlyArray<AnySection>): JsonObject => {
  const root: JsonObject = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Settings",
    ...group(),
    patternProperties: { "^x-": {} }
  }
  for (const leaf of sections.flatMap(leavesOf)) {
    let node = root
    for (const key of leaf.keys.slice(0, -1)) {
      const properties = node["properties"] as JsonObject
      node = (properties[key] ??= group()) as JsonObject
    }
    const name = leaf.keys[leaf.keys.length - 1]!
    const properties = node["properties"] as JsonObject
    properties[name] = leafSchema(leaf)
  }
  return root
}
