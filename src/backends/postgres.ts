/**
 * `seaworthy/postgres`: the database on a Postgres server.
 *
 * @since 0.1.0
 */
export * as PostgresDatabase from "./PostgresDatabase.ts"
