# Tries to get out of `weir egress exec`. Argument: JSON with what the test prepared outside. Prints what happened, as JSON.
import ctypes, fcntl, json, os, socket, struct, subprocess, sys

outside = json.loads(sys.argv[1])
results = {}


def attempt(name, action):
    try:
        answer = action()
        results[name] = "done" if answer is None else str(answer)
    except OSError as error:
        results[name] = error.strerror
    except Exception as error:
        results[name] = type(error).__name__


def tcp(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(3)
        s.connect((host, port))
        if port == 80:
            s.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host.encode())
            return s.recv(12).decode()
        return s.recv(100).decode()


def unix(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(3)
        s.connect(path)
        return s.recv(100).decode()


def syscall(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(path):
    with open(path, "w") as f:
        f.write("x")


def writable(top):
    """Files of the kernel that can be opened for writing, those of single processes left out."""
    found = []
    for directory, names, files in os.walk(top):
        if directory == "/proc":
            names[:] = [name for name in names if not name.isdigit() and name not in ("self", "thread-self", "net")]
        for name in files:
            path = os.path.join(directory, name)
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
                found.append(path)
            except OSError:
                pass
    return found


def command(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    return "done" if done.returncode == 0 else "failed"


attempt("loopback of the host", lambda: tcp("127.0.0.1", outside["port"]))
attempt("IPv6 loopback of the host", lambda: tcp("::1", outside["port"]))
attempt("address of the host", lambda: tcp(outside["hostAddress"], outside["port"]))
attempt("address of an allowed site", lambda: tcp(outside["site"], 80))
attempt("metadata", lambda: tcp("169.254.169.254", 80))
attempt("socket in a hidden directory", lambda: unix(outside["hiddenSocket"]))
attempt("socket on the read-only file system", lambda: unix(outside["socket"]))
attempt("socket in the working directory", lambda: unix("outside.sock"))
attempt("abstract socket", lambda: unix("\0" + outside["abstract"]))
attempt("Docker", lambda: unix("/var/run/docker.sock"))
attempt("socket of the machine's host", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("Bluetooth socket", lambda: socket.socket(31, socket.SOCK_RAW, 1))
attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
if os.uname().machine == "x86_64":
    attempt("io_uring", lambda: syscall(425, 1, ctypes.create_string_buffer(120)))
    attempt("key ring", lambda: syscall(250, 0, -3, 0))
attempt("terminal input", lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("file of the system", lambda: write("/etc/weir-escape"))
attempt("file of the home directory", lambda: write(os.path.expanduser("~/weir-escape")))
attempt("kernel settings", lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)))
attempt("kernel requests", lambda: os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY)))
attempt("writable kernel files", lambda: " ".join(sorted(writable("/proc") + writable("/sys"))))
attempt("own files", lambda: write("own"))
attempt("temporary files", lambda: write("/tmp/own"))
attempt("another user namespace", lambda: command("unshare", "--user", "true"))
attempt("network of the first process", lambda: command("nsenter", "--target", "1", "--net", "true"))
attempt("writable root", lambda: command("mount", "-o", "remount,rw", "/"))
attempt("mount", lambda: command("mount", "-t", "tmpfs", "none", "/mnt"))
attempt("processes", lambda: " ".join(sorted(p for p in os.listdir("/proc") if p.isdigit() and int(p) > 60)))
attempt("secret of another process", lambda: open(f"/proc/{outside['pid']}/environ").read())
attempt("hidden directory", lambda: " ".join(os.listdir(outside["hidden"])))
attempt("capabilities", lambda: [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")][0])
attempt("new privileges", lambda: [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0])
attempt("open files", lambda: " ".join(sorted({os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd") if int(n) > 2 and os.path.exists(f"/proc/self/fd/{n}")} - {"/dev/null"})))
print(json.dumps(results))
