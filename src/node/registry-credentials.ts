import { readFile } from 'node:fs/promises'
import { WeirError } from '../errors.js'

/** Logins by registry host. */
export type RegistryCredentials = Record<string, { username: string; password: string }>

/**
 * Reads registry logins from a file in the format of Docker's config.json (`auths.<host>.auth`, base64 of
 * `user:password`), plus `DOCKER_USERNAME` and `DOCKER_PASSWORD` for Docker Hub. Rejects with `config.invalid`; never
 * quotes what the file holds.
 */
export async function readRegistryCredentials(
  file: string,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<RegistryCredentials> {
  const credentials = file === '' ? {} : await readFileCredentials(file)
  const { DOCKER_USERNAME: username, DOCKER_PASSWORD: password } = environment
  if (username !== undefined && username !== '' && password !== undefined)
    credentials['docker.io'] = { username, password }
  return credentials
}

async function readFileCredentials(file: string): Promise<RegistryCredentials> {
  const invalid = (reason: string): WeirError =>
    new WeirError('config.invalid', `Cannot read registry logins from ${file}: ${reason}`, {
      hint: 'the file has the format of Docker’s config.json; run `docker login` to make one',
    })
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw invalid(error.code ?? 'unreadable')
  })
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw invalid('it is not JSON')
  }
  const auths = (parsed as { auths?: unknown } | null)?.auths
  if (auths === null || typeof auths !== 'object') throw invalid('it has no "auths"')
  const credentials: RegistryCredentials = {}
  for (const [registry, entry] of Object.entries(auths)) {
    const auth = (entry as { auth?: unknown } | null)?.auth
    if (typeof auth !== 'string') throw invalid(`the entry ${JSON.stringify(registry)} has no "auth"`)
    const login = Buffer.from(auth, 'base64').toString('utf8')
    const colon = login.indexOf(':')
    if (colon <= 0) throw invalid(`the "auth" of ${JSON.stringify(registry)} is not base64 of user:password`)
    credentials[registryHost(registry)] = {
      username: login.slice(0, colon),
      password: login.slice(colon + 1),
    }
  }
  return credentials
}

/** Docker's own file names its hub by an old URL. */
function registryHost(name: string): string {
  const host = name.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host
}
