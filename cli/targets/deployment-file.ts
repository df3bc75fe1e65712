/**
 * The file of `mooring apply`: deployments by name, as JSON or YAML. Pure: a document becomes
 * specs, or all complaints about it.
 *
 *   {"labels": {"app": "shop"},
 *    "deployments": [{"name": "web", "package_name": "http-server", "replicas": 3}]}
 *   [{"name": "web", ...}, ...]
 *   {"name": "web", ...}            one per line
 *
 * Fields are the columns of mooring.deployment. Labels of the file are labels of each of them. The
 * constraints of the table are repeated only as far as they find typos. So all complaints about a
 * file of fifty deployments come at once.
 */
import { z } from 'zod'
import { NAME_PATTERN } from '../../syntax/name.js'
import { isPackageName, versionKind } from '../../syntax/package-reference.js'
import { UsageError } from '../errors.js'

const name = (what: string) =>
  z
    .string()
    .regex(
      NAME_PATTERN,
      `${what} has 1 to 63 letters, digits, '.', '_' or '-', and begins with a letter or digit`,
    )
// eslint-disable-next-line no-control-regex
const text = z.string().regex(/^[^\u0000]*$/, 'must not hold NUL')
const duration = z.string().regex(/^\d/, "a duration with its unit, such as '10 s'")
const labels = z.record(z.string(), z.unknown())

const Deployment = z
  .strictObject({
    name: name('a name'),
    labels: labels.optional(),
    type: z.enum(['deployment', 'daemon']).optional(),
    package_name: z
      .string()
      .refine(
        isPackageName,
        'must be the name of a registry package, such as http-server or @acme/api',
      )
      .nullish(),
    package_version: z
      .string()
      .refine(
        (version) => versionKind(version) !== null,
        'must be an exact version or a dist-tag, such as 14.1.1 or latest',
      )
      .optional(),
    command: text.min(1).max(4096).nullish(),
    args: z.array(text).optional(),
    env: z
      .record(
        z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable'),
        text,
      )
      .optional(),
    enabled: z.boolean().optional(),
    replicas: z.int().min(0).max(10_000).optional(),
    policy: z.string().min(1).nullish(),
    selector: labels.optional(),
    pinned_node: name('a node').nullish(),
    needs_urls: z.boolean().optional(),
    on_lost: z.enum(['stop', 'keep']).optional(),
    handover: z.enum(['stop-first', 'start-first']).optional(),
    lease_ttl: duration.nullish(),
    stop_grace: duration.optional(),
  })
  .refine((spec) => spec.package_name != null || spec.command != null, {
    error: 'needs a package_name or a command',
  })

/** A deployment of the file. Omitted fields are absent. */
export type DeploymentSpec = z.infer<typeof Deployment>

/** The name of the source in messages. */
export const sourceName = (path: string): string => (path === '-' ? 'standard input' : path)

export function deploymentSpecs(document: unknown, path: string): DeploymentSpec[] {
  const file = sourceName(path)
  const list = listOf(document)
  if (list === null)
    throw new UsageError(
      `${file} holds no deployments`,
      'write {"deployments": [...]}, an array, or one JSON object per line',
    )
  const complaints = wholeFileComplaints(document)
  const specs: DeploymentSpec[] = []
  const names = new Set<string>()
  const common = labelsOfFile(document)
  for (const [index, item] of list.entries()) {
    const where = `deployments[${index}]${labelOf(item)}`
    const result = Deployment.safeParse(item)
    if (result.success) {
      specs.push(
        common ? { ...result.data, labels: { ...common, ...result.data.labels } } : result.data,
      )
      if (names.has(result.data.name))
        complaints.push(`${where}: the name occurs twice in this file`)
      names.add(result.data.name)
    } else {
      for (const issue of result.error.issues)
        complaints.push(`${[where, ...issue.path].join('.')}: ${messageOf(issue)}`)
    }
  }
  if (complaints.length > 0)
    throw new UsageError(`${file}: nothing was applied\n  ${complaints.join('\n  ')}`)
  return specs
}

function listOf(document: unknown): unknown[] | null {
  if (Array.isArray(document)) return document
  if (typeof document !== 'object' || document === null) return null
  if (!('deployments' in document)) return 'name' in document ? [document] : null
  return Array.isArray(document.deployments) ? document.deployments : null
}

/** What the file says of all its deployments; undefined where it says nothing. */
export function labelsOfFile(document: unknown): Record<string, unknown> | undefined {
  const given = isWholeFile(document) ? labels.safeParse(document.labels) : undefined
  return given?.data
}

function wholeFileComplaints(document: unknown): string[] {
  if (!isWholeFile(document)) return []
  // x-: a place for the anchors of YAML
  const unknown = Object.keys(document).filter(
    (key) => key !== 'deployments' && key !== 'labels' && !key.startsWith('x-'),
  )
  return [
    ...unknown.map((key) => `unknown field ${key} beside deployments`),
    ...(document.labels === undefined || labels.safeParse(document.labels).success
      ? []
      : ['labels: expected an object']),
  ]
}

const isWholeFile = (document: unknown): document is { deployments: unknown; labels?: unknown } =>
  typeof document === 'object' && document !== null && 'deployments' in document

function labelOf(item: unknown): string {
  const named = typeof item === 'object' && item !== null && 'name' in item ? item.name : undefined
  return typeof named === 'string' ? ` (${named})` : ''
}

// values are never repeated, because they may be secrets of env
function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys')
    return `unknown field${issue.keys.length > 1 ? 's' : ''} ${issue.keys.join(', ')}`
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message
  return issue.message.replace(/^Invalid input: /, '')
}
