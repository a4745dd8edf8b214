/** Keys in an order that looks random and is the same for all who ask. */

/** Draws before the order begins anew: more than a measurement's share of any cache of the processor. */
const draws = 65_536

export const keys = (count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `user:${index}`)

/** Gives the next key, for ever; those who ask for the same keys get the same order. */
export const shuffled = (all: ReadonlyArray<string>): () => string => {
  // Lehmer's generator: Park and Miller, *Random Number Generators: Good Ones Are Hard to Find*, 1988.
  let state = 4711
  const order = Array.from({ length: draws }, () => {
    state = state * 48_271 % 2_147_483_647
    return all[state % all.length]!
  })
  let at = 0
  return () => {
    at = (at + 1) % draws
    return order[at]!
  }
}
