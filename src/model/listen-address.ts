/** Where somebody listens: a TCP address, or a Unix socket that only its owner may use. */
export type ListenOptions = { host: string; port: number } | { socketPath: string }

/** True for addresses that only this machine can reach. */
export function isLoopback(where: ListenOptions): boolean {
  if ('socketPath' in where) return true
  return where.host === 'localhost' || where.host === '::1' || /^127(\.\d{1,3}){3}$/.test(where.host)
}
