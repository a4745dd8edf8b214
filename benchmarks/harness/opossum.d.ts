/** The part of opossum that the suites use: the package has no types. */
declare module "opossum" {
  export interface Options {
    readonly timeout?: number | false
    readonly errorThresholdPercentage?: number
    readonly volumeThreshold?: number
    readonly resetTimeout?: number
    readonly capacity?: number
  }

  export default class CircuitBreaker<A> {
    constructor(action: () => Promise<A>, options?: Options)
    fire(): Promise<A>
    open(): void
    shutdown(): void
  }
}
