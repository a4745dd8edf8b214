/**
 * What to answer when a call has failed.
 *
 * **When to use**
 *
 * Use `fallback` outermost, around everything else, where a worse answer is better than none: the last good value, one
 * computed locally, a default.
 *
 * **Details**
 *
 * - Strategies are tried in order until one has an answer: {@link cache} (the last good value), {@link local} and
 *   {@link use} (any effect), {@link value} (a default). Each `use` and `local` gets the original error.
 * - A cache without a value, and a strategy that fails, pass on to the next. When none is left, the last failure is the
 *   outcome: that of the last strategy that ran an effect, else the original one.
 * - The error type is what can really be left over. After {@link value} it is `never`.
 * - Every typed error is handled, rejections (open circuit, full bulkhead) included; `when` narrows that down.
 * - An interrupted caller gets no fallback, and a defect stays a defect.
 *
 * **Gotchas**
 *
 * - A fallback hides an outage from the caller: count it with `onFallback`.
 * - A fallback that calls another service needs its own time-out.
 *
 * Effect's `ExecutionPlan` falls back between implementations of a service; this falls back between answers.
 *
 * **Example** (The last good value, then a default)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Fallback } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const lastGood = yield* Fallback.makeStore<number>({ capacity: 100 })
 *   const rate = (call: Effect.Effect<number, string>, currency: string) =>
 *     Fallback.fallback(call, [Fallback.cache(lastGood, currency), Fallback.value(1)])
 *   const fresh = yield* rate(Effect.succeed(0.92), "EUR")
 *   const kept = yield* rate(Effect.fail("down"), "EUR")
 *   const unknown = yield* rate(Effect.fail("down"), "CHF")
 *   return [fresh, kept, unknown]
 * })
 *
 * console.log(await Effect.runPromise(program)) // => [ 0.92, 0.92, 1 ]
 * ```
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Store } from "./internal/lastGood.ts"

export { makeStore, type Store, type StoreOptions } from "./internal/lastGood.ts"

/** The last good value of the protected effect. */
export interface Cache<in A, out B> {
  readonly _tag: "Cache"
  readonly name: string
  readonly store: Store<A, B>
  readonly key: string
}

/** Any effect. */
export interface Use<in E, out B, out E2, out R> {
  readonly _tag: "Use"
  readonly name: string
  readonly run: (error: E) => Effect.Effect<B, E2, R>
}

/** A value that is always at hand. */
export interface Value<out B> {
  readonly _tag: "Value"
  readonly name: string
  readonly value: B
}

/** One way to answer in place of an effect that gives `A` or fails with `E`. */
export type Strategy<A, E> = Cache<A, unknown> | Use<E, unknown, unknown, unknown> | Value<unknown>

/** The strategy "cache": keeps what the effect answers under the key, and answers with it when the effect fails. */
export const cache = <A, B>(store: Store<A, B>, key: string): Cache<A, B> => ({
  _tag: "Cache",
  name: "cache",
  store,
  key
})

/** The strategy "local": an effect that answers without the dependency. */
export const local = <E, B, E2, R>(run: (error: E) => Effect.Effect<B, E2, R>): Use<E, B, E2, R> => use("local", run)

/** A strategy of your own, with a name for `onFallback`. */
export const use = <E, B, E2, R>(name: string, run: (error: E) => Effect.Effect<B, E2, R>): Use<E, B, E2, R> => ({
  _tag: "Use",
  name,
  run
})

/** The strategy "default": a value that is always at hand. No strategy after it is ever tried. */
export const value = <const B>(value: B): Value<B> => ({ _tag: "Value", name: "default", value })

/**
 * Picks and orders strategies by their names, as settings have them: `["cache", "local", "default"]`. What is not named is
 * left out. Since the order is not known to the compiler, the error type covers every order.
 *
 * Throws a `RangeError` when a name belongs to none of the strategies.
 */
export const inOrder = <S extends Strategy<any, any>>(
  names: ReadonlyArray<string>,
  strategies: ReadonlyArray<S>
): ReadonlyArray<S> =>
  names.map((name) => {
    const strategy = strategies.find((strategy) => strategy.name === name)
    if (strategy !== undefined) return strategy
    throw new RangeError(`names must be among: ${strategies.map((strategy) => strategy.name).join(", ")}`)
  })

/** What is known of one answer that was not the effect's own. */
export interface Used<out E> {
  /** Name of the strategy that answered. */
  readonly strategy: string
  /** The original error. */
  readonly error: E
}

/** Options of {@link fallback}. */
export interface Options<in E> {
  /** Which errors to handle; the others pass through. A type guard shows in the error type. Default: all. */
  readonly when?: ((error: E) => boolean) | undefined
  /** Told of every answer that was not the effect's own, before it is returned: for a counter or a log line. */
  readonly onFallback?: ((used: Used<E>) => Effect.Effect<void>) | undefined
}

type Strategies = ReadonlyArray<Strategy<any, any>>

