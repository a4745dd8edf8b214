// The one gate to standard output and standard error: whatever passes is sanitized, whoever wrote it.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redaction from "../../security/Redaction.ts"

export interface Output {
  readonly print: (text: string) => Effect.Effect<void>
  /** As `print`, with control sequences of ours in it: what comes from outside has gone through {@link plain} before. */
  readonly draw: (text: string) => Effect.Effect<void>
  /** One JSON object a line, sanitized as a value: sanitizing its text could leave it unreadable. */
  readonly json: (value: unknown) => Effect.Effect<void>
  /** Text of our own with nothing in it from outside. */
  readonly verbatim: (text: string) => Effect.Effect<void>
  readonly complain: (text: string) => Effect.Effect<void>
  readonly tty: boolean
  readonly color: boolean
  readonly width: number
}

// Control sequences are ours alone: text from outside must not move the cursor or recolour the terminal.
const stray = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g
const strayInDrawing = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]/g

/** Text that prints as what it says and does nothing else. */
export const plain = (text: string): string => text.replace(stray, "")

const safe = (text: string): string => plain(Redaction.text(text))

export const make = (environment: Readonly<Record<string, string | undefined>>): Output => {
  const tty = process.stdout.isTTY === true
  return {
    print: (text) => Effect.sync(() => void process.stdout.write(safe(text) + "\n")),
    draw: (text) =>
      Effect.sync(() => void process.stdout.write(Redaction.text(text).replace(strayInDrawing, "") + "\n")),
    json: (value) => Effect.sync(() => void process.stdout.write(JSON.stringify(Redaction.value(value)) + "\n")),
    verbatim: (text) => Effect.sync(() => void process.stdout.write(text + "\n")),
    complain: (text) => Effect.sync(() => void process.stderr.write(safe(text) + "\n")),
    tty,
    // https://no-color.org
    color: tty && (environment["NO_COLOR"] ?? "") === "",
    width: Math.max(60, Math.min(process.stdout.columns ?? 100, 140))
  }
}

const text = (message: unknown): string =>
  Array.isArray(message)
    ? message.map(text).join(" ")
    : typeof message === "string"
    ? message
    : JSON.stringify(Redaction.value(message))

/** Log lines to standard error, so that standard output stays what the command promises. */
export const logger = (json: boolean): Layer.Layer<never> =>
  Logger.layer([
    Logger.make(({ cause, date, logLevel, message }) => {
      const why = cause.reasons.length === 0 ? undefined : Redaction.error(Cause.squash(cause)).message
      const said = Redaction.text(text(message))
      const line = json
        ? JSON.stringify({ at: date.toISOString(), level: logLevel, message: said, cause: why })
        : `${date.toISOString().slice(11, 23)} ${logLevel.toLowerCase().padEnd(5)} ${said}${
          why === undefined ? "" : `: ${why}`
        }`
      process.stderr.write(plain(line) + "\n")
    })
  ])
