/**
 * Completes `package-lock.json` after a dependency changed: `npm run lockfile`.
 *
 * Tools with native parts (dprint, oxlint) list one optional package a platform. A registry mirror that carries only the
 * platform it serves makes npm leave the others out of the lockfile, and `npm ci` then refuses the lockfile everywhere.
 * The missing entries follow from what is there: the exact version that the tool asks for, and the platform in the name.
 */
import { readFileSync, writeFileSync } from "node:fs"

interface Entry {
  readonly version?: string
  readonly dev?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const systems = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"]
const processors = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"]

/** What npm compares with the machine, read from a name such as `@oxlint/binding-linux-arm64-musl`. */
const platformOf = (name: string) => {
  const words = name.slice(name.indexOf("/") + 1).split("-")
  const os = systems.find((system) => words.includes(system))
  const cpu = processors.find((processor) => words.includes(processor))
  if (os === undefined || cpu === undefined) throw new Error(`no platform in the package name "${name}"`)
  const musl = words.some((word) => word.startsWith("musl"))
  const glibc = words.some((word) => word === "glibc" || word.startsWith("gnu"))
  return { os: [os], cpu: [cpu], ...(musl ? { libc: ["musl"] } : glibc ? { libc: ["glibc"] } : {}) }
}

const file = new URL("../package-lock.json", import.meta.url)
const lock = JSON.parse(readFileSync(file, "utf8")) as { packages: Record<string, Entry> }

const missing = Object.values(lock.packages).flatMap((entry) =>
  Object.entries(entry.optionalDependencies ?? {})
    .filter(([name, version]) => /^\d/.test(version) && lock.packages[`node_modules/${name}`] === undefined)
    .map(([name, version]) => {
      const { os, cpu, ...libc } = platformOf(name)
      return [`node_modules/${name}`, {
        version,
        cpu,
        ...(entry.dev ? { dev: true } : {}),
        ...libc,
        optional: true,
        os
      }]
    })
)

const paths = [...Object.entries(lock.packages), ...missing as Array<[string, Entry]>]
lock.packages = Object.fromEntries(paths.sort(([a], [b]) => a.localeCompare(b, "en")))
writeFileSync(file, JSON.stringify(lock, null, 2) + "\n")
console.log(`package-lock.json: ${missing.length} platform packages added`)
