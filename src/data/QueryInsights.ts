/**
 * Which statements are slow, why, and what would help: a slow-query log without values, plans, repeated queries, and
 * advice from the server's own statistics.
 *
 * **When to use**
 *
 * Provide `QueryInsights.layer` above the database, in production too, and read `report` from an operations page, a command
 * or a scheduled job. Wrap what handles a request in {@link request} to find queries that it runs again and again. Without
 * the layer nothing is observed, and `request` costs a look into the context.
 *
 * **Details**
 *
 * - A statement that takes longer than `monitoring.performance_threshold` (1 second) is kept, grouped by its text without
 *   values, with count, latencies, who asked, and what kind of thing each parameter was. Interrupted and failed ones too.
 * - Slow queries and changes of rows are explained in the background: a plan for any values, made in a read-only
 *   transaction that is rolled back, with short time-outs, one at a time, each statement at most every 10 minutes, at most
 *   6 a minute, and only when the pool has room to spare. `ANALYZE`, which would run the statement, is never used.
 * - `report` adds what the catalog and the statistics views tell: missing, unused, duplicate and invalid indexes, foreign
 *   keys without one, tables read as a whole, dead rows, old figures of the planner. What the role may not read is named.
 * - In a request, a query that ran at least 10 times is repeated (N+1). A request inside another: what the inner one
 *   repeated is told for the inner; the rest counts for the outer, so that a loop over small requests is seen as well. Work
 *   that outlives its request is not counted.
 * - Everything is bounded, and what was pushed out is counted in the node `query-insights` of the status tree: `slow`,
 *   `repeated`, `explained`, `explainFailures`, `explainSkipped`, `dropped`.
 *
 * **Gotchas**
 *
 * - No value of a parameter or literal is kept or shown. Names are: of tables, columns, spans, functions and requests.
 * - A statement that the server has waiting (for a lock, say) is slow as well, and its plan may be fine.
 * - Streams are not observed. Plans and statistics are those of Postgres and PGlite; elsewhere the log and the repeated
 *   queries work, and `report` says so.
 * - Advice is for somebody to weigh, not to run blindly: each finding says what to mind.
 *
 * **Example** (A query for each row)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { SqlClient } from "effect/sql"
 * import { QueryInsights, Status } from "seaworthy"
 * import { PgliteDatabase } from "seaworthy/pglite"
 *
 * const program = Effect.gen(function*() {
 *   const sql = yield* SqlClient.SqlClient
 *   const insights = yield* QueryInsights.QueryInsights
 *   yield* sql`CREATE TABLE ships (id int PRIMARY KEY, name text)`
 *   const nameOf = (id: number) => sql`SELECT name FROM ships WHERE id = ${id}`
 *
 *   yield* Effect.forEach([1, 2, 3, 4, 5], nameOf).pipe(QueryInsights.request("GET /fleet"))
 *   const [repeated] = yield* insights.repeated
 *   return [repeated?.request, repeated?.most, repeated?.text]
 * })
 *
 * const AppLayer = QueryInsights.layerWith({ repeatedAt: 5 }).pipe(
 *   Layer.provideMerge(PgliteDatabase.layerWith({ data_dir: "memory://" })),
 *   Layer.provide(Status.layer)
 * )
 * console.log(await Effect.runPromise(program.pipe(Effect.provide(AppLayer))))
 * // => [ 'GET /fleet', 5, 'SELECT name FROM ships WHERE id = $1' ]
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type * as Stream from "effect/Stream"
import type * as Status from "../observability/Status.ts"
import { Database } from "../resource/Database.ts"
import * as Settings from "../resource/Settings.ts"
import * as Engine from "./queryInsights/engine.ts"
import * as Options from "./queryInsights/options.ts"
import * as Render from "./queryInsights/render.ts"
import type { Report } from "./queryInsights/report.ts"
import { CurrentRequest, type Repeated } from "./queryInsights/request.ts"
import type { SlowStatement } from "./queryInsights/slowLog.ts"

export type { Change } from "./queryInsights/engine.ts"
export type { Finding, Kind } from "./queryInsights/finding.ts"
export type { ExplainOptions, Options } from "./queryInsights/options.ts"
export type { Report } from "./queryInsights/report.ts"
export type { Repeated } from "./queryInsights/request.ts"
export type { Caller, SlowStatement } from "./queryInsights/slowLog.ts"

/**
 * What is known of the statements of the database.
 *
 * @category services
 * @since 0.1.0
 */
export class QueryInsights extends Context.Service<QueryInsights, {
  /** The slow statements; those that took most time in all come first. Read from memory. */
  readonly slow: Effect.Effect<ReadonlyArray<SlowStatement>>
  /** What requests ran again and again; the worst first. Read from memory. */
  readonly repeated: Effect.Effect<ReadonlyArray<Repeated>>
  /**
   * All of it, with advice. Asks the server about ten questions, each in a read-only transaction of at most 5 seconds, on
   * connections of the pool like anybody. Fails with `SqlError` when the database cannot be reached.
   */
  readonly report: Effect.Effect<Report, SqlError>
  /** Forgets the slow statements and the repeated queries. Counters of the status tree stay. */
  readonly clear: Effect.Effect<void>
  /** What is slow or repeated, as it happens; a reader that falls 64 behind loses the oldest. */
  readonly changes: Stream.Stream<Engine.Change>
}>()("seaworthy/QueryInsights") {}

/**
 * Counts the queries of what runs within as those of one request; when it ends, also by failure or interruption, those that
 * ran at least `repeatedAt` times are written down as repeated. Concurrent work is counted too.
 *
 * Give it the name of the route or job, not of the single request: names are kept. Without a layer of this module it does
 * nothing.
 *
 * @category combinators
 * @since 0.1.0
 */
export const request: {
  (name: string): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, name: string): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(self: Effect.Effect<A, E, R>, name: string): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const repeats = fiber.getRef(Engine.CurrentRepeats)
      if (repeats === undefined) return self
      const tally = repeats.open(name, fiber.getRef(CurrentRequest))
      return Effect.onExitPrimitive(Effect.provideService(self, CurrentRequest, tally), () => {
        tally.end(fiber.getRef(Clock.Clock).currentTimeMillisUnsafe())
        return undefined
      })
    })
)

/**
 * A report as Markdown, for people.
 *
 * @category rendering
 * @since 0.1.0
 */
export const render: (report: Report) => string = Render.render

const provide = (
  plan: Options.Plan
): Effect.Effect<Context.Context<QueryInsights>, Status.DuplicateIdError, Database | Status.Status | Scope.Scope> =>
  Effect.map(
    Effect.flatMap(Database, (database) => Engine.make(database, plan)),
    ({ engine, repeats }) => Context.make(QueryInsights, engine).pipe(Context.add(Engine.CurrentRepeats, repeats))
  )

/**
 * Observes the database. What is slow is the setting `monitoring.performance_threshold`; all else has its default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  QueryInsights,
  Settings.SettingsError | Status.DuplicateIdError,
  Database | Status.Status
> = Layer.effectContext(
  Effect.flatMap(
    Settings.get(Settings.sections.monitoring),
    (monitoring) => provide(Options.compile({ slowerThan: monitoring.performance_threshold }))
  )
).pipe(Layer.provide(Settings.layer))

/**
 * The same with options given in code. An option out of range throws a `RangeError` that names it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options.Options = {}
): Layer.Layer<QueryInsights, Status.DuplicateIdError, Database | Status.Status> =>
  Layer.effectContext(provide(Options.compile(options)))
