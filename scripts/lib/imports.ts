/**
 * Reads the import and export statements of a source file.
 *
 * TypeScript 7 has no compiler API yet. The formatter puts every statement at the start of a line, which makes this small
 * reader exact: lines of doc comments and nested text never start with `import` or `export`.
 */

export interface Import {
  /** What stands between the quotes. */
  readonly specifier: string
  /** 1-based line of the statement. */
  readonly line: number
  /** `type` is erased when compiled; `dynamic` is `import("...")`, loaded on demand. */
  readonly kind: "value" | "type" | "dynamic"
  /** The name in `export * as Name from`. */
  readonly namespace?: string
}

const statement =
  /^(?:(import|export)\b((?:(?!^(?:import|export)\b)[^"';=])*?)\bfrom\s*"([^"\n]+)"|import\s*"([^"\n]+)")/gm
const dynamic = /\bimport\(\s*"([^"\n]+)"\s*\)/g

const lineAt = (text: string, index: number) => text.slice(0, index).split("\n").length

/** Every import of a file, in the order of its lines. */
export const read = (text: string): Array<Import> => {
  const found: Array<Import> = []
  for (const match of text.matchAll(statement)) {
    const [, , clause = "", from, bare] = match
    const namespace = /^\s*\*\s+as\s+(\w+)/.exec(clause)?.[1]
    found.push({
      specifier: (from ?? bare)!,
      line: lineAt(text, match.index),
      kind: /^\s*type\b/.test(clause) ? "type" : "value",
      ...(match[1] === "export" && namespace !== undefined ? { namespace } : {})
    })
  }
  for (const match of text.matchAll(dynamic)) {
    const line = lineAt(text, match.index)
    const before = text.split("\n")[line - 1]!.trimStart()
    if (/^(\*|\/\/|\/\*)/.test(before)) continue
    const inType = /\btypeof\s*$/.test(text.slice(Math.max(0, match.index - 20), match.index))
    found.push({ specifier: match[1]!, line, kind: inType ? "type" : "dynamic" })
  }
  return found.sort((a, b) => a.line - b.line)
}
