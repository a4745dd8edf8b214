/** A small kit for the pictures of the guide: lanes over a time axis, as standalone SVG for light and dark pages. */

/** What a picture is drawn with: every kind has its own shape too, so that colour is never the only difference. */
export type Kind = "ok" | "bad" | "refused" | "wait" | "main" | "muted"

/** The looks of a filled area. */
export type Tint = "okTint" | "badTint" | "waitTint" | "mainTint" | "mutedTint" | "refusedTint"

/** One entry of the legend. */
export interface LegendItem {
  readonly shape: "dot" | "cross" | "tick" | "bar" | "band" | "line" | "dashed" | "hollow" | "diamond"
  readonly kind: Kind | Tint
  readonly text: string
}

export interface Options {
  readonly title: string
  /** The scenario, below the title; one string a line. */
  readonly scenario: ReadonlyArray<string>
  /** What the picture shows, for those who do not see it. */
  readonly description: string
  readonly legend: ReadonlyArray<LegendItem>
  /** Height of the part below the legend, time axis included. */
  readonly height: number
  /** End of the time axis and distance of its marks, in milliseconds. */
  readonly until: number
  readonly every: number
  /** Room for the names of the lanes. Default 130. */
  readonly left?: number | undefined
  /** Room at the right end of the lanes. Default 36. */
  readonly right?: number | undefined
}

/** Width of every picture. */
export const width = 760

const light: Record<Kind | Tint | "paper" | "ink" | "grid", string> = {
  paper: "#ffffff",
  ink: "#1f2933",
  grid: "#dfe4ea",
  muted: "#66727f",
  ok: "#14805e",
  bad: "#c2352b",
  refused: "#7c4dbd",
  wait: "#b26a00",
  main: "#2563c9",
  okTint: "#d9f0e6",
  badTint: "#f9dcd9",
  refusedTint: "#e8defa",
  waitTint: "#fbe9c6",
  mainTint: "#dbe7fb",
  mutedTint: "#e9edf1"
}

const dark: typeof light = {
  paper: "#12171d",
  ink: "#e3e8ee",
  grid: "#2b343e",
  muted: "#98a4b1",
  ok: "#4fc79b",
  bad: "#f2786d",
  refused: "#b795f0",
  wait: "#e6aa4c",
  main: "#78a9f7",
  okTint: "#163b30",
  badTint: "#4a2220",
  refusedTint: "#352a50",
  waitTint: "#453414",
  mainTint: "#1b3358",
  mutedTint: "#27303a"
}

// Each colour as a fill and as a stroke. No CSS variables: not every viewer of SVG files knows them.
const colours = (palette: typeof light): string =>
  Object.entries(palette).map(([name, colour]) => `.${name}{fill:${colour}}.${name}-l{stroke:${colour}}`).join("")

const style = [
  "text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:12px}",
  ".h{font-size:16px;font-weight:600}.s{font-size:11px}.b{font-weight:600}",
  "line,path{fill:none}",
  colours(light),
  `@media (prefers-color-scheme:dark){${colours(dark)}}`
].join("")

export const escape = (text: string): string =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;")

const number = (value: number): string => String(Math.round(value * 10) / 10)

const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ",")

/** About how wide a text is at 12 px. */
const textWidth = (text: string): number => text.length * 6.5

const legendRow = 20

export class Picture {
  readonly options: Options
  readonly left: number
  readonly right: number
  /** Where the part below the legend begins. */
  readonly top: number
  readonly #parts: Array<string> = []

  constructor(options: Options) {
    this.options = options
    this.left = options.left ?? 130
    this.right = options.right ?? 36
    const legendTop = 49 + options.scenario.length * 17
    this.top = this.#drawLegend(legendTop) + 18
  }

  /** Where a time lies. */
  x(millis: number): number {
    return this.left + millis / this.options.until * (width - this.left - this.right)
  }

