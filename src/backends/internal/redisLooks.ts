// Looks for single keys, joined: a lone one goes out at once, those that come while others are under way go together at the
// end of the turn of the event loop, as one command. That costs much less than a command each.
import * as Exit from "effect/Exit"
import type { Found } from "../../data/cacheAside/Store.ts"
import type { CacheError } from "../../resource/cache/CacheError.ts"

interface Look {
  readonly key: string
  readonly done: (exit: Exit.Exit<Found | undefined, CacheError>) => void
}

/** Asks for several keys and calls back once, or does nothing and says no. */
export type Send = (
  keys: ReadonlyArray<string>,
  done: (exit: Exit.Exit<ReadonlyArray<Found | undefined>, CacheError>) => void
) => boolean

/** Keys of one command: with more, other users of the server would wait. */
const most = 500

/** @param away what is said when the connection is gone before a joined command is sent */
export const make = (send: Send, away: () => CacheError) => {
  let underWay = 0
  let joined: Array<Look> = []

  const one = (key: string, done: Look["done"]): boolean => {
    underWay++
    const sent = send([key], (exit) => {
      underWay--
      done(Exit.isSuccess(exit) ? Exit.succeed(exit.value[0]) : Exit.failCause(exit.cause))
    })
    if (!sent) underWay--
    return sent
  }

  const several = (looks: ReadonlyArray<Look>): boolean => {
    underWay++
    const sent = send(looks.map(({ key }) => key), (exit) => {
      underWay--
      for (const [index, { done }] of looks.entries()) {
        done(Exit.isSuccess(exit) ? Exit.succeed(exit.value[index]) : Exit.failCause(exit.cause))
      }
    })
    if (!sent) underWay--
    return sent
  }

  const flush = () => {
    const all = joined
    joined = []
    for (let at = 0; at < all.length; at += most) {
      const some = all.slice(at, at + most)
      if (!several(some)) { for (const { done } of some) done(Exit.fail(away())) }
    }
  }

  /** The same for one key. */
  return (key: string, done: Look["done"]): boolean => {
    if (underWay === 0) return one(key, done)
    if (joined.length === 0) process.nextTick(flush)
    joined.push({ key, done })
    return true
  }
}
