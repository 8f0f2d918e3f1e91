// The cheap ends of `bench/egress.mjs`: origins, and clients that measure. One process, one thread, epoll.
// `load MODE key=value …` prints one line of JSON; `origin` and `hold` print a line once they are ready.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 8192, CHUNK = 65536, SAMPLES_MAX = 4 << 20, FDS_MAX = 65536 };

static char block[CHUNK];
/** Bytes that origins took, by stream: shared between the processes through a file. */
static volatile uint64_t *sunk;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int argument_count;
static char **arguments;

static const char *text_of(const char *key, const char *otherwise) {
  size_t length = strlen(key);
  for (int i = 2; i < argument_count; i++)
    if (strncmp(arguments[i], key, length) == 0 && arguments[i][length] == '=') return arguments[i] + length + 1;
  return otherwise;
}

static double number_of(const char *key, double otherwise) {
  const char *text = text_of(key, NULL);
  return text == NULL ? otherwise : atof(text);
}

static void share_counters(void) {
  const char *path = text_of("counters", NULL);
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, STREAMS_MAX * 8) != 0) fail(path);
  sunk = mmap(NULL, STREAMS_MAX * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (sunk == MAP_FAILED) fail("mmap");
  close(fd);
}

static void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void non_blocking(int fd) { fcntl(fd, F_SETFL, O_NONBLOCK); }

