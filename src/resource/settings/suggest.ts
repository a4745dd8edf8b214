/**
 * "Did you mean ...?"
 *
 * @internal
 */

/**
 * How many letters must be inserted, deleted, replaced or swapped with their neighbour to make one word of the other:
 * optimal string alignment, after Damerau (1964).
 */
export const distance = (a: string, b: string): number => {
  let beforeLast: ReadonlyArray<number> = []
  let last: ReadonlyArray<number> = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2]! + 1)
      }
      row.push(best)
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}

const folded = (word: string): string => word.toLowerCase().replace(/[^a-z0-9]/g, "")

/** The candidate nearest to the word, where it is near enough to be meant: by default one letter in three may differ. */
export const nearest = (
  word: string,
  candidates: ReadonlyArray<string>,
  allowed = (length: number) => length < 3 ? 0 : Math.max(1, Math.floor(length / 3))
): string | undefined => {
  if (word.length > 64) return undefined
  const wanted = folded(word)
  let best: string | undefined
  let bestDistance = allowed(wanted.length) + 1
  for (const candidate of candidates) {
    const d = distance(wanted, folded(candidate))
    if (d < bestDistance) {
      best = candidate
      bestDistance = d
    }
  }
  return best
}
