/** The interfaces of WASI 0.2 that components find, with their functions; resources are dropped without a name. */
export const WASI2_FUNCTIONS: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  Object.entries({
    'wasi:cli/environment': 'get-arguments get-environment initial-cwd',
    'wasi:cli/exit': 'exit exit-with-code',
    'wasi:cli/stdin': 'get-stdin',
    'wasi:cli/stdout': 'get-stdout',
    'wasi:cli/stderr': 'get-stderr',
    'wasi:cli/terminal-input': '',
    'wasi:cli/terminal-output': '',
    'wasi:cli/terminal-stdin': 'get-terminal-stdin',
    'wasi:cli/terminal-stdout': 'get-terminal-stdout',
    'wasi:cli/terminal-stderr': 'get-terminal-stderr',
    'wasi:clocks/monotonic-clock': 'now resolution subscribe-instant subscribe-duration',
    'wasi:clocks/wall-clock': 'now resolution',
    'wasi:io/error': 'error.to-debug-string',
    'wasi:io/poll': 'poll pollable.ready pollable.block',
    'wasi:io/streams':
      'input-stream.read input-stream.blocking-read input-stream.skip input-stream.blocking-skip ' +
      'input-stream.subscribe output-stream.check-write output-stream.write output-stream.blocking-write-and-flush ' +
      'output-stream.flush output-stream.blocking-flush output-stream.write-zeroes ' +
      'output-stream.blocking-write-zeroes-and-flush output-stream.splice output-stream.blocking-splice ' +
      'output-stream.subscribe',
    'wasi:filesystem/preopens': 'get-directories',
    'wasi:filesystem/types':
      'filesystem-error-code descriptor.read-via-stream descriptor.write-via-stream descriptor.append-via-stream ' +
      'descriptor.advise descriptor.sync-data descriptor.get-flags descriptor.get-type descriptor.set-size ' +
      'descriptor.set-times descriptor.read descriptor.write descriptor.read-directory descriptor.sync ' +
      'descriptor.create-directory-at descriptor.stat descriptor.stat-at descriptor.set-times-at descriptor.link-at ' +
      'descriptor.open-at descriptor.readlink-at descriptor.remove-directory-at descriptor.rename-at ' +
      'descriptor.symlink-at descriptor.unlink-file-at descriptor.is-same-object descriptor.metadata-hash ' +
      'descriptor.metadata-hash-at directory-entry-stream.read-directory-entry',
    'wasi:random/random': 'get-random-bytes get-random-u64',
    'wasi:random/insecure': 'get-insecure-random-bytes get-insecure-random-u64',
    'wasi:random/insecure-seed': 'insecure-seed',
    'wasi:http/outgoing-handler': 'handle',
    'wasi:http/types':
      'http-error-code [constructor]fields [static]fields.from-list fields.get fields.has fields.set fields.delete ' +
      'fields.append fields.entries fields.clone [constructor]outgoing-request outgoing-request.body ' +
      'outgoing-request.method outgoing-request.set-method outgoing-request.path-with-query ' +
      'outgoing-request.set-path-with-query outgoing-request.scheme outgoing-request.set-scheme ' +
      'outgoing-request.authority outgoing-request.set-authority outgoing-request.headers outgoing-body.write ' +
      '[static]outgoing-body.finish [constructor]request-options request-options.connect-timeout ' +
      'request-options.set-connect-timeout request-options.first-byte-timeout ' +
      'request-options.set-first-byte-timeout request-options.between-bytes-timeout ' +
      'request-options.set-between-bytes-timeout future-incoming-response.subscribe future-incoming-response.get ' +
      'incoming-response.status incoming-response.headers incoming-response.consume incoming-body.stream ' +
      '[static]incoming-body.finish future-trailers.subscribe future-trailers.get incoming-request.method ' +
      'incoming-request.path-with-query incoming-request.scheme incoming-request.authority incoming-request.headers ' +
      'incoming-request.consume [constructor]outgoing-response outgoing-response.status-code ' +
      'outgoing-response.set-status-code outgoing-response.headers outgoing-response.body ' +
      '[static]response-outparam.set',
  }).map(([name, functions]) => [name, new Set(functions === '' ? [] : functions.split(' ').map(asMethod))]),
)

/** Every function of these is there and answers `access-denied`: standard libraries import them unasked. */
const SOCKETS = /^wasi:sockets\/(?:network|instance-network|(?:tcp|udp)(?:-create-socket)?|ip-name-lookup)$/

/** The interface of a name like `wasi:io/streams@0.2.3`, when it is one of WASI 0.2; patches of it are compatible. */
export function wasi2Interface(name: string): string | undefined {
  return /^(wasi:[a-z0-9-]+\/[a-z0-9-]+)@0\.2\.[0-9]+$/.exec(name)?.[1]
}

/** Who gives the interface, for people; undefined: nobody does. */
export function wasi2Provider(interfaceName: string): string | undefined {
  if (SOCKETS.test(interfaceName)) return 'WASI 0.2 (every call is refused)'
  if (!WASI2_FUNCTIONS.has(interfaceName)) return undefined
  return interfaceName.startsWith('wasi:http/') ? 'WASI 0.2, in a job with --network http' : 'WASI 0.2'
}

/** Whether the function is there in an interface that somebody provides. */
export function isWasi2Function(interfaceName: string, name: string): boolean {
  return SOCKETS.test(interfaceName) || WASI2_FUNCTIONS.get(interfaceName)?.has(name) === true
}

function asMethod(short: string): string {
  return short.includes('.') && !short.startsWith('[') ? `[method]${short}` : short
}
