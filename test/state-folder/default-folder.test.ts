import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { hostStateFolder } from '../../state-folder/default-folder.js'
import { testDatabase } from '../helpers/postgres.js'
import { AS_OWN_USER, mooring, tempDir } from '../helpers/processes.js'

const DATABASE_URL = 'postgres://db/app'

t.test('the folder of a host depends on its user, and not on where a command starts', async (t) => {
  t.equal(hostStateFolder({ DATABASE_URL }, 0), '/var/lib/mooring')
  t.equal(
    hostStateFolder({ DATABASE_URL, XDG_STATE_HOME: '/srv/state' }, 1000),
    '/srv/state/mooring',
  )
  const atHome = join(homedir(), '.local', 'state', 'mooring')
  t.equal(hostStateFolder({ DATABASE_URL }, 1000), atHome)
  t.equal(hostStateFolder({ DATABASE_URL, XDG_STATE_HOME: 'state' }, 1000), atHome)
  t.equal(hostStateFolder({ DATABASE_URL, MOORING_STATE_DIR: '/srv/m' }, 0), '/srv/m')
  t.equal(hostStateFolder({}, 1000), '.mooring', 'the embedded server lies there, too')
})

t.test('an agent that is started in two folders has one state folder', async (t) => {
  const { url } = await testDatabase(t)
  const home = tempDir(t, 'home')
  const asRoot = process.getuid?.() === 0
  for (const cwd of [tempDir(t, 'first'), tempDir(t, 'second')]) {
    const agent = mooring(t, ['agent', '--name', 'host-a', ...AS_OWN_USER], {
      databaseUrl: url,
      cwd,
      // what root's default is, is not this test's to write to
      env: asRoot ? { MOORING_STATE_DIR: home } : { XDG_STATE_HOME: home },
    })
    await agent.said('"registered"')
    t.notOk(existsSync(join(cwd, '.mooring')))
    t.ok(existsSync(join(home, asRoot ? '' : 'mooring', 'agents', 'host-a', 'session.json')))
    agent.kill('SIGTERM')
    t.equal((await agent.exited).code, 0)
  }
})
