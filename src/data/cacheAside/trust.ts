// May this process believe what it keeps in memory? Only while it hears every invalidation. Pure; times are monotonic
// milliseconds.
//
// Invalidations are numbered by the store, and anybody's sign of life on the bus tells the last number: a number that is
// missing is a gap, and so is another epoch, which means that the store has lost its data. Whatever was kept in memory
// under an earlier generation is then read again from the store.
import type { Position } from "./Store.ts"

export interface Trust {
  epoch: string | undefined
  sequence: number
  generation: number
  /** When the bus was last heard. */
  heardAt: number
}

export const make = (): Trust => ({ epoch: undefined, sequence: 0, generation: 0, heardAt: -Infinity })

/** Takes note of a message; gives whether it was the first after a gap. */
export const hear = (self: Trust, position: Position, invalidation: boolean, now: number): boolean => {
  const { epoch, sequence } = position
  // An invalidation has the next number; a sign of life repeats the last.
  const gap = epoch !== self.epoch || sequence > self.sequence + (invalidation ? 1 : 0)
  if (gap) self.generation++
  self.sequence = epoch === self.epoch ? Math.max(self.sequence, sequence) : sequence
  self.epoch = epoch
  self.heardAt = now
  return gap
}

/** Something may have been missed; nothing is known until the bus is heard again. */
export const lose = (self: Trust): void => {
  self.generation++
  self.heardAt = -Infinity
}

/** Until when silence is no reason for doubt. */
export const until = (self: Trust, distrustAfter: number): number => self.heardAt + distrustAfter