  rect(x: number, y: number, w: number, h: number, look: Kind | Tint, outline?: Kind): void {
    const stroke = outline === undefined ? "" : ` stroke-width="1"`
    this.#parts.push(
      `<rect class="${look}${outline === undefined ? "" : ` ${outline}-l`}" x="${number(x)}" y="${number(y)}" ` +
        `width="${number(Math.max(0.5, w))}" height="${number(h)}" rx="2"${stroke}/>`
    )
  }

  /** A stretch of time within a lane. */
  band(from: number, to: number, y: number, h: number, look: Kind | Tint, outline?: Kind): void {
    this.rect(this.x(from), y, this.x(to) - this.x(from), h, look, outline)
  }

  /** A stretch of time that was only allowed, not used. */
  hollow(from: number, to: number, y: number, h: number, kind: Kind): void {
    this.#hollow(this.x(from), y, this.x(to) - this.x(from), h, kind)
  }

  #hollow(x: number, y: number, w: number, h: number, kind: Kind): void {
    this.#parts.push(
      `<rect class="${kind}-l" style="fill:none" x="${number(x)}" y="${number(y)}" width="${number(w)}" ` +
        `height="${number(h)}" rx="2" stroke-dasharray="3 3"/>`
    )
  }

  line(x1: number, y1: number, x2: number, y2: number, kind: Kind | "grid", dashed = false, thickness = 1): void {
    this.#parts.push(
      `<line class="${kind}-l" x1="${number(x1)}" y1="${number(y1)}" x2="${number(x2)}" y2="${number(y2)}" ` +
        `stroke-width="${thickness}"${dashed ? " stroke-dasharray=\"4 3\"" : ""}/>`
    )
  }

  /** A line through points of (x, y) in pixels. */
  path(points: ReadonlyArray<readonly [number, number]>, kind: Kind, dashed = false): void {
    const d = points.map(([x, y], index) => `${index === 0 ? "M" : "L"}${number(x)} ${number(y)}`).join("")
    const dashes = dashed ? ` stroke-dasharray="4 3"` : ""
    this.#parts.push(`<path class="${kind}-l" stroke-width="1.5"${dashes} d="${d}"/>`)
  }

  /** A filled area below steps of (milliseconds, height in pixels) that stand on `bottom`. */
  area(steps: ReadonlyArray<readonly [number, number]>, bottom: number, look: Tint | Kind): void {
    const first = steps[0]
    if (first === undefined) return
    let d = `M${number(this.x(first[0]))} ${number(bottom)}`
    for (const [index, [, high]] of steps.entries()) {
      const end = steps[index + 1]?.[0] ?? this.options.until
      d += `V${number(bottom - high)}H${number(this.x(end))}`
    }
    this.#parts.push(`<path class="${look}" d="${d}V${number(bottom)}Z"/>`)
  }

  /** A line of steps of (milliseconds, y in pixels). */
  steps(steps: ReadonlyArray<readonly [number, number]>, kind: Kind, dashed = false): void {
    const points: Array<readonly [number, number]> = []
    for (const [index, [at, y]] of steps.entries()) {
      points.push([this.x(at), y], [this.x(steps[index + 1]?.[0] ?? this.options.until), y])
    }
    this.path(points, kind, dashed)
  }

  dot(x: number, y: number, kind: Kind): void {
    this.#parts.push(`<circle class="${kind}" cx="${number(x)}" cy="${number(y)}" r="3.4"/>`)
  }

  diamond(x: number, y: number, kind: Kind): void {
    this.#parts.push(
      `<rect class="${kind}" x="${number(x - 3.2)}" y="${number(y - 3.2)}" width="6.4" height="6.4" ` +
        `transform="rotate(45 ${number(x)} ${number(y)})"/>`
    )
  }

  cross(x: number, y: number, kind: Kind): void {
    const d = `M${number(x - 3.4)} ${number(y - 3.4)}l6.8 6.8m0 -6.8l-6.8 6.8`
    this.#parts.push(`<path class="${kind}-l" stroke-width="1.9" d="${d}"/>`)
  }

  tick(x: number, y: number, kind: Kind, high = 12): void {
    this.line(x, y - high / 2, x, y + high / 2, kind, false, 2)
  }

  text(x: number, y: number, text: string, options: {
    readonly kind?: Kind | "ink" | undefined
    readonly anchor?: "start" | "middle" | "end" | undefined
    readonly small?: boolean | undefined
    readonly bold?: boolean | undefined
  } = {}): void {
    const looks = [options.kind ?? "ink", options.small ? "s" : "", options.bold ? "b" : ""].filter(Boolean).join(" ")
    const anchor = options.anchor === undefined ? "" : ` text-anchor="${options.anchor}"`
    this.#parts.push(`<text class="${looks}" x="${number(x)}" y="${number(y)}"${anchor}>${escape(text)}</text>`)
  }

  /** The name of a lane, left of it, in one line or two. `y` is the middle of the lane. */
  lane(y: number, name: string, detail?: string): void {
    const x = this.left - 12
    this.text(x, detail === undefined ? y + 4 : y - 2, name, { anchor: "end" })
    if (detail !== undefined) this.text(x, y + 11, detail, { anchor: "end", kind: "muted", small: true })
  }

  /** Vertical lines at the marks of the time axis, from `from` to `to`, with the times below. Draw it first. */
  timeAxis(from: number, to: number): void {
    const { every, until } = this.options
    for (let at = 0; at <= until; at += every) {
      this.line(this.x(at), from, this.x(at), to, "grid")
      this.text(this.x(at), to + 15, grouped(at), { anchor: "middle", kind: "muted", small: true })
    }
    this.text(this.left - 12, to + 15, "time in ms", { anchor: "end", kind: "muted", small: true })
  }

  #sample(x: number, y: number, { kind, shape }: LegendItem): void {
    switch (shape) {
      case "dot":
        return this.dot(x + 7, y, kind as Kind)
      case "diamond":
        return this.diamond(x + 7, y, kind as Kind)
      case "cross":
        return this.cross(x + 7, y, kind as Kind)
      case "tick":
        return this.tick(x + 7, y, kind as Kind)
      case "line":
      case "dashed":
        return this.line(x, y, x + 14, y, kind as Kind, shape === "dashed", 1.5)
      case "hollow":
        return this.#hollow(x, y - 5, 14, 10, kind as Kind)
      case "bar":
      case "band":
        return this.rect(x, y - 5, 14, 10, kind)
    }
  }

  #drawLegend(top: number): number {
    let x = 20
    let y = top
    for (const item of this.options.legend) {
      const wide = 20 + textWidth(item.text) + 16
      if (x > 20 && x + wide - 16 > width - 10) {
        x = 20
        y += legendRow
      }
      this.#sample(x, y, item)
      this.text(x + 20, y + 4, item.text, { kind: "muted" })
      x += wide
    }
    return y
  }

  /** The SVG file. */
  render(): string {
    const { description, height, scenario, title } = this.options
    const high = number(this.top + height)
    return [
      "<!-- Generated by scripts/pictures.ts from a run in virtual time: do not edit. -->",
      `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${high}" width="${width}" height="${high}" ` +
      `role="img" aria-labelledby="title desc">`,
      `<title id="title">${escape(title)}</title>`,
      `<desc id="desc">${escape(description)}</desc>`,
      `<style>${style}</style>`,
      `<rect class="paper" width="${width}" height="${high}" rx="6"/>`,
      `<text class="ink h" x="20" y="28">${escape(title)}</text>`,
      ...scenario.map((line, index) => `<text class="muted" x="20" y="${46 + index * 17}">${escape(line)}</text>`),
      ...this.#parts,
      "</svg>",
      ""
    ].join("\n")
  }
}
