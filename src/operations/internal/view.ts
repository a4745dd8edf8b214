// What `up` and `check` show: a tree that redraws itself in a terminal, one line a change elsewhere, one JSON object a line
// with --json.
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Change, NodeSnapshot, Snapshot, Status } from "../../observability/Status.ts"
import * as StartupReport from "../../resource/StartupReport.ts"
import { type Output, plain } from "./output.ts"

export interface View {
  /** Everything is ready. `hint` is what the user can do now. */
  readonly ready: (hint: string) => Effect.Effect<void>
  /** It did not come up. */
  readonly failed: (error: { readonly message: string; readonly data: unknown }) => Effect.Effect<void>
  /** The user, or a signal, ended it. */
  readonly draining: Effect.Effect<void>
  /** Everything is released. */
  readonly ended: Effect.Effect<void>
}

const total = (snapshot: Snapshot): string => {
  const phases = snapshot.nodes.flatMap((node) => node.phases)
  if (phases.length === 0) return "0 ms"
  const from = Math.min(...phases.map((phase) => phase.start))
  const to = Math.max(...phases.map((phase) => phase.start + (phase.duration ?? 0)))
  return to - from < 1000 ? `${Math.round(to - from)} ms` : `${((to - from) / 1000).toFixed(2)} s`
}

const released = (node: NodeSnapshot): string => {
  const release = node.phases.find((phase) => phase.phase === "release")
  if (node.detail !== undefined) return `■ ${node.id} stopped, but ${node.detail}`
  return release?.duration === undefined
    ? `■ ${node.id} stopped`
    : `■ ${node.id} released in ${Math.max(1, Math.round(release.duration))} ms`
}

/** What a node says may come from a server, a path or a file. */
const withoutControl = (node: NodeSnapshot): NodeSnapshot => ({
  ...node,
  detail: node.detail === undefined ? undefined : plain(node.detail),
  lastError: node.lastError === undefined ? undefined : { ...node.lastError, message: plain(node.lastError.message) }
})

export const make = (
  status: Status["Service"],
  output: Output,
  options: { readonly json: boolean; readonly title: string }
): Effect.Effect<View, never, Scope.Scope> =>
  Effect.gen(function*() {
    const live = output.tty && !options.json
    let stage: "starting" | "running" | "stopping" = "starting"
    let drawn = 0
    const lastState = new Map<string, string>()
    const report = { color: output.color, width: output.width }
    const shown = Effect.map(status.snapshot, (all): Snapshot => ({ ...all, nodes: all.nodes.map(withoutControl) }))
    const event = (name: string, data: object) => output.json({ event: name, ...data })

    /** Draws the tree over its last drawing. */
    const draw = Effect.flatMap(shown, (snapshot) => {
      const text = StartupReport.tree(snapshot, report)
      const back = drawn === 0 ? "" : `\u001b[${drawn}A\u001b[0J`
      drawn = text === "" ? 0 : text.split("\n").length
      // Without automatic wrapping a long line stays one line, and the count of lines to go back is right.
      return text === "" && back === "" ? Effect.void : output.draw(`${back}\u001b[?7l${text}\u001b[?7h`)
    })

    const describe = (node: NodeSnapshot): string => {
      const why = node.detail === undefined ? "" : `, ${node.detail}`
      return `${node.id}: ${node.state}${why}`
    }

    const onChange = (change: Change): Effect.Effect<void> => {
      const node = withoutControl(change.node)
      if (change.type === "phase") {
        if (options.json) {
          const phase = node.phases[node.phases.length - 1]
          return phase === undefined ? Effect.void : event("phase", { resource: node.id, ...phase })
        }
        return live && stage === "starting" ? draw : Effect.void
      }
      if (change.type !== "state") return Effect.void
      const before = lastState.get(node.id)
      lastState.set(node.id, node.state)
      if (options.json) {
        return event("state", {
          resource: node.id,
          state: node.state,
          health: node.health,
          detail: node.detail ?? null,
          at: node.since
        })
      }
      if (stage === "starting") {
        if (live) return draw
        return before === node.state ? Effect.void : output.print(`  ${describe(node)}`)
      }
      if (before === node.state) return Effect.void
      if (stage === "stopping") return node.state === "stopped" ? output.print(released(node)) : Effect.void
      return output.print(`${new Date(node.since).toISOString().slice(11, 19)} ${describe(node)}`)
    }

    if (!options.json) yield* output.print(options.title)
    yield* Effect.forkScoped(Stream.runForEach(status.changes, onChange), { startImmediately: true })
    // The subscription is made by the forked fiber; without this the first change could be missed.
    yield* Effect.yieldNow

    return {
      ready: (hint) =>
        Effect.gen(function*() {
          const snapshot = yield* shown
          stage = "running"
          if (options.json) return yield* event("ready", StartupReport.json(snapshot))
          if (live) yield* draw
          else yield* output.draw(`\n${StartupReport.tree(snapshot, report)}`)
          yield* output.draw("\n" + StartupReport.timeline(snapshot, report))
          yield* output.print(`\nready in ${total(snapshot)}. ${hint}`)
        }),
      failed: ({ data, message }) =>
        Effect.gen(function*() {
          const snapshot = yield* shown
          stage = "stopping"
          if (options.json) return yield* event("failed", { error: data, report: StartupReport.json(snapshot) })
          if (live) yield* draw
          else if (snapshot.nodes.length > 0) yield* output.draw("\n" + StartupReport.tree(snapshot, report))
          yield* output.complain(`\nnot ready: ${message}`)
        }),
      draining: Effect.suspend(() => {
        if (stage !== "running") return Effect.void
        stage = "stopping"
        return options.json
          ? event("draining", {})
          : output.print("\nstopping: draining, then releasing in reverse (again to leave at once)")
      }),
      ended: Effect.gen(function*() {
        // Changes travel by a stream of their own; say here what it had no time for.
        const snapshot = yield* shown
        for (const node of [...snapshot.nodes].reverse()) {
          if (node.state === "stopped" && lastState.get(node.id) !== "stopped") {
            yield* onChange({ type: "state", node })
          }
        }
        yield* options.json ? event("ended", { report: StartupReport.json(snapshot) }) : Effect.void
      })
    }
  })
