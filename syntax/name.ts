/**
 * The name of a node or a deployment: 1 to 63 letters, digits, dots, underscores and hyphens. The
 * first is a letter or a digit. The constraints of the tables have the same rule.
 */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/
