// The timeline of a start as bars, and those bars as SVG.
import type { NodeSnapshot } from "../../observability/Status.ts"

export interface Bar {
  readonly phase: string
  readonly start: number
  readonly end: number
  readonly outcome: "running" | "ok" | "failed"
  readonly attempts: number
}

export interface Bars {
  readonly from: number
  readonly span: number
  readonly rows: ReadonlyArray<{ readonly id: string; readonly state: string; readonly bars: ReadonlyArray<Bar> }>
}

export const bars = (nodes: ReadonlyArray<NodeSnapshot>): Bars => {
  const rows = nodes.map((node) => ({
    id: node.id,
    state: node.state,
    bars: node.phases.filter((phase) => phase.phase !== "release").map((phase): Bar => ({
      phase: phase.phase,
      start: phase.start,
      end: phase.start + (phase.duration ?? 0),
      outcome: phase.outcome,
      attempts: phase.attempts
    }))
  })).filter((row) => row.bars.length > 0)
  const all = rows.flatMap((row) => row.bars)
  const from = Math.min(...all.map((bar) => bar.start))
  const to = Math.max(...all.map((bar) => bar.end))
  return { from: rows.length === 0 ? 0 : from, span: rows.length === 0 ? 1 : Math.max(1, to - from), rows }
}

const colours: Record<string, string> = {
  validate: "#8e9aaf",
  connect: "#3d7ea6",
  initialize: "#5c946e",
  verify: "#b08968"
}

const escape = (text: string): string =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;")

const left = 140
const width = 640
const rowHeight = 28

export const render = (self: Bars): string => {
  const height = 60 + self.rows.length * rowHeight
  const x = (at: number) => left + ((at - self.from) / self.span) * width
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${
      left + width + 90
    } ${height}" font-family="system-ui, sans-serif" font-size="12">`,
    "<style>text{fill:#333}@media (prefers-color-scheme: dark){text{fill:#ddd}}</style>"
  ]
  for (let tick = 0; tick <= 4; tick++) {
    const at = self.from + (self.span * tick) / 4
    out.push(`<line x1="${x(at).toFixed(1)}" x2="${x(at).toFixed(1)}" y1="14" y2="${height - 40}" stroke="#8886"/>`)
    out.push(
      `<text x="${x(at).toFixed(1)}" y="${height - 26}" text-anchor="middle">${
        Math.round((self.span * tick) / 4)
      } ms</text>`
    )
  }
  self.rows.forEach((row, index) => {
    const y = 18 + index * rowHeight
    out.push(`<text x="${left - 8}" y="${y + 14}" text-anchor="end">${escape(row.id)}</text>`)
    for (const bar of row.bars) {
      const fill = bar.outcome === "failed" ? "#c1121f" : colours[bar.phase] ?? "#777"
      const tries = bar.attempts > 1 ? `, ${bar.attempts} attempts` : ""
      out.push(
        `<rect x="${x(bar.start).toFixed(1)}" y="${y}" width="${
          Math.max(1.5, x(bar.end) - x(bar.start)).toFixed(1)
        }" height="18" rx="2" fill="${fill}"><title>${
          escape(`${row.id} ${bar.phase}: ${Math.round(bar.end - bar.start)} ms${tries}`)
        }</title></rect>`
      )
    }
    const last = row.bars[row.bars.length - 1]
    if (last !== undefined) {
      out.push(`<text x="${(x(last.end) + 6).toFixed(1)}" y="${y + 14}">${escape(row.state)}</text>`)
    }
  })
  let at = left
  for (const [phase, fill] of [...Object.entries(colours), ["failed", "#c1121f"] as const]) {
    out.push(`<rect x="${at}" y="${height - 14}" width="10" height="10" fill="${fill}"/>`)
    out.push(`<text x="${at + 14}" y="${height - 5}">${phase}</text>`)
    at += 90
  }
  return [...out, "</svg>"].join("\n")
}
