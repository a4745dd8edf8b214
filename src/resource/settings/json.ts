/**
 * Where a JSON text goes wrong. `JSON.parse` of Node 20 does not always tell, and quotes the text, secrets included.
 *
 * @internal
 */

const token =
  /\s*(?:([[{])|([\]}])|(,)|(:)|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null))/y

type Wanted = "value" | "value or ]" | "key" | "key or }" | ":" | ", or end" | "nothing"

/** The offset of the first character that cannot be where it is; the length of the text if something is missing. */
export const jsonErrorOffset = (text: string): number => {
  const open: Array<string> = []
  let wanted: Wanted = "value"
  let at = 0
  const afterValue = (): Wanted => open.length === 0 ? "nothing" : ", or end"
  for (;;) {
    token.lastIndex = at
    const match = token.exec(text)
    const start = at + /^\s*/.exec(text.slice(at, at + 10_000))![0].length
    if (match === null) return start
    const [all, opening, closing, comma, colon, string] = match
    if (opening !== undefined) {
      if (!wanted.startsWith("value")) return start
      open.push(opening)
      wanted = opening === "{" ? "key or }" : "value or ]"
    } else if (closing !== undefined) {
      const fits = (open[open.length - 1] === "{") === (closing === "}")
      const isTime = wanted === ", or end" || (wanted === "key or }" && closing === "}") ||
        (wanted === "value or ]" && closing === "]")
      if (open.length === 0 || !fits || !isTime) return start
      open.pop()
      wanted = afterValue()
    } else if (comma !== undefined) {
      if (wanted !== ", or end") return start
      wanted = open[open.length - 1] === "{" ? "key" : "value"
    } else if (colon !== undefined) {
      if (wanted !== ":") return start
      wanted = "value"
    } else if (wanted.startsWith("key")) {
      if (string === undefined) return start
      wanted = ":"
    } else {
      if (!wanted.startsWith("value")) return start
      wanted = afterValue()
    }
    at += all.length
  }
}
