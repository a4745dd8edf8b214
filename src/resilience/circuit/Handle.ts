import type { Driver } from "./Driver.ts"

export const TypeId = "~seaworthy/CircuitBreaker"
export const KeyedTypeId = "~seaworthy/CircuitBreaker/KeyedCircuitBreaker"

/** One circuit: made by `make`, or one key of a `KeyedCircuitBreaker` seen through `forKey`. */
export interface CircuitBreaker {
  readonly [TypeId]: Driver
  readonly name: string
  /** The key that it stands for, under a keyed breaker; otherwise empty. */
  readonly key: string
}

/** One circuit a key, all with the same options. */
export interface KeyedCircuitBreaker {
  readonly [KeyedTypeId]: Driver
  readonly name: string
}

export const single = (driver: Driver): CircuitBreaker => ({ [TypeId]: driver, name: driver.name, key: "" })

export const keyed = (driver: Driver): KeyedCircuitBreaker => ({ [KeyedTypeId]: driver, name: driver.name })
