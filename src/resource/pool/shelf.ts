// What is where in a pool: idle, lent, being made, and who waits for what is being made. Plain values, no effects; times
// are monotonic milliseconds that callers pass in.
//
// Every borrower past the door holds a place. One who finds nothing on the shelf starts a task (ask an idle connection,
// open a new one) and waits; what a task has made, or what somebody gives back, goes to the first of those who wait,
// whoever started the task. So there are at least as many tasks as there are waiting borrowers, and a task whose borrower
// was served otherwise or went away keeps that place until it has ended.

export interface Limits {
  readonly minConnections: number
  readonly idleTimeout: number
  readonly validationInterval: number
}

export interface Entry<C> {
  readonly connection: C
  /** Purging begins a new generation. */
  readonly generation: number
  readonly expiresAt: number
  idleSince: number
  /** Not to be lent again. */
  broken: boolean
}

export interface Waiter<E> {
  /** Set when it was given one. */
  entry: E | undefined
}

/** Good to lend, good if it answers, or to be closed. */
export type Fitness = "fit" | "ask" | "spent"

export class Shelf<E extends Entry<unknown>, W extends Waiter<E>> {
  generation = 0
  /** Every open connection: on the shelf, lent, or with a task. */
  readonly all = new Set<E>()
  /** By how long they lie here: the first for longest. The last is lent first, so that a pool can shrink. */
  readonly idle: Array<E> = []
  readonly lent = new Set<E>()
  /** In order of arrival. */
  readonly waiters = new Set<W>()
  tasks = 0
  /** How many of the tasks are opening a connection. */
  opening = 0
  private readonly limits: Limits

  constructor(limits: Limits) {
    this.limits = limits
  }

  fitness(entry: E, now: number): Fitness {
    if (entry.broken || entry.generation !== this.generation || now >= entry.expiresAt) return "spent"
    return now - entry.idleSince >= this.limits.validationInterval ? "ask" : "fit"
  }

  lend(entry: E): void {
    this.lent.add(entry)
  }

  /** Whoever waits for longest then has the connection. */
  serve(entry: E): W | undefined {
    const waiter = this.nextWaiter()
    if (waiter === undefined) return undefined
    waiter.entry = entry
    this.lend(entry)
    return waiter
  }

  nextWaiter(): W | undefined {
    const next = this.waiters.values().next()
    if (next.done === true) return undefined
    this.waiters.delete(next.value)
    return next.value
  }

  /** No task is left for somebody who waits: a task that failed has to tell one of them. */
  get wanting(): boolean {
    return this.waiters.size > this.tasks
  }

  /** The connection is about to be closed. Whether it was open. */
  remove(entry: E): boolean {
    if (!this.all.delete(entry)) return false
    this.lent.delete(entry)
    const index = this.idle.indexOf(entry)
    if (index >= 0) this.idle.splice(index, 1)
    return true
  }

  /** An idle connection may be closed for lying here too long. */
  get canShrink(): boolean {
    return this.idle.length > 0 && this.all.size > this.limits.minConnections
  }

  /** Milliseconds until the first idle one is to be closed; `undefined` when none is. */
  untilIdle(now: number): number | undefined {
    return this.canShrink ? this.idle[0]!.idleSince + this.limits.idleTimeout - now : undefined
  }

  /** How many have to be opened to keep the minimum. */
  get missing(): number {
    return Math.max(0, this.limits.minConnections - this.all.size - this.opening)
  }
}
