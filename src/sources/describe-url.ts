/** A URL as it may stand in a message or a log: without credentials and without the values of its query. */
export function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}${url.search === '' ? '' : '?…'}`
}
