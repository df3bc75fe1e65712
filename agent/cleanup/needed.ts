/**
 * What of the agent's folder is needed, by what the node owns and by what still runs or ends here. Values in, values out.
 *
 * Errs to one side only: where it cannot be told which version of a package somebody needs, he needs every version of it.
 */
import type { OwnedAssignment } from '../rows.js'
import { packageFolderOf } from '../packages/package-folder.js'
import { parsePackageRef, type PackageRef } from '../../syntax/package-reference.js'

/** version null: one of them, it is not known which. */
export interface PackageNeed {
  name: string
  version: string | null
}

export interface RunNeeds {
  assignment_id: string
  /** null: any package, it is not known which. */
  packages: readonly PackageNeed[] | null
}

export interface InUse {
  assignment(id: string): boolean
  /** By the name of its folder, `http-server@14.1.1`. */
  package(folder: string): boolean
}

export function inUse(owned: readonly OwnedAssignment[], runs: readonly RunNeeds[]): InUse {
  const running = new Set(runs.map((run) => run.assignment_id))
  // what has a run says itself which version its tag meant
  const notRunning = owned.filter((row) => !running.has(row.assignment_id))
  const ids = new Set([...running, ...notRunning.map((row) => row.assignment_id)])
  const needs = [...runs.flatMap((run) => run.packages ?? []), ...notRunning.flatMap(packagesOf)]
  const unknown = runs.some((run) => run.packages === null)
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

/** exact: what was prepared for the copy it is about. Of one that an earlier agent started, from a row that is not the one of now, nothing is known. */
export function packagesOfRun({
  exact,
  started,
  want,
  isAboutWant,
}: {
  exact: PackageRef | null
  started: boolean
  want: OwnedAssignment | undefined
  isAboutWant: boolean
}): RunNeeds['packages'] {
  if (exact === null && started && !isAboutWant) return null
  return [...(exact ? [exact] : []), ...(want && !(exact && isAboutWant) ? packagesOf(want) : [])]
}

/** As its row says it; what a tag means is not known from there. */
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
