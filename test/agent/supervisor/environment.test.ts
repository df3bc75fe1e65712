import t from 'tap'
import { workloadEnv } from '../../../agent/supervisor/environment.js'
import { owned } from '../rig.js'

const agent = {
  PATH: '/bin',
  HOME: '/home/a',
  LC_ALL: 'C',
  LANG: 'C',
  TZ: 'UTC',
  DATABASE_URL: 'postgres://u:secret@h/d',
  PGPASSWORD: 'secret',
  NODE_OPTIONS: '--inspect',
  LD_PRELOAD: 'x.so',
  npm_config_registry: 'http://x',
  npm_lifecycle_event: 'start',
  MOORING_STATE_DIR: '/s',
}

t.test('Y35: of the agent only the harmless variables reach a workload', async (t) => {
  const env = workloadEnv(
    agent,
    'host-a',
    owned({ assignment_id: '5', epoch: '9', deployment_id: '3', ordinal: 2 }),
  )
  t.strictSame(Object.keys(env).sort(), [
    'HOME',
    'LANG',
    'LC_ALL',
    'MOORING_ASSIGNMENT_ID',
    'MOORING_DEPLOYMENT_ID',
    'MOORING_EPOCH',
    'MOORING_NODE',
    'MOORING_ORDINAL',
    'PATH',
    'TZ',
  ])
  t.match(env, {
    MOORING_ASSIGNMENT_ID: '5',
    MOORING_EPOCH: '9',
    MOORING_DEPLOYMENT_ID: '3',
    MOORING_NODE: 'host-a',
    MOORING_ORDINAL: '2',
    HOME: '/home/a',
  })
})

t.test('the deployment sets what it likes but not who it is', async (t) => {
  const env = workloadEnv(
    agent,
    'host-a',
    owned({
      epoch: '9',
      env: {
        HOME: '/x',
        NODE_OPTIONS: '--max-old-space-size=64',
        MOORING_EPOCH: '1',
        MOORING_RUN: 'forged',
        DATABASE_URL: 'mine',
      },
    }),
  )
  t.match(env, {
    HOME: '/x',
    NODE_OPTIONS: '--max-old-space-size=64',
    MOORING_EPOCH: '9',
    DATABASE_URL: 'mine',
  })
  t.notOk('MOORING_RUN' in env)
})

t.test('a daemon has an empty ordinal', async (t) => {
  t.equal(
    workloadEnv(agent, 'host-a', owned({ ordinal: null, type: 'daemon' }))['MOORING_ORDINAL'],
    '',
  )
})
