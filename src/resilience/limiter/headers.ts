import * as Duration from "effect/Duration"

/** What the headers are made of: a decision, a grant or a `RateLimitExceededError`. */
export interface HeaderSource {
  readonly limit: number
  readonly window: Duration.Duration
  readonly remaining: number
  readonly resetAfter: Duration.Duration
  readonly retryAfter?: Duration.Duration | undefined
}

/**
 * Draft of `draft-ietf-httpapi-ratelimit-headers` whose syntax is written. `8` stands for the structured fields of
 * drafts 8 to 11, `7` for the single field before them, `6` for three fields and a policy, `3` for three fields.
 */
export type Draft = 3 | 6 | 7 | 8

/** How the headers are written. */
export interface HeaderOptions {
  /** Default 8, the newest. */
  readonly draft?: Draft | undefined
  /** Name of the policy in draft 8. Default `"default"`. */
  readonly policy?: string | undefined
  /** Draft 8: whose limit it is. It is sent to the client as it is: hash what must not be read. */
  readonly partitionKey?: string | undefined
}

// Whole seconds, never less than what has to be waited.
const seconds = (duration: Duration.Duration): number => Math.ceil(Duration.toMillis(duration) / 1000)

// A window of less than a second has no whole number of seconds: the parameter, which is optional, is left out.
const windowParameter = (window: Duration.Duration): string => {
  const millis = Duration.toMillis(window)
  return millis >= 1000 ? `;w=${Math.round(millis / 1000)}` : ""
}

// RFC 9651: a String is printable ASCII.
const string = (value: string): string =>
  `"${value.replace(/[^\x20-\x7e]/g, "_").replace(/[\\"]/g, (special) => `\\${special}`)}"`

const bytes = (value: string): string => {
  const binary = Array.from(new TextEncoder().encode(value), (byte) => String.fromCharCode(byte)).join("")
  return `:${btoa(binary)}:`
}

const fields = (source: HeaderSource, options: HeaderOptions): Record<string, string> => {
  const { limit, remaining } = source
  const reset = seconds(source.resetAfter)
  const policy = `${limit}${windowParameter(source.window)}`
  switch (options.draft ?? 8) {
    case 3:
      return {
        "RateLimit-Limit": `${limit}, ${policy}`,
        "RateLimit-Remaining": `${remaining}`,
        "RateLimit-Reset": `${reset}`
      }
    case 6:
      return {
        "RateLimit-Policy": policy,
        "RateLimit-Limit": `${limit}`,
        "RateLimit-Remaining": `${remaining}`,
        "RateLimit-Reset": `${reset}`
      }
    case 7:
      return {
        "RateLimit-Policy": policy,
        "RateLimit": `limit=${limit}, remaining=${remaining}, reset=${reset}`
      }
    case 8: {
      const name = string(options.policy ?? "default")
      const key = options.partitionKey === undefined ? "" : `;pk=${bytes(options.partitionKey)}`
      return {
        "RateLimit-Policy": `${name};q=${limit}${windowParameter(source.window)}${key}`,
        "RateLimit": `${name};r=${remaining};t=${reset}${key}`
      }
    }
  }
}

/**
 * The response headers that tell a client where it stands: `RateLimit-Policy`, `RateLimit` and, for a refused call that
 * may come again, `Retry-After` (RFC 9110, whole seconds, rounded up).
 */
export const headers = (source: HeaderSource, options: HeaderOptions = {}): Record<string, string> => {
  const { retryAfter } = source
  return retryAfter !== undefined && Duration.isGreaterThan(retryAfter, Duration.zero) && Duration.isFinite(retryAfter)
    ? { ...fields(source, options), "Retry-After": `${seconds(retryAfter)}` }
    : fields(source, options)
}
