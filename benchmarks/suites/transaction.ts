import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { Pool } from "pg"
import * as PostgresDatabase from "../../src/backends/PostgresDatabase.ts"
import * as Transaction from "../../src/data/Transaction.ts"
import * as Status from "../../src/observability/Status.ts"
import { group } from "../harness/loops.ts"
import { startPostgres } from "../harness/servers.ts"
import type { LoopCase, Suite } from "../harness/Suite.ts"

const groups = {
  transaction: "a transaction, one after the other",
  transaction16: "a transaction, 16 at once",
  statement: "a statement, one after the other",
  statement16: "a statement, 16 at once"
}

const connections = 16
const rows = 4096
const warmup = 3_000
const begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"

const insert = "INSERT INTO moved (account, cents) VALUES ($1, $2)"
const update = "UPDATE account SET cents = cents + $1 WHERE id = $2"
const select = "SELECT cents FROM account WHERE id = $1"

export const suite: Suite = {
  about:
    "A transaction of `INSERT` and `UPDATE`, and a `SELECT` of one row by its key, on a real Postgres at the loopback " +
    "address without fsync and with `synchronous_commit = off`, so that no disk is waited for. All begin with " +
    "`REPEATABLE READ`, which is our default, and have 16 connections. The floor is `@effect/sql-pg` alone, which ours " +
    "is built on; beside it ours bounds the wait for a connection, times out, watches the outcome of COMMIT, counts, and " +
    "keeps a log. `pg` is run by hand (`BEGIN`, `COMMIT`, `ROLLBACK` on failure), with and without prepared statements " +
    "(the other two prepare). CPU time is that of the client.",
  metric: "cpu",
  rounds: 61,
  withoutBytes: true,
  goals: Object.values(groups).flatMap((group) => [
    { group, ratio: 1.05, metric: "wall" },
    { group, ratio: 1.05, metric: "cpu" }
  ]),
  make: async () => {
    const { close, postgres } = await startPostgres({ synchronous_commit: "off" })
    const { database, host, password, port, username } = postgres
    const scope = Scope.makeUnsafe()
    const place = { host, port, database, username, password: Redacted.make(password) }
    const run = Effect.runPromise
    const ours = await run(Layer.buildWithScope(
      Layer.mergeAll(
        PostgresDatabase.layerWith({ ...place, pool: { max_connections: connections } }),
        Transaction.layerWith()
      ).pipe(Layer.provide(Status.layer)),
      scope
    ))
    const bare = await run(
      Layer.buildWithScope(PgClient.layer({ ...place, maxConnections: connections }), scope)
    )
    const pool = new Pool({ host, port, database, user: username, password, max: connections })

    await pool.query("CREATE UNLOGGED TABLE account (id int PRIMARY KEY, cents int NOT NULL) WITH (fillfactor = 50)")
    await pool.query("CREATE UNLOGGED TABLE moved (account int NOT NULL, cents int NOT NULL)")
    await pool.query(`INSERT INTO account SELECT id, 0 FROM generate_series(0, ${rows - 1}) AS id`)
    await pool.query("VACUUM ANALYZE account")

    // In turn: what is under way at once never meets in one row.
    let calls = 0
    const next = () => calls++ % rows

    const body = (sql: SqlClient.SqlClient) => () => {
      const id = next()
      return Effect.andThen(
        sql`INSERT INTO moved (account, cents) VALUES (${id}, ${1})`,
        sql`UPDATE account SET cents = cents + ${1} WHERE id = ${id}`
      )
    }
    const read = (sql: SqlClient.SqlClient) => () => sql`SELECT cents FROM account WHERE id = ${next()}`
    const within = <R>(context: Context.Context<R>, self: () => Effect.Effect<unknown, unknown, R>) => {
      const provided = Effect.suspend(self)
      return () => Effect.provideContext(provided, context)
    }
    const oursSql = Context.get(ours, SqlClient.SqlClient)
    const bareSql = Context.get(bare, SqlClient.SqlClient)
    const oursBody = body(oursSql)
    const bareBody = body(bareSql)

    const byHand = (prepared: boolean) => {
      const [insertQuery, updateQuery, selectQuery] = [insert, update, select].map(
        (text, at) => (values: Array<number>) => prepared ? { text, values, name: `statement-${at}` } : { text, values }
      ) as [Query, Query, Query]
      return {
        transaction: async () => {
          const id = next()
          const client = await pool.connect()
          try {
            await client.query(begin)
            await client.query(insertQuery([id, 1]))
            await client.query(updateQuery([1, id]))
            await client.query("COMMIT")
          } catch (error) {
            await client.query("ROLLBACK")
            throw error
          } finally {
            client.release()
          }
        },
        statement: () => pool.query(selectQuery([next()]))
      }
    }
    const plain = byHand(false)
    const prepared = byHand(true)

    const cases = (
      names: { readonly transaction: string; readonly statement: string },
      inFlight: number
    ): Array<LoopCase> => {
      const transaction = group(names.transaction, inFlight)
      const statement = group(names.statement, inFlight)
      return [
        transaction.effect("seaworthy", "ours", within(ours, () => Transaction.run(oursBody()))),
        transaction.effect(
          "@effect/sql-pg",
          "floor",
          within(
            bare,
            () => Effect.provideService(bareSql.withTransaction(bareBody()), SqlClient.BeginTransaction, begin)
          )
        ),
        transaction.promise("pg", "peer", plain.transaction),
        transaction.promise("pg, prepared", "peer", prepared.transaction),
        statement.effect("seaworthy", "ours", within(ours, read(oursSql))),
        statement.effect("@effect/sql-pg", "floor", within(bare, read(bareSql))),
        statement.promise("pg", "peer", plain.statement),
        statement.promise("pg, prepared", "peer", prepared.statement)
      ]
    }
    const all = [
      ...cases({ transaction: groups.transaction, statement: groups.statement }, 1),
      ...cases({ transaction: groups.transaction16, statement: groups.statement16 }, connections)
    ]
    // Much code runs for each call: what the harness runs to warm up is not enough to have all of it compiled.
    for (const { run } of all) await run(warmup)
    return {
      cases: all,
      notes: [
        "All four make the same round trips: BEGIN, two statements, COMMIT. Ours also prepares BEGIN with its isolation " +
        "level, which `@effect/sql-pg` parses each time.",
        "Where the time goes, by CPU profiles of the third group: about 100 us of a transaction are " +
        "the four writes to the socket, the same for all. Beside them `pg` takes about 75 us, in its own code and Node's " +
        "streams. `@effect/sql-pg` takes about 160 us: 80 to 90 in Effect's run loop (some 144 steps a transaction, for " +
        "permits, spans and finalizers), 35 in its protocol code, 25 in Node's streams, 10 to 15 in making statements, " +
        "10 in the garbage collector. Ours takes some 30 steps more, for the fiber that can be given up on, the gate, " +
        "counting and the log: about 30 us in the run loop and 30 in our code, less what not pinning the session saves."
      ],
      close: async () => {
        await pool.end()
        await run(Scope.close(scope, Exit.void))
        await close()
      }
    }
  }
}

type Query = (
  values: Array<number>
) => { readonly text: string; readonly values: Array<number>; readonly name?: string }
