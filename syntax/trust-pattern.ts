/**
 * Which trust patterns can be used. Postgres matches a pattern when it places work, and the agent
 * again before it runs it. A pattern that the two engines read differently is refused, because
 * work could be placed here for ever and never run. SQL: mooring_internal.check_trust_pattern;
 * test/sql/placement/syntax.test.ts compares the two.
 */

/** Why a trust pattern cannot be used; null when it can. */
export function trustProblem(pattern: string): string | null {
  const tokens = withoutEscapes(pattern)
  for (const [applies, problem] of PROBLEMS) if (applies(tokens, pattern)) return problem
  try {
    new RegExp(pattern)
    return null
  } catch (error) {
    return `is no regular expression: ${error instanceof Error ? error.message : String(error)}`
  }
}

/** Stands for \d \w \s \D \W \S; a pattern of printable ASCII cannot contain it. */
const CLASS = '\u0001'
/** The largest repetition count that Postgres accepts. */
const LARGEST_BOUND = 255

type Problem = readonly [applies: (tokens: string, pattern: string) => boolean, problem: string]

const PROBLEMS: readonly Problem[] = [
  [(_, pattern) => pattern.length > 1000, 'is longer than 1000 characters'],
  [(_, pattern) => /[^ -~]/.test(pattern), 'has a character that is not printable ASCII'],
  [(_, pattern) => pattern.startsWith('***'), 'starts with ***'],
  [
    (tokens) => /\(\?(?!:)/.test(tokens),
    'of the groups (? only (?: is read alike by Postgres and JavaScript',
  ],
  [
    (tokens) => /\[\^?\]/.test(tokens),
    'has [] or [^], which Postgres reads as the beginning of a set and JavaScript as an empty one',
  ],
  [(tokens) => /\[\^?[^\]]*\[[:.=]/.test(tokens), 'has a [: [. or [= class'],
  [
    // what withoutEscapes() leaves is a backslash that escapes nothing, or another letter or digit
    (tokens) => tokens.includes('\\'),
    'of the escapes only \\d \\w \\s \\D \\W \\S and punctuation are read alike ' +
      'by Postgres and JavaScript',
  ],
  [
    (tokens) => [...tokens.matchAll(SET)].some(([, set]) => hasBadRange(set!)),
    'has a range in a set that Postgres does not accept',
  ],
  [
    (tokens) => hasBadBound(tokens.replace(SET, 'x')),
    `has a repetition that Postgres does not accept: {m}, {m,} or {m,n} up to ${LARGEST_BOUND}`,
  ],
]

const SET = /\[\^?([^\]]+)\]/g

/** The pattern with `x` for each escape of punctuation and CLASS for each escape of a class. */
function withoutEscapes(pattern: string): string {
  return pattern.replace(/\\(\\|[^A-Za-z0-9]|[dwsDWS])/g, (_, escaped: string) =>
    /[a-z]/i.test(escaped) ? CLASS : 'x',
  )
}

/** A class as a bound, or a dash between complete elements. JavaScript takes both literally. */
function hasBadRange(set: string): boolean {
  for (let at = 0; at < set.length;) {
    const last = set.length - 1
    if (set[at] === '-' && at > 0 && at < last) return true
    const isRange = set[at + 1] === '-' && at + 1 < last
    if (isRange && (set[at] === CLASS || set[at + 2] === CLASS)) return true
    at += isRange ? 3 : 1
  }
  return false
}

/** JavaScript takes a malformed repetition literally, and has no limit for a count. */
function hasBadBound(tokens: string): boolean {
  return tokens
    .split(/\{(?=\d)/)
    .slice(1)
    .some((rest) => {
      const bound = /^(\d+)(?:,(\d*))?\}/.exec(rest)
      return bound === null || Number(bound[1]) > LARGEST_BOUND || Number(bound[2]) > LARGEST_BOUND
    })
}
