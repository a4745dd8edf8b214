import * as Rejection from "../Rejection.ts"

/**
 * The circuit is not closed: the call was not run.
 *
 * `state` says why. `retryAfter` is the rest of the open time, where there is one.
 */
export class CircuitBreakerOpenError extends Rejection.Class("CircuitBreakerOpenError")<{
  /**
   * `Open`: until the open time ends. `HalfOpen`: probes are running. `RampingUp`: closed, and not yet admitting every
   * call. `ForcedOpen`: until an operator lets go.
   */
  readonly state: "Open" | "HalfOpen" | "RampingUp" | "ForcedOpen"
}> {
  override get message(): string {
    return `circuit breaker "${this.strategy}" rejected the call: ${words[this.state]}`
  }
}

const words = {
  Open: "the circuit is open",
  HalfOpen: "the circuit is half-open and its probes are running",
  RampingUp: "the circuit is closing and admits only some calls",
  ForcedOpen: "the circuit is held open"
} as const
