/**
 * What took how long: the start of an application as a tree, a timeline, JSON and a graph.
 *
 * **When to use**
 *
 * Render a `Status` snapshot after (or during) a start: {@link tree} for a terminal, {@link timeline} and
 * {@link timelineSvg} to see what ran beside what, {@link json} for tools, {@link mermaid} for a page of documentation.
 *
 * **Details**
 *
 * Pure functions of a snapshot. Edges are what each resource says it needs (solid) or wants (dotted), and the order that
 * layer composition gave (thin); an edge that follows from others is left out.
 *
 * **Example** (A tree)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { StartupReport, Status } from "seaworthy"
 *
 * const program = Effect.gen(function*() {
 *   const status = yield* Status.Status
 *   const disk = yield* status.register({ id: "disk", kind: "resource" })
 *   yield* disk.set("ready")
 *   yield* status.register({ id: "mail", kind: "resource", after: ["disk"] })
 *   return StartupReport.tree(yield* status.snapshot)
 * })
 * const text = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Status.layer)))
 * console.log(text.split("\n").map((line) => line.trimEnd()))
 * // => [ "✔ disk    ready", "└─ ○ mail pending" ]
 * ```
 *
 * @since 0.1.0
 */
import type { NodeSnapshot, Snapshot } from "../observability/Status.ts"
import * as Svg from "./internal/timelineSvg.ts"

/**
 * How text is drawn.
 *
 * @category models
 * @since 0.1.0
 */
export interface TextOptions {
  /** ANSI colours. Default `false`. */
  readonly color?: boolean | undefined
  /** Columns. Default 100. */
  readonly width?: number | undefined
}

type Paint = (text: string) => string

const paint = (color: boolean) => {
  const code = (n: number): Paint => (text) => color ? `\u001b[${n}m${text}\u001b[0m` : text
  return { green: code(32), yellow: code(33), red: code(31), dim: code(2), bold: code(1), cyan: code(36) }
}

const others = ["strategy", "queue", "saga"]

const resources = (snapshot: Snapshot): ReadonlyArray<NodeSnapshot> =>
  snapshot.nodes.filter((node) => !others.includes(node.kind))

