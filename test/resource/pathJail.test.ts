import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as path from "node:path"
import { isInside, normalize, refusal } from "../../src/resource/internal/pathJail.ts"

describe("path jail", () => {
  it("lets ordinary relative paths through", () => {
    for (
      const good of [
        "a",
        "a/b.txt",
        "./a",
        "a//b",
        "a/./b",
        "ä/ö.txt",
        "100%",
        "a%20b",
        "...",
        "..a",
        "a..b",
        ".hidden"
      ]
    ) {
      assert.strictEqual(refusal(good), undefined, good)
    }
  })

  it("refuses every way out", () => {
    for (
      const bad of [
        "",
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "/etc/passwd",
        "//server/share",
        "\\\\server\\share",
        "C:\\windows",
        "c:/windows",
        "a\\..\\b",
        "a\\b",
        "a\0b",
        "a\nb",
        "%2e%2e/a",
        "%2e%2e%2fa",
        "a/%2E%2E/b",
        "..%2fa",
        "..%5ca",
        "%2fetc%2fpasswd",
        "%252e%252e%252fa",
        "a%00b",
        "a%5cb",
        "a%2fb",
        "x".repeat(5000)
      ]
    ) {
      assert.isString(refusal(bad), JSON.stringify(bad))
    }
  })

  it("whatever is let through stays inside after joining, also when it is decoded once more", () => {
    const piece = fc.constantFrom(
      "..",
      ".",
      "/",
      "\\",
      "%2e",
      "%2E",
      "%2f",
      "%5c",
      "%25",
      "a",
      "b",
      "%",
      "C:",
      "\0",
      "~"
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const given = pieces.join("")
        if (refusal(given) !== undefined) return
        const forms = [given, normalize(given)]
        try {
          forms.push(decodeURIComponent(given))
          forms.push(decodeURIComponent(decodeURIComponent(given)))
        } catch {
          // Not an encoded form.
        }
        for (const form of forms) assert.isTrue(isInside("/base", path.posix.resolve("/base", form), "/"), given)
      }),
      { numRuns: 2000 }
    )
  })

  it("a sibling whose name begins with the base's name is outside", () => {
    assert.isFalse(isInside("/base", "/base-other/x", "/"))
    assert.isTrue(isInside("/base", "/base", "/"))
    assert.isTrue(isInside("/", "/x", "/"))
  })
})
