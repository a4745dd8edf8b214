// Which relative paths may be joined to a base directory. Pure: symbolic links are looked at by the caller, on disk.

const decodeOnce = (path: string): string => {
  try {
    return decodeURIComponent(path)
  } catch {
    // Not an encoded form: a lone "%" is an ordinary character in a file name.
    return path
  }
}

const control = /[\u0000-\u001f\u007f]/

const segmentsOf = (path: string): ReadonlyArray<string> => path.split(/[/\\]/)

const climbs = (path: string): boolean => segmentsOf(path).includes("..")

const isAbsolute = (path: string): boolean => /^([/\\]|[a-zA-Z]:)/.test(path)

/** Why a path is refused, or `undefined` when it is inside the base as written. */
export const refusal = (path: string): string | undefined => {
  if (path.length === 0) return "the path is empty"
  if (path.length > 4096) return "the path is longer than 4096 characters"
  // Two rounds: a gateway may have decoded once already, or not at all.
  const decoded = [path, decodeOnce(path), decodeOnce(decodeOnce(path))]
  if (decoded.some((form) => control.test(form))) return "it holds a control character"
  if (decoded.some(isAbsolute)) return "it is absolute"
  if (decoded.some(climbs)) return "it climbs out with \"..\""
  if (decoded.some((form) => segmentsOf(form).length !== segmentsOf(path).length)) {
    return "it hides a separator in an encoded form"
  }
  if (path.includes("\\")) return "it holds a backslash"
  return undefined
}

/** The path without empty and `.` segments: what an error or a report shows. */
export const normalize = (path: string): string =>
  path.split("/").filter((segment) => segment !== "" && segment !== ".").join("/")

/** Whether a real (link-free, absolute) path is the base or below it. */
export const isInside = (base: string, real: string, separator: string): boolean =>
  real === base || real.startsWith(base.endsWith(separator) ? base : base + separator)
