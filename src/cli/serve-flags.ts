/** Flags of `serve` that stand for configuration keys. */
export interface ServeFlags {
  orchestrator?: boolean
  compute?: boolean
  /** Addresses of orchestrators: this node joins their network. */
  join?: string[]
  tokenFile?: string
  name?: string
  auth?: boolean
  selfSigned?: boolean
  insecure?: boolean
  labels?: string[]
  acceptNetworkedJobs?: boolean
  allowDomain?: string[]
  allowListedLocalPaths?: string[]
}

/** As `Key=Value` settings, in front of the user's own `-c`, which win. */
export function serveFlagSettings(flags: ServeFlags): string[] {
  const list = (key: string, values: readonly string[] | undefined): string[] =>
    values === undefined ? [] : [`${key}=${values.join(',')}`]
  const flag = (key: string, value: boolean | undefined): string[] => (value === true ? [`${key}=true`] : [])
  const joins = flags.join !== undefined
  return [
    ...(joins ? ['Orchestrator.Enabled=false'] : flag('Orchestrator.Enabled', flags.orchestrator)),
    ...flag('Compute.Enabled', joins || flags.compute),
    ...list('Compute.Orchestrators', flags.join),
    ...(flags.auth === true ? ['API.Auth.Mode=on'] : []),
    ...flag('API.TLS.SelfSigned', flags.selfSigned),
    ...flag('API.AllowInsecure', flags.insecure),
    ...flag('JobAdmissionControl.AcceptNetworkedJobs', flags.acceptNetworkedJobs),
    ...list('Labels', flags.labels),
    ...list('Egress.Allow', flags.allowDomain),
    ...list('Compute.AllowListedLocalPaths', flags.allowListedLocalPaths),
  ]
}
