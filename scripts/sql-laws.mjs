// How SQL is laid out: one function a file of its own name, one clause a line. Part of npm run
// lint.

/**
 * Files that hold a family: trigger functions stand beside their triggers, policies are one list.
 */
const FAMILY = /^sql\/(triggers\/|functions\/placement\/policies\.sql$)/
const CLAUSES = new RegExp(
  '\\b(select|from|where|group by|having|order by|limit|returning|set|values|union|left join|' +
    'cross join|join|on conflict|for update|for key share)\\b',
  'g',
)

/**
 * @param {Map<string, string>} texts path from the root -> text
 * @returns {{file: string, line: number, law: string}[]} one entry per place that breaks a law
 */
export function brokenSqlLaws(texts) {
  const broken = []
  for (const [file, text] of texts) {
    if (!file.endsWith('.sql') || file.startsWith('migrations/committed/')) continue
    if (file.startsWith('sql/functions/') && !FAMILY.test(file)) broken.push(...ofNames(file, text))
    broken.push(...ofClauses(file, text))
  }
  return broken
}

function ofNames(file, text) {
  const own = /^sql\/functions\/[a-z]+\/(\w+)\.sql$/.exec(file)?.[1]
  if (own === undefined) return [{ file, line: 1, law: 'a function has a room' }]
  const defined = [
    ...text.matchAll(/^create or replace (?:function|procedure) mooring(?:_internal)?\.(\w+)\(/gm),
  ].map(([, name]) => name)
  if (defined.length === 1 && defined[0] === own) return []
  const law = `defines ${defined.join(', ') || 'nothing'}: one function has one file of its name`
  return [{ file, line: 1, law }]
}

/** Clauses inside parentheses belong to an expression and may share its line. */
function ofClauses(file, text) {
  return text.split('\n').flatMap((line, index) => {
    const found = outsideParentheses(line).match(CLAUSES) ?? []
    // "select from t" asks for existence; "insert ... select", "delete from" and "update ... set"
    // begin one
    const clauses = found.filter((clause, at) => at > 0 || clause !== 'select')
    const law = `${found.join(', ')} on one line: one clause a line`
    return clauses.length > 1 ? [{ file, line: index + 1, law }] : []
  })
}

/** The code of a line without comments, strings and what stands in parentheses. */
function outsideParentheses(line) {
  const code = line.replace(/'[^']*'/g, "''").replace(/--.*$/, '')
  let depth = 0
  let kept = ''
  for (const letter of code) {
    if (letter === '(') depth++
    else if (letter === ')') depth = Math.max(0, depth - 1)
    else if (depth === 0) kept += letter
  }
  return kept
}
