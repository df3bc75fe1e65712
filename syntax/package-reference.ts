/**
 * Which package references an agent hands to npm: a registry name with an exact version or a tag.
 * To npm a "version" may also be a git address, a folder, a tarball, a URL or an alias (`x@npm:y`).
 * The agent checks again what the table's constraints check, because npm fetches and runs code.
 */
export interface PackageRef {
  name: string
  version: string
  /** exact: names one artefact. tag: may change, so it is looked up at each new start. */
  kind: 'exact' | 'tag'
}

// the constraints of mooring.deployment have the same expressions
const NAME = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/
const NAME_LENGTH_LIMIT = 214
/** The expression of semver.org. */
const EXACT = new RegExp(
  '^(?:0|[1-9][0-9]*)\\.(?:0|[1-9][0-9]*)\\.(?:0|[1-9][0-9]*)' +
    '(?:-(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)' +
    '(?:\\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?' +
    '(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?$',
)
const TAG = /^[A-Za-z][A-Za-z0-9._-]*$/
const VERSION_LENGTH_LIMIT = 128
/** Tags that npm reads as a version or a range: v1.2.3, x, X.x. */
const TAG_LIKE_VERSION = /^v[0-9]|^x(?:\.|$)/i
/** npm reads `x@y.tgz` as a file in the current folder, also where y.tgz is an exact version. */
const FILE_LIKE = /\.(tgz|tar|tar\.gz)$/i

export const isPackageName = (name: string): boolean =>
  name.length <= NAME_LENGTH_LIMIT && NAME.test(name) && !FILE_LIKE.test(name)

/** Null: npm would not read it as a version or tag of the registry. */
export function versionKind(version: string): PackageRef['kind'] | null {
  if (version.length > VERSION_LENGTH_LIMIT || FILE_LIKE.test(version)) return null
  if (EXACT.test(version)) return 'exact'
  return TAG.test(version) && !TAG_LIKE_VERSION.test(version) ? 'tag' : null
}

export function parsePackageRef(name: string, version: string): PackageRef | { reason: string } {
  if (!isPackageName(name)) {
    return {
      reason:
        `package name ${quoted(name)} is not a registry name: lower-case letters, digits, ` +
        '- . _ ~, optionally @scope/ before it; no URL, path, git address or alias',
    }
  }
  const kind = versionKind(version)
  if (kind === null)
    return {
      reason:
        `package version ${quoted(version)} is neither an exact version like 14.1.1 nor ` +
        'a dist-tag like latest: no range, URL, path, git address or alias',
    }
  return { name, version, kind }
}

/** Printable and of limited length, because the text comes from a row. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text)
}
