/**
 * The built-in resources with the drivers that the settings name, loaded on demand.
 *
 * **When to use**
 *
 * When the driver is a matter of deployment: `cache.driver` is `memory` on a laptop and `redis` in production. When the
 * driver is fixed, compose `PostgresDatabase.layer` and its like directly: the bundler then knows what you need.
 *
 * **Details**
 *
 * Order: filesystem, then cache, then database. A driver whose package is not installed is a `ResourceError` that names
 * the package.
 *
 * **Example** (Everything on embedded defaults)
 *
 * ```ts no-run
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect, Layer } from "effect"
 * import { CacheStore, Status } from "seaworthy"
 * import { Drivers } from "seaworthy/operations"
 *
 * const AppLayer = Drivers.layer.pipe(Layer.provide(NodeServices.layer), Layer.provideMerge(Status.layer))
 * const program = Effect.andThen(CacheStore.CacheStore, Effect.log("ready"))
 * await Effect.runPromise(program.pipe(Effect.provide(AppLayer)))
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Status } from "../observability/Status.ts"
import * as CacheStore from "../resource/CacheStore.ts"
import type { Database } from "../resource/Database.ts"
import * as FileStore from "../resource/FileStore.ts"
import { ResourceError } from "../resource/ResourceError.ts"
import * as Settings from "../resource/Settings.ts"
import * as Redaction from "../security/Redaction.ts"

/**
 * The built-in resources, in the order of their start.
 *
 * @category models
 * @since 0.1.0
 */
export const resources = ["filesystem", "cache", "database"] as const

/**
 * @category models
 * @since 0.1.0
 */
export type ResourceId = (typeof resources)[number]

type Failure = ResourceError | Settings.SettingsError
type Needs = Status | FileSystem.FileSystem | Path.Path

/** Imports a backend; a package that is not there becomes an error that says what to install. */
const load = <A>(resource: ResourceId, option: string, packages: ReadonlyArray<string>, load: () => Promise<A>) =>
  Effect.tryPromise({
    try: load,
    catch: (cause) => {
      const missing = typeof cause === "object" && cause !== null && "code" in cause &&
        cause.code === "ERR_MODULE_NOT_FOUND"
      return new ResourceError({
        resource,
        phase: "validate",
        reason: "ConfigurationInvalid",
        detail: missing
          ? `its driver needs ${packages.join(" and ")}, which is not installed`
          : "its driver could not be loaded",
        option,
        remedy: missing ? `Run: npm install ${packages.join(" ")}` : undefined,
        attempts: 1,
        elapsed: 0,
        cause: Redaction.error(cause)
      })
    }
  })

const cacheLayer: Layer.Layer<CacheStore.CacheStore, Failure, Status> = Layer.unwrap(
  Effect.gen(function*() {
    const settings = yield* Settings.Settings
    if (settings.cache.driver === "memory") return CacheStore.layerMemory
    const { RedisCache } = yield* load("cache", "cache.driver", ["ioredis"], () => import("../backends/redis.ts"))
    return RedisCache.layer
  })
).pipe(Layer.provide(Settings.layer))

/**
 * The database alone, by its configured driver.
 *
 * @category layers
 * @since 0.1.0
 */
export const database: Layer.Layer<Database | SqlClient, Failure, Status | FileSystem.FileSystem | Path.Path> = Layer
  .unwrap(
    Effect.gen(function*() {
      const settings = yield* Settings.Settings
      if (settings.database.driver === "postgres") {
        const { PostgresDatabase } = yield* load(
          "database",
          "database.driver",
          ["@effect/sql-pg"],
          () => import("../backends/postgres.ts")
        )
        return PostgresDatabase.layer
      }
      const { PgliteDatabase } = yield* load(
        "database",
        "database.driver",
        ["@electric-sql/pglite", "@effect/sql-pg"],
        () => import("../backends/pglite.ts")
      )
      return PgliteDatabase.layer
    })
  ).pipe(Layer.provide(Settings.layer))

/**
 * Filesystem, cache and database, each by its configured driver.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<FileStore.FileStore | CacheStore.CacheStore | Database | SqlClient, Failure, Needs> =
  database.pipe(Layer.provideMerge(cacheLayer), Layer.provideMerge(FileStore.layer))

/**
 * Some of the built-in resources, in the same order. Their services are not in the type: use it to check, not to build on.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerOnly = (only: ReadonlyArray<ResourceId>): Layer.Layer<never, Failure, Needs> => {
  const layers: Record<ResourceId, Layer.Layer<never, Failure, Needs>> = {
    filesystem: FileStore.layer as Layer.Layer<never, Failure, Needs>,
    cache: cacheLayer as Layer.Layer<never, Failure, Needs>,
    database: database as Layer.Layer<never, Failure, Needs>
  }
  return resources.filter((id) => only.includes(id)).reduce(
    (below: Layer.Layer<never, Failure, Needs>, id) => layers[id].pipe(Layer.provideMerge(below)),
    Layer.empty
  )
}
