// What an invalidation is about.

/**
 * What to invalidate: one key, several, all that carry a tag, all whose key begins with a prefix, or all.
 *
 * @category models
 * @since 0.1.0
 */
export type Target =
  | { readonly key: string }
  | { readonly keys: Iterable<string> }
  | { readonly tag: string }
  | { readonly prefix: string }
  | { readonly all: true }

/** One invalidation as it travels between nodes. */
export interface Invalidation {
  readonly kind: "key" | "tag" | "prefix" | "all"
  /** Empty for `all`. */
  readonly of: string
}

export const fromTarget = (target: Target): ReadonlyArray<Invalidation> => {
  if ("key" in target) return [{ kind: "key", of: target.key }]
  if ("keys" in target) return Array.from(new Set(target.keys), (of) => ({ kind: "key", of }))
  if ("tag" in target) return [{ kind: "tag", of: target.tag }]
  if ("prefix" in target) return [{ kind: "prefix", of: target.prefix }]
  return [{ kind: "all", of: "" }]
}
