/**
 * Which package references an agent is willing to hand to npm, and which work it will not run at all.
 *
 * To npm a "version" may just as well be a git address, a folder, a tarball, a URL or an alias of another package (`x@npm:y`). The table has constraints
 * against those; they are checked again here because a package spec is the one piece of a row that reaches a program which fetches and runs code,
 * and an agent does not rely on the database being the version it was written against.
 */
import type { OwnedAssignment } from '../session/verbs.js'

export interface PackageRef {
  name: string
  version: string
  /** exact: names one artefact for ever. tag: moves, so it is looked up again at each new start. */
  kind: 'exact' | 'tag'
}

export interface Trust {
  /** Tested against `name@version` as written in the deployment. Null trusts no package. */
  trusts: RegExp | null
  allowExec: boolean
}

/** What the assignment wants run, or the sentence that says why this agent will not. */
export type Verdict =
  { ok: true; ref: PackageRef | null; command: string | null } | { ok: false; reason: string }

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

/** Of an installed version, in packages/. */
export function packageFolderOf({ name, version }: Pick<PackageRef, 'name' | 'version'>): string {
  return `${name.replace('/', '+')}@${version}`
}

export function judge(assignment: OwnedAssignment, trust: Trust): Verdict {
  const { package_name: name, package_version: version, command } = assignment
  if (command !== null && !trust.allowExec)
    return refuse(
      'it has a command of its own and this agent runs packages only: start the agent with --allow-exec, or remove the command',
    )
  if (name === null)
    return command === null || command === ''
      ? refuse('it names neither a package nor a command')
      : { ok: true, ref: null, command }

  const ref = parsePackageRef(name, version ?? 'latest')
  if ('reason' in ref) return refuse(ref.reason)
  const spec = `${ref.name}@${ref.version}`
  if (trust.trusts === null)
    return refuse(
      `this agent trusts no package: start it with --trust and an expression that matches ${spec}`,
    )
  // A RegExp with the flag g or y remembers where it stopped; only its source is a trust pattern.
  if (!new RegExp(trust.trusts.source).test(spec))
    return refuse(`${spec} is not trusted here: this agent trusts ${trust.trusts.source}`)
  return { ok: true, ref, command }
}

function refuse(reason: string): Verdict {
  return { ok: false, reason }
}

/** Printable and bounded: what is quoted came from a row. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text)
}
