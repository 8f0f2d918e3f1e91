import { lookup } from 'node:dns/promises'
import { WeirError } from '../../errors.js'
import { parseIpAddress } from '../../model/index.js'

/** An address that has an entry of its own in the packet rules; `port` 0 means every port. */
export interface RuleAddress {
  address: string
  port: number
}

/**
 * Reads what operators write, `address[:port]` or `name[:port]`, and looks names up. IPv6 addresses give nothing: the
 * full network has no IPv6. Rejects with `config.invalid` for anything else, and with `engine.unavailable` when a
 * name has no address, because rules with a gap are worse than none.
 */
export async function ruleAddresses(
  texts: readonly string[],
  options: { portRequired: boolean },
  resolve: (name: string) => Promise<string[]> = resolveIpv4,
): Promise<RuleAddress[]> {
  const found = await Promise.all(
    texts.map(async (text): Promise<RuleAddress[]> => {
      if (isIpv6(text)) return []
      const [, name = '', port = ''] = NAME.exec(text) ?? []
      if (name === '' || /^[0-9.]+$/.test(name)) return [parseRuleAddress(text, options)]
      // Judges the port.
      const { port: number } = parseRuleAddress(`192.0.2.1${port}`, options)
      return (await resolve(name)).map((address) => ({ address, port: number }))
    }),
  )
  return found.flat()
}

/**
 * Reads `address` or `address:port` (IPv4). Throws `config.invalid`; an exception without port is refused, since it
 * would open a whole machine.
 */
export function parseRuleAddress(text: string, { portRequired }: { portRequired: boolean }): RuleAddress {
  const [, host = '', port = ''] = /^([0-9.]+)(?::([0-9]{1,5}))?$/.exec(text) ?? []
  const address = parseIpAddress(host)
  const number = Number(port)
  if (address?.family === 4 && number <= 65_535 && (port === '' ? !portRequired : number > 0)) {
    return { address: address.text, port: number }
  }
  throw new WeirError(
    'config.invalid',
    `Cannot use ${JSON.stringify(text)} in the rules of the full network`,
    {
      hint: portRequired
        ? 'Write a name or an IPv4 address and a port: 10.9.9.9:8080'
        : 'Write a name or an IPv4 address, with or without port',
    },
  )
}

const NAME = /^((?!-)[A-Za-z0-9._-]{1,253})((?::[0-9]+)?)$/

function isIpv6(text: string): boolean {
  const host = /^\[(.*)\](?::[0-9]{1,5})?$/.exec(text)?.[1] ?? text
  return parseIpAddress(host)?.family === 6
}

async function resolveIpv4(name: string): Promise<string[]> {
  try {
    const answers = await lookup(name, { all: true })
    return answers.filter(({ family }) => family === 4).map(({ address }) => address)
  } catch (error) {
    throw new WeirError('engine.unavailable', `Cannot guard the full network: "${name}" has no address`, {
      hint: 'List addresses instead of names, or mend the name resolution of the node',
      retryable: true,
      cause: error,
    })
  }
}
