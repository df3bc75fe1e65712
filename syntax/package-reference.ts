/**
 * Which package references an agent is willing to hand to npm.
 *
 * To npm a "version" may just as well be a git address, a folder, a tarball, a URL or an alias of another package (`x@npm:y`). The table has constraints
 * against those; they are checked again here because a package spec is the one piece of a row that reaches a program which fetches and runs code,
 * and an agent does not rely on the database being the version it was written against.
 */
export interface PackageRef {
  name: string
  version: string
  /** exact: names one artefact for ever. tag: moves, so it is looked up again at each new start. */
  kind: 'exact' | 'tag'
}

const NAME = /^(@[a-z0-9-~][a-z0-9-._~]*\/)?[a-z0-9-~][a-z0-9-._~]*$/
const NAME_LENGTH_LIMIT = 214
/** semver.org's own expression. */
const EXACT =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?$/
const TAG = /^[A-Za-z][A-Za-z0-9._-]{0,127}$/
/** Letters that npm reads as a version or a range all the same: v1.2.3, x, X.x. */
const TAG_LIKE_VERSION = /^(v\d|x$|x\.)/i
/** npm takes `x@y.tgz` for a file in the current folder. */
const FILE_LIKE = /\.(tgz|tar|tar\.gz)$/i

export const isPackageName = (name: string): boolean =>
  name.length <= NAME_LENGTH_LIMIT && NAME.test(name) && !FILE_LIKE.test(name)

/** Null: npm would look for something else under it than an artefact of the registry. */
export function versionKind(version: string): PackageRef['kind'] | null {
  if (EXACT.test(version)) return 'exact'
  return TAG.test(version) && !TAG_LIKE_VERSION.test(version) && !FILE_LIKE.test(version)
    ? 'tag'
    : null
}

export function parsePackageRef(name: string, version: string): PackageRef | { reason: string } {
  if (!isPackageName(name)) {
    return {
      reason: `package name ${quoted(name)} is not a registry name: lower-case letters, digits, - . _ ~, optionally @scope/ before it; no URL, path, git address or alias`,
    }
  }
  const kind = versionKind(version)
  if (kind === null)
    return {
      reason: `package version ${quoted(version)} is neither an exact version like 14.1.1 nor a dist-tag like latest: no range, URL, path, git address or alias`,
    }
  return { name, version, kind }
}

/** Printable and bounded: what is quoted came from a row. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text)
}
