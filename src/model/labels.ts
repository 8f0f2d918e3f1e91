/** A mistake in one value: what is wrong, and the right spelling when it is known. */
export interface Complaint {
  message: string
  hint?: string
}

/**
 * Checks a label key by the rules of Kubernetes: an optional DNS prefix with a slash, then 1 to 63 letters, digits,
 * `-`, `_` and `.`, beginning and ending with a letter or digit.
 */
export function checkLabelKey(key: string): Complaint | undefined {
  const slash = key.indexOf('/')
  const name = slash < 0 ? key : key.slice(slash + 1)
  const prefixFits = slash < 0 || (slash <= 253 && LABEL_PREFIX.test(key.slice(0, slash)))
  if (prefixFits && LABEL_NAME.test(name)) return undefined
  return {
    message: 'is not a label key',
    hint: 'Use up to 63 letters, digits, "-", "_" and ".", beginning and ending with a letter or digit.',
  }
}

/** Checks a label value: empty, or up to 63 characters like a key's name. */
export function checkLabelValue(value: string): Complaint | undefined {
  if (value === '' || LABEL_NAME.test(value)) return undefined
  return {
    message: 'is not a label value',
    hint: 'Use up to 63 letters, digits, "-", "_" and ".", beginning and ending with a letter or digit.',
  }
}

const LABEL_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/
const LABEL_PREFIX = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/
