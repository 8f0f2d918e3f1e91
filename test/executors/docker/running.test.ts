import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DockerExecutor } from '../../../src/executors/docker/index.js'
import {
  buildImage,
  docker,
  eventually,
  importBusybox,
  importImage,
  noDocker,
  removeImage,
  runScript,
  skipNote,
  startRun,
  testExecutor,
} from './with-docker.js'

const IMAGE = 'weir-test-running:1'
const HOSTILE = 'weir-test-hostile:1'

describe.skipIf(noDocker !== '')(`a program in a container${skipNote(noDocker)}`, () => {
  let executor: DockerExecutor
  let dir: string

  beforeAll(async () => {
    await importBusybox(IMAGE)
    await buildImage(HOSTILE, [
      `FROM ${IMAGE}`,
      'ENV http_proxy=http://evil.test:1 HTTPS_PROXY=http://evil.test:1 NO_PROXY=* COLOR=image PLAIN=image',
      'VOLUME /data',
      'EXPOSE 80',
      'STOPSIGNAL SIGUSR1',
      'HEALTHCHECK --interval=1s CMD touch /tmp/healthy',
      'ENTRYPOINT ["/bin/echo", "from the image:"]',
      'CMD ["nothing"]',
      'WORKDIR /tmp',
    ])
    executor = testExecutor()
    dir = mkdtempSync(join(tmpdir(), 'weir-run-'))
  })

  afterAll(async () => {
    await executor.close()
    rmSync(dir, { recursive: true, force: true })
    await removeImage(IMAGE)
    await removeImage(HOSTILE)
  })

  it('delivers both outputs and the exit code', async () => {
    const { exit, stdout, stderr } = await runScript(executor, {
      image: IMAGE,
      script: 'echo out; echo err >&2; exit 7',
    })
    expect({ code: exit.code, exitCode: exit.exitCode, stdout, stderr }).toEqual({
      code: '',
      exitCode: 7,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    expect(exit.details.imageId).toMatch(/^sha256:/)
  })

  it('loses nothing of a long output, also its last bytes', async () => {
    let bytes = 0
    let last = ''
    const { exit } = await runScript(executor, {
      image: IMAGE,
      script: 'yes 0123456789abcde | head -c 20000000; printf END',
      onOutput(_stream, data) {
        bytes += data.length
        last = Buffer.from(data).toString().slice(-3)
      },
    })
    expect({ bytes, last, exitCode: exit.exitCode }).toEqual({ bytes: 20_000_003, last: 'END', exitCode: 0 })
  })

  it('P-12 holds a flooding program back instead of buffering, and takes a line without end', async () => {
    let bytes = 0
    let open = () => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    const started = await startRun(executor, {
      image: IMAGE,
      script: 'dd if=/dev/zero bs=1M count=200 2>/dev/null; echo done > /outputs/done',
      outputs: [{ name: 'outputs', hostDir: dir, path: '/outputs' }],
      onOutput(_stream, data) {
        bytes += data.length
        return gate
      },
    })
    const rssBefore = process.memoryUsage().rss
    await new Promise((resolve) => setTimeout(resolve, 1500))
    // 200 MB are waiting; the program must still be running, and nothing of it may be in our memory.
    expect(() => readFileSync(join(dir, 'done'))).toThrow(/ENOENT/)
    expect(process.memoryUsage().rss - rssBefore).toBeLessThan(30 * 1024 * 1024)
    expect(bytes).toBeLessThan(1024 * 1024)
    open()
    expect((await started.end()).exitCode).toBe(0)
    expect(bytes).toBe(200 * 1024 * 1024)
  })

  it('takes image, entry point, parameters, environment and working directory from the specification', async () => {
    const { stdout } = await runScript(executor, {
      image: HOSTILE,
      params: {
        Entrypoint: ['/bin/sh'],
        Parameters: ['-c', 'pwd; echo $COLOR $PLAIN $EXTRA $WEIR_JOB_ID'],
        EnvironmentVariables: ['COLOR=engine', 'EXTRA=engine=x'],
        WorkingDirectory: '/root',
      },
      env: { COLOR: 'run', WEIR_JOB_ID: 'j-1' },
    })
    expect(stdout).toBe('/root\nrun image engine=x j-1\n')
  })

  it('keeps the entry point of the image, replaces its command by the parameters, and can drop the entry point', async () => {
    const own = await runScript(executor, { image: HOSTILE })
    const replaced = await runScript(executor, { image: HOSTILE, params: { Parameters: ['hello', 'you'] } })
    const dropped = await runScript(executor, {
      image: HOSTILE,
      params: { Entrypoint: [], Parameters: ['/bin/echo', 'bare'] },
    })
    expect([own.stdout, replaced.stdout, dropped.stdout]).toEqual([
      'from the image: nothing\n',
      'from the image: hello you\n',
      'bare\n',
    ])
  })

  it('K-15 P-20 ignores proxy variables of the image; only those of the run count', async () => {
    const script = 'env | grep -i proxy; echo end'
    const none = await runScript(executor, { image: HOSTILE, script })
    const http = await runScript(executor, {
      image: HOSTILE,
      script,
      env: { http_proxy: 'http://127.0.0.1:3128' },
    })
    expect(none.stdout).toBe('end\n')
    expect(http.stdout).toBe('http_proxy=http://127.0.0.1:3128\nend\n')
  })

  it('P-20 K-20 publishes no port, has no second network, runs no health check, ignores the stop signal and removes volumes of the image', async () => {
    const volumes = async () => new Set((await docker.listVolumes()).Volumes.map(({ Name }) => Name))
    const before = await volumes()
    const started = await startRun(executor, {
      image: HOSTILE,
      script: "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.1; done",
    })
    await eventually('the program is ready', () => started.stdout().includes('ready'))
    const [container] = await docker.listContainers({
      filters: { label: [`weir.execution=${started.executionId}`] },
    })
    const details = await docker.getContainer(container?.Id ?? '').inspect()
    expect(details.State.Health).toBeUndefined()
    expect(details.NetworkSettings.Ports).toEqual({})
    expect(Object.keys(details.NetworkSettings.Networks).filter((name) => name !== 'none')).toEqual([])
    const made = [...(await volumes())].filter((name) => !before.has(name))
    expect(made).toHaveLength(1)
    await started.running.stop(5000)
    expect((await started.end()).exitCode).toBe(3)
    expect(started.stdout()).toContain('term')
    await eventually('the volume is removed', async () => !(await volumes()).has(made[0] ?? ''))
  })

  it('P-05 mounts inputs read-only: the job cannot write, remount, cover or change them', async () => {
    const input = join(dir, 'input')
    mkdirSync(input, { recursive: true })
    writeFileSync(join(input, 'data'), 'precious')
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      script: `
        cat /inputs/data
        (echo evil > /inputs/data) 2>/dev/null || echo no-write
        touch /inputs/new 2>/dev/null || echo no-create
        rm -f /inputs/data 2>/dev/null || echo no-delete
        chmod 777 /inputs/data 2>/dev/null || echo no-chmod
        mount -o remount,rw /inputs 2>/dev/null || echo no-remount
        mount --bind /tmp /inputs 2>/dev/null || echo no-bind
        umount /inputs 2>/dev/null || echo no-umount
        exec 3< /inputs/data; (echo evil > /proc/self/fd/3) 2>/dev/null || echo no-fd`,
      volumes: [{ hostPath: input, target: '/inputs', writable: false }],
    })
    expect(stdout).toBe(
      'precious' +
        [
          'no-write',
          'no-create',
          'no-delete',
          'no-chmod',
          'no-remount',
          'no-bind',
          'no-umount',
          'no-fd',
          '',
        ].join('\n'),
    )
    expect(readFileSync(join(input, 'data'), 'utf8')).toBe('precious')
  })

  it('collects outputs in the directory of the node, and writes to a writable input', async () => {
    const [out, shared] = ['out', 'shared'].map((name) => join(dir, name))
    for (const path of [out, shared]) mkdirSync(path ?? '', { recursive: true })
    await runScript(executor, {
      image: IMAGE,
      script: 'echo result > /outputs/r; echo back > /work/b',
      volumes: [{ hostPath: shared ?? '', target: '/work', writable: true }],
      outputs: [{ name: 'outputs', hostDir: out ?? '', path: '/outputs' }],
    })
    expect(readFileSync(join(out ?? '', 'r'), 'utf8')).toBe('result\n')
    expect(readFileSync(join(shared ?? '', 'b'), 'utf8')).toBe('back\n')
  })

  it('P-08 stops a fork bomb at the limit of processes', async () => {
    const small = testExecutor({ limits: { pids: 40 } })
    try {
      const { stdout, exit } = await runScript(small, {
        image: IMAGE,
        script: 'i=0; while [ $i -lt 200 ]; do sleep 30 & i=$((i+1)); done; echo all; exit 0',
      })
      expect(stdout).not.toContain('all')
      expect(exit.exitCode).not.toBe(0)
    } finally {
      await small.close()
    }
  })

  it('P-09 reports out of memory, also when it was /dev/shm or a tmpfs-like file that filled it', async () => {
    const { exit } = await runScript(executor, {
      image: IMAGE,
      script: 'x=x; while :; do x=$x$x; done',
      memoryBytes: 32 * 1024 * 1024,
    })
    expect({ code: exit.code, exitCode: exit.exitCode }).toEqual({
      code: 'execution.out_of_memory',
      exitCode: 137,
    })
    expect(exit.hint).toContain('--memory')
    const shm = await runScript(executor, {
      image: IMAGE,
      script:
        'dd if=/dev/zero of=/dev/shm/x bs=1M count=1000; df -m /dev/shm | tail -1; grep -i swap /proc/swaps; exit 4',
      memoryBytes: 256 * 1024 * 1024,
    })
    expect(shm.exit.exitCode).toBe(4)
    expect(shm.stderr).toMatch(/No space left/)
  })

  it('does not call a program out of memory that was killed by a signal of its own', async () => {
    const { exit } = await runScript(executor, { image: IMAGE, script: 'kill -9 $$' })
    expect({ code: exit.code, exitCode: exit.exitCode }).toEqual({ code: '', exitCode: 137 })
  })

  it('P-21 kills a program that ignores SIGTERM within a second of the grace, with all its children', async () => {
    const started = await startRun(executor, {
      image: IMAGE,
      script:
        "trap '' TERM; (trap '' TERM; sleep 300) & (sleep 300 &) ; echo ready; while :; do sleep 1; done",
    })
    await eventually('the program is ready', () => started.stdout().includes('ready'))
    const begin = Date.now()
    await started.running.stop(500)
    expect(Date.now() - begin).toBeGreaterThanOrEqual(490)
    expect(Date.now() - begin).toBeLessThan(1500)
    expect((await started.end()).exitCode).toBe(137)
    await started.running.stop(500)
    await eventually('the container is removed', async () => {
      const left = await docker.listContainers({
        all: true,
        filters: { label: [`weir.execution=${started.executionId}`] },
      })
      return left.length === 0
    })
  })

  it('P-21 reaps zombies of the program, so they do not use up its processes', async () => {
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      script:
        'for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 1; cat /proc/[0-9]*/stat 2>/dev/null | grep -c ") Z "; true',
    })
    expect(stdout.trim()).toBe('0')
  })

  it.each([
    ['a program that is not there', ['/no/such/program'], /executable not found/],
    ['a name that is not in the PATH', ['nosuchprogram'], /executable not found/],
    ['a file that cannot be executed', ['/etc/passwd'], /Cannot start "\/etc\/passwd"/],
  ])('says clearly that it cannot start %s', async (_what, Entrypoint, expected) => {
    const end = await runScript(executor, { image: IMAGE, params: { Entrypoint } }).then(
      ({ exit }) => exit,
      (error: unknown) => error as { code: string; message: string; hint: string },
    )
    expect(end.code).toBe('engine.failed')
    expect(end.message).toMatch(expected)
    expect(end.hint).not.toBe('')
  })

  it('P-27 refuses a working directory under /proc', async () => {
    await expect(
      runScript(executor, { image: IMAGE, script: 'true', params: { WorkingDirectory: '/proc/self/fd/8' } }),
    ).rejects.toMatchObject({ code: 'engine.failed' })
  })

  it('P-25 shows nothing of the node: host name, resolver, labels and control groups are neutral', async () => {
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      script: 'hostname; cat /etc/resolv.conf /etc/hosts /proc/self/cgroup',
    })
    expect(stdout).toMatch(/^weir-job\n# this job has no name servers\n127\.0\.0\.1 localhost weir-job\n/)
    expect(stdout).not.toContain('docker/')
    for (const line of readFileSync('/etc/resolv.conf', 'utf8').matchAll(/^nameserver (\S+)/gm)) {
      expect(stdout).not.toContain(line[1])
    }
  })

  it('P-04 J-07 has no way to the engine: no socket of Docker or containerd', async () => {
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      script:
        'find / -xdev -type s 2>/dev/null; ls /var/run /run 2>/dev/null; grep -c "docker.sock\\|containerd.sock" /proc/mounts /proc/net/unix; true',
    })
    expect(stdout).not.toMatch(/docker\.sock$|containerd/m)
    expect(stdout).toContain('/proc/mounts:0\n/proc/net/unix:0')
  })

  it('rejects a second start of the same execution', async () => {
    const first = await startRun(executor, { image: IMAGE, script: 'sleep 30' })
    await expect(
      startRun(executor, { image: IMAGE, script: 'true', executionId: first.executionId }),
    ).rejects.toMatchObject({ code: 'engine.failed' })
    await first.running.stop(0)
    await first.end()
  })
})

