/** Gets ready what an assignment needs to be started: one attempt at a time, which can be called off at any moment and then never speaks again. */
import type { PackageRef } from '../../syntax/package-reference.js'
import { EntryError } from '../packages/entry-point.js'
import { launchPackage } from '../packages/launch.js'
import type { Launch } from '../packages/launch.js'
import { InstallError } from '../packages/npm-command.js'
import type { NpmInstaller } from '../packages/npm-install.js'

export interface Preparation {
  begin(wanted: { ref: PackageRef; command: string | null; args: readonly string[] }): void
  /** What is ready, once. */
  take(): Launch | null
  callOff(): void
  /** What was prepared last, since forget; null: nothing, or it is not known yet what the tag means. */
  exact(): PackageRef | null
  /** What runs next is another generation: what a tag means is asked anew. */
  forget(): void
}

export interface PreparationEvents {
  /** npm has to be asked; at most once for each begin. */
  onInstalling(): void
  onReady(): void
  /** A sentence for the operator. */
  onFailed(reason: string): void
}

export function createPreparation(
  installer: NpmInstaller,
  { onInstalling, onReady, onFailed }: PreparationEvents,
): Preparation {
  let attempt: AbortController | null = null
  let ready: Launch | null = null
  let exact: PackageRef | null = null

  const callOff = (): void => {
    attempt?.abort(new Error('called off'))
    attempt = null
    ready = null
  }

  return {
    begin(wanted) {
      callOff()
      const mine = new AbortController()
      attempt = mine
      let told = false
      const tellInstalling = (): void => {
        if (!told && attempt === mine) onInstalling()
        told = true
      }
      launchPackage(installer, {
        ...wanted,
        signal: mine.signal,
        resolved: exact,
        onInstalling: tellInstalling,
      }).then(
        (result) => {
          if (attempt !== mine) return
          attempt = null
          ready = result.launch
          exact = result.exact
          onReady()
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
    take() {
      const launch = ready
      ready = null
      return launch
    },
    callOff,
    exact: () => exact,
    forget() {
      exact = null
    },
  }
}
