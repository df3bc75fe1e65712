/** An npm registry on loopback with a few small packages of our own: no test needs a network. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Test } from 'tap'
import { tempDir } from './processes.js'

interface Package {
  manifest: Record<string, unknown> & { name: string; version: string }
  /** Beside package.json, by path. */
  files: Record<string, string>
}

/** Installs like the real one of that name, and serves: the options its users give it. */
const HTTP_SERVER = `#!/usr/bin/env node
const { createServer } = require('node:http')
const args = process.argv.slice(2)
if (args.includes('--version')) {
  console.log('v' + require('../package.json').version)
} else {
  const option = (...names) => args[args.findIndex((arg) => names.includes(arg)) + 1]
  const named = args.some((arg) => arg === '-p' || arg === '--port')
  const port = named ? Number(option('-p', '--port')) : 0
  const server = createServer((request, response) => response.end('served\\n'))
  server.listen(port, args.includes('-a') ? option('-a') : '127.0.0.1', () => {
    console.log('Starting up http-server, serving ./')
    console.log('Available on: http://127.0.0.1:' + server.address().port)
  })
}
`

/** The last version of a name is its latest. */
const PACKAGES: Package[] = [
  ...['6.0.0', '7.0.0'].map((version) => ({
    manifest: { name: 'is-number', version, main: 'index.js' },
    files: { 'index.js': 'module.exports = (given) => Number.isFinite(given)\n' },
  })),
  {
    manifest: {
      name: 'http-server',
      version: '14.1.1',
      bin: { 'http-server': 'bin/http-server' },
      dependencies: { 'is-number': '^7.0.0' },
    },
    files: { 'bin/http-server': HTTP_SERVER },
  },
  {
    manifest: {
      name: '@isaacs/cliui',
      version: '8.0.2',
      main: 'build/index.cjs',
      dependencies: { 'string-width': '^5.1.2' },
    },
    files: { 'build/index.cjs': "require('string-width')\n", 'LICENSE.txt': 'theirs\n' },
  },
  {
    manifest: { name: 'string-width', version: '5.1.2', main: 'index.js' },
    files: { 'index.js': 'module.exports = (text) => text.length\n' },
  },
  {
    manifest: { name: '@types/ms', version: '2.1.0', main: '', types: 'index.d.ts' },
    files: { 'index.d.ts': 'export {}\n' },
  },
]

/**
 * Opens the registry and makes it that of this process and of all it starts, until the test ends.
 * An agent hands npm nothing of its environment that names a registry. So a .npmrc in a home folder
 * of the test's own names it. npm's cache lies in that folder too.
 */
export async function packageRegistry(t: Test): Promise<void> {
  const server = createServer((request, response) => {
    const [, name = '', , version] =
      /^\/((?:@[^/]+\/)?[^/]+)(\/-\/(.+)\.tgz)?$/.exec(decodeURIComponent(request.url ?? '')) ?? []
    const found = PACKAGES.filter(({ manifest }) => manifest.name === name)
    if (found.length === 0) {
      response.writeHead(404, { 'content-type': 'application/json' })
      response.end('{"error":"Not found"}')
    } else if (version === undefined) {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(packument(found, url)))
    } else {
      const asked = found.find(({ manifest }) => manifest.version === version)
      response.writeHead(asked ? 200 : 404).end(asked && tarball(asked))
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const home = tempDir(t, 'home')
  writeFileSync(join(home, '.npmrc'), `registry=${url}/\naudit=false\nfund=false\n`)
  const before = process.env['HOME']
  process.env['HOME'] = home
  t.teardown(() => {
    if (before === undefined) delete process.env['HOME']
    else process.env['HOME'] = before
    server.close()
    server.closeAllConnections()
  })
}

function packument(versions: Package[], url: string): object {
  const { name, version: latest } = versions.at(-1)!.manifest
  return {
    _id: name,
    name,
    'dist-tags': { latest },
    versions: Object.fromEntries(
      versions.map((one) => {
        const { version } = one.manifest
        const digest = createHash('sha512').update(tarball(one)).digest('base64')
        const dist = { tarball: `${url}/${name}/-/${version}.tgz`, integrity: `sha512-${digest}` }
        return [version, { ...one.manifest, dist }]
      }),
    ),
  }
}

/** ustar below `package/`, as npm packs it. */
function tarball({ manifest, files }: Package): Buffer {
  const entries = Object.entries({ 'package.json': JSON.stringify(manifest), ...files })
  const blocks = entries.flatMap(([path, text]) => {
    const content = Buffer.from(text)
    const header = Buffer.alloc(512)
    header.write(`package/${path}`, 0)
    header.write('0000755\0' + '0000000\0'.repeat(2), 100)
    header.write(`${content.length.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0`, 124)
    header.write(`${' '.repeat(8)}0`, 148)
    header.write('ustar\u000000', 257)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    return [header, content, Buffer.alloc(-content.length & 511)]
  })
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1_024)]))
}
