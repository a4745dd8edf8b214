/** Paths and file listings that the scripts share. Every path is relative to the repository and has forward slashes. */
import { readdirSync, readFileSync } from "node:fs"
import { join, relative, sep } from "node:path"
import { fileURLToPath } from "node:url"

/** The repository's folder, absolute. */
export const root = fileURLToPath(new URL("../..", import.meta.url))

const left = new Set(["node_modules", "dist", "coverage", ".git", ".cache"])

/** Every file below `folder` whose name matches, sorted; an absent folder is an empty one. */
export const list = (folder: string, name: RegExp, base = root): Array<string> => {
  const walk = (path: string): Array<string> =>
    readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory()
        ? left.has(entry.name) ? [] : walk(join(path, entry.name))
        : name.test(entry.name)
        ? [relative(base, join(path, entry.name)).split(sep).join("/")]
        : []
    )
  try {
    return walk(join(base, folder)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return []
    throw error
  }
}

/** The text of a file of the repository. */
export const read = (file: string, base = root): string => readFileSync(join(base, file), "utf8")

/** The parts of `package.json` that the scripts ask for. */
export interface Manifest {
  readonly version: string
  readonly bin: Readonly<Record<string, string>>
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>
  readonly peerDependencies: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
}

export const manifest = (base = root): Manifest => JSON.parse(read("package.json", base)) as Manifest

/** The source file of each entry point: `./redis` -> `src/backends/redis.ts`. */
export const entries = (base = root): Record<string, string> =>
  Object.fromEntries(
    Object.entries(manifest(base).exports).flatMap(([name, target]) =>
      typeof target === "string" ? [] : [[name, target.default.replace(/^\.\/dist\//, "src/").replace(/\.js$/, ".ts")]]
    )
  )
