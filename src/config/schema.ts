/**
 * Every configuration key with its type, default and meaning, in one table: parsing, `weir config list`,
 * `docs/configuration.md` and the types all come from here. Keys that Bacalhau has keep Bacalhau's name.
 */

/** How the text of a value is read. */
export type ConfigKind =
  | 'text'
  | 'path'
  | 'boolean'
  | 'integer'
  | 'durationMs'
  | 'bytes'
  | 'list'
  | 'map'
  | 'records'
  | 'lists'
  | 'amount'

export interface ConfigKey<Kind extends ConfigKind = ConfigKind> {
  kind: Kind
  default: ConfigValueOf<Kind>
  /** One sentence for `weir config list` and the documentation. */
  description: string
  /** Never shown, neither by `config list` nor by the API. */
  secret?: boolean
  minimum?: number
  maximum?: number
  /** Allowed words, for kind text. */
  words?: readonly string[]
}

/**
 * text, path: string (a path starts with `/` or `~/`, empty = none) · integer: whole number · durationMs: milliseconds,
 * written `90s`, `5m`, `1h30m` · bytes: written `512mb`, `1gi` · list: YAML list, comma separated or JSON · map: YAML
 * map, `k=v,k=v` or JSON · records: YAML list of maps, or the same as JSON · lists: YAML map of lists,
 * or the same as JSON · amount: a share of what the machine has (`70%`) or an absolute amount (`2`, `4gb`).
 */
export type ConfigValueOf<Kind extends ConfigKind> = Kind extends 'text' | 'path' | 'amount'
  ? string
  : Kind extends 'boolean'
    ? boolean
    : Kind extends 'integer' | 'durationMs' | 'bytes'
      ? number
      : Kind extends 'list'
        ? readonly string[]
        : Kind extends 'records'
          ? readonly Readonly<Record<string, unknown>>[]
          : Kind extends 'lists'
            ? Readonly<Record<string, readonly string[]>>
            : Readonly<Record<string, string>>

type Options = Pick<ConfigKey, 'secret' | 'minimum' | 'maximum' | 'words'>

function define<Kind extends ConfigKind>(kind: Kind) {
  return (fallback: ConfigValueOf<Kind>, description: string, options: Options = {}): ConfigKey<Kind> => ({
    kind,
    default: fallback,
    description,
    ...options,
  })
}

const text = define('text')
const path = define('path')
const boolean = define('boolean')
const integer = define('integer')
const duration = define('durationMs')
const bytes = define('bytes')
const list = define('list')
const map = define('map')
const records = define('records')
const lists = define('lists')
const amount = define('amount')

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const PORT = { minimum: 0, maximum: 65_535 }

