/** A `Database` whose statements take what a test says, for what has to do with time and with what users hand in. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import { makeCompilerSqlite } from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { Database } from "../../../src/resource/Database.ts"
import { Observers } from "../../../src/resource/database/observer.ts"

export interface FakeDatabase {
  readonly layer: Layer.Layer<Database>
  readonly observers: Observers
  /** Tells the observers of a statement of the calling fiber. */
  readonly ran: (
    sql: string,
    duration: number,
    params?: ReadonlyArray<unknown>,
    exit?: Exit.Exit<unknown, SqlError>
  ) => Effect.Effect<void>
  /** What was sent, in order. */
  readonly sent: Array<string>
  /** Connections in use, of two. */
  active: number
}

const nothing = { attempts: 0, successes: 0, failures: 0, mean: 0, p50: 0, p95: 0, p99: 0, max: 0 }

export const make = (driver: string): FakeDatabase => {
  const observers = new Observers()
  const sent: Array<string> = []
  const run = (sql: string) =>
    Effect.sync(() => {
      sent.push(sql)
      return []
    })
  const connection: Connection = {
    execute: run,
    executeRaw: run,
    executeValues: run,
    executeValuesUnprepared: run,
    executeUnprepared: run,
    executeStream: (sql) => Stream.fromEffectDrain(run(sql))
  }
  const fake: FakeDatabase = {
    observers,
    sent,
    active: 0,
    ran: (sql, duration, params = [], exit = Exit.void) =>
      Effect.withFiber((fiber) => Effect.sync(() => observers.tell({ sql, params, duration, exit, fiber }))),
    layer: Layer.effect(
      Database,
      Effect.map(
        SqlClient.make({
          acquirer: Effect.succeed(connection),
          compiler: makeCompilerSqlite(),
          driver,
          spanAttributes: []
        }),
        (sql) => ({
          driver,
          sql,
          migrated: Effect.succeed([]),
          ping: Effect.die("not asked"),
          pool: {
            stats: Effect.sync(() => ({
              max: 2,
              active: fake.active,
              idle: 0,
              waiting: 0,
              acquire: nothing,
              leaks: 0
            })),
            leases: Effect.succeed([]),
            purge: Effect.void
          },
          observe: observers.add
        })
      )
    ).pipe(Layer.provide(Reactivity.layer))
  }
  return fake
}
