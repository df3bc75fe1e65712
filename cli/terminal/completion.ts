/** What can follow an unfinished command line, by commander's own tree of commands. Pure. */
import type { Command, Option } from 'commander'

export type Kind = 'deployment' | 'node' | 'assignment'

export interface Completion {
  /** Commands, options and choices. */
  words: string[]
  /** Names of these are possible, too. Only the database knows them. */
  kinds: Kind[]
}

/** `typed`: the words after `mooring`; the last one is not finished, and may be empty. */
export function completionOf(program: Command, typed: readonly string[]): Completion {
  const part = typed.at(-1) ?? ''
  let command = program
  let operands = 0
  let open: Option | undefined
  for (const word of typed.slice(0, -1)) {
    if (open) open = undefined
    else if (word.startsWith('-')) open = awaitingValue(optionNamed(command, word), word)
    else {
      const next = operands === 0 ? commandNamed(command, word) : undefined
      if (next) command = next
      else {
        // `mooring restart web` is about deployments
        command = (operands === 0 && defaultOf(command)) || command
        operands++
      }
    }
  }
  if (open) return { words: open.argChoices ?? [], kinds: kindsIn(open.long?.slice(2) ?? '') }
  if (part.startsWith('-')) {
    const options = [command, defaultOf(command)].flatMap((one) =>
      one ? one.createHelp().visibleOptions(one) : [],
    )
    return { words: options.flatMap(({ long, short }) => long ?? short ?? []), kinds: [] }
  }
  const begun = operands === 0
  const taking = (begun && defaultOf(command)) || command
  const places = taking.registeredArguments
  const place = places[operands] ?? (places.at(-1)?.variadic ? places.at(-1) : undefined)
  return {
    words: [
      ...(begun ? command.createHelp().visibleCommands(command) : []).map((one) => one.name()),
      ...(place?.argChoices ?? []),
    ],
    kinds: kindsIn(place?.name() ?? ''),
  }
}

/** `assignment|deployment` is either. */
const kindsIn = (text: string): Kind[] =>
  (['deployment', 'node', 'assignment'] as const).filter((kind) => text.split('|').includes(kind))

const commandNamed = (command: Command, word: string): Command | undefined =>
  command.commands.find((one) => one.name() === word || one.aliases().includes(word)) as
    Command | undefined

const defaultOf = (command: Command): Command | undefined => {
  const { _defaultCommandName: name } = command as unknown as { _defaultCommandName?: string }
  return name ? commandNamed(command, name) : undefined
}

const optionNamed = (command: Command, word: string): Option | undefined =>
  [command, defaultOf(command)]
    .flatMap((one) => (one?.options ?? []) as Option[])
    .find(({ long, short }) => long === word || short === word)

/** Not for `--name=value`, which no option is named. */
const awaitingValue = (option: Option | undefined, word: string): Option | undefined =>
  option?.required && !word.includes('=') ? option : undefined
