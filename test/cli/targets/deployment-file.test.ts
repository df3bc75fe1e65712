import t from 'tap'
import { deploymentSpecs } from '../../../cli/targets/deployment-file.js'

const complaints = (document: unknown): string => {
  try {
    deploymentSpecs(document, 'fleet.json')
    return ''
  } catch (error) {
    return (error as Error).message
  }
}

t.test('a list, an object with deployments and a single deployment are read alike', async (t) => {
  const web = { name: 'web', package_name: 'http-server' }
  for (const document of [[web], { deployments: [web] }, web])
    t.same(deploymentSpecs(document, 'f'), [web])
})

t.test('all errors are told at once, each with its place', async (t) => {
  const text = complaints({
    deployments: [
      { name: 'a b', package_name: 'http-server' },
      {
        name: 'web',
        package_name: '../evil',
        replicas: -1,
        args: 'x',
        env: { 'no-good': 'x', PORT: 80 },
      },
      { name: 'job' },
      { name: 'job', package_name: 'x', type: 'cron', nmae: 'x' },
    ],
  })
  for (const part of [
    /deployments\[0\] \(a b\)\.name: a name has 1 to 63 letters/,
    /deployments\[1\] \(web\)\.package_name: must be the name of a registry package/,
    /deployments\[1\] \(web\)\.replicas/,
    /deployments\[1\] \(web\)\.args/,
    /deployments\[1\] \(web\)\.env\.no-good: must be the name of an environment variable/,
    /deployments\[1\] \(web\)\.env\.PORT/,
    /deployments\[2\] \(job\): needs a package_name or a command/,
    /deployments\[3\] \(job\)\.type/,
    /unknown field nmae/,
  ])
    t.match(text, part)
})

t.test('a value of env is never repeated in a complaint', async (t) => {
  t.notMatch(
    complaints([{ name: 'web', package_name: 'x', env: { TOKEN: 'hun\u0000ter2' } }]),
    /hun|ter2/,
  )
})

t.test('the same name twice is a mistake', async (t) => {
  t.match(
    complaints([
      { name: 'web', package_name: 'x' },
      { name: 'web', package_name: 'y' },
    ]),
    /deployments\[1\] \(web\): the name occurs twice/,
  )
})

t.test('a version range, a path and a URL are no version', async (t) => {
  for (const package_version of [
    '^1.0.0',
    '1.x',
    'v1.2.3',
    'file:../x',
    'https://e.x/y.tgz',
    'npm:other@1',
    '-g',
    '',
  ])
    t.match(
      complaints([{ name: 'web', package_name: 'x', package_version }]),
      /exact version/,
      package_version,
    )
})

t.test('something else altogether is refused with what was expected', async (t) => {
  for (const document of ['text', 7, null, {}, { deployments: 'x' }])
    t.match(complaints(document), /holds no deployments/)
})

t.test('what came on standard input is called so', async (t) => {
  t.throws(() => deploymentSpecs({}, '-'), { message: 'standard input holds no deployments' })
  t.throws(
    () => deploymentSpecs([{ name: 'a b', package_name: 'x' }], '-'),
    /standard input: nothing was applied/,
  )
})
