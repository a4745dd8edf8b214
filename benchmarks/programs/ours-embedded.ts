/** Filesystem, memory cache and embedded database as an application with this library starts them. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { CacheStore, FileStore, Status } from "seaworthy"
import { PgliteDatabase } from "seaworthy/pglite"
import type { Start } from "./target.ts"

export const start: Start = async ({ folder }) => {
  const layer = PgliteDatabase.layerWith({ data_dir: "memory://" }).pipe(
    Layer.provideMerge(CacheStore.layerMemoryWith({})),
    Layer.provideMerge(FileStore.layerWith({ base_path: folder })),
    Layer.provideMerge(Status.layer),
    Layer.provide(Layer.merge(NodeFileSystem.layer, NodePath.layer))
  )
  const scope = Scope.makeUnsafe()
  await Effect.runPromise(Layer.buildWithScope(layer, scope))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
