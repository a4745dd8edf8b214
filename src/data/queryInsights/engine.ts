// Hears of statements, keeps what matters, explains in the background, and reports on demand.
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { Status } from "../../observability/Status.ts"
import * as StatusModule from "../../observability/Status.ts"
import { monotonicMillis } from "../../resilience/internal/monotonic.ts"
import type { Database, Statement } from "../../resource/Database.ts"
import { PoolExhaustedError } from "../../resource/database/errors.ts"
import { fingerprint, isQuery } from "../internal/sqlText.ts"
import { sqlErrorIn } from "../transaction/failure.ts"
import { callerOf } from "./caller.ts"
import * as Catalog from "./catalog.ts"
import { explain, isExplainable } from "./explain.ts"
import type { Plan } from "./options.ts"
import { IndexAges, Sampler } from "./pace.ts"
import * as Parameters from "./parameters.ts"
import * as Report from "./report.ts"
import { CurrentRequest, type Repeated, Repeats } from "./request.ts"
import { type Entry, show, SlowLog, type SlowStatement } from "./slowLog.ts"

/**
 * Something new: a statement was slow, or a request repeated a query.
 *
 * @category models
 * @since 0.1.0
 */
export type Change =
  | { readonly type: "slow"; readonly statement: SlowStatement }
  | { readonly type: "repeated"; readonly repeated: Repeated }

export interface Engine {
  readonly slow: Effect.Effect<ReadonlyArray<SlowStatement>>
  readonly repeated: Effect.Effect<ReadonlyArray<Repeated>>
  readonly report: Effect.Effect<Report.Report, SqlError>
  readonly clear: Effect.Effect<void>
  readonly changes: Stream.Stream<Change>
}

/** Where requests are counted. */
export const CurrentRepeats: Context.Reference<Repeats | undefined> = Context.Reference<Repeats | undefined>(
  "seaworthy/QueryInsights/Repeats",
  { defaultValue: () => undefined }
)

interface Job {
  readonly entry: Entry
  /** With the literals of its author: gone as soon as it is explained or skipped. */
  readonly sql: string
  readonly parameters: number
}

/** Plans that wait for the one before: with more of them, those that come are skipped. */
const maxJobs = 4
const explainTimeout = "5 seconds"
/** How often, and after what pause, it is looked for room in the pool: what was slow may still hold its own place. */
const looks = 5
const pause = "200 millis"
const supported = new Set(["pg", "pglite"])

export const make = (
  database: Database["Service"],
  plan: Plan
): Effect.Effect<
  { readonly engine: Engine; readonly repeats: Repeats },
  StatusModule.DuplicateIdError,
  Status | Scope.Scope
