import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { resolveEntry } from '../../../agent/packages/entry-point.js'
import { temporaryFolder } from '../rig.js'

async function packageWith(
  t: Test,
  manifest: object | string,
  files: Record<string, string> = {},
): Promise<string> {
  const folder = join(await temporaryFolder(t), 'node_modules', 'thing')
  await mkdir(folder, { recursive: true })
  await writeFile(
    join(folder, 'package.json'),
    typeof manifest === 'string'
      ? manifest
      : JSON.stringify({ name: 'thing', version: '1.0.0', ...manifest }),
  )
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), text)
  }
  return folder
}

const script = '#!/usr/bin/env node\n'

t.test('the bin named like the package is run, whatever else there is', async (t) => {
  const folder = await packageWith(
    t,
    { bin: { other: 'o.js', thing: 'bin/t.js' }, main: 'm.js' },
    { 'bin/t.js': script, 'o.js': '', 'm.js': '' },
  )
  t.match(await resolveEntry(folder), { file: join(folder, 'bin/t.js'), interpreter: 'node' })
})

t.test(
  'of a scoped package the last part of the name counts, also where bin is a plain string',
  async (t) => {
    for (const bin of [{ x: 'x.js', thing: 't.js' }, 't.js']) {
      const folder = await packageWith(t, { name: '@acme/thing', bin }, { 't.js': '', 'x.js': '' })
      t.match(await resolveEntry(folder), { file: join(folder, 't.js') })
    }
  },
)

t.test('the only bin is run whatever its name', async (t) => {
  const folder = await packageWith(t, { bin: { serve: './s.js' } }, { 's.js': script })
  t.match(await resolveEntry(folder), { file: join(folder, 's.js') })
})

t.test('several bins are not guessed at: the error lists them', async (t) => {
  const folder = await packageWith(
    t,
    { bin: { a: 'a.js', b: 'b.js' }, main: 'm.js' },
    { 'a.js': '', 'b.js': '', 'm.js': '' },
  )
  await t.rejects(resolveEntry(folder), {
    message:
      'thing@1.0.0 has several bins and none is named thing: a, b; ' +
      "name one of them as the deployment's command",
  })
})

t.test('Y34: without a bin the main is run, found as node finds it', async (t) => {
  for (const [main, file] of [
    ['lib/m.js', 'lib/m.js'],
    ['./lib/m', 'lib/m.js'],
    ['lib', 'lib/index.js'],
    [undefined, 'index.js'],
    ['gone', 'index.js'],
  ] as const) {
    const folder = await packageWith(t, { main }, { [file]: '' })
    t.match(
      await resolveEntry(folder),
      { file: join(folder, file), interpreter: 'node' },
      String(main),
    )
  }
})

t.test('without bin and main the exports are asked', async (t) => {
  const folder = await packageWith(
    t,
    { exports: { '.': { require: './dist/r.cjs' } } },
    { 'dist/r.cjs': '' },
  )
  t.match(await resolveEntry(folder), { file: join(folder, 'dist/r.cjs') })
})

t.test('a package with nothing to run says so', async (t) => {
  await t.rejects(resolveEntry(await packageWith(t, {}, { 'lib.css': '' })), {
    message: /thing@1.0.0 has neither a bin nor a main, so there is nothing to run/,
  })
  await t.rejects(resolveEntry(await packageWith(t, { main: 'gone.js' })), {
    message: /names "gone.js" as its main, but has no such file/,
  })
  await t.rejects(resolveEntry(await packageWith(t, { bin: 'gone.js' })), {
    message: /names "gone.js" as its bin thing, but has no such file/,
  })
})

t.test('a path that leaves the package is not followed, neither by .. nor by a link', async (t) => {
  for (const manifest of [
    { bin: '../../../../../../../../bin/sh' },
    { bin: '/bin/sh' },
    { main: '../../x.js' },
  ]) {
    await t.rejects(
      resolveEntry(await packageWith(t, manifest)),
      { message: /lies outside the package/ },
      JSON.stringify(manifest),
    )
  }
  const folder = await packageWith(t, { bin: 'link' })
  await symlink('/bin/sh', join(folder, 'link'))
  await t.rejects(resolveEntry(folder), { message: /lies outside the package/ })
})

t.test('a bin for another interpreter is run as what it is', async (t) => {
  t.match(
    await resolveEntry(
      await packageWith(t, { bin: 'run.sh' }, { 'run.sh': '#!/bin/sh\necho hi\n' }),
    ),
    { interpreter: 'none' },
  )
  t.match(await resolveEntry(await packageWith(t, { bin: 'program' }, { program: '\x7fELF' })), {
    interpreter: 'none',
  })
  t.match(await resolveEntry(await packageWith(t, { bin: 'plain' }, { plain: 'console.log(1)' })), {
    interpreter: 'node',
  })
})

t.test('a package.json that is none is an error with a sentence', async (t) => {
  for (const text of ['', '{', 'null', '[]', '{"name":1}'])
    await t.rejects(resolveEntry(await packageWith(t, text)), {
      message: /no readable package.json/,
    })
})
