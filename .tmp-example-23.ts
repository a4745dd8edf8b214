import { Redaction } from "seaworthy"

Redaction.register("hunter2")
console.log(Redaction.text("redis://app:s3cret@cache:6379 refused hunter2"))
// => "redis://<redacted>@cache:6379 refused <redacted>"

const thrown = Object.assign(new Error("WRONGPASS"), { code: "E1", command: { name: "auth", args: ["hunter2"] } })
console.log(Object.entries(Redaction.error(thrown)))
// => [["code", "E1"]]
