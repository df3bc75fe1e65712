/**
 * Installs what an assignment needs before it can start. One attempt runs at a time.
 * After cancel() the events of an attempt are never called.
 */
import type { PackageRef } from '../../syntax/package-reference.js'
import { EntryError } from '../packages/entry-point.js'
import { launchPackage } from '../packages/launch.js'
import type { Launch } from '../packages/launch.js'
import { InstallError } from '../packages/npm-command.js'
import type { NpmInstaller } from '../packages/npm-install.js'

export interface Preparation {
  begin(wanted: { ref: PackageRef; command: string | null; args: readonly string[] }): void
  cancel(): void
  /** The version of the last success since forget(). Null when there is none. */
  exact(): PackageRef | null
  /** Another generation follows: the meaning of a tag is looked up again. */
  forget(): void
}

export interface PreparationEvents {
  /** npm is needed. Called at most once for each begin(). */
  onInstalling(): void
  onReady(launch: Launch): void
  /** The reason is a sentence for the operator. */
  onFailed(reason: string): void
}

export function createPreparation(
  installer: NpmInstaller,
  { onInstalling, onReady, onFailed }: PreparationEvents,
): Preparation {
  let attempt: AbortController | null = null
  let exact: PackageRef | null = null

  const cancel = (): void => {
    attempt?.abort(new Error('cancelled'))
    attempt = null
  }

  return {
    begin(wanted) {
      cancel()
      const mine = new AbortController()
      attempt = mine
      let announced = false
      launchPackage(installer, {
        ...wanted,
        signal: mine.signal,
        resolved: exact,
        onInstalling() {
          if (!announced && attempt === mine) onInstalling()
          announced = true
        },
      }).then(
        (result) => {
          if (attempt !== mine) return
          attempt = null
          exact = result.exact
          onReady(result.launch)
        },
        (error: Error) => {
          if (attempt !== mine) return
          attempt = null
          const expected = error instanceof InstallError || error instanceof EntryError
          onFailed(
            expected
              ? error.message
              : `cannot be prepared (${(error as NodeJS.ErrnoException).code ?? error.name})`,
          )
        },
      )
    },
    cancel,
    exact: () => exact,
    forget() {
      exact = null
    },
  }
}
