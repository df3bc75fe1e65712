/** The verdict: whether this agent runs the package or command of an assignment. */
import { parsePackageRef, type PackageRef } from '../../syntax/package-reference.js'
import { codeVariables } from '../../syntax/code-variables.js'
import type { OwnedAssignment } from '../rows.js'

export interface Trust {
  /** Tested against `name@version` of the deployment. Null trusts no package. */
  trusts: RegExp | null
  allowExec: boolean
}

/** What to run, or the reason why this agent refuses it. */
export type Verdict =
  { ok: true; ref: PackageRef | null; command: string | null } | { ok: false; reason: string }

export function checkTrust(assignment: OwnedAssignment, trust: Trust): Verdict {
  const { package_name: name, package_version: version, command } = assignment
  if (command !== null && !trust.allowExec)
    return refuse(
      'it has a command of its own and this agent runs packages only: ' +
        'start the agent with --allow-exec, or remove the command',
    )
  const steering = codeVariables(assignment.env)
  if (steering.length > 0 && !trust.allowExec)
    return refuse(
      `its env sets ${steering.join(', ')}, which decides what code runs: ` +
        'take that out, or start the agent with --allow-exec',
    )
  if (name === null)
    return command === null || command === ''
      ? refuse('it names neither a package nor a command')
      : { ok: true, ref: null, command }

  const ref = parsePackageRef(name, version ?? 'latest')
  if ('reason' in ref) return refuse(ref.reason)
  const spec = `${ref.name}@${ref.version}`
  if (trust.trusts === null)
    return refuse(
      'this agent trusts no package: ' +
        `start it with --trust and an expression that matches ${spec}`,
    )
  // only the source is the pattern: with the flags g or y test() depends on earlier calls
  if (!new RegExp(trust.trusts.source).test(spec))
    return refuse(`${spec} is not trusted here: this agent trusts ${trust.trusts.source}`)
  return { ok: true, ref, command }
}

function refuse(reason: string): Verdict {
  return { ok: false, reason }
}
