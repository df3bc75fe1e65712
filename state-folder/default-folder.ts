import { homedir } from 'node:os'
import { join } from 'node:path'

/** Beside the command, with the embedded server in it. */
export const LOCAL_STATE_FOLDER = '.mooring'

/** Of root, and of the units that `mooring show unit` prints. */
export const SYSTEM_STATE_FOLDER = '/var/lib/mooring'

/**
 * Where the agents of a host keep their files when nothing names a folder. It never depends on the
 * working directory: an agent that is started elsewhere must find what it runs. Without
 * DATABASE_URL the database itself lies in the local folder, and so do its agents.
 */
export function hostStateFolder(
  env: NodeJS.ProcessEnv = process.env,
  uid: number | undefined = process.getuid?.(),
): string {
  if (env['MOORING_STATE_DIR']) return env['MOORING_STATE_DIR']
  if (!env['DATABASE_URL']) return LOCAL_STATE_FOLDER
  if (uid === 0) return SYSTEM_STATE_FOLDER
  const xdg = env['XDG_STATE_HOME']
  // the specification says that a relative path is to be ignored
  return join(xdg?.startsWith('/') ? xdg : join(homedir(), '.local', 'state'), 'mooring')
}
