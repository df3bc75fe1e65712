/** What failed, out of the TAP of one file: the reader of a long run sees its end first. */
const DIAGNOSTIC_LINES = 40

/**
 * One text for each point that is not ok, with its diagnostics; those that only sum up others are
 * left out.
 */
export function failuresIn(report) {
  const lines = report.split('\n')
  return lines
    .flatMap((line, at) => {
      const indent = /^( *)not ok /.exec(line)?.[1]
      // what is skipped, or not expected to pass, says so after a hash
      if (indent === undefined || / # (?!time=)/.test(line)) return []
      const text = [line, ...diagnostics(lines, at + 1, indent.length)]
        .map((text) => text.slice(indent.length))
        .join('\n')
      // the point of a subtest has a time, and says nothing where one within it failed
      return [{ text, sums: line.includes('# time=') }]
    })
    .filter((failure, _, all) => !failure.sums || all.every((other) => other.sums))
    .map(({ text }) => text)
}

function diagnostics(lines, from, indent) {
  const open = lines[from]
  if (open?.trim() !== '---' || open.search(/\S/) <= indent) return []
  const end = lines.findIndex((text, at) => at > from && text.trim() === '...')
  return lines.slice(from + 1, end === -1 ? lines.length : end).slice(0, DIAGNOSTIC_LINES)
}
