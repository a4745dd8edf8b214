// Programs that have to end by themselves, in a process of their own.
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** What the program prints, or how it was ended. `program` gets the folder of the sources. */
export const outputOf = (program: (source: string) => string, timeout: number): Promise<string> =>
  new Promise((resolve) => {
    execFile(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "-e", program(`${root}src`)],
      { cwd: root, timeout },
      (error, stdout) => resolve(error === null ? stdout.trim() : `${error.message} (signal ${error.signal})`)
    )
  })
