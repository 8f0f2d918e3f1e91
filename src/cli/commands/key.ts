import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { toWeirError, WeirError } from '../../errors.js'
import { judgeSignatures, readTime, signJob, withSignature, writeTime } from '../../model/job-signature.js'
import { keyPairOf, pemOfSeed } from '../../model/key-pair.js'
import { quoted } from '../../model/printable.js'
import { keyNameProblem, type TrustedKey } from '../../model/trusted-key.js'
import { readConfig, suggest } from '../context.js'
import { egressPatterns } from '../egress-pattern-flags.js'
import { EXIT } from '../exit-codes.js'
import { FlagProblems } from '../flag-problems.js'
import { OBJECT_FORMATS, printList, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { readLifetime } from '../read-lifetime.js'
import { shellWord } from '../shell-word.js'
import { readPublicKeys, readSigningKey } from '../signing-key.js'
import { dateTime } from '../times.js'
import { readJobFile, type TemplateFlags } from './job-run.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

/** `weir key generate [FILE]`: the public key goes to standard output, the private one into the file and nowhere else. */
export async function keyGenerate(
  file = 'signing-key.pem',
  _flags: GlobalFlags,
  { terminal, cwd }: CliContext,
): Promise<number> {
  const seed = randomBytes(32)
  const { publicKey } = keyPairOf(seed)
  try {
    // A key that somebody signs with is never overwritten.
    await writeFile(resolve(cwd, file), pemOfSeed(seed), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw toWeirError(error, 'key.invalid', `Cannot write the key ${quoted(file, 200)}`)
    throw new WeirError('key.exists', `Cannot write the key: there is a file ${quoted(file, 200)} already`, {
      hint: `Name another file; its public half: weir key show ${shellWord(file)}`,
    })
  }
  terminal.talk(`The private key is in ${file}; whoever has it signs as you. The public key:`)
  await terminal.data(`${publicKey}\n`)
  suggest(terminal, [
    ['On a node that is to trust it:', `weir key trust ${publicKey} --domain PATTERN`],
    ['Sign a job:', `weir key sign JOBFILE --key ${shellWord(file)} --expires 30d`],
  ])
  return EXIT.ok
}

/** `weir key show FILE`. */
export async function keyShow(file: string, _flags: GlobalFlags, context: CliContext): Promise<number> {
  const { publicKey } = await readSigningKey(file, context)
  await context.terminal.data(`${publicKey}\n`)
  return EXIT.ok
}

export interface KeySignFlags extends GlobalFlags, TemplateFlags {
  key: string
  expires: string
  notBefore?: string
  forNamespace?: string
  unpinnedInputs?: boolean
  output?: string
}

/** `weir key sign JOBFILE`: prints the job as it will run, with the signature added to those that it has. */
export async function keySign(
  file: string | undefined,
  flags: KeySignFlags,
  context: CliContext,
): Promise<number> {
  const format = readChoice('--output', flags.output ?? 'yaml', OBJECT_FORMATS)
  const notBeforeMs = flags.notBefore === undefined ? Date.now() : readStart(flags.notBefore)
  const expiresMs = notBeforeMs + 1000 * readLifetime('--expires', flags.expires)
  const { spec } = await readJobFile(file, flags, context)
  const { forNamespace: namespace, unpinnedInputs } = flags
  const terms = { notBeforeMs, expiresMs, ...(namespace === undefined ? {} : { namespace }) }
  const signature = signJob(spec, await readSigningKey(flags.key, context), terms, { unpinnedInputs })
  const { terminal } = context
  await printObject(terminal, withSignature(spec, signature), format, true)
  terminal.talk(`Signed by ${signature.Key}, good from ${signature.NotBefore} to ${signature.Expires}`)
  return EXIT.ok
}

function readStart(text: string): number {
  const ms = readTime(text.trim())
  if (!Number.isNaN(ms)) return ms
  throw new WeirError('cli.usage', `Cannot read --not-before ${quoted(text)}`, {
    hint: 'Write a time in UTC, for example 2026-01-31T12:00:00Z',
  })
}

export type KeyVerifyFlags = GlobalFlags & TemplateFlags & ListFlags

interface SignatureRow {
  Key: string
  /** As this machine calls it; empty when it does not trust it. */
  TrustedAs: string
  Verdict: 'ok' | 'BAD'
  Expires: string
  Code: string
  What: string
}

/** `weir key verify JOBFILE`: 1 when a signature does not hold, or there is none. */
export async function keyVerify(
  file: string | undefined,
  flags: KeyVerifyFlags,
  context: CliContext,
): Promise<number> {
  const { spec } = await readJobFile(file, { ...flags, template: false }, context)
  const trusted = await trustedHere(flags, context)
  const rows = judgeSignatures(spec, Date.now()).map(({ key, expiresMs, fault }): SignatureRow => {
    const { name: TrustedAs = '' } = trusted.find((one) => one.key === key) ?? {}
    return {
      Key: key,
      TrustedAs,
      Verdict: fault === undefined ? 'ok' : 'BAD',
      Expires: writeTime(expiresMs),
      Code: fault?.code ?? '',
      What: fault?.message ?? 'The job is as it was signed',
    }
  })
  await printList(context.terminal, { rows, columns: SIGNATURE_COLUMNS, items: rows }, flags)
  if (rows.length === 0) context.terminal.talk('Nobody has signed this job')
  return rows.length > 0 && rows.every(({ Verdict }) => Verdict === 'ok') ? EXIT.ok : EXIT.no
}

const SIGNATURE_COLUMNS: readonly Column<SignatureRow>[] = [
  { header: 'KEY', value: ({ Key }) => Key, cutFirst: 0 },
  { header: 'TRUSTED AS', value: ({ TrustedAs }) => TrustedAs, cutFirst: 2 },
  { header: 'VERDICT', value: ({ Verdict }) => Verdict, cutFirst: 0 },
  { header: 'EXPIRES', value: ({ Expires }) => dateTime(readTime(Expires)), cutFirst: 1 },
  { header: 'WHAT', value: ({ What }) => What },
]

export interface KeyTrustFlags extends GlobalFlags {
  name?: string
  domain?: string[]
  outboundUrl?: string[]
  expires?: string
  replace?: boolean
  output?: string
  pretty?: boolean
}

/** `weir key trust KEY`: writes the file that the node of this data directory follows. */
export async function keyTrust(key: string, flags: KeyTrustFlags, context: CliContext): Promise<number> {
  readPublicKeys([key])
  const name = flags.name ?? `k-${key.slice(1, 9).toLowerCase()}`
  const problem = keyNameProblem(name)
  if (problem !== undefined) throw new WeirError('cli.usage', `Cannot use --name: ${problem}`)
  const problems = new FlagProblems()
  const allow = await egressPatterns(flags, problems, context)
  problems.throwAny()
  if (allow.length === 0) {
    throw new WeirError('cli.usage', 'Cannot trust a key with nothing: no host is named', {
      hint: 'Name what its jobs may reach: --domain example.com',
    })
  }
  const expires =
    flags.expires === undefined
      ? undefined
      : writeTime(Date.now() + 1000 * readLifetime('--expires', flags.expires))
  const grant: TrustedKey = { name, key, allow, ...(expires === undefined ? {} : { expires }) }
  const { changeTrustedKeys } = await import('../../node/index.js')
  await changeTrustedKeys(await readConfig(flags, context), (keys) =>
    withGrant(keys, grant, flags.replace === true),
  )
  const { terminal } = context
  if (flags.output !== undefined) {
    const format = readChoice('--output', flags.output, OBJECT_FORMATS)
    await printObject(terminal, grantFields(grant), format, flags.pretty ?? terminal.outIsTerminal)
  } else {
    const until = expires === undefined ? 'until it is taken back' : `until ${expires}`
    await terminal.data(`Trusted as ${name} ${until}: ${allow.join(', ')}\n`)
  }
  return EXIT.ok
}

/** What is trusted already is changed only when that is said. */
function withGrant(keys: readonly TrustedKey[], grant: TrustedKey, isReplacing: boolean): TrustedKey[] {
  const sameName = keys.find(({ name, key }) => name === grant.name && key !== grant.key)
  const sameKey = keys.find(({ key }) => key === grant.key)
  if (sameName !== undefined) {
    throw new WeirError('key.exists', `Cannot call the key ${quoted(grant.name)}: another one is called so`, {
      hint: 'Choose another --name',
    })
  }
  if (sameKey !== undefined && !isReplacing) {
    throw new WeirError(
      'key.exists',
      `Cannot trust the key: it is trusted already as ${quoted(sameKey.name)}`,
      {
        hint: 'Add --replace to replace its list and its expiry',
      },
    )
  }
  return [...keys.filter(({ key }) => key !== grant.key), grant]
}

/** `weir key untrust NAME|KEY`. */
export async function keyUntrust(text: string, flags: GlobalFlags, context: CliContext): Promise<number> {
  const { changeTrustedKeys } = await import('../../node/index.js')
  await changeTrustedKeys(await readConfig(flags, context), (keys) => {
    const left = keys.filter(({ name, key }) => name !== text && key !== text)
    if (left.length < keys.length) return left
    const names = keys.map(({ name }) => name).join(', ')
    throw new WeirError('key.not_found', `Cannot find a trusted key ${quoted(text)}`, {
      hint: names === '' ? 'No key is trusted here' : `Trusted are: ${names}`,
    })
  })
  await context.terminal.data(`${text} is not trusted any more\n`)
  return EXIT.ok
}

/** `weir key list`. */
export async function keyList(flags: GlobalFlags & ListFlags, context: CliContext): Promise<number> {
  const keys = await trustedHere(flags, context)
  await printList(context.terminal, { rows: keys, columns: KEY_COLUMNS, items: keys.map(grantFields) }, flags)
  return EXIT.ok
}

const KEY_COLUMNS: readonly Column<TrustedKey>[] = [
  { header: 'NAME', value: ({ name }) => name, cutFirst: 0 },
  { header: 'KEY', value: ({ key }) => key, cutFirst: 1 },
  { header: 'EXPIRES', value: ({ expires }) => expiryText(expires), cutFirst: 0 },
  { header: 'HOSTS', value: ({ allow }) => allow.join(', ') },
]

function expiryText(expires: string | undefined): string {
  if (expires === undefined) return 'never'
  const ms = readTime(expires)
  return Date.now() < ms ? dateTime(ms) : `${dateTime(ms)} (expired)`
}

/** In the spelling of everything that the API answers. */
function grantFields({ name, key, allow, expires }: TrustedKey): object {
  return { Name: name, Key: key, Allow: allow, ...(expires === undefined ? {} : { Expires: expires }) }
}

async function trustedHere(flags: GlobalFlags, context: CliContext): Promise<TrustedKey[]> {
  const { readTrustedKeys } = await import('../../node/index.js')
  return readTrustedKeys(await readConfig(flags, context))
}
