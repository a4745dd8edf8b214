// The options of a pool of connections: defaults, and what is out of range.
import type * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import { integerAtLeast, nonNegativeMillis, positiveMillis } from "../../resilience/internal/options.ts"

/**
 * How a pool makes its connections, and how many it keeps. The limits are those of the settings `connection_pool`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<C, E, R = never, R2 = never> {
  /** In errors, warnings and the status tree. Default `connections`, and then not in the status tree. */
  readonly name?: string | undefined
  /** Opens a connection, which is closed with its scope. */
  readonly acquire: Effect.Effect<C, E, R>
  /** Asks a connection whether it lives: `false` and failures mean no. Without it, nothing is asked. */
  readonly validate?: ((connection: C) => Effect.Effect<unknown, unknown, R2>) | undefined
  /**
   * Brings a connection that came back into the state of a new one; if it fails, the connection is dropped. `undefined`
   * for one that has nothing to reset. The borrower does not wait for it.
   */
  readonly reset?: ((connection: C) => Effect.Effect<unknown, unknown, R2> | undefined) | undefined
  /**
   * Whether a borrower who ended like this may have left the connection in a state that nobody knows. Default: when it
   * was interrupted or died, not when it failed.
   */
  readonly isBroken?: ((cause: Cause.Cause<unknown>, connection: C) => boolean) | undefined
  /** Most connections that are open at once: at least 1. Default 10. */
  readonly maxConnections?: number | undefined
  /** Connections that stay open while idle: at most `maxConnections`. Default 0. */
  readonly minConnections?: number | undefined
  /** Most callers that wait; others are refused at once. Default 100. */
  readonly maxWaiting?: number | undefined
  /** Longest wait for a connection, its opening included. Default 5 seconds. */
  readonly acquireTimeout?: Duration.Input | undefined
  /** After this long, an attempt to open is given up, and begun anew while somebody waits. Default 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** A connection above the minimum is closed after this long unused. Default 5 minutes. */
  readonly idleTimeout?: Duration.Input | undefined
  /** A connection is replaced after this long, less up to a tenth. Default 1 hour. */
  readonly maxLifetime?: Duration.Input | undefined
  /** A connection that lay idle for longer is asked before it is lent; 0 for always. Default 1 minute. */
  readonly validationInterval?: Duration.Input | undefined
  /** Longest wait for the answer, and for `reset`. Default 2 seconds. */
  readonly validationTimeout?: Duration.Input | undefined
  /** A close that takes longer is no longer waited for. Default 5 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
  /** A connection that is held for longer is logged as a possible leak. Default 1 minute. */
  readonly leakAfter?: Duration.Input | undefined
}

/** Times in milliseconds. */
export interface Limits {
  readonly name: string
  readonly maxConnections: number
  readonly minConnections: number
  readonly maxWaiting: number
  readonly acquireTimeout: number
  readonly connectTimeout: number
  readonly idleTimeout: number
  readonly maxLifetime: number
  readonly validationInterval: number
  readonly validationTimeout: number
  readonly closeTimeout: number
  readonly leakAfter: number
}

export const defaultName = "connections"

/** Throws a `RangeError` that names the option. */
export const decode = <C, E, R, R2>(options: Options<C, E, R, R2>): Limits => {
  const maxConnections = integerAtLeast("maxConnections", 1, options.maxConnections ?? 10)
  const minConnections = integerAtLeast("minConnections", 0, options.minConnections ?? 0)
  if (minConnections > maxConnections) {
    throw new RangeError(`minConnections must be at most maxConnections (${maxConnections}), got ${minConnections}`)
  }
  return {
    name: options.name ?? defaultName,
    maxConnections,
    minConnections,
    maxWaiting: integerAtLeast("maxWaiting", 0, options.maxWaiting ?? 100),
    acquireTimeout: positiveMillis("acquireTimeout", options.acquireTimeout ?? "5 seconds"),
    connectTimeout: positiveMillis("connectTimeout", options.connectTimeout ?? "5 seconds"),
    idleTimeout: positiveMillis("idleTimeout", options.idleTimeout ?? "5 minutes"),
    maxLifetime: positiveMillis("maxLifetime", options.maxLifetime ?? "1 hour"),
    validationInterval: nonNegativeMillis("validationInterval", options.validationInterval ?? "1 minute"),
    validationTimeout: positiveMillis("validationTimeout", options.validationTimeout ?? "2 seconds"),
    closeTimeout: positiveMillis("closeTimeout", options.closeTimeout ?? "5 seconds"),
    leakAfter: positiveMillis("leakAfter", options.leakAfter ?? "1 minute")
  }
}
