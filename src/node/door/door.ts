import { isLoopback, type ListenOptions } from '../../model/index.js'
import type { ConfigValues } from '../../config/index.js'
import { WeirError } from '../../errors.js'

/** How the API is reached: who has to say who they are, and whether anybody can listen in. */
export interface Door {
  /** Only this machine can reach it. */
  isLocal: boolean
  /** Callers have to authenticate. */
  asks: boolean
  /** Whose certificate the API shows; none = plain HTTP. */
  tls: 'none' | 'files' | 'self-signed'
}

type DoorValues = Pick<
  ConfigValues,
  | 'API.AllowInsecure'
  | 'API.Auth.Mode'
  | 'API.Auth.Users'
  | 'API.TLS.AutoCert'
  | 'API.TLS.BehindProxy'
  | 'API.TLS.CertFile'
  | 'API.TLS.KeyFile'
  | 'API.TLS.SelfSigned'
>

/**
 * Decides before anything is opened. Beyond loopback everybody authenticates and nobody can listen in, unless the
 * operator says otherwise in so many words. A Unix socket counts as local: only its owner may open it. Throws
 * `config.invalid`.
 */
export function doorOf(listen: ListenOptions, values: DoorValues): Door {
  const isLocal = isLoopback(listen)
  const where = 'socketPath' in listen ? listen.socketPath : listen.host
  const insecure = values['API.AllowInsecure']
  const tls = 'socketPath' in listen ? 'none' : tlsOf(values)
  const asks = asksOf(values, isLocal, insecure)
  if (!isLocal && !asks && !insecure)
    throw new WeirError(
      'config.invalid',
      `Cannot listen on ${where}: anybody who reaches it could start jobs`,
      {
        hint: 'leave API.Auth.Mode at auto, listen on 127.0.0.1, or say --insecure (API.AllowInsecure) when the network keeps others out',
      },
    )
  if (!isLocal && asks && tls === 'none' && !values['API.TLS.BehindProxy'] && !insecure)
    throw new WeirError(
      'config.invalid',
      `Cannot listen on ${where} without TLS: whoever is on the way could read the tokens`,
      {
        hint: 'add --self-signed (API.TLS.SelfSigned) or API.TLS.CertFile and API.TLS.KeyFile; say API.TLS.BehindProxy when a proxy ends TLS, or --insecure when the network keeps others out',
      },
    )
  return { isLocal, asks, tls }
}

function asksOf(values: DoorValues, isLocal: boolean, insecure: boolean): boolean {
  const mode = values['API.Auth.Mode']
  if (mode !== 'auto') return mode === 'on'
  return values['API.Auth.Users'].length > 0 || (!isLocal && !insecure)
}

function tlsOf(values: DoorValues): Door['tls'] {
  const { 'API.TLS.CertFile': cert, 'API.TLS.KeyFile': key, 'API.TLS.SelfSigned': selfSigned } = values
  if (values['API.TLS.AutoCert'] !== '')
    throw new WeirError(
      'config.invalid',
      'Cannot use API.TLS.AutoCert: weir does not fetch certificates itself',
      {
        hint: 'let any ACME client fetch them and name its files in API.TLS.CertFile and API.TLS.KeyFile: they are read again when they change; or use API.TLS.SelfSigned',
      },
    )
  if ((cert === '') !== (key === ''))
    throw new WeirError(
      'config.invalid',
      'Cannot use API.TLS.CertFile without API.TLS.KeyFile, nor the other way round',
      {
        hint: 'name both files',
      },
    )
  if (cert !== '' && selfSigned)
    throw new WeirError('config.invalid', 'Cannot use API.TLS.SelfSigned together with API.TLS.CertFile', {
      hint: 'leave one of them out',
    })
  if (cert !== '') return 'files'
  return selfSigned ? 'self-signed' : 'none'
}
