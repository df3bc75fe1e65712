// node scripts/prose.mjs [FILE...]: the law of prose for Markdown. Without files: README.md,
// CHANGELOG.md and docs/*.md. Prints one line per offence, and exits with 1 when there is one.
import { readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const MAX_COLUMNS = 100
export const MAX_WORDS = 25

/** Words that leave open which process or row is meant, or that have a plainer name. */
const FORBIDDEN =
  /\b(who(m)?ever|somebody|someone|nobody|anybody|everybody|he|him|his|anew|astray)\b/gi

const BULLET = /^\s*([-*+]|\d+\.)\s+/

/** What is wrong in one page: [{ line, law }], lines from 1. */
export function proseOffences(markdown) {
  const lines = markdown.split('\n')
  const offences = []
  for (const { text, line } of blocksOf(lines)) {
    for (const sentence of sentencesOf(text)) {
      const words = wordsOf(sentence).length
      if (words > MAX_WORDS)
        offences.push({ line, law: `a sentence of ${words} words: ${sentence.slice(0, 60)}...` })
    }
  }
  for (const { text, line, kind } of kindsOf(lines)) {
    if (kind === 'code') continue
    const words = text.replace(/`[^`]*`/g, '').replace(/\]\([^)]*\)/g, ']')
    for (const [word] of words.matchAll(FORBIDDEN))
      offences.push({ line, law: `"${word}": name the process or the row` })
    if (kind === 'table' || isLinkOnly(text)) continue
    if (text.length > MAX_COLUMNS)
      offences.push({ line, law: `${text.length} columns, ${MAX_COLUMNS} at most` })
  }
  return offences.sort((a, b) => a.line - b.line)
}

/** Share of the sentences that are longer than MAX_WORDS: { sentences, long }. */
export function countSentences(markdown) {
  const all = blocksOf(markdown.split('\n')).flatMap(({ text }) => sentencesOf(text))
  return {
    sentences: all.length,
    long: all.filter((sentence) => wordsOf(sentence).length > MAX_WORDS).length,
  }
}

/** Each line with what it is: code, table, heading, empty or prose. */
function kindsOf(lines) {
  let fence = null
  return lines.map((text, index) => {
    const mark = /^\s*(```+|~~~+)/.exec(text)?.[1]
    let kind = 'prose'
    if (fence !== null) {
      kind = 'code'
      if (mark?.startsWith(fence)) fence = null
    } else if (mark) {
      kind = 'code'
      fence = mark
    } else if (text.trim() === '') kind = 'empty'
    else if (/^\s*\|/.test(text)) kind = 'table'
    else if (/^#+ /.test(text)) kind = 'heading'
    return { text, line: index + 1, kind }
  })
}

/** Paragraphs, list items and cells of tables, each as one text with its first line. */
function blocksOf(lines) {
  const blocks = []
  let open = null
  for (const { text, line, kind } of kindsOf(lines)) {
    if (kind === 'prose' && open !== null && !BULLET.test(text)) {
      open.text += ` ${text.trim()}`
      continue
    }
    open = null
    if (kind === 'prose') {
      open = { text: text.replace(BULLET, '').trim(), line }
      blocks.push(open)
    } else if (kind === 'table' && !/^[\s|:-]+$/.test(text)) {
      const cells = text.replace(/`[^`]*`/g, (code) => code.replaceAll('|', ' ')).split(/(?<!\\)\|/)
      for (const cell of cells) if (cell.trim() !== '') blocks.push({ text: cell.trim(), line })
    }
  }
  return blocks
}

/** A sentence ends with . ! or ? before a space; code in backquotes ends none. */
function sentencesOf(text) {
  const masked = text
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/`[^`]*`/g, (code) => code.replace(/[.!?]/g, '_'))
  return masked.split(/(?<=[.!?][)"'*_]{0,3})\s+/).filter((sentence) => /\w/.test(sentence))
}

const wordsOf = (sentence) => sentence.split(/\s+/).filter((word) => /\w/.test(word))

const isLinkOnly = (text) => /^\s*([-*+]\s+)?!?\[[^\]]*\]\([^)]*\)[.,:]?\s*$/.test(text)

/** The pages this law is for. */
export function prosePages(root) {
  return [
    'README.md',
    'CHANGELOG.md',
    ...readdirSync(join(root, 'docs'))
      .filter((file) => file.endsWith('.md'))
      .map((file) => join('docs', file)),
  ]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = join(import.meta.dirname, '..')
  const named = process.argv.slice(2)
  const files = named.length > 0 ? named : prosePages(root).map((file) => join(root, file))
  let offences = 0
  const total = { sentences: 0, long: 0 }
  for (const file of files) {
    const text = readFileSync(file, 'utf8')
    const { sentences, long } = countSentences(text)
    total.sentences += sentences
    total.long += long
    for (const { line, law } of proseOffences(text)) {
      offences++
      console.log(`${relative(process.cwd(), file)}:${line}  ${law}`)
    }
  }
  console.log(
    `prose: ${files.length} files, ${total.sentences} sentences, ${total.long} longer than ` +
      `${MAX_WORDS} words, ${offences} offences`,
  )
  process.exitCode = offences > 0 ? 1 : 0
}