static void give_up_after(int fd, int seconds) {
  struct timeval limit = {.tv_sec = seconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

// --- samples ---

static float *samples;
static size_t sample_count;

static void sample(double ms) {
  if (samples == NULL) samples = malloc(sizeof(float) * SAMPLES_MAX);
  if (sample_count < SAMPLES_MAX) samples[sample_count++] = ms;
}

static int by_value(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static void print_samples(void) {
  qsort(samples, sample_count, sizeof(float), by_value);
  double p50 = sample_count ? samples[(size_t)(sample_count * 0.5)] : -1;
  double p99 = sample_count ? samples[(size_t)(sample_count * 0.99)] : -1;
  printf("\"count\":%zu,\"p50\":%.4f,\"p99\":%.4f", sample_count, p50, p99);
}

// --- TLS, as far as it is in clear ---

static size_t put16(unsigned char *at, unsigned value) {
  at[0] = value >> 8;
  at[1] = value;
  return 2;
}

/** What both hellos begin with: record, handshake message of this type and length, version, random bytes, session. */
static size_t hello_start(unsigned char *out, unsigned version, unsigned char type, size_t body) {
  size_t at = 0;
  out[at++] = 22;
  at += put16(out + at, version);
  at += put16(out + at, body + 4);
  out[at++] = type;
  out[at++] = 0;
  at += put16(out + at, body);
  at += put16(out + at, 0x0303);
  memset(out + at, 7, 32);
  at += 32;
  out[at++] = 32;
  memset(out + at, 9, 32);
  return at + 32;
}

/** A ClientHello as a usual client sends it: server name, versions, groups, some padding. */
static size_t client_hello(unsigned char *out, const char *host) {
  size_t n = strlen(host), at = 0, padding = 240;
  size_t extensions = (4 + 5 + n) + 7 + 8 + (4 + padding);
  size_t body = 2 + 32 + 33 + 2 + 6 + 2 + 2 + extensions;
  at += hello_start(out, 0x0301, 1, body);
  at += put16(out + at, 6);
  memcpy(out + at, "\x13\x01\x13\x02\x13\x03", 6);
  at += 6;
  at += put16(out + at, 0x0100);
  at += put16(out + at, extensions);
  at += put16(out + at, 0);
  at += put16(out + at, n + 5);
  at += put16(out + at, n + 3);
  out[at++] = 0;
  at += put16(out + at, n);
  memcpy(out + at, host, n);
  at += n;
  memcpy(out + at, "\x00\x2b\x00\x03\x02\x03\x04\x00\x0a\x00\x04\x00\x02\x00\x1d", 15);
  at += 15;
  at += put16(out + at, 21);
  at += put16(out + at, padding);
  memset(out + at, 0, padding);
  return at + padding;
}

/** A ServerHello of TLS 1.3 in its record: enough for whoever watches the handshake. */
static size_t server_hello(unsigned char *out) {
  size_t at = 0, body = 2 + 32 + 33 + 2 + 1 + 2;
  at += hello_start(out, 0x0303, 2, body);
  at += put16(out + at, 0x1301);
  out[at++] = 0;
  return at + put16(out + at, 0);
}

// --- origin: HTTP and what looks like TLS, on the same ports ---

/** After the hello a stream says in three bytes what it is for: `E`cho, `D`own, `S`ink, and its number. */
struct served {
  bool open;
  char kind;
  uint16_t stream;
  int have;
  unsigned char head[4096];
};

static struct served *served_by[FDS_MAX];
static char answer[4096];
static size_t answer_bytes;

/** Reset where the peer has closed already: it then keeps no port in TIME_WAIT, of which a run would use up all. */
static void drop(int fd, bool reset) {
  struct linger at_once = {.l_onoff = 1};
  if (reset) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  free(served_by[fd]);
  served_by[fd] = NULL;
  close(fd);
}

static bool put(int fd, const void *bytes, size_t count) { return write(fd, bytes, count) == (ssize_t)count; }

/** Takes whatever is complete out of `head`. False: the connection is to be dropped. */
static bool serve_head(int epoll, int fd, struct served *s) {
  for (;;) {
    if (s->have == 0) return true;
    if (!s->open && s->head[0] == 22) {
      if (s->have < 5 || s->have < 5 + (s->head[3] << 8 | s->head[4])) return s->have < (int)sizeof s->head;
      int used = 5 + (s->head[3] << 8 | s->head[4]);
      memmove(s->head, s->head + used, s->have -= used);
      unsigned char hello[256];
      if (!put(fd, hello, server_hello(hello))) return false;
      s->open = true;
    } else if (s->open) {
      if (s->have < 3) return true;
      s->kind = s->head[0];
      s->stream = (s->head[1] << 8 | s->head[2]) % STREAMS_MAX;
      int rest = s->have - 3;
      if (s->kind == 'S' && sunk) sunk[s->stream] += rest;
      if (s->kind == 'E' && rest > 0 && !put(fd, s->head + 3, rest)) return false;
      s->have = 0;
      if (s->kind == 'D') {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
      }
      return true;
    } else {
      unsigned char *end = memmem(s->head, s->have, "\r\n\r\n", 4);
      if (end == NULL) return s->have < (int)sizeof s->head;
      int used = end - s->head + 4;
      bool closes = memmem(s->head, used, "onnection: close", 16) != NULL;
      memmove(s->head, s->head + used, s->have -= used);
      if (!put(fd, answer, answer_bytes)) return false;
      if (closes) return false;
    }
  }
}

static bool serve_input(int epoll, int fd, struct served *s) {
  static char spare[CHUNK];
  for (int turn = 0; turn < 4; turn++) {
    if (s->kind == 0) {
      ssize_t got = read(fd, s->head + s->have, sizeof s->head - s->have);
      if (got < 0) return errno == EAGAIN;
      if (got == 0) return false;
      s->have += got;
      if (!serve_head(epoll, fd, s)) return false;
      continue;
    }
    ssize_t got = read(fd, spare, sizeof spare);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    if (s->kind == 'S' && sunk) sunk[s->stream] += got;
    if (s->kind == 'E' && !put(fd, spare, got)) return false;
  }
  return true;
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (bind(fd, (struct sockaddr *)&where, sizeof where) != 0 || listen(fd, 4096) != 0) fail("listen");
  non_blocking(fd);
  return fd;
}

static void run_origin(void) {
  int body = number_of("body", 1024);
  answer_bytes = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", body);
  memset(answer + answer_bytes, 'x', body);
  answer_bytes += body;
  int epoll = epoll_create1(0), doors[2] = {listen_on(80), listen_on(443)};
  for (int i = 0; i < 2; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = doors[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, doors[i], &event);
  }
  printf("{\"ready\":true}\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == doors[0] || fd == doors[1]) {
        int fresh;
        while ((fresh = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (fresh >= FDS_MAX) {
            close(fresh);
            continue;
          }
          no_delay(fresh);
          served_by[fresh] = calloc(1, sizeof(struct served));
          struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fresh};
          epoll_ctl(epoll, EPOLL_CTL_ADD, fresh, &event);
        }
        continue;
      }
      struct served *s = served_by[fd];
      if (s == NULL) continue;
      bool good = (events[i].events & (EPOLLERR | EPOLLHUP)) == 0;
      if (good && events[i].events & EPOLLIN) good = serve_input(epoll, fd, s);
      if (good && s->kind == 'D' && events[i].events & EPOLLOUT)
        for (int turn = 0; turn < 4 && good; turn++) {
          ssize_t sent = write(fd, block, CHUNK);
          if (sent < 0) {
            good = errno == EAGAIN;
            break;
          }
        }
      if (!good) drop(fd, s->kind != 0 || s->open);
    }
  }
}

// --- clients ---

static const char *host;
static int proxy_port;

static int connect_proxy(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(proxy_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (fd < 0) return -1;
  give_up_after(fd, 10);
  no_delay(fd);
  if (connect(fd, (struct sockaddr *)&where, sizeof where) == 0) return fd;
  close(fd);
  return -1;
}

/** A tunnel up to the first bytes of the origin: what a TLS client waits for. −1 when there is none. */
static int open_tunnel(void) {
  unsigned char hello[1024];
  char head[512], reply[4096];
  int fd = connect_proxy();
  if (fd < 0) return -1;
  int length = snprintf(head, sizeof head, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nUser-Agent: load\r\n\r\n", host, host);
  int have = 0;
  if (!put(fd, head, length)) goto bad;
  while (have < 4 || memmem(reply, have, "\r\n\r\n", 4) == NULL) {
    ssize_t got = read(fd, reply + have, sizeof reply - have);
    if (got <= 0) goto bad;
    have += got;
  }
  if (have < 12 || memcmp(reply + 8, " 200", 4) != 0) goto bad;
  if (!put(fd, hello, client_hello(hello, host))) goto bad;
  size_t expected = server_hello(hello);
  for (size_t got = 0; got < expected;) {
    ssize_t more = read(fd, reply, expected - got);
    if (more <= 0) goto bad;
    got += more;
  }
  return fd;
bad:
  close(fd);
  return -1;
}

/** One tunnel after the other, each closed at once. */
static void run_connect(void) {
  double until = now_ms() + number_of("seconds", 2) * 1e3, pause = number_of("pause", 0) * 1e3;
  int most = number_of("count", 1e9), failed = 0;
  for (int i = 0; i < most && now_ms() < until; i++) {
    double started = now_ms();
    int fd = open_tunnel();
    if (fd < 0) failed++;
    else sample(now_ms() - started);
    if (fd >= 0) close(fd);
    else usleep(1000);
    if (pause > 0) usleep(pause);
  }
  printf("{\"failed\":%d,", failed);
  print_samples();
  printf("}\n");
}

struct asking {
  int fd;
  double asked;
  size_t have, total;
  char head[2048];
};

static char question[512];
static size_t question_bytes;
static long reconnects;

static void ask(int epoll, struct asking *a, bool again) {
  if (again) {
    if (a->fd >= 0) close(a->fd);
    a->fd = connect_proxy();
    if (a->fd < 0) return;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = a};
    epoll_ctl(epoll, EPOLL_CTL_ADD, a->fd, &event);
    reconnects++;
  }
  a->have = a->total = 0;
  if (!put(a->fd, question, question_bytes)) a->total = 0;
}

/** Plain requests over connections that stay open where the proxy lets them. */
static void run_http(void) {
  int connections = number_of("connections", 50);
  double seconds = number_of("seconds", 2), started = now_ms(), until = started + seconds * 1e3;
  question_bytes = snprintf(question, sizeof question, "GET http://%s/item?id=1 HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n", host, host);
  struct asking *all = calloc(connections, sizeof *all);
  int epoll = epoll_create1(0);
  long failed = 0, done = 0;
  static char spare[CHUNK];
  for (int i = 0; i < connections; i++) {
    all[i].fd = -1;
    all[i].asked = now_ms();
    ask(epoll, &all[i], true);
  }
  reconnects = 0;
  while (now_ms() < until) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll, events, 64, 100);
    for (int i = 0; i < count; i++) {
      struct asking *a = events[i].data.ptr;
      ssize_t got;
      if (a->total == 0) {
        got = read(a->fd, a->head + a->have, sizeof a->head - 1 - a->have);
        if (got > 0) {
          a->have += got;
          a->head[a->have] = 0;
          char *end = strstr(a->head, "\r\n\r\n");
          if (end != NULL) {
            char *length = strcasestr(a->head, "content-length:");
            if (strncmp(a->head + 8, " 200", 4) != 0 || length == NULL) got = -1;
            else a->total = end + 4 - a->head + atoi(length + 15);
          }
        }
      } else {
        got = read(a->fd, spare, sizeof spare);
        if (got > 0) a->have += got;
      }
      if (got <= 0 && !(got < 0 && errno == EAGAIN)) {
        failed++;
        a->asked = now_ms();
        ask(epoll, a, true);
        continue;
      }
      if (a->total == 0 || a->have < a->total) continue;
      double at = now_ms();
      sample(at - a->asked);
      done++;
      a->asked = at;
      char *way = strcasestr(a->head, "connection: close");
      ask(epoll, a, way != NULL);
    }
  }
  double took = (now_ms() - started) / 1e3;
  printf("{\"perSecond\":%.0f,\"failed\":%ld,\"reconnects\":%ld,", done / took, failed, reconnects);
  print_samples();
  printf("}\n");
}

