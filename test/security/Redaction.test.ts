import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import { inspect } from "node:util"
import * as Redaction from "../../src/security/Redaction.ts"

const hidden: ReadonlyArray<readonly [title: string, text: string, redacted: string]> = [
  // URLs
  ["user and password", "redis://app:s3cret@cache:6379/0", "redis://<redacted>@cache:6379/0"],
  ["password only", "at redis://:s3cret@cache:6379 failed", "at redis://<redacted>@cache:6379 failed"],
  ["user only", "postgres://app@db/app_db", "postgres://<redacted>@db/app_db"],
  ["percent-encoded password", "postgresql://app:p%40ss%2Fw@db/app", "postgresql://<redacted>@db/app"],
  ["password with unencoded @ / ? #", "redis://:p@s/s?w#d@cache:6379", "redis://<redacted>@cache:6379"],
  ["password with quotes of its own", "redis://:it's@cache", "redis://<redacted>@cache"],
  ["a URL that was cut", "redis://app:s3cr", "redis://<redacted>"],
  ["a URL inside a URL", "/go?to=redis%3A%2F%2F%3As3cret%40cache", "/go?to=redis%3A%2F%2F<redacted>%40cache"],
  ["a URL with escaped slashes", "\"redis:\\/\\/:s3cret@cache\"", "\"redis:\\/\\/<redacted>@cache\""],
  ["two URLs", "a://u:p@h b://u:p@h", "a://<redacted>@h b://<redacted>@h"],
  ["credentials without scheme", "dial app:s3cret@db:5432", "dial <redacted>@db:5432"],
  ["a secret query parameter", "https://x/cb?token=abc&page=2#top", "https://x/cb?token=<redacted>&page=2#top"],
  ["a signed URL", "https://x/f?sig=a%2Fb&e=1", "https://x/f?sig=<redacted>&e=1"],
  // names
  ["name=value", "password=hunter2 host=x", "password=<redacted> host=x"],
  ["a value in quotes", "password='it\\'s me' user=y", "password='<redacted>' user=y"],
  ["doubled quotes", "password='it''s me' user=y", "password='<redacted>' user=y"],
  ["an environment", "PGPASSWORD=hunter2 CACHE_HOST=x", "PGPASSWORD=<redacted> CACHE_HOST=x"],
  ["name: value", "Passphrase: hunter2", "Passphrase: <redacted>"],
  ["JSON", "{\"password\":\"a\\\"b\",\"x\":1}", "{\"password\":\"<redacted>\",\"x\":1}"],
  ["JSON with a number", "{\"pwd\": 12345}", "{\"pwd\": <redacted>"],
  ["JSON inside JSON", "{\"a\":\"{\\\"token\\\":\\\"x y\\\"}\"}", "{\"a\":\"{\\\"token\\\":\\\"<redacted>\\\"}\"}"],
  ["inspect", "{ client_secret: 'a b', x: 1 }", "{ client_secret: '<redacted>', x: 1 }"],
  ["a list", "tokens: 3, api_key: ['a', 'b'], x", "tokens: 3, api_key: [<redacted>], x"],
  [
    "names in the plural",
    "{\"passwords\":[\"a\",\"b\"]} secrets={a}",
    "{\"passwords\":[<redacted>]} secrets={<redacted>}"
  ],
  ["a connection string", "Server=x;Password=hunter2;Port=1", "Server=x;Password=<redacted>;Port=1"],
  ["a command line", "psql --password hunter2 -h x", "psql --password <redacted> -h x"],
  ["SQL", "ALTER USER app PASSWORD 'hunter2' VALID", "ALTER USER app PASSWORD '<redacted>' VALID"],
  ["MySQL", "IDENTIFIED BY 'hunter2';", "IDENTIFIED BY '<redacted>';"],
  // headers and tokens
  ["Authorization", "Authorization: Digest a=\"b\", response=\"c\"", "Authorization: <redacted>"],
  ["Authorization in JSON", "{\"authorization\":\"Basic YTpi\",\"x\":1}", "{\"authorization\":\"<redacted>\",\"x\":1}"],
  ["Cookie", "cookie: a=b; c=d\nhost: x", "cookie: <redacted>\nhost: x"],
  ["Bearer anywhere", "sent bearer abcdef0123", "sent bearer <redacted>"],
  ["JSON Web Token", "x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc y", "x <redacted> y"],
  ["a token of a known issuer", "ghp_0123456789abcdef0123", "<redacted>"],
  ["private key", "a -----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY----- b", "a <redacted> b"],
  // Redis
  ["AUTH as typed", "AUTH app hunter2", "AUTH <redacted>"],
  ["HELLO with AUTH", "HELLO 3 AUTH default hunter2 SETNAME x", "HELLO 3 AUTH <redacted> SETNAME x"],
  ["MONITOR", "1.2 [0 127.0.0.1:1] \"auth\" \"hunter2\"", "1.2 [0 127.0.0.1:1] \"auth\" \"<redacted>\""],
  ["on the wire", "*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n", "*2\r\n$4\r\nAUTH <redacted>"],
  [
    "a driver's command",
    "{ name: 'auth', args: [ 'us]er', \"p'w\" ] }",
    "{ name: 'auth', args: [<redacted>] }"
  ]
]

