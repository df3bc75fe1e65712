/**
 * Hosts with a network of their own: a bridge, and for each host a network namespace joined to it.
 * The rig makes them and removes them.
 *
 * Names carry the rig's pid and start time. A rig that was killed leaves its lab behind; the next
 * rig finds no live process of that name and removes the lab (sweep). Needs root and iproute2.
 * Loss, one-way cuts and resets need nftables as well.
 */
import { execFile } from 'node:child_process'
import { networkInterfaces } from 'node:os'
import { promisify } from 'node:util'
import { signalProcess } from '../agent/warden/process-tree.js'
import { readProcess } from '../host/process-table.js'

const exec = promisify(execFile)

export interface LabHost {
  /** Runs a command as on that host: put before its argv. */
  prefix: readonly string[]
  /** Link down: nothing passes, and neither end is notified. */
  cut(): Promise<void>
  /** What it sends arrives, what is sent to it does not; or the other way round. */
  deaf(): Promise<void>
  mute(): Promise<void>
  /** Each packet that arrives is lost with this probability, in percent. */
  lose(percent: number): Promise<void>
  /** Every connection of it is reset, every new one refused. */
  reset(): Promise<void>
  heal(): Promise<void>
  pids(): Promise<number[]>
  /** SIGKILL to everything that runs on it, in any session and under any parent. */
  killAll(): Promise<void>
}

export interface Lab {
  /** The address of the server as the hosts reach it. */
  address: string
  addHost(): Promise<LabHost>
  stop(): Promise<void>
}

/** Interface names have at most 15 characters: f + six of the rig's name + number. */
const PREFIX = 'mrf'

export function labName(): string {
  return `${process.pid.toString(36)}-${ownStart().toString(36)}`
}

const ownStart = (): number => readProcess(process.pid)?.startTicks ?? 0

/** Why there can be no lab here; null when there can. */
export async function whyNoLab(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  try {
    await exec('ip', ['-V'])
  } catch {
    return 'iproute2 is not installed'
  }
  const probe = `${PREFIX}-probe-${process.pid}`
  try {
    await exec('ip', ['netns', 'add', probe])
    await exec('ip', ['netns', 'del', probe])
    return null
  } catch (error) {
    return (
      'the kernel gives no network namespace: ' +
      `${(error as Error).message.split('\n').slice(-2)[0]}`
    )
  }
}

export async function whyNoFilter(): Promise<string | null> {
  const noLab = await whyNoLab()
  if (noLab !== null) return noLab
  try {
    await exec('nft', ['--version'])
    return null
  } catch {
    return 'nftables is not installed'
  }
}

let labs = 0

export async function createLab(): Promise<Lab> {
  const name = `${labName()}-${labs++}`
  const bridge = device('b', name, 0)
  const subnet = await freeSubnet(bridge)
  const hosts: LabHost[] = []
  const namespaces: string[] = []

  async function addHost(): Promise<LabHost> {
    const nr = hosts.length + 1
    const namespace = `${PREFIX}-${name}-${nr}`
    const outer = device('h', name, nr)
    await ip('netns', 'add', namespace)
    namespaces.push(namespace)
    await ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
    await ip('link', 'set', outer, 'master', bridge, 'up')
    await ip('-n', namespace, 'addr', 'add', `${subnet}.${10 + nr}/24`, 'dev', 'eth0')
    await ip('-n', namespace, 'link', 'set', 'eth0', 'up')
    await ip('-n', namespace, 'link', 'set', 'lo', 'up')
    const filter = (rules: string): Promise<void> =>
      nft(namespace, `table inet faults {\n${rules}\n}\n`)
    const host: LabHost = {
      prefix: ['ip', 'netns', 'exec', namespace],
      cut: () => ip('link', 'set', outer, 'down'),
      deaf: () => filter('chain i { type filter hook input priority 0; iif eth0 drop; }'),
      mute: () => filter('chain o { type filter hook output priority 0; oif eth0 drop; }'),
      lose: (percent) =>
        filter(
          'chain i { type filter hook input priority 0; iif eth0 numgen random mod 100 < ' +
            `${percent} drop; }`,
        ),
      reset: () =>
        filter(
          'chain o { type filter hook output priority 0; oif eth0 meta l4proto tcp ' +
            'reject with tcp reset; }',
        ),
      async heal() {
        await ip('link', 'set', outer, 'up')
        await nft(namespace, 'flush ruleset\n').catch(() => {})
      },
      pids: () => pidsIn(namespace),
      killAll: () => killNamespace(namespace),
    }
    hosts.push(host)
    return host
  }

  return {
    address: `${subnet}.1`,
    addHost,
    async stop() {
      for (const namespace of namespaces) await removeNamespace(namespace)
      await ip('link', 'del', bridge).catch(() => {})
    },
  }
}

