/**
 * The store behind `CacheAside` in plain memory, on the clock of the test, for several nodes at once: it can be taken away,
 * made to hang, flushed, and made to lose messages.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CacheAsideStore, type Message, type Position, type SharedEntries } from "../../src/data/cacheAside/Store.ts"
import type { Invalidation } from "../../src/data/cacheAside/target.ts"
import { CacheError } from "../../src/resource/CacheStore.ts"

interface Stored {
  readonly payload: string
  readonly key: string
  readonly tags: ReadonlyArray<string>
  readonly expires: number
}

const now = Effect.map(Clock.currentTimeMillis, Number)

const matches = ({ kind, of }: Invalidation, key: string, tags: ReadonlyArray<string>): boolean =>
  kind === "key" ? key === of : kind === "tag" ? tags.includes(of) : kind === "all" || key.startsWith(of)

export class SharedMemory {
  mode: "up" | "down" | "frozen" = "up"
  /** Milliseconds that a question takes to the store, and an answer back. */
  latency = { there: 0, back: 0 }
  /** Is what is published not delivered? */
  deaf = false
  entries = new Map<string, Stored>()
  leases = new Map<string, { readonly token: string; readonly expires: number }>()
  log: Array<Invalidation> = []
  epoch = 0
  readonly asked: Array<string> = []
  readonly listeners = new Set<(message: Message) => void>()
  /** Runs before a write is looked at: for what happens in between. */
  beforeWrite: Effect.Effect<void> = Effect.void

  get position(): Position {
    return { epoch: String(this.epoch), sequence: this.log.length }
  }

  flush(): void {
    this.entries.clear()
    this.leases.clear()
    this.log = []
    this.epoch++
  }

  publish(node: string, invalidation: Invalidation | undefined): void {
    if (this.deaf) return
    for (const listener of this.listeners) listener({ ...this.position, node, invalidation })
  }

  #step<A>(name: string, f: (now: number) => A): Effect.Effect<A, CacheError> {
    return Effect.gen({ self: this }, function*() {
      const { back, there } = this.latency
      this.asked.push(name)
      if (there > 0) yield* Effect.sleep(there)
      if (this.mode === "frozen") return yield* Effect.never
      if (this.mode === "down") {
        return yield* Effect.fail(
          new CacheError({ operation: name, reason: "Unavailable", detail: "gone", retryable: true })
        )
      }
      const answer = f(yield* now)
      if (back > 0) yield* Effect.sleep(back)
      return answer
    })
  }

  #find(key: string, now: number) {
    const stored = this.entries.get(key)
    return stored === undefined || stored.expires <= now
      ? undefined
      : { payload: stored.payload, left: stored.expires - now }
  }

  #holds(key: string, token: string, now: number): boolean {
    const lease = this.leases.get(key)
    return lease !== undefined && lease.token === token && lease.expires > now
  }

  readonly shared: SharedEntries = {
    look: (key, aged) =>
      this.#step("look", (now) => {
        const found = this.#find(key, now)
        return found === undefined || aged ? found : { ...found, left: NaN }
      }),
    read: (keys) => this.#step("read", (now) => keys.map((key) => this.#find(key, now))),
    acquire: ({ key, lease, seen, token }) =>
      this.#step("acquire", (now) => {
        const found = this.#find(key, now)
        const id = found?.payload.split("|")[1] ?? "?"
        if (found !== undefined && seen !== undefined && id !== seen) return { _tag: "Found", found }
        const held = this.leases.get(key)
        if (held !== undefined && held.expires > now) return { _tag: "Busy" }
        this.leases.set(key, { token, expires: now + lease })
        return { _tag: "Lease", position: this.position }
      }),
    renew: (key, token, lease) =>
      this.#step("renew", (now) => {
        if (!this.#holds(key, token, now)) return false
        this.leases.set(key, { token, expires: now + lease })
        return true
      }),
    release: (key, token) =>
      this.#step("release", (now) => {
        if (this.#holds(key, token, now)) this.leases.delete(key)
      }),
    write: ({ key, payload, position, tags, token, ttl }) =>
      Effect.andThen(
        Effect.suspend(() => this.beforeWrite),
        this.#step("write", (now) => {
          if (!this.#holds(key, token, now)) return "lost"
          this.leases.delete(key)
          if (position.epoch !== String(this.epoch)) return "invalidated"
          if (this.log.slice(position.sequence).some((one) => matches(one, key, tags))) return "invalidated"
          if (ttl === 0) this.entries.delete(key)
          else this.entries.set(key, { key, payload, tags, expires: now + Math.floor(ttl) })
          return "written"
        })
      ),
    invalidate: (invalidation, node) =>
      this.#step("invalidate", () => {
        this.log.push(invalidation)
        if (invalidation.kind === "key") {
          this.entries.delete(invalidation.of)
          this.leases.delete(invalidation.of)
        }
        this.publish(node, invalidation)
      }),
    set: ({ key, node, payload, tags, ttl }) =>
      this.#step("set", (now) => {
        const invalidation = { kind: "key", of: key } as const
        this.log.push(invalidation)
        this.leases.delete(key)
        if (ttl === 0) this.entries.delete(key)
        else this.entries.set(key, { key, payload, tags, expires: now + Math.floor(ttl) })
        this.publish(node, invalidation)
      }),
    sweep: (invalidation) =>
      this.#step("sweep", () => {
        for (const [key, stored] of this.entries) if (matches(invalidation, key, stored.tags)) this.entries.delete(key)
        return undefined
      }),
    announce: (node) => this.#step("announce", () => this.publish(node, undefined)),
    listen: ({ message, ready }) =>
      Effect.andThen(
        Effect.acquireRelease(
          this.#step("listen", () => void this.listeners.add(message)),
          () => Effect.sync(() => void this.listeners.delete(message))
        ),
        Effect.suspend(() => {
          ready()
          return Effect.never
        })
      )
  }

  readonly layer = Layer.succeed(CacheAsideStore, { open: () => this.shared })
}
