// An entry as text in the shared store: "1|id|fresh|life|delta|kind|tags|json". Numbers are whole milliseconds, "-" is for ever.
//
// The age of an entry is its life less what the store says is left of it: no clock of a process is asked.
import * as Option from "effect/Option"
import type { Codec } from "../../resource/cache/typed.ts"

export interface Header {
  readonly id: string
  /** Milliseconds that it was fresh from when it was written. */
  readonly fresh: number
  /** Milliseconds that the store keeps it from then. */
  readonly life: number
  readonly delta: number
  readonly tags: ReadonlyArray<string>
}

export interface Content<A> extends Header {
  readonly option: Option.Option<A>
}

const whole = (millis: number): string => millis === Infinity ? "-" : String(Math.max(0, Math.floor(millis)))
const millis = (text: string): number => text === "-" ? Infinity : Number(text)

/** @param json the value as text, or `undefined` for absent */
export const encode = (header: Header, json: string | undefined): string =>
  [
    "1",
    header.id,
    whole(header.fresh),
    whole(header.life),
    whole(header.delta),
    json === undefined ? "a" : "v",
    header.tags.length === 0 ? "" : encodeURIComponent(JSON.stringify(header.tags)),
    json ?? ""
  ].join("|")

const head = /^1\|([^|]*)\|(\d+|-)\|(\d+|-)\|(\d+)\|([av])\|([^|]*)\|/

/** `undefined`: it is not an entry, or its value is not one of the schema. */
export const decode = <A>(codec: Codec<A>, payload: string): Content<A> | undefined => {
  const match = head.exec(payload)
  if (match === null) return undefined
  const [all, id, fresh, life, delta, kind, tags] = match as unknown as ReadonlyArray<string>
  const option = kind === "a" ? Option.none<A>() : codec.decode(payload.slice(all!.length))
  if (kind === "v" && Option.isNone(option)) return undefined
  const list = decodeTags(tags!)
  if (list === undefined) return undefined
  return { id: id!, fresh: millis(fresh!), life: millis(life!), delta: Number(delta), tags: list, option }
}

const decodeTags = (text: string): ReadonlyArray<string> | undefined => {
  if (text === "") return []
  try {
    return JSON.parse(decodeURIComponent(text))
  } catch {
    return undefined
  }
}
