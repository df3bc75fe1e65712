/**
 * Arrays of the server as arrays. The connection of a command asks for no types, so that it saves a
 * round trip, and would get each array as the text '{npm,exec}'.
 */
const OIDS = { bool: 1000, int2: 1005, int4: 1007, text: 1009, int8: 1016, name: 1003 }

/** One dimension, as the server writes it. Elements stay texts, as a bigint does elsewhere. */
export function parseArray(text: string): (string | null)[] {
  return [...text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/gs)].map(([, quoted, bare]) =>
    quoted !== undefined ? quoted.replace(/\\(.)/gs, '$1') : bare === 'NULL' ? null : bare!,
  )
}

const arrayType = <T>(oid: number, element: (text: string) => T) => ({
  to: oid,
  from: [oid],
  serialize: (value: string) => value,
  parse: (text: string) => parseArray(text).map((each) => (each === null ? null : element(each))),
})

export const ARRAY_TYPES = {
  bools: arrayType(OIDS.bool, (text) => text === 't'),
  int2s: arrayType(OIDS.int2, Number),
  int4s: arrayType(OIDS.int4, Number),
  int8s: arrayType(OIDS.int8, String),
  names: arrayType(OIDS.name, String),
  texts: arrayType(OIDS.text, String),
}
