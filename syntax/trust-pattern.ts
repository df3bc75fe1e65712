/**
 * Why a trust pattern cannot be used, or null. The same pattern is read by Postgres, when work is placed, and by this agent, before it runs
 * it. What the two engines read differently is refused, by the same rules as mooring_internal.check_trust_pattern, or a package could be placed here
 * for ever and never be run.
 */
export function trustProblem(pattern: string): string | null {
  for (const [differs, why] of READ_DIFFERENTLY) if (differs.test(pattern)) return why
  try {
    new RegExp(pattern)
    return null
  } catch (error) {
    return `is no regular expression: ${error instanceof Error ? error.message : String(error)}`
  }
}

const READ_DIFFERENTLY: readonly (readonly [RegExp, string])[] = [
  [/^.{1001}/s, 'is longer than 1000 characters'],
  [/[^ -~]/, 'has a character that is not printable ASCII'],
  [/^\*\*\*/, 'starts with ***'],
  [/\(\?(?!:)/, 'of the groups (? only (?: is read alike by Postgres and JavaScript'],
  [/\[[:.=]/, 'has a [: [. or [= class'],
  // an escape preceded by an even number of backslashes; a backslash at the end is left to the compiler below
  [
    /(?<!\\)(?:\\\\)*\\(?![dwsDWS])[A-Za-z0-9]/,
    'of the escapes only \\d \\w \\s \\D \\W \\S and punctuation are read alike by Postgres and JavaScript',
  ],
]
