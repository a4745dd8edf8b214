/**
 * The package as a user gets it: built, packed, installed into an empty project, imported and called there.
 *
 * Nothing is fetched: the tarball has no dependencies, and its peers are linked from this repository's `node_modules`.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { entries, manifest, root } from "../../scripts/lib/files.ts"

const { bin, peerDependencies, version } = manifest()
const names = Object.keys(entries())
const published = (entry: string) => entry.replace(/^\./, "seaworthy")

const work = mkdtempSync(join(tmpdir(), "seaworthy-pack-"))
/** Has only what the root entry needs. */
const bare = join(work, "bare")
/** Has every optional peer, too. */
const full = join(work, "full")

const npm = (cwd: string, ...args: ReadonlyArray<string>) => {
  const { status, stderr, stdout } = spawnSync("npm", args, { cwd, encoding: "utf8" })
  if (status !== 0) throw new Error(`npm ${args.join(" ")} failed:\n${stdout}\n${stderr}`)
}

const node = (cwd: string, code: string) =>
  spawnSync(process.execPath, ["--input-type=module", "--eval", code], { cwd, encoding: "utf8" })

const link = (project: string, name: string) => {
  const to = join(project, "node_modules", name)
  mkdirSync(dirname(to), { recursive: true })
  symlinkSync(join(root, "node_modules", name), to, "junction")
}

/** Builds and packs a copy, so that no other test sees a half-built `dist`. */
const pack = () => {
  const copy = join(work, "copy")
  mkdirSync(copy)
  const files = ["src", "package.json", "tsconfig.json", "tsconfig.build.json", "README.md", "CHANGELOG.md", "LICENSE"]
  for (const file of files.filter((name) => existsSync(join(root, name)))) {
    cpSync(join(root, file), join(copy, file), { recursive: true })
  }
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"), "junction")
  npm(copy, "pack", "--pack-destination", work)
  return join(work, `seaworthy-${version}.tgz`)
}

const project = (folder: string, tarball: string, peers: ReadonlyArray<string>) => {
  mkdirSync(folder)
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }))
  npm(folder, "install", "--offline", "--legacy-peer-deps", "--no-package-lock", "--ignore-scripts", tarball)
  for (const name of peers) link(folder, name)
}

/** What the compiler says about a program that imports the entry points: nothing is skipped, nothing may be `any`. */
const complaints = (folder: string, imported: ReadonlyArray<string>): Array<string> => {
  const lines = imported.flatMap((entry, index) => [
    `import * as M${index} from "${published(entry)}"`,
    `export const typed${index}: IsAny<typeof M${index}> = false`
  ])
  const isAny = "type IsAny<T> = 0 extends 1 & T ? true : false"
  writeFileSync(join(folder, "index.ts"), [...lines, isAny, ""].join("\n"))
  const compilerOptions = {
    target: "ES2022",
    lib: ["ES2023", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
    module: "NodeNext",
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    types: folder === full ? ["node"] : []
  }
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["index.ts"] }))
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  const { stdout } = spawnSync(process.execPath, [tsc, "-p", folder, "--pretty", "false"], {
    cwd: folder,
    encoding: "utf8"
  })
  return stdout.split("\n").filter((line) => /^\S/.test(line))
}

beforeAll(() => {
  const tarball = pack()
  project(bare, tarball, ["effect"])
  project(full, tarball, [...Object.keys(peerDependencies), "@types/node"])
}, 180_000)

afterAll(() => rmSync(work, { recursive: true, force: true }))

describe("the packed package", () => {
  it("holds the build, the sources that its maps point to, and the papers; nothing else", () => {
    const installed = join(bare, "node_modules/seaworthy")
    for (const file of ["package.json", "LICENSE", "README.md", "CHANGELOG.md", "dist/index.js", "src/index.ts"]) {
      assert.isTrue(existsSync(join(installed, file)), `${file} is missing`)
    }
    for (const file of ["test", "node_modules", "tsconfig.json"]) {
      assert.isFalse(existsSync(join(installed, file)), `${file} does not belong there`)
    }
  })

  it("has no dependencies of its own", () => {
    assert.isUndefined(JSON.parse(readFileSync(join(bare, "node_modules/seaworthy/package.json"), "utf8")).dependencies)
  })

  it("needs nothing but effect for the root entry", () => {
    const { status, stderr, stdout } = node(bare, "console.log(Object.keys(await import('seaworthy')).length > 0)")
    assert.deepStrictEqual({ status, stderr, stdout }, { status: 0, stderr: "", stdout: "true\n" })
  })

  for (const entry of names) {
    it(`can be imported as ${published(entry)}`, () => {
      const code = `console.log(Object.keys(await import('${published(entry)}')).length > 0)`
      const { status, stderr, stdout } = node(full, code)
      assert.deepStrictEqual({ status, stderr, stdout }, { status: 0, stderr: "", stdout: "true\n" })
    })
  }

  it("has strict types for the root entry, checked to the last declaration, effect's included", () => {
    assert.deepStrictEqual(complaints(bare, ["."]), [])
  })

  it("has strict types for every entry point, checked to the last declaration of ours", () => {
    // PGlite 0.5 publishes declarations that need a package which it does not name: complaints about peers are theirs.
    // Peers are linked, so their files lie outside of the project.
    const ours = complaints(full, names).filter((line) => !line.startsWith("../"))
    assert.deepStrictEqual(ours, [])
  })

  describe("brings a command", () => {
    for (const name of Object.keys(bin)) {
      const call = (...args: ReadonlyArray<string>) =>
        spawnSync(join(full, "node_modules/.bin", name), args, { cwd: full, encoding: "utf8" })

      it(`${name} --version prints the version`, () => {
        const { status, stdout } = call("--version")
        assert.strictEqual(status, 0)
        assert.include(stdout, version)
      })

      it(`${name} --help names itself and how to use it`, () => {
        const { status, stdout } = call("--help")
        assert.strictEqual(status, 0)
        assert.match(stdout, new RegExp(`USAGE[\\s\\S]*${name}`, "i"))
      })
    }
  })
})
