/** Which folder may import which, and what each entry point may load. Pure: sources in, complaints out. */
import * as Imports from "./imports.ts"

/** The house: a folder imports from itself and from the folders of its row. */
export const folders: Readonly<Record<string, ReadonlyArray<string>>> = (() => {
  const observability: ReadonlyArray<string> = []
  const resilience = ["observability"]
  const security = ["observability"]
  const resource = ["resilience", "security", "observability"]
  const data = ["resource", ...resource]
  const coordination = ["data", ...data]
  const edge = ["coordination", ...coordination]
  return {
    observability,
    resilience,
    security,
    resource,
    data,
    coordination,
    backends: edge,
    operations: ["backends", ...edge],
    testing: ["operations", "backends", ...edge]
  }
})()

/** Folders whose modules `seaworthy` itself exports: they need nothing but `effect`. */
export const rootFolders = ["resilience", "observability", "security", "resource", "data", "coordination"] as const

/** Packages that importing an entry point may load. What is loaded on demand, by `import()`, is free. */
export const packages: Readonly<Record<string, ReadonlyArray<string>>> = {
  ".": ["effect"],
  "./redis": ["effect", "ioredis"],
  "./postgres": ["effect", "@effect/sql-pg"],
  "./pglite": ["effect", "@effect/sql-pg", "@electric-sql/pglite"],
  "./operations": ["effect", "@effect/platform-node"],
  "./testing": ["effect"]
}

export interface Source {
  /** Relative to the repository, such as `src/resource/Database.ts`. */
  readonly file: string
  readonly text: string
}

export interface Project {
  readonly sources: ReadonlyArray<Source>
  /** Entry point -> source file. */
  readonly entries: Readonly<Record<string, string>>
  /** Packages that a user is told to install. */
  readonly declared: ReadonlyArray<string>
}

interface Edge extends Imports.Import {
  /** The file it leads to; absent for a package. */
  readonly to: string | undefined
}

const folderOf = (file: string) => file.split("/").length > 2 ? file.split("/")[1]! : ""

const resolve = (from: string, specifier: string) => {
  const parts = from.split("/").slice(0, -1)
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop()
    else if (part !== ".") parts.push(part)
  }
  return parts.join("/")
}

const packageOf = (specifier: string) => specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/")

/** Everything that is wrong, one line each, with file and line. Empty when all is well. */
export const complaints = (project: Project): Array<string> => {
  const graph = new Map(project.sources.map(({ file, text }) => [
    file,
    Imports.read(text).map((found): Edge => ({
      ...found,
      to: found.specifier.startsWith(".") ? resolve(file, found.specifier) : undefined
    }))
  ]))
  return [...twins(graph), ...wrongDirections(graph, project), ...cycles(graph), ...wrongPackages(graph, project)]
}

type Graph = ReadonlyMap<string, ReadonlyArray<Edge>>

/** Names that differ only in case are one file on macOS and Windows. */
const twins = (graph: Graph): Array<string> => {
  const first = new Map<string, string>()
  return [...graph.keys()].flatMap((file) => {
    const twin = first.get(file.toLowerCase())
    first.set(file.toLowerCase(), file)
    return twin === undefined ? [] : [`${twin} and ${file} differ only in case: some file systems keep one of them`]
  })
}

const wrongDirections = (graph: Graph, project: Project): Array<string> => {
  const found: Array<string> = []
  for (const [file, edges] of graph) {
    const folder = folderOf(file)
    const allowed = file === project.entries["."] ? rootFolders : folders[folder]
    if (allowed === undefined) {
      found.push(`${file}: a folder "${folder}" is not in the table of scripts/lib/directions.ts`)
      continue
    }
    for (const edge of edges) {
      const at = `${file}:${edge.line}`
      if (edge.to === undefined) {
        const name = packageOf(edge.specifier)
        if (name === "seaworthy") {
          found.push(`${at}: imports the published name "${edge.specifier}": use a relative path`)
        } else if (!name.startsWith("node:") && !project.declared.includes(name)) {
          found.push(`${at}: imports "${name}", which package.json does not name as a (peer) dependency`)
        }
        continue
      }
      if (!graph.has(edge.to)) {
        found.push(`${at}: imports ${edge.to}, which does not exist`)
        continue
      }
      const target = folderOf(edge.to)
      if (target !== folder && !allowed.some((name) => name === target)) {
        const may = allowed.length === 0 ? "nothing of ours" : allowed.join(", ")
        found.push(`${at}: src/${folder || "index.ts"} may not import src/${target || "index.ts"} (only ${may})`)
      }
    }
  }
  return found
}

/** Cycles of value imports. A cycle of `import type` is erased when compiled and harms nobody. */
const cycles = (graph: Graph): Array<string> => {
  const found: Array<string> = []
  const finished = new Set<string>()
  const visit = (file: string, path: ReadonlyArray<string>): void => {
    const start = path.indexOf(file)
    if (start >= 0) {
      found.push(`import cycle: ${[...path.slice(start), file].join(" -> ")}`)
      return
    }
    if (finished.has(file)) return
    for (const edge of graph.get(file) ?? []) {
      if (edge.kind === "value" && edge.to !== undefined) visit(edge.to, [...path, file])
    }
    finished.add(file)
  }
  for (const file of graph.keys()) visit(file, [])
  return found
}

/** Importing one entry point never loads another's client. Types count: they end up in the published declarations. */
const wrongPackages = (graph: Graph, project: Project): Array<string> => {
  const found: Array<string> = []
  for (const [entry, start] of Object.entries(project.entries)) {
    const allowed = packages[entry]
    if (allowed === undefined) {
      found.push(`package.json: the entry point "${entry}" is not in the table of scripts/lib/directions.ts`)
      continue
    }
    const seen = new Set<string>()
    const visit = (file: string, path: ReadonlyArray<string>): void => {
      if (seen.has(file)) return
      seen.add(file)
      for (const edge of graph.get(file) ?? []) {
        if (edge.kind === "dynamic") continue
        if (edge.to !== undefined) visit(edge.to, [...path, file])
        else if (!edge.specifier.startsWith("node:") && !allowed.includes(packageOf(edge.specifier))) {
          found.push(
            `${file}:${edge.line}: entry point "${entry}" would load "${packageOf(edge.specifier)}", by ${
              [...path, file].join(" -> ")
            }`
          )
        }
      }
    }
    visit(start, [])
  }
  return found
}