type Handled<E, O> = O extends { readonly when: (error: any) => error is infer X }
  ? [Extract<E, X>] extends [never] ? E & X : Extract<E, X>
  : E

type Unhandled<E, O> = O extends { readonly when: (error: any) => error is infer X } ? Exclude<E, X>
  : O extends { readonly when: unknown } ? E
  : never

type LeftOver<E, S> = S extends readonly [infer H, ...infer T] ? LeftOver<AfterOne<E, H>, T>
  : S extends readonly [] ? E
  : S extends ReadonlyArray<infer H> ? E | OwnError<H>
  : E

type OwnError<H> = H extends Use<any, infer _B, infer E2, infer _R> ? E2 : never

type AfterOne<E, H> = [E] extends [never] ? never
  : H extends Value<unknown> ? never
  : H extends Use<any, infer _B, infer E2, infer _R> ? E2
  : E

type Answer<H> = H extends Value<infer B> ? B
  : H extends Use<any, infer B, infer _E2, infer _R> ? B
  : H extends Cache<any, infer B> ? B
  : never

type Services<H> = H extends Use<any, infer _B, infer _E2, infer R> ? R : never

type Accepted<S extends Strategies> = [Extract<S[number], Use<any, unknown, unknown, unknown>>] extends [
  Use<infer E, unknown, unknown, unknown>
] ? E
  : unknown

type Kept<S extends Strategies> = [Extract<S[number], Cache<any, unknown>>] extends [Cache<infer A, unknown>] ? A
  : unknown

/** The error type that is left of `E` after the strategies `S`, under the options `O`. */
export type Failure<E, S, O> = Unhandled<E, O> | LeftOver<Handled<E, O>, S>

type Any = Effect.Effect<unknown, unknown, unknown>

const answer = (found: Any, name: string, error: unknown, options: Options<unknown> | undefined): Any => {
  const onFallback = options?.onFallback
  return onFallback === undefined ? found : Effect.tap(found, () => onFallback({ strategy: name, error }))
}

const tryNext = (
  strategies: ReadonlyArray<Strategy<unknown, unknown>>,
  index: number,
  error: unknown,
  cause: Cause.Cause<unknown>,
  options: Options<unknown> | undefined
): Any => {
  const strategy = strategies[index]
  if (strategy === undefined) return Effect.failCause(cause)
  switch (strategy._tag) {
    case "Value":
      return answer(Effect.succeed(strategy.value), strategy.name, error, options)
    case "Cache":
      return Effect.flatMap(strategy.store.get(strategy.key), (kept) =>
        Option.isSome(kept)
          ? answer(Effect.succeed(kept.value), strategy.name, error, options)
          : tryNext(strategies, index + 1, error, cause, options))
    case "Use":
      return Effect.matchCauseEffect(Effect.suspend(() => strategy.run(error)), {
        onFailure: (cause) =>
          isTyped(cause) ? tryNext(strategies, index + 1, error, cause, options) : Effect.failCause(cause),
        onSuccess: (value) => answer(Effect.succeed(value), strategy.name, error, options)
      })
  }
}

// A cause that holds a defect or an interruption is not for a fallback to hide.
const isTyped = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.length > 0 && cause.reasons.every(Cause.isFailReason)

const apply = (self: Any, strategies: ReadonlyArray<Strategy<unknown, unknown>>, options?: Options<unknown>): Any => {
  const caches = strategies.filter((strategy) => strategy._tag === "Cache")
  const remembered = caches.reduce(
    (self, { key, store }) => Effect.tap(self, (value) => store.set(key, value)),
    self
  )
  return Effect.catchCause(remembered, (cause) => {
    if (!isTyped(cause)) return Effect.failCause(cause)
    const error = cause.reasons.find(Cause.isFailReason)!.error
    if (options?.when !== undefined && !options.when(error)) return Effect.failCause(cause)
    return tryNext(strategies, 0, error, cause, options)
  })
}

/** Answers by the first of the strategies that can, when the effect fails. */
export const fallback: {
  <const S extends Strategies, O extends Options<any>>(
    strategies: S,
    options?: O
  ): <A extends Kept<S>, E extends Accepted<S>, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A | Answer<S[number]>, Failure<E, S, O>, R | Services<S[number]>>
  <A, E, R, const S extends ReadonlyArray<Strategy<A, E>>, O extends Options<E>>(
    self: Effect.Effect<A, E, R>,
    strategies: S,
    options?: O
  ): Effect.Effect<A | Answer<S[number]>, Failure<E, S, O>, R | Services<S[number]>>
} = (...args: ReadonlyArray<unknown>): never => {
  const [first, second, third] = args as [Any, ReadonlyArray<Strategy<unknown, unknown>>, Options<unknown> | undefined]
  if (Effect.isEffect(first)) return apply(first, second, third) as never
  return ((self: Any) => apply(self, first, second as Options<unknown> | undefined)) as never
}
