/** Vitest 5 prints failures with `Map.groupBy`, which Node 20 does not have: without this they are lost there. */
const groupBy = (items: Iterable<unknown>, keyOf: (item: unknown, index: number) => unknown) => {
  const groups = new Map<unknown, Array<unknown>>()
  let index = 0
  for (const item of items) {
    const key = keyOf(item, index++)
    groups.set(key, [...groups.get(key) ?? [], item])
  }
  return groups
}

if (!("groupBy" in Map)) Object.assign(Map, { groupBy })
