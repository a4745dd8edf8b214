import { makePackage } from "../harness/package.ts"
import { startAll } from "../harness/servers.ts"
import * as Startup from "../harness/startup.ts"
import type { Suite } from "../harness/Suite.ts"
import * as Bare from "../programs/bare-servers.ts"
import * as Ours from "../programs/ours-servers.ts"
import type { Target } from "../programs/target.ts"

const groups = { process: "process, from its start", within: "within a process" }

export const suite: Suite = {
  about:
    "Filesystem, then a real Redis, then a real Postgres, until all are ready: directories made, probe file written and " +
    "read, connections open, a value set and read, a transaction written, read and rolled back. Beside a script that does " +
    "the same on the bare clients (`benchmarks/programs`), without phases, time-outs, retries, monitoring or status.",
  metric: "wall",
  withoutBytes: true,
  rounds: 15,
  goals: [{ group: groups.process, ratio: 1.1 }, { group: groups.within, ratio: 1.1 }],
  make: async () => {
    const { close, postgres, redis } = await startAll()
    const built = await makePackage("startup")
    const servers: NonNullable<Target["servers"]> = {
      redis: { host: redis.host, port: redis.port },
      postgres: {
        host: postgres.host,
        port: postgres.port,
        database: postgres.database,
        username: postgres.username,
        password: postgres.password
      }
    }
    const env = {
      CACHE_DRIVER: "redis",
      CACHE_URL: redis.url,
      DATABASE_DRIVER: "postgres",
      DATABASE_URL: postgres.url
    }
    return {
      cases: [
        await Startup.wholeProgram(groups.process, "seaworthy, layers", "ours", built, "ours-servers", servers),
        await Startup.wholeProgram(groups.process, "bare clients", "floor", built, "bare-servers", servers),
        Startup.wholeCommand(groups.process, "the command `seaworthy up`", built, env),
        Startup.within(groups.within, "seaworthy, layers", "ours", Ours.start, servers),
        Startup.within(groups.within, "bare clients", "floor", Bare.start, servers)
      ],
      close
    }
  }
}
