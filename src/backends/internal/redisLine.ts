// The way of users' commands to the shared client. It bounds each of them in time, gives up a connection that has fallen
// silent, and writes what is sent at once with one system call. A timer a command, as ioredis has it, costs more than the
// rest of this library's share of a command.
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { millisOf } from "../../resilience/internal/monotonic.ts"
import * as Client from "./redisClient.ts"
import * as Plan from "./redisPlan.ts"

interface Entry {
  over: boolean
  /** Monotonic milliseconds. */
  readonly start: number
  readonly onError: (error: unknown, millis: number) => void
}

export interface Line {
  /** Sends a command and calls back once: with its reply, its error, or when its time is up. */
  readonly send: <A>(
    command: () => Promise<A>,
    onReply: (reply: A, millis: number) => void,
    onError: (error: unknown, millis: number) => void
  ) => void
}

const timedOut = new Error("Command timed out")

export const make = (plan: Plan.Plan, client: Client.Client): Effect.Effect<Line, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const fork = Effect.runForkWith(yield* Effect.context<never>())
    const now = () => millisOf(clock)
    const timeout = plan.commandTimeout
    const silence = Plan.silence(timeout)

    // All have the same time, so the oldest is always the first to be over.
    const queue: Array<Entry> = []
    let head = 0
    let timer: Fiber.Fiber<void> | undefined
    /** Commands that the server owes an answer, those that are over included. */
    let owed = 0
    let quietSince = 0

    const dropFinished = () => {
      while (head < queue.length && queue[head]!.over) head++
      if (head === queue.length || (head > 1_024 && head * 2 > queue.length)) {
        queue.splice(0, head)
        head = 0
      }
    }

    const sweep = () => {
      timer = undefined
      const time = now()
      let late = false
      for (; head < queue.length; head++) {
        const entry = queue[head]!
        if (entry.over) continue
        if (entry.start + timeout > time) break
        late = true
        entry.over = true
        entry.onError(timedOut, time - entry.start)
      }
      dropFinished()
      // A frozen server: without this, commands would pile up in the client although each has long timed out.
      if (late && time - quietSince >= silence && !Client.isCluster(client)) client.disconnect(true)
      if (head < queue.length) watch(queue[head]!.start + timeout - time)
    }
    /** At most one timer, and none once a time-out has passed without commands. */
    const watch = (millis: number) => {
      timer = fork(Effect.andThen(Effect.sleep(Math.ceil(millis)), Effect.sync(sweep)))
    }
    yield* Effect.addFinalizer(() => Effect.suspend(() => timer === undefined ? Effect.void : Fiber.interrupt(timer)))

    /** Whether the answer came in time. */
    const answered = (entry: Entry): boolean => {
      owed--
      quietSince = now()
      if (entry.over) return false
      entry.over = true
      if (queue[head] === entry) dropFinished()
      return true
    }
    const joinWrites = Client.isCluster(client) ? () => {} : makeJoinWrites(client)

    return {
      send: (command, onReply, onError) => {
        const start = now()
        // A lone command goes out at once; those that come while others are under way are written together.
        if (owed === 0) quietSince = start
        else joinWrites()
        const entry: Entry = { over: false, start, onError }
        owed++
        queue.push(entry)
        if (timer === undefined) watch(timeout)
        command().then(
          (reply) => {
            if (answered(entry)) onReply(reply, quietSince - start)
          },
          (error) => {
            if (answered(entry)) onError(error, quietSince - start)
          }
        )
      }
    }
  })

/** Holds writes to the socket until the end of this turn of the event loop. */
const makeJoinWrites = (client: Redis) => {
  let held: { readonly uncork: () => void } | undefined
  const release = () => {
    held?.uncork()
    held = undefined
  }
  return () => {
    if (held !== undefined || client.status !== "ready") return
    held = client.stream
    client.stream.cork()
    process.nextTick(release)
  }
}
