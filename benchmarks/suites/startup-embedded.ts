import { makePackage } from "../harness/package.ts"
import * as Startup from "../harness/startup.ts"
import type { Suite } from "../harness/Suite.ts"
import * as Bare from "../programs/bare-embedded.ts"
import * as Ours from "../programs/ours-embedded.ts"

const groups = { process: "process, from its start", within: "within a process" }

export const suite: Suite = {
  about: "Filesystem, memory cache and embedded database in memory, until all are ready, beside a script on bare " +
    "`PGlite.create` with the same probes. Most of the time is PGlite making a database.",
  metric: "wall",
  withoutBytes: true,
  rounds: 3,
  goals: [{ group: groups.process, ratio: 1.1 }, { group: groups.within, ratio: 1.1 }],
  make: async () => {
    const built = await makePackage("startup-embedded")
    return {
      cases: [
        await Startup.wholeProgram(groups.process, "seaworthy, layers", "ours", built, "ours-embedded", undefined),
        await Startup.wholeProgram(groups.process, "bare PGlite", "floor", built, "bare-embedded", undefined),
        Startup.wholeCommand(groups.process, "the command `seaworthy up`", built, { DATABASE_DATA_DIR: "memory://" }),
        Startup.within(groups.within, "seaworthy, layers", "ours", Ours.start, undefined),
        Startup.within(groups.within, "bare PGlite", "floor", Bare.start, undefined)
      ]
    }
  }
}