describe.skipIf(noDocker !== '')(`an ordinary image${skipNote(noDocker)}`, () => {
  const image = 'weir-test-debian:1'
  let executor: DockerExecutor
  let dir: string
  let ready = false

  beforeAll(async () => {
    executor = testExecutor()
    dir = mkdtempSync(join(tmpdir(), 'weir-deb-'))
    const { debianFiles, buildPackage } = await import('./debian-image.js')
    const files = debianFiles()
    ready = files !== undefined && buildPackage(dir)
    if (files !== undefined) await importImage(image, files)
  })

  afterAll(async () => {
    await executor.close()
    rmSync(dir, { recursive: true, force: true })
    await removeImage(image)
  })

  it('installs a Debian package with owners and a setuid program as root inside, and P-06 gains nothing by it', async (context) => {
    if (!ready) context.skip('dpkg is not installed here')
    const { exit, stdout, stderr } = await runScript(executor, {
      image,
      script: `/usr/bin/dpkg -i /inputs/weir-sample.deb >&2 || exit 9
        ls -ln /opt/weir-sample | tr -s ' ' | cut -d' ' -f1,3,4,9
        su worker -c 'id -u; /opt/weir-sample/as-root'; grep -E 'CapPrm|CapEff|NoNewPrivs' /proc/self/status | tr -s '\\t' ' '`,
      volumes: [{ hostPath: dir, target: '/inputs', writable: false }],
    })
    expect(stderr).toContain('Setting up weir-sample')
    expect(stdout).toContain('-rwsr-xr-x 0 0 as-root')
    expect(stdout).toContain('-rw-r----- 1000 1000 data')
    // su drops to the user; the setuid copy of id then runs as that user still.
    expect(stdout).toContain('1000\nuid=1000')
    expect(stdout).not.toContain('euid=0')
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID and nothing else.
    expect(stdout).toContain('CapPrm: 00000000000000fb\nCapEff: 00000000000000fb\nNoNewPrivs: 1')
    expect(exit.exitCode).toBe(0)
  })

  it('loses more capabilities when the operator says so', async () => {
    const strict = testExecutor({ dropCapabilities: ['CAP_SETUID', 'setgid'] })
    try {
      await importBusybox('weir-test-strict:1')
      const { stdout } = await runScript(strict, {
        image: 'weir-test-strict:1',
        script: "grep CapEff /proc/self/status | tr -s '\\t' ' '; su worker -c id 2>/dev/null || echo no-su",
      })
      expect(stdout).toBe('CapEff: 000000000000003b\nno-su\n')
    } finally {
      await strict.close()
      await removeImage('weir-test-strict:1')
    }
  })
})
