import type { PackageRef } from '../../syntax/package-reference.js'

/** The folder of an installed version, inside `packages/`. */
export function packageFolderOf({ name, version }: Pick<PackageRef, 'name' | 'version'>): string {
  return `${name.replace('/', '+')}@${version}`
}
