// What commands do to the state of a connection, and how long they may rightly take. Pure: no connection is touched here.

/** What a lent connection may have on it that the next borrower must not meet. */
export interface State {
  /** Keys may be watched. */
  watching: boolean
  /** Between MULTI and EXEC. */
  queueing: boolean
  /** Something that cannot be taken back, such as another database or a subscription. */
  foreign: boolean
}

export const clean = (): State => ({ watching: false, queueing: false, foreign: false })

const foreign = new Set([
  ..."AUTH HELLO SELECT RESET QUIT MONITOR SYNC PSYNC REPLCONF READONLY READWRITE ASKING".split(" "),
  ..."SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE".split(" ")
])

/** What `CLIENT` does to others, or only tells. */
const harmlessClient = new Set("ID INFO LIST GETNAME KILL UNBLOCK PAUSE UNPAUSE HELP".split(" "))

const isForeign = (name: string, args: ReadonlyArray<string>): boolean => {
  const [first = ""] = args
  if (name === "CLIENT") return !harmlessClient.has(first.toUpperCase())
  if (name === "SCRIPT") return first.toUpperCase() === "DEBUG"
  return foreign.has(name)
}

/** When a command is sent: what it may do counts as done, since its answer may never come. */
export const sent = (state: State, command: string, args: ReadonlyArray<string>): void => {
  const name = command.toUpperCase()
  if (name === "WATCH") state.watching = true
  else if (name === "MULTI") state.queueing = true
  else if (isForeign(name, args)) state.foreign = true
}

/** When its answer is there; `error` is the server's, where it was one. */
export const answered = (state: State, command: string, error?: string): void => {
  const name = command.toUpperCase()
  if (name === "EXEC" || name === "DISCARD") {
    if (!state.queueing || (error !== undefined && !error.startsWith("EXECABORT"))) return
    state.queueing = false
    state.watching = false
  } else if (name === "UNWATCH" && error === undefined && !state.queueing) {
    state.watching = false
  }
}

/** The command that makes it clean again; `undefined` when it is, `null` when none does. */
export const cleaning = ({ foreign, queueing, watching }: State): string | undefined | null =>
  foreign ? null : queueing ? "DISCARD" : watching ? "UNWATCH" : undefined

const lastSeconds = new Set("BLPOP BRPOP BRPOPLPUSH BLMOVE BZPOPMIN BZPOPMAX".split(" "))
const firstSeconds = new Set("BLMPOP BZMPOP".split(" "))
const lastMillis = new Set("WAIT WAITAOF".split(" "))
const blockOption = new Set("XREAD XREADGROUP".split(" "))

const millis = (text: string | undefined, unit: number): number => {
  const value = Number(text ?? "")
  // The server takes 0 as for ever, and complains about what is no number.
  return value === 0 ? Infinity : value > 0 ? value * unit : 0
}

/** For how many milliseconds a command asks the server to wait before it answers. */
export const blocksFor = (command: string, args: ReadonlyArray<string>): number => {
  const name = command.toUpperCase()
  if (lastSeconds.has(name)) return millis(args.at(-1), 1_000)
  if (firstSeconds.has(name)) return millis(args[0], 1_000)
  if (lastMillis.has(name)) return millis(args.at(-1), 1)
  if (blockOption.has(name)) {
    const streams = args.findIndex((arg) => arg.toUpperCase() === "STREAMS")
    const option = args.slice(0, Math.max(0, streams)).findIndex((arg) => arg.toUpperCase() === "BLOCK")
    return option < 0 ? 0 : millis(args[option + 1], 1)
  }
  return 0
}