const untouched: ReadonlyArray<string> = [
  "connect ECONNREFUSED 127.0.0.1:6379",
  "https://registry.example.org/@effect/sql",
  "redis://[::1]:6379/0",
  "postgres://db:5432/app_db",
  "at file:///a/node_modules/.pnpm/effect@4.1.0/node_modules/effect/x.js:10:5",
  "git@github.com:owner/repository.git",
  "password authentication failed for user \"app_user\"",
  "WRONGPASS invalid username-password pair or user is disabled.",
  "NOAUTH Authentication required.",
  "ERR AUTH <password> called without any password configured for the default user.",
  "tokens=5 tokens: 4",
  "cache.password (environment CACHE_PASSWORD): expected text",
  "12:30:45 user@host"
]

describe("Redaction", () => {
  describe("text: finds secrets by the places where they stand", () => {
    for (const [title, text, redacted] of hidden) {
      it(title, () => assert.strictEqual(Redaction.text(text), redacted))
    }

    it("leaves alone what holds no secret", () => {
      for (const text of untouched) assert.strictEqual(Redaction.text(text), text)
    })

    it("changes nothing when applied again", () => {
      for (const [_, text] of hidden) {
        const once = Redaction.text(text)
        assert.strictEqual(Redaction.text(once), once)
      }
    })

    it("takes time linear in the length of the text", () => {
      const seeds = [
        "a",
        "eyJ",
        "password",
        "password=",
        "password: ",
        "password=\\\"",
        "password={\"",
        "://",
        "https://a@",
        "%3a%2f%2f%40",
        "a:b@",
        ":a",
        "AUTH ",
        "AUTH\r\n$1",
        "name:'auth',args:[",
        "[\"",
        "\"",
        "'",
        "\\\"",
        "-----BEGIN PRIVATE KEY-----",
        "bearer ",
        "<redacted>",
        ";",
        "eyJaaaaaaaaaa."
      ]
      const elapsed = (text: string) => {
        const start = performance.now()
        Redaction.text(text)
        return performance.now() - start
      }
      for (const seed of seeds) {
        const text = seed.repeat(Math.ceil(200_000 / seed.length))
        // Quadratic time at this length is minutes; the bound leaves room for a slow and busy machine.
        assert.isBelow(elapsed(text), 4_000, `repeated ${JSON.stringify(seed)}`)
      }
    })

    it("bounds a huge text, and a secret across the cut does not survive in part", () => {
      Redaction.register("across-the-cut-0123456789")
      const text = "x".repeat(262_144 - 10) + "across-the-cut-0123456789" + "y".repeat(100_000)
      const redacted = Redaction.text(text)
      assert.isBelow(redacted.length, 262_144)
      assert.notInclude(redacted, "across")
      Redaction.unregister("across-the-cut-0123456789")
    })
  })

  describe("register: finds secrets by value", () => {
    it("hides a registered secret anywhere, until it is unregistered", () => {
      Redaction.register("hunter2")
      assert.strictEqual(Redaction.text("sent hunter2 to xhunter2y"), "sent <redacted> to x<redacted>y")
      Redaction.unregister("hunter2")
      assert.strictEqual(Redaction.text("sent hunter2"), "sent hunter2")
    })

    it("takes a Redacted", () => {
      const secret = Redacted.make("correct horse")
      Redaction.register(secret)
      assert.strictEqual(Redaction.text("a correct horse battery"), "a <redacted> battery")
      Redaction.unregister(secret)
    })

    it("hides percent-encoded, form-encoded and JSON-escaped forms, and the decoded form of an encoded secret", () => {
      const secret = "p@ s\"w/ö"
      Redaction.register(secret)
      const forms = [
        secret,
        encodeURIComponent(secret),
        encodeURIComponent(secret).toLowerCase(),
        new URLSearchParams([["k", secret]]).toString().slice(2),
        JSON.stringify(secret).slice(1, -1)
      ]
      for (const form of forms) assert.strictEqual(Redaction.text(`<${form}>`), "<<redacted>>", form)
      Redaction.unregister(secret)
      Redaction.register("a%40b%2Fc")
      assert.strictEqual(Redaction.text("_a@b/c_"), "_<redacted>_")
      Redaction.unregister("a%40b%2Fc")
    })

    it("hides what JSON inside JSON, ASCII JSON, inspection and a URL inside a URL make of it", () => {
      const secret = "p\"\\w/ö 1'x"
      Redaction.register(secret)
      const ascii = (hex: (code: number) => string) =>
        JSON.stringify(secret).replace(/[^\x20-\x7e]/g, (c) => `\\u${hex(c.charCodeAt(0)).padStart(4, "0")}`)
      const forms = [
        JSON.stringify(JSON.stringify(secret)).slice(3, -3),
        ascii((code) => code.toString(16)).slice(1, -1),
        ascii((code) => code.toString(16).toUpperCase()).slice(1, -1),
        inspect({ secret }).slice(11, -3),
        encodeURI(secret),
        encodeURIComponent(encodeURIComponent(secret))
      ]
      for (const form of forms) assert.strictEqual(Redaction.text(`<${form}>`), "<<redacted>>", form)
      Redaction.unregister(secret)
    })

    it("ignores values of fewer than 4 characters, which would garble every message", () => {
      Redaction.register("abc")
      assert.strictEqual(Redaction.text("abc"), "abc")
    })

    it("survives a secret that cannot be encoded or looks like an expression", () => {
      for (const secret of ["\uD800.*+?", "(a+)+$", "[^]-|", "100%", "redacted"]) {
        Redaction.register(secret)
        const once = Redaction.text(`<${secret}>`)
        assert.strictEqual(once, secret === "redacted" ? "<redacted>" : "<<redacted>>")
        Redaction.unregister(secret)
      }
    })

    it("keeps at most 1000 secrets, the newest", () => {
      const names = Array.from({ length: 1_001 }, (_, i) => `bounded-${i}-end`)
      for (const name of names) Redaction.register(name)
      assert.strictEqual(Redaction.text("bounded-0-end bounded-1000-end"), "bounded-0-end <redacted>")
      for (const name of names) Redaction.unregister(name)
    })
  })

  describe("url", () => {
    it("takes the whole text as one URL, valid or not", () => {
      assert.strictEqual(Redaction.url("redis://:pass word@cache:1"), "redis://<redacted>@cache:1")
      assert.strictEqual(Redaction.url("redis://:a\"b<c@cache:1"), "redis://<redacted>@cache:1")
      assert.strictEqual(
        Redaction.url(new URL("https://a:b@x/?access_key=1")),
        "https://<redacted>@x/?access_key=<redacted>"
      )
      assert.strictEqual(Redaction.url("postgres://db:5432/app"), "postgres://db:5432/app")
    })
  })

  describe("headers", () => {
    it("hides values by name and scrubs the others", () => {
      assert.deepStrictEqual(
        Redaction.headers({
          Authorization: "Bearer a",
          "set-cookie": ["a=b", "c=d"],
          "X-Api-Key": "k",
          "x-auth-token": "t",
          host: "x",
          referer: "https://a:b@x/",
          via: ["a", "b"],
          missing: undefined
        }),
        {
          Authorization: "<redacted>",
          "set-cookie": "<redacted>",
          "X-Api-Key": "<redacted>",
          "x-auth-token": "<redacted>",
          host: "x",
          referer: "https://<redacted>@x/",
          via: ["a", "b"]
        }
      )
    })
  })

  describe("value", () => {
    it("copies plain data and hides what stands under secret names", () => {
      assert.deepStrictEqual(
        Redaction.value({
          host: "x",
          password: "hunter2",
          apiKey: 12345,
          tokens: 5,
          hasToken: true,
          secret: undefined,
          list: [1, "redis://:p@h", null],
          nested: { clientSecret: { a: 1 } }
        }),
        {
          host: "x",
          password: "<redacted>",
          apiKey: "<redacted>",
          tokens: 5,
          hasToken: true,
          secret: undefined,
          list: [1, "redis://<redacted>@h", null],
          nested: { clientSecret: "<redacted>" }
        }
      )
    })

    it("hides raw headers, maps, bytes, Redacted, and the arguments of a Redis AUTH", () => {
      assert.deepStrictEqual(
        Redaction.value({
          raw: ["Authorization", "Bearer x", "Host", "y"],
          map: new Map<string, unknown>([["password", "p"], ["a", new Set([1])]]),
          bytes: Buffer.from("hunter2"),
          redacted: Redacted.make("hunter2"),
          command: { name: "auth", args: ["default", "hunter2"] },
          url: new URL("redis://:p@h")
        }),
        {
          raw: ["Authorization", "<redacted>", "Host", "y"],
          map: new Map<string, unknown>([["password", "<redacted>"], ["a", new Set([1])]]),
          bytes: "<7 bytes>",
          redacted: "<redacted>",
          command: { name: "auth", args: "<redacted>" },
          url: "redis://<redacted>@h"
        }
      )
    })

    it("copies a date without what someone hung on it", () => {
      const date = Object.assign(new Date(0), { note: "hunter2-note" })
      const copy = Redaction.value(date)
      assert.deepStrictEqual(copy, new Date(0))
      assert.notInclude(inspect(copy, { showHidden: true }), "hunter2-note")
    })

    it("survives cycles, getters that throw, hostile proxies and keys", () => {
      const cycle: Record<string, unknown> = { a: 1 }
      cycle["self"] = cycle
      assert.deepStrictEqual(Redaction.value(cycle), { a: 1, self: "<circular>" })
      const shared = { a: 1 }
      assert.deepStrictEqual(Redaction.value([shared, shared]), [shared, shared])
      const getter = Object.defineProperty({}, "a", {
        enumerable: true,
        get: () => {
          throw new Error("hunter2")
        }
      })
      assert.deepStrictEqual(Redaction.value(getter), { a: "<getter>" })
      const proxy = new Proxy({}, {
        ownKeys: () => {
          throw new Error("hunter2")
        }
      })
      assert.strictEqual(Redaction.value(proxy), "<unreadable>")
      const copy = Redaction.value(JSON.parse("{\"__proto__\":{\"polluted\":1}}"))
      assert.strictEqual((copy as { polluted?: number }).polluted, undefined)
    })

    it("bounds depth, width and length", () => {
      let deep: unknown = "end"
      for (let i = 0; i < 10_000; i++) deep = { deep }
      assert.isBelow(JSON.stringify(Redaction.value(deep)).length, 200)
      const wide = Redaction.value(Array.from({ length: 100_000 }, (_, i) => i)) as ReadonlyArray<unknown>
      assert.strictEqual(wide.length, 101)
      assert.strictEqual(wide[100], "... (99900 more)")
      assert.isBelow((Redaction.value("x".repeat(100_000)) as string).length, 2_100)
    })
  })

  describe("error", () => {
    it("keeps name, tag, code, message, stack and cause, without secrets, and nothing else", () => {
      class ReplyError extends Error {
        override readonly name = "ReplyError"
        readonly _tag = "ReplyError"
        readonly code = "WRONGPASS"
        readonly command = { name: "auth", args: ["default", "s3cret-of-command"] }
      }
      const inner = Object.assign(new Error("postgres://app:s3cret@db"), { code: 28, query: "s3cret" })
      const error = Redaction.error(new ReplyError("AUTH app s3cret failed", { cause: inner })) as Error & {
        readonly _tag: string
        readonly code: string
      }
      assert.strictEqual(error.name, "ReplyError")
      assert.strictEqual(error._tag, "ReplyError")
      assert.strictEqual(error.code, "WRONGPASS")
      assert.strictEqual(error.message, "AUTH <redacted> failed")
      assert.match(error.stack ?? "", /^ReplyError: AUTH <redacted> failed\n {4}at /)
      assert.instanceOf(error, Error)
      assert.sameMembers(Object.getOwnPropertyNames(error), ["name", "_tag", "code", "message", "stack", "cause"])
      const cause = error.cause as Error & { readonly code: number }
      assert.strictEqual(cause.message, "postgres://<redacted>@db")
      assert.strictEqual(cause.code, 28)
      assert.notInclude(inspect(error, { depth: Infinity, showHidden: true }) + JSON.stringify(error), "s3cret")
    })

    it("tells the errors of an AggregateError in the message", () => {
      const refused = (host: string) =>
        Object.assign(new Error(`connect ECONNREFUSED ${host}`), { code: "ECONNREFUSED" })
      const error = Redaction.error(
        Object.assign(new AggregateError([refused("::1:6379"), refused("127.0.0.1:6379")]), { code: "ECONNREFUSED" })
      )
      assert.strictEqual(error.message, "connect ECONNREFUSED ::1:6379; connect ECONNREFUSED 127.0.0.1:6379")
      assert.strictEqual((error as { code?: string }).code, "ECONNREFUSED")
    })

    it("makes an error of whatever else was thrown", () => {
      assert.strictEqual(Redaction.error("redis://:p@h").message, "redis://<redacted>@h")
      assert.strictEqual(
        Redaction.error({ password: "p", n: 1 }).message,
        "Not an error: {\"password\":\"<redacted>\",\"n\":1}"
      )
      assert.strictEqual(Redaction.error(undefined).message, "Not an error: undefined")
      assert.strictEqual(Redaction.error(Redacted.make("hunter2")).message, "Not an error: <redacted>")
      assert.strictEqual(Redaction.error({ message: "password=x", code: "E" }).message, "password=<redacted>")
    })

    it("bounds messages, stacks and causes, and survives a cause that is a cycle", () => {
      const error = new Error("x".repeat(100_000))
      error.cause = new Error("above", { cause: error })
      const copy = Redaction.error(error)
      assert.isBelow(copy.message.length, 2_100)
      assert.isBelow((copy.stack ?? "").length, 12_000)
      let depth = 0
      for (let at: unknown = copy; at instanceof Error; at = at.cause) depth++
      assert.strictEqual(depth, 6)
    })

    it("gives the same again for a copy", () => {
      const copy = Redaction.error(Object.assign(new Error("password=x"), { code: "E" }))
      assert.strictEqual(inspect(Redaction.error(copy)), inspect(copy))
    })
  })

  describe("no random secret survives", () => {
    const known = fc.string({ minLength: 4, maxLength: 40, unit: "grapheme" }).filter((s) => !"<redacted>".includes(s))
    /** Where a driver may put a secret that was registered. */
    const carriers: ReadonlyArray<(secret: string) => unknown> = [
      (secret) => `before ${secret} after`,
      (secret) => `x${secret}y`,
      (secret) => `redis://app:${secret}@cache:6379/0`,
      (secret) => `redis://app:${encodeURIComponent(secret)}@cache:6379/0`,
      (secret) => JSON.stringify({ a: secret }),
      (secret) => new URLSearchParams([["q", secret]]).toString(),
      (secret) => new Error(secret, { cause: new Error(`AUTH ${secret}`) }),
      (secret) =>
        Object.assign(new Error("x"), { name: secret, code: secret, _tag: secret, command: { args: [secret] } }),
      (secret) => new AggregateError([new Error(secret)]),
      (secret) => ({ [secret]: { list: [secret], map: new Map([[secret, secret]]), set: new Set([secret]) } }),
      (secret) => Redacted.make(secret),
      (secret) => Buffer.from(secret)
    ]
    const shown = (value: unknown): string =>
      typeof value === "string" ? value : inspect(value, { depth: Infinity, showHidden: true, maxStringLength: null }) +
        JSON.stringify(value)

    it("when it is registered, in any carrier", () => {
      fc.assert(
        fc.property(known, fc.constantFrom(...carriers), (secret, carrier) => {
          Redaction.register(secret)
          try {
            const held = carrier(secret)
            const forms = [
              typeof held === "string" ? Redaction.text(held) : "",
              typeof held === "string" ? Redaction.url(held) : "",
              shown(Redaction.value(held)),
              shown(Redaction.error(held))
            ]
            for (const form of forms) {
              // Frames name this file; a secret that is part of a path there is no leak of ours.
              const own = form.replace(/^ +at .*$/gm, "")
              const rest = own.replaceAll("<redacted>", "")
              if (rest.includes(secret)) assert.include(skeleton, secret, `${JSON.stringify(secret)} in ${form}`)
            }
          } finally {
            Redaction.unregister(secret)
          }
        }),
        { numRuns: 300 }
      )
    })

    /** What the carriers themselves consist of, and what inspection adds. */
    const skeleton = [
      "before after redis://app:@cache:6379/0 AUTH Error AggregateError: [cause] [stack] [message] [errors] Not an error:",
      "Map(1) {' => '} Set(1) { list: [ 'x' ], map: set: name code _tag [name] [length]: [size] null undefined more characters bytes>"
    ].join(" ")

    const word = fc.stringMatching(/^[A-Za-z0-9]{6,24}$/).filter((s) => !skeleton.includes(s)).map((s) => `zq${s}`)
    const places: ReadonlyArray<(secret: string) => string> = [
      (s) => `redis://:${s}@h:1`,
      (s) => `postgres://app:${s}%40x@h/db?a=b`,
      (s) => `see amqp://${s}@h, please`,
      (s) => `redis://u:a@${s}/b@h`,
      (s) => `host=h password=${s} user=u`,
      (s) => `host=h password='${s} x' user=u`,
      (s) => `?api_key=${s}&x=1`,
      (s) => JSON.stringify({ nested: { access_token: s } }),
      (s) => JSON.stringify(JSON.stringify({ secret: `${s}"\\${s}` })),
      (s) => inspect({ auth_pass: s, pwd: `${s}'` }),
      (s) => `Authorization: Basic ${s}`,
      (s) => `proxy-authorization=Digest username="u", response="${s}"`,
      (s) => `AUTH default ${s}`,
      (s) => `*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$${s.length}\r\n${s}\r\n`,
      (s) => `"AUTH" "u" "${s}"`,
      (s) => inspect({ command: { name: "hello", args: ["3", "AUTH", "u", s] } }),
      (s) => `Bearer ${s}.9${s}`,
      (s) => `eyJ${s}.eyJ${s}.${s}`
    ]

    it("when it is not registered but stands where secrets stand", () => {
      fc.assert(
        fc.property(word, fc.constantFrom(...places), fc.string(), fc.string(), (secret, place, before, after) => {
          const text = `${before} ${place(secret)} ${after}`
          assert.notInclude(Redaction.text(text), secret)
          assert.notInclude(Redaction.error(new Error(text)).message, secret)
        }),
        { numRuns: 500 }
      )
    })
  })
})
