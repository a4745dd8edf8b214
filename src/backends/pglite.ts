/**
 * `seaworthy/pglite`: the database inside this process.
 *
 * @since 0.1.0
 */
export * as PgliteDatabase from "./PgliteDatabase.ts"
