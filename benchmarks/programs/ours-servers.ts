/** Filesystem, Redis and Postgres as an application with this library starts them. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { FileStore, Status } from "seaworthy"
import { PostgresDatabase } from "seaworthy/postgres"
import { RedisCache } from "seaworthy/redis"
import type { Start } from "./target.ts"

export const start: Start = async ({ folder, servers }) => {
  const { postgres, redis } = servers!
  const layer = PostgresDatabase.layerWith({ ...postgres, password: Redacted.make(postgres.password) }).pipe(
    Layer.provideMerge(RedisCache.layerWith(redis)),
    Layer.provideMerge(FileStore.layerWith({ base_path: folder })),
    Layer.provideMerge(Status.layer),
    Layer.provide(Layer.merge(NodeFileSystem.layer, NodePath.layer))
  )
  const scope = Scope.makeUnsafe()
  await Effect.runPromise(Layer.buildWithScope(layer, scope))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
