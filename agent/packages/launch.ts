/**
 * From an assignment's package and command to the argv and folder of its process.
 * Installs the package if it is missing.
 */
import type { PackageRef } from '../../syntax/package-reference.js'
import { resolveEntry } from './entry-point.js'
import type { NpmInstaller } from './npm-install.js'

export interface Launch {
  argv: string[]
  /** Null: the assignment's own work folder. */
  cwd: string | null
  /** A custom command may name the bins in it without a path. */
  binDir: string | null
}

export interface LaunchRequest {
  ref: PackageRef
  command: string | null
  args: readonly string[]
  signal: AbortSignal
  /** The version that the tag meant at the first start of this generation: a crash keeps it. */
  resolved: PackageRef | null
  /** Called when npm has to be run. */
  onInstalling: () => void
}

/** For an assignment without a package. */
export function launchCommand(command: string, args: readonly string[]): Launch {
  return { argv: [command, ...args], cwd: null, binDir: null }
}

/** Rejects with InstallError or EntryError (messages for the operator), or the signal's reason. */
export async function launchPackage(
  installer: NpmInstaller,
  request: LaunchRequest,
): Promise<{ launch: Launch; exact: PackageRef }> {
  const { ref, command, args, signal, onInstalling } = request
  let exact = request.resolved ?? ref
  if (exact.kind === 'tag') {
    onInstalling()
    exact = await installer.resolveTag(exact, signal)
  }
  let installed = await installer.find(exact)
  if (!installed) {
    onInstalling()
    installed = await installer.install(exact, signal)
  }
  const { packageDir, binDir } = installed
  if (command !== null)
    return { launch: { argv: [command, ...args], cwd: packageDir, binDir }, exact }

  const { file, interpreter } = await resolveEntry(packageDir)
  const program = interpreter === 'node' ? [process.execPath, file] : [file]
  return { launch: { argv: [...program, ...args], cwd: packageDir, binDir: null }, exact }
}
