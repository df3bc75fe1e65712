/**
 * Which logs, work folders and packages the assignments and instances of this node need.
 * Values in, values out. When it is not known which version of a package an instance needs, every
 * version counts as needed.
 */
import type { OwnedAssignment } from '../rows.js'
import { packageFolderOf } from '../packages/package-folder.js'
import { parsePackageRef, type PackageRef } from '../../syntax/package-reference.js'

export interface PackageNeed {
  name: string
  /** null: the version is not known. */
  version: string | null
}

export interface InstanceNeeds {
  assignment_id: string
  /** null: the package is not known, so every package is needed. */
  packages: readonly PackageNeed[] | null
}

export interface Needed {
  assignment(id: string): boolean
  /** Takes the name of a package's folder, such as `http-server@14.1.1`. */
  package(folder: string): boolean
}

export function needed(
  owned: readonly OwnedAssignment[],
  instances: readonly InstanceNeeds[],
): Needed {
  const running = new Set(instances.map((instance) => instance.assignment_id))
  // an instance knows itself which version its dist-tag meant
  const notRunning = owned.filter((row) => !running.has(row.assignment_id))
  const ids = new Set([...running, ...notRunning.map((row) => row.assignment_id)])
  const needs = [
    ...instances.flatMap((instance) => instance.packages ?? []),
    ...notRunning.flatMap(packagesOf),
  ]
  const unknown = instances.some((instance) => instance.packages === null)
  const folders = new Set(
    needs.flatMap(({ name, version }) =>
      version === null ? [] : [packageFolderOf({ name, version })],
    ),
  )
  const prefixes = needs.flatMap(({ name, version }) =>
    version === null ? [packageFolderOf({ name, version: '' })] : [],
  )
  return {
    assignment: (id) => ids.has(id),
    package: (folder) =>
      unknown || folders.has(folder) || prefixes.some((prefix) => folder.startsWith(prefix)),
  }
}

/**
 * `exact` is the package that was prepared for the instance. The result is null for an instance
 * that an earlier agent started from another version of the row: nothing is known about it.
 */
export function packagesNeededBy({
  exact,
  started,
  wanted,
  isCurrent,
}: {
  exact: PackageRef | null
  started: boolean
  wanted: OwnedAssignment | undefined
  /** The instance is of this very version of the row. */
  isCurrent: boolean
}): InstanceNeeds['packages'] {
  if (exact === null && started && !isCurrent) return null
  return [...(exact ? [exact] : []), ...(wanted && !(exact && isCurrent) ? packagesOf(wanted) : [])]
}

/** The package that the row names. A row does not tell which version a dist-tag means. */
function packagesOf({
  package_name: name,
  package_version: version,
}: Pick<OwnedAssignment, 'package_name' | 'package_version'>): PackageNeed[] {
  if (name === null) return []
  const ref = parsePackageRef(name, version ?? 'latest')
  return 'reason' in ref
    ? []
    : [{ name: ref.name, version: ref.kind === 'exact' ? ref.version : null }]
}
