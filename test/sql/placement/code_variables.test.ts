/** The variables that decide which code runs: three places hold the rule, and all must agree. */
import t from 'tap'
import { codeVariables } from '../../../syntax/code-variables.js'
import { deployment, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'

const STEERING =
  'LD_PRELOAD LD_LIBRARY_PATH ld_audit GCONV_PATH GLIBC_TUNABLES LOCPATH PATH HOME SHELL ENV ' +
  'BASH_ENV BASH_FUNC_ls IFS PS4 ZDOTDIR XDG_CONFIG_HOME EDITOR PAGER LESSOPEN TERMINFO_DIRS ' +
  'PROMPT_COMMAND NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_TLS_REJECT_UNAUTHORIZED ' +
  'NODE_REPL_EXTERNAL_MODULE TS_NODE_PROJECT npm_config_registry NPM_CONFIG_PREFIX ' +
  'YARN_RC_FILENAME COREPACK_NPM_REGISTRY PYTHONPATH PYTHONSTARTUP PERL5OPT PERL5LIB RUBYOPT ' +
  'GEM_PATH BUNDLE_GEMFILE JAVA_TOOL_OPTIONS _JAVA_OPTIONS CLASSPATH LUA_INIT PHPRC ' +
  'DOTNET_STARTUP_HOOKS CORECLR_PROFILER GIT_SSH_COMMAND GIT_CONFIG_COUNT SSH_ASKPASS ' +
  'OPENSSL_CONF SSL_CERT_FILE SSLKEYLOGFILE CURL_CA_BUNDLE'
const HARMLESS =
  'PORT HOST NODE_ENV NODE_DEBUG DEBUG TZ LANG LC_ALL TMPDIR DATABASE_URL REDIS_URL API_KEY ' +
  'NPM_TOKEN GIT_COMMIT GIT_SHA HTTPS_PROXY NO_PROXY USER PYTHONUNBUFFERED DOTNET_ENVIRONMENT ' +
  'MY_PATH PATHS HOMEPAGE SHELLS OLD_ xLD_PRELOAD NODE_OPTIONS_ ENVIRONMENT'

t.test('table, function and agent agree on every name', async (t) => {
  const { sql } = await testDatabase(t)
  for (const [names, steers] of [
    [STEERING, true],
    [HARMLESS, false],
  ] as const)
    for (const name of names.split(' ')) {
      const env = { [name]: 'x' }
      t.same(codeVariables(env), steers ? [name] : [], `agent: ${JSON.stringify(name)}`)
      const [row] = await sql<{ found: string[]; like_a_command: boolean }[]>`
        with plain as (
          insert into mooring.deployment (package_name) values ('web')
          returning signature
        ),
        given as (
          insert into mooring.deployment (package_name, env)
          values ('web', ${sql.json(env)})
          returning signature
        )
        select mooring_internal.code_variables(${sql.json(env)}) as found,
               (select p.signature from plain p) <> (select g.signature from given g)
                 as like_a_command`
      t.same(row!.found, steers ? [name] : [], `function: ${JSON.stringify(name)}`)
      t.equal(row!.like_a_command, steers, `signature: ${JSON.stringify(name)}`)
    }
})

t.test(
  'a package whose env decides which code runs goes only where commands may run',
  async (t) => {
    const { sql } = await testDatabase(t)
    await node(sql, { name: 'host-a', trusts: '^web@', drivers: ['npm'] })
    const env = { NODE_OPTIONS: '--import=data:text/javascript,0', HOME: '/tmp/x', PORT: '1' }
    const id = await deployment(sql, { package_name: 'web', env })
    await sql`select from mooring.claim()`
    const [waiting] = await sql<{ reason: string }[]>`
    select u.reason from mooring.unplaced u where u.deployment_id = ${id}`
    t.match(waiting!.reason, /HOME, NODE_OPTIONS in its env.*--allow-exec/)
    t.notMatch(waiting!.reason, /data:text/, 'no value of env')
    const [why] = await sql<{ reason: string }[]>`
    select e.verdict as reason from mooring.explain(${id}) e where e.node = 'host-a'`
    t.match(why!.reason, /its env sets HOME, NODE_OPTIONS, which decides what code runs/)

    await node(sql, { name: 'host-b', trusts: '^web@', drivers: ['npm', 'exec'] })
    await sql`select from mooring.claim()`
    t.same(
      (await sql`select p.node from mooring.placement p where p.deployment_id = ${id}`).map(
        (row) => row['node'],
      ),
      ['host-b'],
    )
    t.test('and no longer where that is taken away', async (t) => {
      await sql`update mooring.node set drivers = '{npm}'`
      await sql`select from mooring.evict()`
      t.same(
        await sql`
        select a.wanted from mooring.assignment a where a.deployment_id = ${id}`,
        [{ wanted: 'stop' }],
      )
    })
  },
)