/** Milliseconds as people write them: `12 ms`, `1.24 s`. */
const millis = (n: number): string => n < 1 ? "<1 ms" : n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toFixed(2)} s`

/** From the first phase to the end of the last one of the start (the release is not part of it). */
const startTime = (node: NodeSnapshot): number | undefined => {
  const phases = node.phases.filter((phase) => phase.phase !== "release")
  const first = phases[0]
  const last = phases[phases.length - 1]
  return first === undefined || last?.duration === undefined ? undefined : last.start + last.duration - first.start
}

/**
 * Direct edges `from -> to`, without those that follow from others.
 *
 * @category models
 * @since 0.1.0
 */
export interface Edge {
  readonly from: string
  readonly to: string
  readonly type: "needs" | "wants" | "order"
}

/**
 * The dependency edges of a snapshot, from what is needed to what needs it. Pure.
 *
 * @category conversions
 * @since 0.1.0
 */
export const edges = (snapshot: Snapshot): ReadonlyArray<Edge> => {
  const nodes = resources(snapshot)
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const upstream = (node: NodeSnapshot) => [...node.needs, ...node.wants, ...node.after].filter((id) => byId.has(id))
  const reaches = (from: string, to: string, seen = new Set<string>()): boolean => {
    const node = byId.get(from)
    if (node === undefined || seen.has(from)) return false
    seen.add(from)
    return upstream(node).some((id) => id === to || reaches(id, to, seen))
  }
  return nodes.flatMap((node) => {
    const all = Array.from(new Set(upstream(node)))
    return all
      .filter((id) =>
        node.needs.includes(id) || node.wants.includes(id) || !all.some((other) => other !== id && reaches(other, id))
      )
      .map((id): Edge => ({
        from: id,
        to: node.id,
        type: node.needs.includes(id) ? "needs" : node.wants.includes(id) ? "wants" : "order"
      }))
  })
}

const symbols: Record<string, readonly [string, keyof ReturnType<typeof paint>]> = {
  ready: ["✔", "green"],
  degraded: ["▲", "yellow"],
  down: ["✖", "red"],
  failed: ["✖", "red"],
  draining: ["◌", "cyan"],
  stopped: ["■", "dim"],
  pending: ["○", "dim"]
}

/**
 * One line a resource, below what it was built on: state, time to ready, phases, and why when it is not well.
 *
 * @category conversions
 * @since 0.1.0
 */
export const tree = (snapshot: Snapshot, options?: TextOptions): string => {
  const p = paint(options?.color ?? false)
  const nodes = resources(snapshot)
  const all = edges(snapshot)
  // A node with several parents stands below the one that was registered last: the one it really waited for.
  const order = new Map(nodes.map((node, index) => [node.id, index]))
  const parentOf = (node: NodeSnapshot): string | undefined =>
    all.filter((edge) => edge.to === node.id).map((edge) => edge.from).sort((a, b) =>
      (order.get(b) ?? 0) - (order.get(a) ?? 0)
    )[0]
  const children = (id: string | undefined) => nodes.filter((node) => parentOf(node) === id)
  const rows: Array<{ readonly left: string; readonly node: NodeSnapshot }> = []
  const visit = (node: NodeSnapshot, prefix: string, branch: string): void => {
    rows.push({ left: `${prefix}${branch}`, node })
    const below = children(node.id)
    const deeper = branch === "" ? prefix : prefix + (branch === "├─ " ? "│  " : "   ")
    below.forEach((child, index) => visit(child, deeper, index === below.length - 1 ? "└─ " : "├─ "))
  }
  for (const root of children(undefined)) visit(root, "", "")
  const nameWidth = Math.max(0, ...rows.map((row) => row.left.length + row.node.id.length))
  return rows.map(({ left, node }) => {
    const [symbol, tone] = symbols[node.state] ?? ["◐", "cyan"]
    const pad = " ".repeat(nameWidth - left.length - node.id.length)
    const time = startTime(node)
    const phases = node.phases.filter((phase) => phase.phase !== "release").map((phase) => {
      const tries = phase.attempts > 1 ? ` ×${phase.attempts}` : ""
      return `${phase.phase}${tries}${phase.duration === undefined ? " …" : ` ${millis(phase.duration)}`}`
    }).join(" · ")
    const line = [
      p.dim(left) + p[tone](symbol) + " " + p.bold(node.id) + pad,
      p[tone](node.state.padEnd(12)),
      (time === undefined ? "" : millis(time)).padStart(8),
      "  " + p.dim(phases)
    ].join(" ").trimEnd()
    const why = node.state === "failed" || node.state === "down" ? node.lastError?.message ?? node.detail : node.detail
    if (why === undefined) return line
    const indent = " ".repeat(left.length + 2)
    return [line, ...why.split("\n").map((text) => indent + p[tone](text))].join("\n")
  }).join("\n")
}

/**
 * A bar a resource on one axis of time, a letter a phase: v(alidate) c(onnect) i(nitialize) v(erify).
 *
 * @category conversions
 * @since 0.1.0
 */
export const timeline = (snapshot: Snapshot, options?: TextOptions): string => {
  const bars = Svg.bars(resources(snapshot))
  if (bars.rows.length === 0) return ""
  const p = paint(options?.color ?? false)
  const nameWidth = Math.max(...bars.rows.map((row) => row.id.length))
  const width = Math.max(10, (options?.width ?? 100) - nameWidth - 12)
  const column = (at: number) => Math.min(width - 1, Math.floor(((at - bars.from) / bars.span) * width))
  const lines = bars.rows.map((row) => {
    const cells = Array.from({ length: width }, () => " ")
    for (const bar of row.bars) {
      const letter = bar.outcome === "failed" ? "×" : bar.phase === "verify" ? "=" : bar.phase[0] ?? "?"
      for (let at = column(bar.start); at <= column(bar.end); at++) cells[at] = letter
    }
    const first = row.bars[0]
    const last = row.bars[row.bars.length - 1]
    const total = first === undefined || last === undefined ? "" : millis(last.end - first.start)
    return `${p.bold(row.id.padEnd(nameWidth))} ${p.dim("│")}${p.cyan(cells.join(""))}${p.dim("│")} ${total}`
  })
  const end = millis(bars.span)
  const axis = `${" ".repeat(nameWidth)} └${"─".repeat(width)}┘`
  const legend = `${" ".repeat(nameWidth + 2)}0${
    end.padStart(width - 1)
  }   v validate  c connect  i initialize  = verify  × failed`
  return [...lines, p.dim(axis), p.dim(legend)].join("\n")
}

/**
 * The timeline as a picture that stands alone: no script, no external font, readable in light and dark.
 *
 * @category conversions
 * @since 0.1.0
 */
export const timelineSvg = (snapshot: Snapshot): string => Svg.render(Svg.bars(resources(snapshot)))

/**
 * The report as data: plain values that survive `JSON.stringify`. Times in milliseconds.
 *
 * @category conversions
 * @since 0.1.0
 */
export const json = (snapshot: Snapshot) => ({
  at: new Date(snapshot.at).toISOString(),
  health: snapshot.health,
  resources: resources(snapshot).map((node) => ({
    id: node.id,
    kind: node.kind,
    state: node.state,
    health: node.health,
    since: new Date(node.since).toISOString(),
    detail: node.detail ?? null,
    error: node.lastError?.message ?? null,
    startMillis: startTime(node) ?? null,
    phases: node.phases.map((phase) => ({ ...phase, duration: phase.duration ?? null, message: phase.message ?? null }))
  })),
  edges: edges(snapshot)
})

/**
 * The dependency graph in Mermaid's language.
 *
 * @category conversions
 * @since 0.1.0
 */
export const mermaid = (snapshot: Snapshot): string => {
  const name = (id: string) => `n${resources(snapshot).findIndex((node) => node.id === id)}`
  const arrow = { needs: "==>", wants: "-.->", order: "-->" } as const
  return [
    "graph TD",
    ...resources(snapshot).map((node) => `  ${name(node.id)}["${node.id.replace(/["[\]]/g, "")}<br/>${node.state}"]`),
    ...edges(snapshot).map((edge) => `  ${name(edge.from)} ${arrow[edge.type]} ${name(edge.to)}`)
  ].join("\n")
}
