#!/usr/bin/env node
// The `seaworthy` command.
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Command from "./internal/command.ts"
import * as Main from "./Main.ts"

Main.runMain(
  Effect.provide(
    Command.run({ args: process.argv.slice(2), environment: process.env }),
    NodeServices.layer
  ),
  { exitCode: (exit) => exit._tag === "Success" ? exit.value : Main.exitCodeOf(exit) }
)
