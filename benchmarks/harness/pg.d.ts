/** The part of pg that the suites use: the package has no types. */
declare module "pg" {
  export interface PoolConfig {
    readonly host: string
    readonly port: number
    readonly user: string
    readonly password: string
    readonly database: string
    readonly max?: number
  }

  export interface Query {
    readonly text: string
    readonly values?: ReadonlyArray<unknown>
    /** Prepared under this name. */
    readonly name?: string
  }

  export interface Client {
    query(query: string | Query, values?: ReadonlyArray<unknown>): Promise<{ readonly rows: ReadonlyArray<unknown> }>
    release(): void
  }

  export class Pool {
    constructor(config: PoolConfig)
    connect(): Promise<Client>
    query: Client["query"]
    end(): Promise<void>
  }
}
