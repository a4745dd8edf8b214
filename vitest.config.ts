import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import "./scripts/lib/node20.ts"

const src = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^seaworthy$/, replacement: src("index.ts") },
      { find: /^seaworthy\/(redis|postgres|pglite)$/, replacement: src("backends/$1.ts") },
      { find: /^seaworthy\/(operations|testing)$/, replacement: src("$1/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2
  }
})
