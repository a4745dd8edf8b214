/**
 * A section of the settings, and the walk through its options.
 *
 * @internal
 */
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as Redaction from "../../security/Redaction.ts"
import { type Facts, factsOf } from "./option.ts"

/** What is wrong with options that are each valid. */
export interface Problem {
  /** Path within the section: `min_connections`, `retry.delay`. */
  readonly option: string
  /** Completes "expected ...". */
  readonly expected: string
  /** Completes "got ...": a shape, never a secret. */
  readonly actual: string
  readonly hint?: string | undefined
}

/** Options that can be decoded without services. */
export interface Codec extends Schema.Constraint {
  readonly DecodingServices: never
  readonly EncodingServices: never
}

/** Options by name; a nested `Struct` is a group of options. */
export type Fields = Readonly<Record<string, Codec>>

/** A part of the settings with a name, its options, and what must hold between them. */
export interface Section<Name extends string, F extends Fields> {
  readonly name: Name
  readonly schema: Schema.Struct<F>
  /** One sentence for the reference page. */
  readonly meaning?: string | undefined
  /** Sees the options that are valid, also when others are not. */
  readonly check?: ((options: Partial<Schema.Struct<F>["Type"]>) => ReadonlyArray<Problem>) | undefined
}

/** A section whose options are not known to the type system. */
export interface AnySection {
  readonly name: string
  readonly schema: { readonly fields: Fields; readonly ast: SchemaAST.AST } & Codec
  readonly meaning?: string | undefined
  /** Takes the options of its own section; `never` stands for whatever they are. */
  readonly check?: ((options: never) => ReadonlyArray<Problem>) | undefined
}

/** The decoded options of a section. */
export type Decoded<S> = S extends Section<infer _, infer F> ? Schema.Struct<F>["Type"] : never

/** Names a struct of options. */
export const section = <const Name extends string, const F extends Fields>(
  name: Name,
  schema: Schema.Struct<F>,
  options?: Pick<Section<Name, F>, "meaning" | "check">
): Section<Name, F> => ({ name, schema, ...options })

/** One option of a section. */
export interface Leaf {
  /** `["error_handling", "retry", "delay"]`. */
  readonly keys: ReadonlyArray<string>
  /** `error_handling.retry.delay`. */
  readonly path: string
  /** `ERROR_HANDLING_RETRY_DELAY`. */
  readonly variable: string
  readonly schema: Codec
  readonly facts: Facts
  /** Made by this library: accepts texts and values alike. */
  readonly isOwn: boolean
}

const fieldsOf = (schema: Codec): Fields | undefined => {
  const candidate = schema as { readonly fields?: Fields; readonly schema?: { readonly fields?: Fields } }
  return candidate.fields ?? candidate.schema?.fields
}

const isRedacted = (ast: SchemaAST.AST): boolean => {
  const representation = SchemaAST.toType(ast).annotations?.["representation"] as { readonly id?: string } | undefined
  return representation?.id === "effect/schema/Redacted"
}

const foreignFacts = (name: string, schema: Codec): Facts => {
  const annotations = SchemaAST.resolve(schema.ast)
  const encoded = SchemaAST.toEncoded(schema.ast)
  const checks = (schema.ast.checks ?? []).flatMap((check) => {
    const expected = check.annotations?.["expected"]
    return typeof expected === "string" ? [expected] : []
  })
  const kinds: Record<string, string> = {
    String: "text",
    Number: "a number",
    Boolean: "true or false",
    Arrays: "a list"
  }
  const choices = encoded._tag === "Union" && encoded.types.every((type) => type._tag === "Literal")
    ? encoded.types.map((type) => type._tag === "Literal" ? String(type.literal) : "")
    : undefined
  const expected = choices?.join(" or ") ?? [kinds[encoded._tag] ?? "a valid value", ...checks].join(": ")
  return {
    meaning: typeof annotations?.["description"] === "string" ? annotations["description"] : "",
    expected: typeof annotations?.["expected"] === "string" ? annotations["expected"] : expected,
    isSecret: isRedacted(schema.ast) || Redaction.isSecretName(name),
    isNumber: SchemaAST.toType(schema.ast)._tag === "Number",
    choices
  }
}

const walk = (keys: ReadonlyArray<string>, fields: Fields): ReadonlyArray<Leaf> =>
  Object.entries(fields).flatMap(([name, schema]) => {
    const below = [...keys, name]
    const nested = fieldsOf(schema)
    if (nested !== undefined) return walk(below, nested)
    const facts = factsOf(schema.ast)
    return [{
      keys: below,
      path: below.join("."),
      variable: below.join("_").toUpperCase().replace(/[^A-Z0-9_]/g, "_"),
      schema,
      facts: facts ?? foreignFacts(name, schema),
      isOwn: facts !== undefined
    }]
  })

const known = new WeakMap<AnySection, ReadonlyArray<Leaf>>()

/** The options of a section, those of nested groups included. */
export const leavesOf = (section: AnySection): ReadonlyArray<Leaf> => {
  const leaves = known.get(section) ?? walk([section.name], section.schema.fields)
  known.set(section, leaves)
  return leaves
}

/** Encodes a decoded option as a file would hold it; `undefined` where it cannot be. */
export const encodeLeaf = (leaf: Leaf, value: unknown): unknown => {
  const schema = leaf.isOwn ? leaf.schema : Schema.toCodecJson(leaf.schema)
  const exit = Schema.encodeUnknownExit(schema as Schema.Codec<unknown>)(value)
  return Exit.isSuccess(exit) ? exit.value : undefined
}

const absent = new WeakMap<Leaf, Exit.Exit<unknown, unknown>>()

/** Decodes an option that is not given: its default, nothing, or a failure. */
export const decodeAbsent = (leaf: Leaf): Exit.Exit<unknown, unknown> => {
  const before = absent.get(leaf)
  if (before !== undefined) return before
  const name = leaf.keys[leaf.keys.length - 1]!
  const alone = Schema.Struct({ [name]: leaf.schema }) as unknown as Schema.Codec<Readonly<Record<string, unknown>>>
  const exit = Exit.map(Schema.decodeUnknownExit(alone)({}), (options) => options[name])
  // A default of a user's own schema may be computed anew each time.
  if (leaf.isOwn) absent.set(leaf, exit)
  return exit
}

/** The value of an option that is not given. */
export const defaultOf = (leaf: Leaf): unknown => {
  const exit = decodeAbsent(leaf)
  return Exit.isSuccess(exit) ? exit.value : undefined
}
