/** What becomes of the caller's environment. */
export interface EnvironmentWishes {
  /** Keep nothing but PATH, HOME, TERM, LANG and the like. Default false. */
  clear?: boolean
  /** Set last but for the proxy variables, which always win. */
  set?: Readonly<Record<string, string>>
}

/**
 * Names of sockets and agents outside, useless or dangerous inside. The sockets themselves are hidden: without their
 * names programs say at once that there is none.
 */
const OUTSIDE =
  /^(?:SSH_AUTH_SOCK|SSH_AGENT_PID|GPG_AGENT_INFO|DBUS_.*_BUS_ADDRESS|DISPLAY|WAYLAND_.*|XAUTHORITY|XDG_RUNTIME_DIR|PULSE_SERVER|SESSION_MANAGER|DOCKER_(?:HOST|CONTEXT|CERT_PATH|TLS_VERIFY)|CONTAINER_HOST|CONTAINERD_ADDRESS|BUILDKIT_HOST|LISTEN_(?:FDS|FDNAMES|PID)|NOTIFY_SOCKET|JOURNAL_STREAM|INVOCATION_ID|TMUX|TMUX_PANE|STY|VSCODE_.*|SUDO_.*|WEIR_.*|BACALHAU_.*)$/

/** Any other variable whose value names a Unix socket. */
const SOCKET_VALUE = /^unix(?:-connect)?:/i

/** Where the caller was going to send its requests, or what it was not going to send through a proxy. */
const PROXY = /^(?:https?|ftp|all|no|socks|rsync|wss?)_proxy$/i

const KEPT_WHEN_CLEARED: ReadonlySet<string> = new Set([
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'TERM',
  'COLORTERM',
  'LANG',
  'LC_ALL',
  'TZ',
])

/** The environment of the confined program. Proxy variables of `lease` win over everything. */
export function confinedEnvironment(
  outer: Readonly<Record<string, string | undefined>>,
  lease: Readonly<Record<string, string>>,
  { clear = false, set = {} }: EnvironmentWishes,
): Record<string, string> {
  const kept = Object.entries(outer).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && stays(entry[0], entry[1], clear),
  )
  // Directories for temporary files outside are not there inside.
  const own = { TMPDIR: '/tmp' }
  const wished = Object.entries(set).filter(([name]) => !PROXY.test(name))
  return { ...Object.fromEntries(kept), ...own, ...Object.fromEntries(wished), ...lease }
}

function stays(name: string, value: string, clear: boolean): boolean {
  if (clear) return KEPT_WHEN_CLEARED.has(name)
  return !OUTSIDE.test(name) && !PROXY.test(name) && !SOCKET_VALUE.test(value)
}
