// A view of a cache in which values have a schema. The codec is compiled once, when the view is made.
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as Redaction from "../../security/Redaction.ts"
import type { CacheStore, SetOptions, Typed } from "../CacheStore.ts"
import { CacheError } from "./CacheError.ts"

export interface ViewOptions {
  readonly prefix?: string | undefined
  readonly ttl?: Duration.Input | undefined
}

/** How a value becomes text and back. */
export interface Codec<A> {
  readonly encode: (value: A) => Result.Result<string, string>
  /** `none`: the text is not a value of the schema. */
  readonly decode: (text: string) => Option.Option<A>
}

export const codec = <A, I>(schema: Schema.Codec<A, I>): Codec<A> => {
  const json = Schema.toCodecJson(schema)
  const encode = SchemaParser.encodeResult(json)
  const decode = SchemaParser.decodeUnknownResult(json)
  const describe = SchemaIssue.makeFormatterDefault()
  return {
    encode: (value) => {
      const encoded = encode(value)
      // The message tells path and expectation, not the value: that may be private.
      return Result.isSuccess(encoded)
        ? Result.succeed(JSON.stringify(encoded.success))
        : Result.fail(Redaction.text(describe(encoded.failure)))
    },
    decode: (text) => {
      let parsed: unknown
      try {
        parsed = JSON.parse(text)
      } catch {
        return Option.none()
      }
      const decoded = decode(parsed)
      return Result.isSuccess(decoded) ? Option.some(decoded.success) : Option.none()
    }
  }
}

export const make = <A, I>(
  store: CacheStore["Service"],
  schema: Schema.Codec<A, I>,
  options?: ViewOptions
): Typed<A> => {
  const { decode, encode } = codec(schema)
  const prefix = options?.prefix ?? ""
  const { counters } = store

  /** What was counted as a hit when the bytes arrived turns out to be a miss. */
  const decodeHit = (found: Option.Option<string>): Option.Option<A> => {
    if (Option.isNone(found)) return Option.none()
    const decoded = decode(found.value)
    if (Option.isNone(decoded)) {
      counters.hits.value--
      counters.misses.value++
      counters.undecodable.value++
    }
    return decoded
  }

  const encoded = (operation: string, value: A): Effect.Effect<string, CacheError> => {
    const text = encode(value)
    return Result.isSuccess(text)
      ? Effect.succeed(text.success)
      : Effect.fail(new CacheError({ operation, reason: "Unencodable", detail: text.failure, retryable: false }))
  }

  const defaults: SetOptions | undefined = options?.ttl === undefined
    ? undefined
    : { ttl: Duration.fromInputUnsafe(options.ttl) }
  const withTtl = (own: SetOptions | undefined) => own?.ttl === undefined ? defaults : own

  return {
    get: (key) => Effect.map(store.get(prefix + key), decodeHit),
    set: (key, value, own) =>
      Effect.flatMap(
        Effect.suspend(() => encoded("set", value)),
        (text) => store.set(prefix + key, text, withTtl(own))
      ),
    delete: (key) => store.delete(prefix + key),
    has: (key) => store.has(prefix + key),
    getMany: (keys) =>
      Effect.map(store.getMany(Array.from(keys, (key) => prefix + key)), (found) => found.map(decodeHit)),
    setMany: (entries, own) =>
      Effect.flatMap(
        Effect.forEach(entries, ([key, value]) =>
          Effect.map(encoded("setMany", value), (text) => [prefix + key, text] as const)),
        (texts) =>
          store.setMany(texts, withTtl(own))
      ),
    deleteMany: (keys) => store.deleteMany(Array.from(keys, (key) => prefix + key)),
    clear: (below) => store.clear(prefix + (below ?? ""))
  }
}
