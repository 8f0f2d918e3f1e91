/**
 * What the help of each command shows at its end, by the command's words. Every command that does something has one, and
 * `test/cli/help.test.ts` runs them: `j-1a2b3c4d` and `n-1a2b3c4d` stand for a job and a node.
 */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  '': [
    'weir wasm run program.wasm',
    'weir docker run busybox echo hello',
    'weir docker run --network http --domain example.com busybox wget -O- http://example.com/',
    'weir job describe j-1a2b3c4d',
  ],
  'docker run': [
    'weir docker run busybox echo hello',
    'weir docker run --input ./data.csv --publisher local -o out:/outputs busybox cp /inputs/data.csv /outputs',
    'weir docker run --network http --domain example.com busybox wget -O- http://example.com/',
    'weir docker run --detach --memory 2gb --cpu 1 --timeout 3600 busybox sleep 60',
  ],
  'wasm run': [
    'weir wasm run program.wasm',
    'weir wasm run --input ./data.csv -e LEVEL=3 program.wasm /inputs/data.csv',
    'weir wasm run --memory 64mb --timeout 10 --id-only program.wasm',
  ],
  'wasm validate': ['weir wasm validate program.wasm', 'weir wasm validate --output json program.wasm'],
  'job run': [
    'weir job run job.yaml',
    'weir job run template.yaml -V name=world --id-only',
    'weir job run --dry-run - < job.yaml',
  ],
  'job validate': ['weir job validate job.yaml', 'weir job validate template.yaml -V name=world'],
  'job list': ['weir job list', "weir job list --labels 'team=research' --limit 5 --output json"],
  'job describe': ['weir job describe j-1a2b3c4d', 'weir job describe j-1a2b3c4d --output yaml'],
  'job executions': ['weir job executions j-1a2b3c4d', 'weir job executions j-1a2b3c4d --output csv'],
  'job history': ['weir job history j-1a2b3c4d', 'weir job history j-1a2b3c4d --event-type execution'],
  'job logs': ['weir job logs j-1a2b3c4d', 'weir job logs --follow j-1a2b3c4d'],
  'job stop': ['weir job stop j-1a2b3c4d'],
  'job get': ['weir job get j-1a2b3c4d --output-dir results', 'weir job get j-1a2b3c4d/stdout'],
  'job egress': [
    'weir job egress j-1a2b3c4d',
    'weir job egress --denied j-1a2b3c4d',
    'weir job egress --follow --output json j-1a2b3c4d',
  ],
  'node list': ['weir node list', 'weir node list --show labels,network,features'],
  'node describe': ['weir node describe n-1a2b3c4d'],
  'node approve': ['weir node approve n-1a2b3c4d'],
  'node reject': ["weir node reject n-1a2b3c4d --message 'unknown machine'"],
  'node delete': ['weir node delete n-1a2b3c4d'],
  'node token create': [
    'weir node token create > token',
    "weir node token create --uses 10 --expires 1h --description 'rack 7'",
  ],
  'node token list': ['weir node token list'],
  'node token revoke': ['weir node token revoke t-1a2b3c4d'],
  'agent alive': ['weir agent alive'],
  'agent node': ['weir agent node --output json'],
  'agent version': ['weir agent version'],
  'agent config': ['weir agent config --output yaml'],
  'config list': ['weir config list', 'weir config list --output csv --hide-header'],
  'config set': [
    'weir config set Logging.Level=warn',
    'weir config set Egress.Allow=example.com,.example.org',
  ],
  'config get': ['weir config get API.Port', 'weir config get Egress.Allow --output json'],
  'config unset': ['weir config unset Logging.Level'],
  'config default': ['weir config default', 'weir config default --path weir.yaml'],
  'config auto-resources': [
    'weir config auto-resources --dry-run',
    'weir config auto-resources --total-percentage 50 -c node.yaml',
  ],
  serve: [
    'weir serve',
    'weir serve --accept-networked-jobs --allow-domain example.com --allow-domain .example.org',
    "weir serve --allow-listed-local-paths '/data/**' -c Compute.AllocatedCapacity.Memory=8gb",
    'weir serve --orchestrator',
    'weir serve --join nats://10.0.0.5:4222 --token-file token --name rack7-a',
  ],
  completion: ['weir completion bash', 'source <(weir completion bash)'],
  devstack: ['weir devstack', 'weir devstack --compute-nodes 5 --stack-repo stack -c Logging.Level=debug'],
  version: ['weir version', 'weir version --client'],
}
