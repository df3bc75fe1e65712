/** From an assignment's package and command to what is started where: installs what is missing, then names program, arguments and folder. */
import type { PackageRef } from '../../syntax/package-reference.js'
import { resolveEntry } from './entry-point.js'
import type { NpmInstaller } from './npm-install.js'

export interface Launch {
  argv: string[]
  /** Null: a work folder of the assignment's own. */
  cwd: string | null
  /** Bins that a custom command may name without a path. */
  binDir: string | null
}

export interface LaunchRequest {
  ref: PackageRef
  command: string | null
  args: readonly string[]
  signal: AbortSignal
  /** What the ref's tag meant at the first start of this generation: a crash must not change the version that runs. */
  resolved: PackageRef | null
  /** Called once it is clear that npm has to be asked. */
  onInstalling: () => void
}

/** Without a package there is nothing to wait for. */
export function launchCommand(command: string, args: readonly string[]): Launch {
  return { argv: [command, ...args], cwd: null, binDir: null }
}

/** Rejects with InstallError or EntryError, whose messages are for the operator, or with the signal's reason. */
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
