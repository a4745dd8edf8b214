/** Where the resources of a start are, for both programs alike. */
export interface Target {
  /** Folder for files, and for the embedded database; does not exist yet. */
  readonly folder: string
  /** Not there: embedded. */
  readonly servers?: {
    readonly redis: { readonly host: string; readonly port: number }
    readonly postgres: {
      readonly host: string
      readonly port: number
      readonly database: string
      readonly username: string
      readonly password: string
    }
  }
}

/** Starts everything, and gives what stops it. */
export type Start = (target: Target) => Promise<() => Promise<void>>
