/**
 * `seaworthy/postgres`: the database on a Postgres server, through `@effect/sql-pg`.
 *
 * @since 0.1.0
 */
export * as PostgresDatabase from "./postgres/PostgresDatabase.ts"
