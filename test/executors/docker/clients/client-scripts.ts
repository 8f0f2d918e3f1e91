/** A program as it stands in Debian and npm, and what it does with the test internet. */
export interface Client {
  /** As in the table of docs/networking.md. */
  name: string
  /** A file of this machine without which it is skipped. */
  needs: string
  /** Run by `sh -c` in the container; has to print {@link WORKED} and nothing that only looks like it. */
  script: string
  /** Does it work with the proxy variables, and without them? */
  works: { proxy: boolean; direct: boolean }
}

/** What the test internet answers, and nobody else. */
export const WORKED = 'hello from the test internet'

const BOTH = { proxy: true, direct: true }
const WEB = 'web.clients.test'
const REQUEST = `printf 'GET / HTTP/1.1\\r\\nHost: ${WEB}\\r\\nConnection: close\\r\\n\\r\\n'`

export const CLIENTS: readonly Client[] = [
  ...['http', 'https'].flatMap((scheme): Client[] => [
    { name: `curl, ${scheme}`, needs: '/usr/bin/curl', script: `curl -sS ${scheme}://${WEB}/`, works: BOTH },
    {
      name: `wget, ${scheme}`,
      needs: '/usr/bin/wget',
      script: `wget -q -O- ${scheme}://${WEB}/`,
      works: BOTH,
    },
    {
      name: `Python urllib, ${scheme}`,
      needs: '/usr/bin/python3',
      script: `python3 -c "import urllib.request as u; print(u.urlopen('${scheme}://${WEB}/').read().decode())"`,
      works: BOTH,
    },
    {
      name: `Python requests, ${scheme}`,
      needs: '/usr/lib/python3/dist-packages/requests',
      script: `python3 -c "import requests; print(requests.get('${scheme}://${WEB}/').text)"`,
      works: BOTH,
    },
    {
      name: `Node.js fetch, ${scheme}`,
      needs: '/usr/bin/node',
      script: `node -e "fetch('${scheme}://${WEB}/').then((answer) => answer.text()).then(console.log)"`,
      works: BOTH,
    },
    {
      name: `Java HttpClient, ${scheme}`,
      needs: '/usr/bin/javac',
      script: `java -Djavax.net.ssl.trustStore=/opt/clients/trust.p12 -Djavax.net.ssl.trustStorePassword=changeit /opt/clients/Get.java ${scheme}://${WEB}/`,
      works: BOTH,
    },
    {
      name: `Go net/http, ${scheme}`,
      needs: '/usr/bin/go',
      script: `/opt/clients/get ${scheme}://${WEB}/`,
      works: BOTH,
    },
  ]),
  {
    name: 'busybox wget, http',
    needs: '/bin/busybox',
    script: `busybox wget -q -O- http://${WEB}/`,
    works: BOTH,
  },
  {
    // It knows no tunnels: to a proxy it sends the whole https:// URL in clear, which is refused.
    name: 'busybox wget, https',
    needs: '/bin/busybox',
    script: `busybox wget -q -O- --no-check-certificate https://${WEB}/`,
    works: { proxy: false, direct: true },
  },
  {
    name: 'curl, upload with Expect: 100-continue',
    needs: '/usr/bin/curl',
    script: `head -c 2000000 /dev/zero >/tmp/up && curl -sS -H 'Expect: 100-continue' -H 'Transfer-Encoding: chunked' --data-binary @/tmp/up http://${WEB}/count`,
    works: BOTH,
  },
  {
    name: 'git clone, https',
    needs: '/usr/bin/git',
    script:
      'rm -rf /tmp/clone && git clone -q https://git.clients.test/demo.git /tmp/clone && cat /tmp/clone/README',
    works: BOTH,
  },
  {
    name: 'pip install, https',
    needs: '/usr/lib/python3/dist-packages/pip',
    script:
      'python3 -m pip install -q --no-deps --no-cache-dir --disable-pip-version-check --target /tmp/pip --index-url https://pypi.clients.test/simple weirdemo && PYTHONPATH=/tmp/pip python3 -m weirdemo',
    works: BOTH,
  },
  {
    name: 'npm install, https',
    needs: '/usr/bin/npm',
    script:
      'npm install --silent --no-audit --no-fund --prefix /tmp/npm --registry https://npm.clients.test/ weir-demo && node /tmp/npm/node_modules/weir-demo',
    works: BOTH,
  },
  {
    name: 'apt update and download, http',
    needs: '/usr/bin/apt-get',
    script: `mkdir -p /tmp/apt/lists/partial /tmp/apt/cache/archives/partial && cd /tmp/apt && echo 'deb [trusted=yes] http://deb.clients.test/ ./' >list && : >status &&
      apt="apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::SourceList=/tmp/apt/list -o Dir::Etc::SourceParts=- -o Dir::State::Lists=/tmp/apt/lists -o Dir::State::status=/tmp/apt/status -o Dir::Cache=/tmp/apt/cache -o Acquire::AllowInsecureRepositories=true" &&
      $apt update && $apt download weir-demo && dpkg-deb --fsys-tarfile weir-demo_1_all.deb | tar -xO ./usr/share/weir-demo/README`,
    works: BOTH,
  },
  {
    name: 'openssl s_client',
    needs: '/usr/bin/openssl',
    script: `(${REQUEST}; sleep 2) | openssl s_client -quiet -verify_return_error -connect ${WEB}:443 -servername ${WEB}`,
    works: BOTH,
  },
  ...['ws', 'wss'].flatMap((scheme): Client[] => [
    {
      name: `ws of npm, ${scheme}`,
      needs: '/usr/bin/node',
      script: `node /opt/clients/talk.cjs ${scheme}://${WEB}/socket`,
      works: BOTH,
    },
    {
      name: `Python websockets, ${scheme}`,
      needs: '/usr/lib/python3/dist-packages/websockets',
      script: `python3 /opt/clients/talk.py ${scheme}://${WEB}/socket`,
      works: BOTH,
    },
  ]),
]

/** Sources of the clients that are no programs by themselves: file name → text. */
export const CLIENT_SOURCES: Readonly<Record<string, string>> = {
  'Get.java': `
import java.net.URI;
import java.net.http.*;
public class Get {
  public static void main(String[] args) throws Exception {
    var request = HttpRequest.newBuilder(URI.create(args[0])).build();
    System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
  }
}`,
  'get.go': `
package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
  answer, err := http.Get(os.Args[1])
  if err != nil { fmt.Println(err); os.Exit(1) }
  body, _ := io.ReadAll(answer.Body)
  fmt.Println(string(body))
}`,
  'talk.cjs': `
const socket = new (require('/opt/ws'))(process.argv[2])
socket.on('open', () => socket.send('${WORKED}'))
socket.on('message', (text) => { console.log('echoed: ' + text); socket.close() })
socket.on('error', (error) => { console.log(error.message); process.exit(1) })`,
  'talk.py': `
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        await socket.send('${WORKED}')
        print('echoed:', await socket.recv())
asyncio.run(main())`,
}
