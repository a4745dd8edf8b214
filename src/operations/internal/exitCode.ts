// How the command ends. Documented in docs/guides/command.md; scripts rely on it.
export const ok = 0
/** A resource did not become ready, or not in time. */
export const notReady = 1
/** Settings or command line are wrong. */
export const invalid = 2
/** SIGINT or SIGTERM, after a drain; or at once after a second one. */
export const interrupted = 130
