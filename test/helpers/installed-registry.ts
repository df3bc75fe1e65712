/** An npm registry on loopback with what this checkout has installed for production. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { tempDir } from './processes.js'
import { ROOT } from './root.js'

/** Resolves with a home folder whose .npmrc names the registry. npm's cache lies there too. */
export async function installedRegistry(t: Test): Promise<string> {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>
  }
  const folders = Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== '' && !dev && existsSync(join(ROOT, path)))
    .map(([path]) => join(ROOT, path))
  const found = folders.map((folder) => ({
    folder,
    manifest: JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      name: string
      version: string
    },
  }))
  const server = createServer((request, response) => {
    const [, name = '', , version] =
      /^\/((?:@[^/]+\/)?[^/]+)(\/-\/(.+)\.tgz)?$/.exec(decodeURIComponent(request.url ?? '')) ?? []
    const versions = found.filter(({ manifest }) => manifest.name === name)
    const asked = versions.find(({ manifest }) => manifest.version === version)
    if (asked) return void response.end(tarball(asked.folder))
    if (versions.length === 0) return void response.writeHead(404).end('{"error":"Not found"}')
    response.setHeader('content-type', 'application/json')
    response.end(
      JSON.stringify({
        name,
        'dist-tags': { latest: versions[0]?.manifest.version },
        versions: Object.fromEntries(
          versions.map(({ manifest }) => [
            manifest.version,
            { ...manifest, dist: { tarball: `${url}/${name}/-/${manifest.version}.tgz` } },
          ]),
        ),
      }),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const home = tempDir(t, 'home')
  writeFileSync(join(home, '.npmrc'), `registry=${url}/\naudit=false\nfund=false\n`)
  return home
}

function tarball(folder: string): Buffer {
  const { stdout, stderr, status } = spawnSync(
    'tar',
    ['-cz', '--exclude=./node_modules', '--transform=s,^[.],package,', '-C', folder, '.'],
    { maxBuffer: 2 ** 28 },
  )
  if (status !== 0) throw new Error(`tar: ${String(stderr)}`)
  return stdout
}
