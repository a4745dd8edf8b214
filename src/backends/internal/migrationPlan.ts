// Which migrations are to run, from the files of a folder and the rows of the table. Pure.
import type { Explanation } from "../../resource/ResourceError.ts"

export interface MigrationFile {
  readonly id: number
  readonly name: string
  readonly file: string
  readonly checksum: string
}

export interface AppliedRow {
  readonly id: number
  readonly name: string
  readonly file: string
  readonly checksum: string
}

export type Plan<F extends MigrationFile> =
  | { readonly ok: true; readonly pending: ReadonlyArray<F>; readonly newer: ReadonlyArray<AppliedRow> }
  | { readonly ok: false; readonly problem: Explanation }

const pattern = /^(\d{1,9})[_-](.+)\.(sql|js|mjs|ts|mts)$/

/** What a file name says, or `undefined` for a file that is no migration. */
export const parseName = (
  file: string
): { readonly id: number; readonly name: string; readonly kind: "sql" | "module" } | undefined => {
  const match = file.endsWith(".d.ts") || file.endsWith(".d.mts") ? null : pattern.exec(file)
  if (match === null) return undefined
  return { id: Number(match[1]), name: match[2] as string, kind: match[3] === "sql" ? "sql" : "module" }
}

const problem = (reason: Explanation["reason"], detail: string, remedy: string): Plan<never> => ({
  ok: false,
  problem: { reason, detail, remedy, option: "database.migrations", retryable: false }
})

/** A `.sql` file without a number would be forgotten in silence. */
export const misnamed = (files: ReadonlyArray<string>): string | undefined =>
  files.find((file) => file.endsWith(".sql") && parseName(file) === undefined)

export const plan = <F extends MigrationFile>(
  files: ReadonlyArray<F>,
  applied: ReadonlyArray<AppliedRow>
): Plan<F> => {
  const sorted = [...files].sort((one, other) => one.id - other.id)
  for (let i = 1; i < sorted.length; i++) {
    const [one, other] = [sorted[i - 1] as F, sorted[i] as F]
    if (one.id === other.id) {
      return problem(
        "Conflict",
        `migrations ${one.file} and ${other.file} have the same number`,
        "Give the newer one the next free number."
      )
    }
  }
  const byId = new Map(sorted.map((file) => [file.id, file]))
  const newestFile = sorted.at(-1)?.id ?? 0
  const newestApplied = applied.reduce((max, row) => Math.max(max, row.id), 0)
  for (const row of applied) {
    const file = byId.get(row.id)
    if (file === undefined) {
      // A newer version of the application has been here; going on is what lets versions overlap during a deployment.
      if (row.id > newestFile) continue
      return problem(
        "Conflict",
        `migration ${row.file} was applied, but its file is gone`,
        "Bring the file back as it was."
      )
    }
    if (file.checksum !== row.checksum) {
      return problem(
        "Conflict",
        `migration ${file.file} was changed after it had been applied`,
        "Restore the file as it was, and put the change into a new migration."
      )
    }
  }
  const done = new Set(applied.map((row) => row.id))
  const pending = sorted.filter((file) => !done.has(file.id))
  const late = pending.find((file) => file.id < newestApplied)
  if (late !== undefined) {
    return problem(
      "Conflict",
      `migration ${late.file} is new, but a later one (number ${newestApplied}) was applied already`,
      "Give it the next free number, so that every database runs the same order."
    )
  }
  return { ok: true, pending, newer: applied.filter((row) => row.id > newestFile) }
}

/** Line and column (from 1) of a character position (from 1). */
export const lineOf = (text: string, position: number): { readonly line: number; readonly column: number } => {
  const before = text.slice(0, Math.max(0, position - 1)).split("\n")
  return { line: before.length, column: (before.at(-1) as string).length + 1 }
}
