// One connection of a pool: sends commands of one borrower at a time, knows what they have left on it, and is given up
// as soon as an answer is not waited for any more, since nobody would know which answer comes next.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { RedisError } from "effect/persistence/Redis"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import * as Redaction from "../../security/Redaction.ts"
import * as Client from "./redisClient.ts"
import type { RedisFailure } from "./redisError.ts"
import type * as Plan from "./redisPlan.ts"
import * as Session from "./redisSession.ts"

const toRedisError = (cause: unknown): RedisError => new RedisError({ cause: Redaction.error(cause) })

const textOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

type Command = ReadonlyArray<string>

/** What a borrower gets. It must not show the client, which shows its password. */
export interface RedisConnection {
  /** Sends a command. Waits for `cache.command_timeout`, and for as long as the command asks the server to block. */
  readonly send: <A = unknown>(command: string, ...args: ReadonlyArray<string>) => Effect.Effect<A, RedisError>
  /** Sends a command that may take long, such as a script. */
  readonly sendWithin: <A = unknown>(
    timeout: Duration.Input,
    command: string,
    ...args: ReadonlyArray<string>
  ) => Effect.Effect<A, RedisError>
  /** `MULTI`, the commands and `EXEC` in one round trip: their replies, or `none` when a watched key has changed. */
  readonly transaction: (
    commands: ReadonlyArray<ReadonlyArray<string>>
  ) => Effect.Effect<Option.Option<ReadonlyArray<unknown>>, RedisError>
}

export class Dedicated {
  readonly lent: RedisConnection = {
    // What a command answers is for its caller to know.
    send: <A = unknown>(command: string, ...args: Command) =>
      Effect.suspend(() => this.send(command, args)) as Effect.Effect<A, RedisError>,
    sendWithin: <A = unknown>(timeout: Duration.Input, command: string, ...args: Command) =>
      Effect.suspend(() =>
        this.sendWithin(Duration.toMillis(Duration.fromInputUnsafe(timeout)), command, args)
      ) as Effect.Effect<A, RedisError>,
    transaction: (commands) => Effect.suspend(() => this.transaction(commands))
  }
  private readonly client: Redis
  private readonly commandTimeout: number
  private readonly state = Session.clean()
  /** Commands without an answer. */
  private pending = 0

  constructor(client: Redis, commandTimeout: number) {
    this.client = client
    this.commandTimeout = commandTimeout
  }

  private send(command: string, args: Command): Effect.Effect<unknown, RedisError> {
    return this.sendWithin(this.commandTimeout + Session.blocksFor(command, args), command, args)
  }

  private sendWithin(millis: number, command: string, args: Command): Effect.Effect<unknown, RedisError> {
    return this.within(millis, (resume) => {
      this.call(command, args).then(
        (reply) => resume(Effect.succeed(reply)),
        (error) => resume(Effect.fail(toRedisError(error)))
      )
    })
  }

  /** Sent as one; `none` when a watched key has changed. */
  private transaction(
    commands: ReadonlyArray<Command>
  ): Effect.Effect<Option.Option<ReadonlyArray<unknown>>, RedisError> {
    return this.within(this.commandTimeout, (resume) => {
      let refused: unknown
      for (const [name = "", ...args] of [["MULTI"], ...commands]) {
        this.call(name, args).catch((error) => {
          refused ??= error
        })
      }
      this.call("EXEC", []).then(
        (replies) => {
          if (!Array.isArray(replies)) return resume(Effect.succeed(Option.none()))
          const failed = replies.find((reply) => reply instanceof Error)
          resume(failed === undefined ? Effect.succeed(Option.some(replies)) : Effect.fail(toRedisError(failed)))
        },
        (error) => resume(Effect.fail(toRedisError(refused ?? error)))
      )
    })
  }

  readonly ping: Effect.Effect<unknown, RedisError> = Effect.suspend(() => this.send("PING", []))

  /** What makes it like new; `undefined` when it is. Fails when nothing does. */
  reset(): Effect.Effect<unknown, RedisError> | undefined {
    const command = this.pending > 0 || this.client.status !== "ready" ? null : Session.cleaning(this.state)
    if (command === null) return Effect.fail(new RedisError({ cause: new Error("it cannot be reset") }))
    return command === undefined ? undefined : this.send(command, [])
  }

  close(plan: Plan.Plan): Effect.Effect<void> {
    // QUIT would wait behind what is under way.
    return this.pending > 0 ? Effect.sync(() => this.client.disconnect()) : Client.close(plan, this.client)
  }

  private call(command: string, args: Command): Promise<unknown> {
    this.pending++
    Session.sent(this.state, command, args)
    return this.client.call(command, ...args).then(
      (reply) => {
        this.pending--
        Session.answered(this.state, command)
        return reply
      },
      (error) => {
        this.pending--
        Session.answered(this.state, command, textOf(error))
        throw error
      }
    )
  }

  /** What is not answered in time, or not waited for, ends the connection: at once, so that the server stops as well. */
  private within<A>(
    millis: number,
    begin: (resume: (effect: Effect.Effect<A, RedisError>) => void) => void
  ): Effect.Effect<A, RedisError> {
    const answer = Effect.callback<A, RedisError>((resume) => {
      begin(resume)
      return Effect.sync(() => this.client.disconnect())
    })
    return millis === Infinity ? answer : Effect.flatMap(
      Effect.timeoutOption(answer, Duration.millis(millis)),
      (reply) =>
        Option.isSome(reply)
          ? Effect.succeed(reply.value)
          : Effect.fail(new RedisError({ cause: new Error("Command timed out") }))
    )
  }
}

/** Opens one, for as long as the scope is open. `onEnd` hears when it was lost. */
export const open = (
  plan: Plan.Plan,
  onEnd: (connection: Dedicated) => void
): Effect.Effect<Dedicated, RedisFailure, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(Client.connect(plan, "reserved"), ({ client }) => {
      // A Cluster is refused before.
      const connection = new Dedicated(client as Redis, plan.commandTimeout)
      client.once("end", () => onEnd(connection))
      return connection
    }),
    (connection) => connection.close(plan),
    { interruptible: true }
  )