export const CONFIG_SCHEMA = {
  'API.Host': text('127.0.0.1', 'Address the API listens on; for the client the host to talk to'),
  'API.Port': integer(1234, 'Port of the API', PORT),
  'API.AllowInsecure': boolean(
    false,
    'Listen beyond loopback although nobody has to authenticate, or without TLS although somebody has to',
  ),
  'API.Auth.Mode': text(
    'auto',
    'Who has to authenticate: on = everybody; off = nobody; auto = everybody when the API listens beyond loopback or users are configured',
    { words: ['auto', 'on', 'off'] },
  ),
  'API.Auth.Users': records(
    [],
    'Users with keys or passwords besides the tokens of `weir auth token`: `Alias`, `APIKey`, `Username`, `Password`, `Capabilities`, `Namespaces`',
    { secret: true },
  ),
  'API.TLS.CertFile': path('', 'Certificate of the API (PEM, with its chain); read again when it changes'),
  'API.TLS.KeyFile': path('', 'Private key of that certificate (PEM)'),
  'API.TLS.SelfSigned': boolean(
    false,
    'Make a certificate of our own, kept in the data directory; clients pin its fingerprint',
  ),
  'API.TLS.BehindProxy': boolean(
    false,
    'A proxy in front of the API ends TLS, so the API itself may speak plain HTTP',
  ),
  'API.TLS.AutoCert': text('', 'Not supported: use CertFile and KeyFile with any ACME client, or SelfSigned'),
  'API.TLS.UseTLS': boolean(false, 'For the client: talk https to the server'),
  'API.TLS.CAFile': path('', 'For the client: authority to trust for the server (PEM)'),
  'API.TLS.Insecure': boolean(false, 'For the client: do not verify the certificate of the server'),

  'API.Metrics': boolean(
    true,
    'Serve /metrics in the text format of Prometheus, to whoever may read about the node',
  ),
  'API.AllowedHosts': list([], 'More names under which this server may be addressed'),
  'API.AllowedOrigins': list(
    [],
    'Web origins whose pages may call the API; `*` = all; empty = pages of this machine and of this server',
  ),

  Labels: map({}, 'Labels of this node, which jobs can ask for in their constraints'),
  'Logging.Level': text('info', 'What the server logs', {
    words: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
  }),

  'Orchestrator.Enabled': boolean(
    false,
    'Run the orchestrator; with neither role enabled `weir serve` runs both',
  ),
  'Orchestrator.Host': text(
    '127.0.0.1',
    'Address for compute nodes on other machines; setting any of these keys opens it',
  ),
  'Orchestrator.Port': integer(4222, 'Port for compute nodes; 0 takes a free one', PORT),
  'Orchestrator.Advertise': text('', 'Address that nodes are told to join; empty = host and port'),
  'Orchestrator.Auth.Token': text(
    '',
    'Join token that never ends, at least 16 characters; empty = only tokens made with `weir node token create`',
    { secret: true },
  ),
  'Orchestrator.TLS.ServerCert': path('', 'Certificate shown to compute nodes, PEM'),
  'Orchestrator.TLS.ServerKey': path('', 'Its key, PEM'),
  'Orchestrator.TLS.CACert': path('', 'Authority of that certificate, PEM; empty = the machine’s own'),
  'Orchestrator.TLS.ServerTimeout': duration(10 * SECOND, 'Time limit for a TLS handshake', {
    minimum: SECOND,
  }),
  'Orchestrator.TLS.AllowInsecure': boolean(
    false,
    'Take nodes from beyond this machine without TLS: others on the way can read jobs and results',
  ),
  'Orchestrator.NATS.URL': text(
    '',
    'nats-server on this machine that somebody else runs; empty = weir runs its own',
  ),
  'Orchestrator.NATS.PidFile': path(
    '',
    'The `pid_file` of that server: weir tells it to read the users again',
  ),
  'Orchestrator.NodeManager.ManualApproval': boolean(false, 'New nodes wait until an operator approves them'),
  'Orchestrator.NodeManager.AutoApprove': list(
    [],
    'Nodes that need no approval all the same: ids, or labels as `key=value`',
  ),
  'Orchestrator.NodeManager.DisconnectTimeout': duration(
    MINUTE,
    'A node that was silent for so long counts as disconnected',
    {
      minimum: SECOND,
    },
  ),
  'Orchestrator.Scheduler.LostGrace': duration(
    MINUTE,
    'How long executions of a disconnected node are waited for before others replace them',
  ),
  'Orchestrator.Scheduler.QueueBackoff': duration(
    MINUTE,
    'How often a queued job is looked at when nothing changes',
    {
      minimum: SECOND,
    },
  ),
  'Orchestrator.Scheduler.TriesMax': integer(3, 'How many executions a slot of a batch job may use up', {
    minimum: 1,
    maximum: 100,
  }),
  'Orchestrator.Scheduler.RetryBackoff': duration(
    SECOND,
    'Wait before the first retry; doubles with each further one',
  ),

  'Orchestrator.KeepEndedJobs': duration(
    90 * 24 * HOUR,
    'Ended jobs and their history are forgotten after this time',
    {
      minimum: MINUTE,
    },
  ),
  'Orchestrator.EndedJobsMax': integer(100_000, 'Ended jobs that are kept; the oldest are forgotten first', {
    minimum: 1,
  }),

  'Orchestrator.Blobs.BytesMax': bytes(256 * 1024 ** 2, 'Largest single upload'),
  'Orchestrator.Blobs.TotalBytesMax': bytes(
    10 * 1024 ** 3,
    'Uploads that are kept; beyond that the least recently used go that no unfinished job names',
  ),

  'Compute.Enabled': boolean(false, 'Run a compute node; with neither role enabled `weir serve` runs both'),
  'Orchestrator.Egress.Allow': list(
    [],
    'Hosts that jobs of the whole network may reach where a node allows them too; not set = no limit; set and empty = none',
  ),
  'Orchestrator.Egress.AllowFile': path(
    '',
    'File with more such patterns, one per line, `#` comments; read again when it changes; empty = `orchestrator/allowed-hosts` in the data directory, once it is there',
  ),
  'Orchestrator.Egress.Deny': list([], 'Hosts that no job of the network may reach on any node'),
  'Orchestrator.Egress.DenyFile': path('', 'File with more denied patterns; read again when it changes'),
  'Compute.Orchestrators': list(
    ['nats://127.0.0.1:4222'],
    'Orchestrator of a compute node without one of its own; several addresses are tried in turn',
  ),
  'Compute.Auth.Token': text('', 'Join token, needed once; better in a file: --token-file', { secret: true }),
  'Compute.TLS.CACert': path(
    '',
    'Authority that the orchestrator’s certificate must have, PEM; empty = the machine’s own',
  ),
  'Compute.TLS.RequireTLS': boolean(false, 'Never talk to an orchestrator without TLS'),
  'Compute.TLS.AllowInsecure': boolean(
    false,
    'Talk to an orchestrator on another machine without TLS: others on the way can change jobs',
  ),
  'Compute.Heartbeat.Interval': duration(15 * SECOND, 'The node reports at least so often', { minimum: 100 }),
  'Compute.OnStop': text(
    'keep',
    'What a planned stop does to running jobs: `keep` leaves containers running for the next start, `drain` waits for all jobs, `stop` ends them',
    { words: ['keep', 'drain', 'stop'] },
  ),
  'Compute.DrainTimeout': duration(HOUR, 'How long `drain` waits before it ends what still runs'),
  'Compute.AllocatedCapacity.CPU': amount('70%', 'Cores offered to jobs'),
  'Compute.AllocatedCapacity.Memory': amount('70%', 'Memory offered to jobs'),
  'Compute.AllocatedCapacity.Disk': amount('70%', 'Disk space offered to jobs'),
  'Compute.AllocatedCapacity.GPU': amount('100%', 'GPUs offered to jobs'),
  'Compute.AllowListedLocalPaths': list(
    [],
    'Paths that jobs may read as localDirectory inputs: `path[:ro|:rw]`, globs allowed',
  ),
  'Compute.OutputBytesMax': bytes(
    1024 ** 3,
    'Output kept per execution, stdout and stderr together; what goes beyond is dropped',
    {
      minimum: 1024,
    },
  ),
  'Compute.ResultFilesMax': integer(100_000, 'Files that one execution may leave in its results', {
    minimum: 1,
  }),
  'Compute.ResultBytesMax': bytes(
    10 * 1024 ** 3,
    'Bytes that one execution may leave in its results when it asks for no disk limit',
  ),
  'Compute.KeepFinished': duration(
    24 * HOUR,
    'How long logs and audit records of finished executions are kept',
  ),

  'JobAdmissionControl.AcceptNetworkedJobs': boolean(
    false,
    'Accept jobs with network access (http: only to hosts in Egress.Allow)',
  ),
  'JobAdmissionControl.RejectStatelessJobs': boolean(false, 'Refuse jobs without inputs'),
  'JobAdmissionControl.ProbeExec': text(
    '',
    'Command that decides about each job: it gets the job as JSON on standard input; exit code 0 accepts',
  ),
  'JobAdmissionControl.ProbeHTTP': text(
    '',
    'URL that decides about each job: it gets the job as JSON by POST; a status below 400 accepts',
  ),

  'Egress.Mode': text(
    'list',
    'Which public hosts jobs may name: none, those of Egress.Allow (list), or all; private addresses, the network itself and Egress.Deny stay closed in each mode',
    { words: ['none', 'list', 'all'] },
  ),
  'Egress.Allow': list(
    [],
    'Hosts that networked jobs may reach: `host`, `.host` (it and everything below), `*.host` (below only), each with optional `:port`; `https://host` for TLS only',
  ),
  'Egress.AllowFile': path(
    '',
    'File with more such patterns, one per line, `#` comments; read again when it changes; empty = `allowed-hosts` in the data directory, once it is there',
  ),
  'Egress.Deny': list([], 'Hosts that no job may reach, whatever else is allowed'),
  'Egress.DenyFile': path('', 'File with more denied patterns; read again when it changes'),
  'Egress.TrustedKeysFile': path(
    '',
    'File of the keys whose signed jobs may reach more, kept by `weir key trust`; read again when it changes. Default: trusted-keys.json in the data directory',
  ),
  'Egress.PrivateExceptions': list(
    [],
    'Exact `name:port` or `address:port` that jobs may reach although the address is not public',
  ),
  'Egress.Presets': lists(
    {},
    'Named lists of hosts, `{name: [host, .host]}`, written `@name` in jobs and in the lists of this configuration',
  ),
  'Egress.Self': list(
    [],
    'More names and addresses that are the network itself and that no job may ever reach, for example the public name of the orchestrator',
  ),
  'Egress.Hosts': map({}, 'Addresses of names that the gateway does not ask DNS for: `name=address`'),
  'Egress.DnsServers': list([], 'DNS servers of the gateway; empty = those of the machine'),
  'Egress.Learning.Users': list(
    [],
    'Whose jobs may learn which hosts they need, with every public host open to them (--learn): ids as weir auth whoami shows them, or everyone where nobody has to log in; empty = nobody',
  ),
  'Egress.Learning.TimeoutMax': duration(HOUR, 'Longest time limit of a learning job', {
    minimum: SECOND,
    maximum: 24 * HOUR,
  }),
  'Egress.AllowPublicSuffixes': boolean(
    false,
    'Accept patterns such as `.com` or `.github.io` that cover everybody below a public suffix',
  ),
  'Egress.AllowECH': boolean(
    false,
    'Let TLS hellos pass that hide their server name (ECH), as some browsers always do',
  ),
  'Egress.AuthoritiesFile': path(
    '',
    'PEM file of the authorities by which certificates of hosts are judged that WebAssembly programs reach over https; empty = those of Node.js',
  ),
  'Egress.Transparent': boolean(
    true,
    'Serve programs that ignore the proxy variables: every address leads to the gateway, and a name server knows the listed names',
  ),
  'Egress.BitsPerSecondUp': integer(10_000_000, 'Upload rate of one execution', { minimum: 8_000 }),
  'Egress.BitsPerSecondDown': integer(10_000_000, 'Download rate of one execution', { minimum: 8_000 }),
  'Egress.ConnectionsMax': integer(256, 'Connections of one execution at the same time', {
    minimum: 1,
    maximum: 10_000,
  }),
  'Egress.BytesUpMax': bytes(0, 'Bytes that one execution may send; 0 = no bound'),
  'Egress.BytesDownMax': bytes(0, 'Bytes that one execution may receive; 0 = no bound'),
  'Egress.RequestsPerSecond': integer(
    200,
    'Requests and tunnels that one execution may begin per second; more wait, and are refused after 5 s',
    { minimum: 1, maximum: 100_000 },
  ),
  'Egress.HostNamesMax': integer(1000, 'Different host names that one execution may reach', {
    minimum: 1,
    maximum: 100_000,
  }),
  'Egress.HostConnectionsMax': integer(
    0,
    'Connections to one host and port of all executions of one job on this node; 0 = no bound',
    { minimum: 0, maximum: 10_000 },
  ),
  'Egress.NodeBitsPerSecondUp': integer(
    0,
    'Upload rate of all executions together, which share it fairly; 0 = no bound',
    { minimum: 0 },
  ),
  'Egress.NodeBitsPerSecondDown': integer(
    0,
    'Download rate of all executions together, which share it fairly; 0 = no bound',
    { minimum: 0 },
  ),
  'Egress.IdleTimeout': duration(10 * MINUTE, 'A connection without traffic is closed after this time', {
    minimum: SECOND,
  }),
  'Egress.Full.DnsServers': list(
    [],
    'DNS servers of jobs with full network access; empty = public ones of the machine, else 1.1.1.1 and 9.9.9.9',
  ),
  'Egress.Full.Enabled': boolean(
    false,
    'Also accept jobs that ask for the whole internet (network type Full)',
  ),

  'JobDefaults.Batch.Priority': integer(0, 'Priority of batch jobs that name none'),
  'JobDefaults.Batch.Task.Resources.CPU': text('500m', 'Cores of batch tasks that name none'),
  'JobDefaults.Batch.Task.Resources.Memory': text('1gb', 'Memory of batch tasks that name none'),
  'JobDefaults.Batch.Task.Resources.Disk': text('', 'Disk of batch tasks that name none'),
  'JobDefaults.Batch.Task.Resources.GPU': text('', 'GPUs of batch tasks that name none'),
  'JobDefaults.Batch.Task.Publisher.Type': text(
    '',
    'Publisher of batch tasks that name none, for example `local`',
  ),
  'JobDefaults.Batch.Task.Publisher.Params': map({}, 'Parameters of that publisher'),
  'JobDefaults.Batch.Task.Timeouts.ExecutionTimeout': duration(
    0,
    'Time limit of one execution of batch tasks that name none; 0 = none',
  ),
  'JobDefaults.Batch.Task.Timeouts.TotalTimeout': duration(
    0,
    'Time limit of batch jobs that name none; 0 = none',
  ),
  'JobDefaults.Ops.Priority': integer(0, 'Priority of ops jobs that name none'),
  'JobDefaults.Ops.Task.Resources.CPU': text('500m', 'Cores of ops tasks that name none'),
  'JobDefaults.Ops.Task.Resources.Memory': text('1gb', 'Memory of ops tasks that name none'),
  'JobDefaults.Ops.Task.Resources.Disk': text('', 'Disk of ops tasks that name none'),
  'JobDefaults.Ops.Task.Resources.GPU': text('', 'GPUs of ops tasks that name none'),
  'JobDefaults.Ops.Task.Publisher.Type': text('', 'Publisher of ops tasks that name none'),
  'JobDefaults.Ops.Task.Publisher.Params': map({}, 'Parameters of that publisher'),
  'JobDefaults.Ops.Task.Timeouts.ExecutionTimeout': duration(
    0,
    'Time limit of one execution of ops tasks that name none; 0 = none',
  ),
  'JobDefaults.Ops.Task.Timeouts.TotalTimeout': duration(
    0,
    'Time limit of ops jobs that name none; 0 = none',
  ),
  'JobDefaults.Service.Priority': integer(0, 'Priority of service jobs that name none'),
  'JobDefaults.Service.Task.Resources.CPU': text('500m', 'Cores of service tasks that name none'),
  'JobDefaults.Service.Task.Resources.Memory': text('1gb', 'Memory of service tasks that name none'),
  'JobDefaults.Service.Task.Resources.Disk': text('', 'Disk of service tasks that name none'),
  'JobDefaults.Service.Task.Resources.GPU': text('', 'GPUs of service tasks that name none'),
  'JobDefaults.Daemon.Priority': integer(0, 'Priority of daemon jobs that name none'),
  'JobDefaults.Daemon.Task.Resources.CPU': text('500m', 'Cores of daemon tasks that name none'),
  'JobDefaults.Daemon.Task.Resources.Memory': text('1gb', 'Memory of daemon tasks that name none'),
  'JobDefaults.Daemon.Task.Resources.Disk': text('', 'Disk of daemon tasks that name none'),
  'JobDefaults.Daemon.Task.Resources.GPU': text('', 'GPUs of daemon tasks that name none'),

  'InputSources.Disabled': list(
    [],
    'Input sources this node does not offer: urlDownload, localDirectory, inline, blob',
  ),
  'InputSources.ReadTimeout': duration(5 * MINUTE, 'Time limit for fetching one input', { minimum: SECOND }),
  'InputSources.MaxRetryCount': integer(3, 'Retries of a broken download', { minimum: 0, maximum: 20 }),
  'InputSources.BlobCacheBytes': bytes(
    2 * 1024 ** 3,
    'Uploaded programs and data that the node keeps for the next run; the least recently used go beyond that',
  ),
  'InputSources.MaxBytes': bytes(100 * 1024 ** 3, 'Largest single input'),

  'Publishers.Disabled': list([], 'Publishers this node does not offer: local, noop'),
  'Publishers.Types.Local.Host': text('127.0.0.1', 'Address on which the local publisher serves results'),
  'Publishers.Types.Local.Address': text(
    '',
    'Address or name in result links; empty = the listening address',
  ),
  'Publishers.Types.Local.Port': integer(6001, 'Port on which the local publisher serves results', PORT),
  'Publishers.Types.Local.Retention': duration(
    24 * HOUR,
    'Results are deleted and their links expire after this time',
    { minimum: SECOND },
  ),
  'Publishers.Types.Local.Quota': bytes(20 * 1024 ** 3, 'Room for all results of the local publisher'),

  'Engines.Disabled': list([], 'Engines this node does not offer: docker, wasm'),
  'Engines.Types.Docker.Socket': path('/var/run/docker.sock', 'Socket of the Docker engine'),
  'Engines.Types.Docker.HolderPoolSize': integer(2, 'Network namespaces kept ready for Docker jobs', {
    minimum: 0,
    maximum: 100,
  }),
  'Engines.Types.Docker.DropCapabilities': list(
    [],
    'Capabilities to take from containers although ordinary images use them',
  ),
  'Engines.Types.Docker.PidsMax': integer(1024, 'Processes and threads of one container', { minimum: 16 }),
  'Engines.Types.Docker.PullTimeout': duration(10 * MINUTE, 'Time limit for pulling an image', {
    minimum: SECOND,
  }),
  'Engines.Types.Docker.PrivateRegistries': list(
    [],
    'Registries with private addresses from which images may be pulled: `host[:port]`',
  ),
  'Engines.Types.Docker.CredentialsFile': path('', 'Registry logins, in the format of Docker’s config.json'),
  'Engines.Types.Wasm.PoolSize': integer(
    -1,
    'Sandboxes kept ready while WebAssembly jobs come, about 15 MB each; at rest it is one. -1 = one more than the machine has cores, 0 = none',
    { minimum: -1, maximum: 100 },
  ),
  'Engines.Types.Wasm.Node': path(
    '',
    'Node.js program inside the sandboxes of WebAssembly jobs; empty = the one that runs this node. Newer ones compute faster',
  ),
  'Engines.Types.Wasm.CodeCacheSize': bytes(
    512 * 1024 ** 2,
    'Room for compiled code of WebAssembly modules, so that jobs start faster; 0 = none is kept',
  ),
} as const satisfies Record<string, ConfigKey>

export type ConfigName = keyof typeof CONFIG_SCHEMA

/** Plain values by key. */
export type ConfigValues = {
  readonly [Name in ConfigName]: ConfigValueOf<(typeof CONFIG_SCHEMA)[Name]['kind']>
}