> =>
  Effect.gen(function*() {
    const { driver, pool, sql } = database
    const status = yield* StatusModule.Status
    const log = new SlowLog(plan.maxStatements)
    const repeats = new Repeats(plan.repeatedAt, plan.maxStatements)
    const sampler = plan.explain === undefined || !supported.has(driver) ? undefined : new Sampler(plan.explain)
    const ages = new IndexAges()
    const counts = { slow: 0, explained: 0, explainFailures: 0, explainSkipped: 0, notRecorded: 0 }
    const hub = yield* PubSub.sliding<Change>(64)
    yield* Effect.addFinalizer(() => PubSub.shutdown(hub))
    const jobs = yield* Queue.dropping<Job>(maxJobs)
    yield* Effect.addFinalizer(() => Queue.shutdown(jobs))
    repeats.onRepeated = (repeated) => {
      PubSub.publishUnsafe(hub, { type: "repeated", repeated })
    }

    const node = yield* status.register({
      id: "query-insights",
      kind: "query-insights",
      wants: ["database"],
      counters: () => ({
        slow: counts.slow,
        repeated: repeats.found,
        explained: counts.explained,
        explainFailures: counts.explainFailures,
        explainSkipped: counts.explainSkipped,
        dropped: log.evicted + repeats.dropped + counts.notRecorded
      })
    })

    // -----------------------------------------------------------------------------------------------------------------
    // Hearing
    // -----------------------------------------------------------------------------------------------------------------

    const recordSlow = (statement: Statement, text: string) => {
      const { duration, exit, fiber, params } = statement
      counts.slow++
      const entry = log.add({
        text,
        duration,
        failed: Exit.isFailure(exit),
        at: fiber.getRef(Clock.Clock).currentTimeMillisUnsafe(),
        caller: callerOf(fiber),
        parameters: Parameters.describe(params),
        skips: Parameters.skipsMany(statement.sql, text, params)
      })
      PubSub.publishUnsafe(hub, { type: "slow", statement: show(entry) })
      if (sampler === undefined || !isExplainable(statement.sql, params)) return
      if (!sampler.admit(entry, monotonicMillis(fiber))) return
      if (!Queue.offerUnsafe(jobs, { entry, sql: statement.sql, parameters: params.length })) skip(entry)
    }
    const skip = (entry: Entry) => {
      counts.explainSkipped++
      // Its next slow run is another chance.
      entry.explainAfter = -Infinity
    }
    const hear = (statement: Statement) => {
      const isSlow = statement.duration >= plan.slowMillis
      if (!isSlow && repeats.underWay === 0) return
      const request = repeats.underWay === 0 ? undefined : statement.fiber.getRef(CurrentRequest)
      if (!isSlow && request === undefined) return
      // Whatever users hand in as parameters, names or `ignore` must not fail the statement that it is about.
      try {
        const text = fingerprint(statement.sql)
        if (plan.ignore?.(text) === true) return
        if (request !== undefined && isQuery(text)) {
          request.of(repeats)?.add(text, statement.duration, () => callerOf(statement.fiber))
        }
        if (isSlow) recordSlow(statement, text)
      } catch {
        counts.notRecorded++
      }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Explaining
    // -----------------------------------------------------------------------------------------------------------------

    /** Whether there is room in the pool, so that nobody comes to wait for the place that is taken. */
    const hasRoom = Effect.match(pool.stats, {
      onFailure: () => false,
      onSuccess: ({ active, max, waiting }) =>
        waiting === 0 && (driver === "pglite" || max === 1 ? active === 0 && max > 0 : active + 1 < max)
    })
    const awaitRoom = (left: number): Effect.Effect<boolean> =>
      Effect.flatMap(hasRoom, (room) =>
        room || left <= 1 ? Effect.succeed(room) : Effect.andThen(Effect.sleep(pause), awaitRoom(left - 1)))
    const suffix = (yield* Random.nextInt).toString(36).replace("-", "n")
    let plans = 0
    const explainOne = ({ entry, parameters, sql: text }: Job): Effect.Effect<void> =>
      Effect.flatMap(awaitRoom(looks), (room) => {
        if (!room || !log.has(entry)) {
          return Effect.sync(() =>
            skip(entry)
          )
        }
        return explain(sql, `seaworthy_${suffix}_${plans++}`, text, parameters).pipe(
          Effect.timeout(explainTimeout),
          Effect.flatMap((facts) =>
            Effect.clockWith((clock) =>
              Effect.sync(() => {
                if (facts === undefined) counts.explainFailures++
                else {
                  counts.explained++
                  entry.plan = { facts, at: clock.currentTimeMillisUnsafe() }
                }
              })
            )
          ),
          // Why is the server's to say, and its message may hold values: only that it failed is counted.
          Effect.catchCause((cause) =>
            Effect.sync(() => {
              if (isRefusal(cause)) skip(entry)
              else counts.explainFailures++
            })
          )
        )
      })
    if (sampler !== undefined) {
      yield* Effect.forkScoped(Effect.forever(Effect.flatMap(Queue.take(jobs), explainOne)))
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Reporting
    // -----------------------------------------------------------------------------------------------------------------

    const report = Effect.withFiber<Report.Report, SqlError>((fiber) => {
      const now = monotonicMillis(fiber)
      const entries = log.read()
      const finish = (catalog: Catalog.Catalog | string) =>
        Report.make({
          at: fiber.getRef(Clock.Clock).currentTimeMillisUnsafe(),
          driver,
          entries,
          repeated: repeats.read(),
          largeTable: plan.largeTable,
          statisticsAgeMillis: plan.statisticsAgeMillis,
          isKnown: ({ oid }) => ages.of(oid, now) >= plan.statisticsAgeMillis
        }, catalog)
      if (!supported.has(driver)) {
        return Effect.succeed(finish(`plans and statistics: only of Postgres are they known, not of "${driver}"`))
      }
      const within = Context.getOrUndefined(fiber.context, sql.transactionService) !== undefined
      if (within && driver === "pglite") {
        return Effect.succeed(
          finish("plans and statistics: a transaction is open here, and the embedded database has one session")
        )
      }
      const scans = entries.flatMap((entry) => entry.plan?.facts.scans ?? [])
      return Effect.map(Catalog.read(sql, plan.largeTable, scans, within), (catalog) => {
        ages.see(catalog.indexes.map(({ oid }) => oid), now)
        return finish(catalog)
      })
    })

    yield* database.observe(hear)
    yield* node.set("ready")
    return {
      repeats,
      engine: {
        slow: Effect.sync(() => log.read().map(show)),
        repeated: Effect.sync(() => repeats.read()),
        report,
        clear: Effect.sync(() => {
          log.clear()
          repeats.clear()
        }),
        changes: Stream.fromPubSub(hub)
      }
    }
  })

/** The last free place was taken in the meantime. */
const isRefusal = (cause: Cause.Cause<unknown>): boolean =>
  sqlErrorIn(cause)?.reason.cause instanceof PoolExhaustedError
