/** Units for systemd, as `mooring show unit` prints them. */
import { dirname } from 'node:path'
import { SYSTEM_STATE_FOLDER } from '../../state-folder/default-folder.js'

export const UNITS = ['agent', 'worker'] as const
export type Unit = (typeof UNITS)[number]

export interface UnitOptions {
  node: string
  script: string
  user: string
  options: readonly string[]
}

export function unitFile(unit: Unit, { node, script, user, options }: UnitOptions): string {
  const isAgent = unit === 'agent'
  const own = isAgent && !options.some(isWorkloadUser) ? ['--workload-user', user] : []
  const argv = [node, script, unit, ...own, ...options].map((text) => quoted(text)).join(' ')
  const path = [dirname(node), '/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin']
  return `# /etc/systemd/system/mooring-${unit}.service, as \`mooring show unit ${unit}\` printed it
[Unit]
Description=Mooring ${unit}
Wants=network-online.target
After=network-online.target

[Service]
EnvironmentFile=/etc/mooring/mooring.env
Environment=${quoted(`PATH=${[...new Set(path)].join(':')}`, false)}
${
  isAgent
    ? `User=root
Environment=${quoted(`MOORING_STATE_DIR=${SYSTEM_STATE_FOLDER}`, false)}
StateDirectory=mooring
StateDirectoryMode=0711
# systemd ends the agent alone; the agent ends what it runs
KillMode=process
TimeoutStopSec=15min`
    : `User=${user}
TimeoutStopSec=1min`
}
ExecStart=${argv}
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
`
}

const isWorkloadUser = (option: string): boolean => /^--workload-user(=|$)/.test(option)

/** systemd reads % and backslashes everywhere, and $ in commands. */
function quoted(text: string, isCommand = true): string {
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"')
    .replaceAll('%', '%%')
    .replaceAll('\n', '\\n')
  const whole = isCommand ? escaped.replaceAll('$', '$$$$') : escaped
  return /^[\w./:=@,+-]+$/.test(whole) ? whole : `"${whole}"`
}
