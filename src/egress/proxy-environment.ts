/**
 * The variables that make programs use the gateway: both cases, with scheme (some programs refuse a bare address), and
 * Node's own switch. They are courtesy, not protection: the namespace has no other way out.
 */
export function proxyEnvironment(proxyUrl: string): Record<string, string> {
  const env: Record<string, string> = { NODE_USE_ENV_PROXY: '1' }
  for (const name of ['http_proxy', 'https_proxy', 'all_proxy']) {
    env[name] = proxyUrl
    env[name.toUpperCase()] = proxyUrl
  }
  for (const name of ['no_proxy', 'NO_PROXY']) env[name] = 'localhost,127.0.0.1,::1'
  return env
}