/** Streams in one direction, counted where they arrive (`base`: number of the first); with `probe=1` one more that asks for an echo. */
static void run_tunnel(void) {
  int streams = number_of("streams", 1), base = number_of("base", 0), piece = number_of("write", CHUNK), failed = 0;
  bool down = strcmp(text_of("direction", "down"), "down") == 0, probing = number_of("probe", 0) != 0;
  double seconds = number_of("seconds", 2), warm = number_of("warm", 0.5) * 1e3;
  int *fds = calloc(streams + 1, sizeof(int));
  uint64_t *counts = calloc(STREAMS_MAX, 8), *from = calloc(STREAMS_MAX, 8);
  int epoll = epoll_create1(0), probe = -1;
  static char spare[CHUNK];
  for (int i = 0; i < streams; i++) {
    fds[i] = open_tunnel();
    if (fds[i] < 0) failed++;
  }
  if (probing) probe = open_tunnel();
  usleep(number_of("idle", 0) * 1e6);
  for (int i = 0; i < streams; i++) {
    if (fds[i] < 0) continue;
    unsigned char order[3] = {down ? 'D' : 'S', (base + i) >> 8, base + i};
    if (sunk) sunk[base + i] = 0;
    put(fds[i], order, 3);
    non_blocking(fds[i]);
    struct epoll_event event = {.events = down ? EPOLLIN : EPOLLOUT, .data.u32 = i};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
  }
  double asked = 0;
  if (probe >= 0) {
    put(probe, "E\0\0", 3);
    non_blocking(probe);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = streams};
    epoll_ctl(epoll, EPOLL_CTL_ADD, probe, &event);
  }
  double started = now_ms() + warm, second = started, next_probe = started;
  uint64_t before = 0, first = 0;
  bool running = false;
  int windows = 0;
  double rates[600];
  for (;;) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll, events, 64, 5);
    for (int i = 0; i < count; i++) {
      unsigned stream = events[i].data.u32;
      if ((int)stream == streams) {
        if (read(probe, spare, sizeof spare) <= 0) epoll_ctl(epoll, EPOLL_CTL_DEL, probe, NULL);
        else if (asked > 0) sample(now_ms() - asked);
        asked = 0;
        continue;
      }
      for (int turn = 0; turn < 4; turn++) {
        ssize_t did = down ? read(fds[stream], spare, sizeof spare) : write(fds[stream], block, piece);
        if (did > 0) {
          if (down) counts[stream] += did;
          continue;
        }
        if (did == 0 || errno != EAGAIN) {
          failed++;
          epoll_ctl(epoll, EPOLL_CTL_DEL, fds[stream], NULL);
        }
        break;
      }
    }
    double at = now_ms();
    if (at < started) continue;
    if (probe >= 0 && asked == 0 && at >= next_probe) {
      asked = at;
      next_probe = at + 25;
      put(probe, block, 64);
    }
    if (running && at < second + 1000) continue;
    uint64_t total = 0;
    for (int i = 0; i < streams; i++) {
      if (!down && sunk) counts[i] = sunk[base + i];
      total += counts[i];
    }
    if (running) {
      rates[windows++] = (total - before) * 8.0 / (at - second) / 1e3;
      if (windows >= seconds || windows == 600) break;
      second += 1000;
    } else {
      running = true;
      memcpy(from, counts, STREAMS_MAX * 8);
      first = total;
      started = second = at;
    }
    // Windows follow each other without a gap, so a late look at one is made good in the next.
    before = total;
    second = at;
  }
  double took = now_ms() - started;
  uint64_t total = 0;
  double sum = 0, squares = 0;
  for (int i = 0; i < streams; i++) {
    double part = counts[i] - from[i];
    total += counts[i];
    sum += part;
    squares += part * part;
  }
  printf("{\"failed\":%d,\"mbit\":%.4f,\"jain\":%.4f,\"firstBytes\":%llu,\"perSecond\":[", failed, (total - first) * 8.0 / took / 1e3,
         squares > 0 ? sum * sum / (streams * squares) : 0, (unsigned long long)first);
  for (int i = 0; i < windows; i++) printf("%s%.3f", i ? "," : "", rates[i]);
  printf("],");
  print_samples();
  printf("}\n");
}