/** What rigs that are not alive any more left of their labs. */
export async function sweepLabs(): Promise<string[]> {
  const swept: string[] = []
  if ((await whyNoLab()) !== null) return swept
  const { stdout } = await exec('ip', ['netns', 'list'])
  const dead = new Set<string>()
  for (const namespace of stdout.split('\n').map((line) => line.split(' ')[0]!)) {
    const [, pid, start, nr] =
      new RegExp(`^${PREFIX}-([0-9a-z]+)-([0-9a-z]+)-(\\d+)-\\d+$`).exec(namespace) ?? []
    if (pid === undefined || start === undefined || isAlive(`${pid}-${start}`)) continue
    await removeNamespace(namespace)
    dead.add(`${pid}-${start}-${nr}`)
    swept.push(namespace)
  }
  for (const name of dead) await ip('link', 'del', device('b', name, 0)).catch(() => {})
  return swept
}

/** Does the rig of that name (pid and start time, base 36) still run? */
export function isAlive(name: string): boolean {
  const [pid = '', start = ''] = name.split('-')
  return readProcess(parseInt(pid, 36))?.startTicks === parseInt(start, 36)
}

async function pidsIn(namespace: string): Promise<number[]> {
  const { stdout } = await exec('ip', ['netns', 'pids', namespace]).catch(() => ({ stdout: '' }))
  return stdout.split('\n').filter(Boolean).map(Number)
}

async function killNamespace(namespace: string): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    const found = (await pidsIn(namespace)).flatMap((pid) => readProcess(pid) ?? [])
    if (found.length === 0) return
    for (const process of found) signalProcess(process, 'SIGKILL')
  }
}

async function removeNamespace(namespace: string): Promise<void> {
  await killNamespace(namespace)
  // its end of the cable goes with it, and so does ours
  await ip('netns', 'del', namespace).catch(() => {})
}

/**
 * Unique among the labs of living rigs. A hash would not show a sweep which rig owns it; the
 * namespaces do.
 */
function device(kind: string, name: string, nr: number): string {
  const [pid = '', , lab = '0'] = name.split('-')
  return `${PREFIX}${kind}${pid}.${lab}.${nr}`.slice(0, 15)
}

/**
 * 10.77.0.0/16 in pieces of 256 addresses; another rig may be looking at the same moment, so the
 * bridge decides.
 */
async function freeSubnet(bridge: string): Promise<string> {
  for (let piece = process.pid % 200, tries = 0; tries < 200; piece = (piece + 1) % 200, tries++) {
    const subnet = `10.77.${piece}`
    const taken = Object.values(networkInterfaces())
      .flat()
      .some((address) => address?.address.startsWith(`${subnet}.`))
    if (taken) continue
    await ip('link', 'add', bridge, 'type', 'bridge')
    await ip('addr', 'add', `${subnet}.1/24`, 'dev', bridge)
    await ip('link', 'set', bridge, 'up')
    return subnet
  }
  throw new Error('no free subnet in 10.77.0.0/16')
}

async function ip(...args: string[]): Promise<void> {
  await exec('ip', args)
}

async function nft(namespace: string, text: string): Promise<void> {
  const running = exec('ip', ['netns', 'exec', namespace, 'nft', '-f', '-'])
  running.child.stdin?.on('error', () => {}).end(text)
  await running
}
