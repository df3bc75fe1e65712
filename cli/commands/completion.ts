import { Argument } from 'commander'
import type { Command } from 'commander'
import { raceDeadline } from '../../host/deadline.js'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import { LOCAL_STATE_FOLDER } from '../../state-folder/default-folder.js'
import { completionOf } from '../terminal/completion.js'
import type { Kind } from '../terminal/completion.js'
import { printable } from '../terminal/text.js'
import { print } from '../terminal/stdout.js'

/** A key press must not wait for a database that is away. */
const NAMES_WITHIN_MS = 1_000
const ASSIGNMENTS_SHOWN = 200

/** Each asks `mooring complete` for the words, so that an upgrade needs no new script. */
const SCRIPTS: Record<string, string> = {
  bash: `_mooring() {
  local word
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(
    mooring complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null
  )
}
complete -o default -F _mooring mooring`,
  zsh: `#compdef mooring
_mooring() {
  local -a found
  found=(\${(f)"$(mooring complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( \${#found} )); then compadd -a found; else _files; fi
}
if [[ $funcstack[1] == _mooring ]]; then _mooring; else compdef _mooring mooring; fi`,
  fish: `function __mooring_complete
  set -l words (commandline -opc)
  set -e words[1]
  set -l part (commandline -ct)
  mooring complete -- $words "$part" 2>/dev/null
end
complete -c mooring -f -a '(__mooring_complete)'
complete -c mooring -n '__fish_seen_subcommand_from apply' -F`,
}

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print the script by which a shell completes commands, options and names')
    .addArgument(new Argument('<shell>').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      `
  bash: source <(mooring completion bash)          in ~/.bashrc
  zsh:  source <(mooring completion zsh)           in ~/.zshrc, after compinit
  fish: mooring completion fish > ~/.config/fish/completions/mooring.fish

Names are those of the database of DATABASE_URL, if it answers within a second.`,
    )
    .action((shell: string) => print(SCRIPTS[shell]!))
  program
    .command('complete', { hidden: true })
    .description('the words that may follow; for the scripts of `mooring completion`')
    .argument('[words...]')
    .action(async (typed: string[]) => {
      const { words, kinds } = completionOf(program, typed)
      const part = typed.at(-1) ?? ''
      const found = [...words, ...(kinds.length > 0 ? await namesOf(kinds) : [])]
      const fitting = [...new Set(found)].filter((word) => word.startsWith(part))
      if (fitting.length > 0) print(fitting.map(printable).join('\n'))
    })
}

/** None where the database is away, slow, or refuses: a completion has nowhere to say so. */
async function namesOf(kinds: readonly Kind[]): Promise<string[]> {
  const stateDir = process.env['MOORING_STATE_DIR'] ?? LOCAL_STATE_FOLDER
  const asking = withDb({ stateDir }, async (db) =>
    (await Promise.all(kinds.map((kind) => NAMES[kind](db)))).flat(),
  )
  return raceDeadline(NAMES_WITHIN_MS, asking, () => []).catch(() => [])
}

const NAMES: Record<Kind, (db: Queries) => Promise<string[]>> = {
  deployment: (db) => db.deploymentNames(),
  node: async (db) => (await db.nodes()).map(({ node }) => node),
  assignment: async (db) =>
    (await db.assignments({ limit: ASSIGNMENTS_SHOWN })).map((row) => row.assignment_id),
}