/** Opens tunnels and keeps them until a line comes on standard input; then each has to echo once. */
static void run_hold(void) {
  int wanted = number_of("count", 1000), held = 0, alive = 0;
  double until = now_ms() + number_of("seconds", 60) * 1e3;
  int *fds = calloc(wanted, sizeof(int));
  for (int i = 0; i < wanted && now_ms() < until; i++) {
    double started = now_ms();
    int fd = open_tunnel();
    if (fd < 0) continue;
    sample(now_ms() - started);
    fds[held++] = fd;
  }
  printf("{\"held\":%d,", held);
  print_samples();
  printf("}\n");
  fflush(stdout);
  char line[16];
  if (fgets(line, sizeof line, stdin) == NULL) exit(0);
  int epoll = epoll_create1(0);
  for (int i = 0; i < held; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    put(fds[i], "E\0\0!", 4);
  }
  until = now_ms() + 20e3;
  for (int seen = 0; seen < held && now_ms() < until;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, 100);
    for (int i = 0; i < count; i++, seen++) {
      int fd = fds[events[i].data.u32];
      char byte;
      if (read(fd, &byte, 1) == 1) alive++;
      epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    }
  }
  printf("{\"alive\":%d}\n", alive);
}

int main(int count, char **values) {
  argument_count = count;
  arguments = values;
  signal(SIGPIPE, SIG_IGN);
  // Whoever started it may be killed: nothing of a measurement stays behind.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  host = text_of("host", "www.example.com");
  proxy_port = number_of("proxy", 3128);
  share_counters();
  const char *mode = count > 1 ? values[1] : "";
  if (strcmp(mode, "origin") == 0) run_origin();
  else if (strcmp(mode, "connect") == 0) run_connect();
  else if (strcmp(mode, "http") == 0) run_http();
  else if (strcmp(mode, "tunnel") == 0) run_tunnel();
  else if (strcmp(mode, "hold") == 0) run_hold();
  else {
    fprintf(stderr, "load: unknown mode \"%s\"\n", mode);
    return 2;
  }
  return 0;
}
