/** The suites by name, with what they measure: all that `npm run bench` needs to know before it builds one. */
export const suites = {
  "startup": "Time until filesystem, Redis and Postgres are ready.",
  "startup-embedded": "Time until filesystem, memory cache and embedded database are ready.",
  "import": "Time to import each entry point, and size of its bundle.",
  "cache-redis": "`CacheStore.get` on Redis.",
  "cache-aside": "`CacheAside.get` of what is in memory, and of what has to be loaded.",
  "cache-aside-redis": "`CacheAside.get` of what is in Redis.",
  "circuit-breaker": "A call through a closed circuit, and the rejection of an open one.",
  "retry": "A call that succeeds, with retries ready.",
  "timeout": "A call that ends in time, without waiting and after a wait.",
  "bulkhead": "A call that finds a place, and the rejection of a full bulkhead.",
  "rate-limiter": "A call that finds a token in memory, and the rejection of an empty bucket.",
  "more-strategies": "Fallback, deadline, hedge and adaptive limit.",
  "policy": "Retry, circuit breaker, bulkhead and time-out together.",
  "rate-limiter-redis": "A rate limiter whose state is in Redis.",
  "transaction": "A transaction, and a single statement, on Postgres.",
  "memory": "What limiters, breakers and bulkheads keep for a key."
} as const

export type SuiteName = keyof typeof suites

export const isSuiteName = (name: string): name is SuiteName => Object.hasOwn(suites, name)
