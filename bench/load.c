/*
 * Owns the load that the benchmarks put on NBD servers: connections, queue depth, what is asked for and where, and what
 * it took. Knows no server and no file, except to drop one from the page cache before a step that is to find it cold.
 *
 *   load --unix PATH | --tcp HOST:PORT [--export NAME] [--connections N] [--pid SERVER] [--single] STEP [/ STEP]...
 *   load evict FILE...    drop clean pages of files from the page cache
 *   load touch            use the free memory of the machine once, all but a GiB of it
 *
 *   STEP is MODE [--bytes N] [--depth N] [--seconds S] [--operations N] [--offset N] [--length N] [--seed N]
 *           [--writes PERCENT] [--evict FILE] [--gaps US] [--verify]
 *   MODE is randread, randwrite, mix, read, write or writeflush
 *
 * All steps of a call use the same connections; some servers keep what was written for one connection only. A step with
 * --operations ends after so many, one without after --seconds. randwrite comes to every place once before it comes to
 * any again, so that a first pass allocates with each request; a second step with the same seed goes the same way again.
 * writeflush is a write followed by a flush, counted as one. Requests that one wake-up made possible leave in one call
 * (with --single, each by itself). With --gaps, the times in which nothing was replied to for that long are listed as well:
 * when each began, on the clock that does not jump, and how long it was, in microseconds. With --verify, writes carry a pattern made from their place, and reads expect it.
 *
 * Prints one line of JSON a step. Processor time and memory are those of the server's process and its children, with the
 * connections still open.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES = 28, REPLY_BYTES = 16, PATIENCE_S = 60, PENDING = 4096, POOL_BYTES = 1 << 20 };
enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3 };
enum mode { RANDREAD, RANDWRITE, MIX, READ, WRITE, WRITEFLUSH };
static const char *const MODES[] = {"randread", "randwrite", "mix", "read", "write", "writeflush"};

struct step {
  enum mode mode;
  uint64_t bytes, operations, offset, length, seed;
  double seconds;
  int depth, writes, verify, gaps_us;
  const char *evict;
};

struct slot {
  unsigned char head[REQUEST_BYTES];
  uint64_t start_ns, at;
  uint32_t length;
  int command;
  unsigned char *payload; /* own bytes, only with --verify */
};

struct connection {
  int fd, free_count, in_flight, wants_out;
  struct slot *slots;
  int *free;
  struct iovec pending[PENDING];
  int first, count;
  unsigned char reply[REPLY_BYTES];
  int reply_have;
  struct slot *reading; /* whose data is coming in */
  uint32_t left;
  uint64_t position, share_start, share_count; /* sequential modes, in requests */
};

static const char *unix_path, *tcp_address, *export_name = "";
static int connection_count = 1, server_pid, single;
static uint64_t export_bytes;
static struct connection *connections;
static int epoll_fd;
static unsigned char *pool; /* random bytes to write */

/* The step under way. */
static struct step now;
static uint64_t places, place_bits, counter, issued, finished, failed, wrong, moved_bytes, end_ns, state;
static uint32_t *latencies;
static size_t latency_count, latency_room;
static int is_over;

/* Times without a reply. */
enum { GAPS = 32768 };
static uint64_t gap_starts[GAPS], gap_lengths[GAPS], last_reply_ns;
static int gap_count;

static void die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("load: ", stderr);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  va_end(list);
  exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
  struct timespec time;
  return clock_gettime(clock, &time) ? 0 : time.tv_sec * 1000000000ull + time.tv_nsec;
}

static uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

static uint64_t draw(void) { return mixed(state += 0x9e3779b97f4a7c15ull); }

/* --- what the server's processes have used --- */

struct usage {
  uint64_t cpu_ns, rss_kib, peak_kib;
};

static void add_process(int pid, struct usage *sum) {
  clockid_t clock;
  char name[64], line[256];
  unsigned long long value;
  if (clock_getcpuclockid(pid, &clock) == 0) sum->cpu_ns += clock_ns(clock);
  snprintf(name, sizeof name, "/proc/%d/status", pid);
  FILE *file = fopen(name, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "VmHWM: %llu", &value) == 1) sum->peak_kib += value;
    /* Pages of mapped files belong to the page cache. */
    if (sscanf(line, "RssAnon: %llu", &value) == 1) sum->rss_kib += value;
    if (sscanf(line, "RssShmem: %llu", &value) == 1) sum->rss_kib += value;
  }
  fclose(file);
}

static struct usage used_by_server(void) {
  static int pids[1 << 16], parents[1 << 16], tree[1 << 12];
  struct usage sum = {0};
  int known = 0, members = 0;
  DIR *proc = server_pid ? opendir("/proc") : NULL;
  if (!proc) return sum;
  for (struct dirent *entry; (entry = readdir(proc)) && known < 1 << 16;) {
    char name[300], text[512];
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    snprintf(name, sizeof name, "/proc/%s/stat", entry->d_name);
    FILE *file = fopen(name, "r");
    if (!file) continue;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    const char *after = strrchr(text, ')'); /* the name before it may hold anything */
    if (after && sscanf(after + 1, " %*c %d", &parents[known]) == 1) pids[known++] = atoi(entry->d_name);
  }
  closedir(proc);
  tree[members++] = server_pid;
  for (int i = 0; i < members; i++) {
    add_process(tree[i], &sum);
    for (int j = 0; j < known && members < 1 << 12; j++)
      if (parents[j] == tree[i]) tree[members++] = pids[j];
  }
  return sum;
}

static uint64_t own_cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

/* --- the handshake --- */

static void receive_all(int fd, void *to, size_t length) {
  for (unsigned char *at = to; length;) {
    ssize_t got = recv(fd, at, length, 0);
    if (got <= 0) die("handshake: %s", got ? strerror(errno) : "the server hung up");
    at += got;
    length -= got;
  }
}

static void send_all(int fd, const void *from, size_t length) {
  for (const unsigned char *at = from; length;) {
    ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
    if (sent <= 0) die("handshake: %s", strerror(errno));
    at += sent;
    length -= sent;
  }
}

static void put(unsigned char *to, int bytes, uint64_t value) {
  while (bytes--) to[bytes] = value, value >>= 8;
}

static uint64_t get(const unsigned char *from, int bytes) {
  uint64_t value = 0;
  while (bytes--) value = value << 8 | *from++;
  return value;
}

static int connect_tcp(const char *address) {
  char host[256];
  const char *colon = strrchr(address, ':');
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
  int one = 1;
  if (!colon || colon - address >= (long)sizeof host) die("%s: want HOST:PORT", address);
  snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
  int error = getaddrinfo(host, colon + 1, &hints, &list);
  if (error) die("%s: %s", address, gai_strerror(error));
  int fd = socket(list->ai_family, SOCK_STREAM, 0);
  if (connect(fd, list->ai_addr, list->ai_addrlen)) die("%s: %s", address, strerror(errno));
  freeaddrinfo(list);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static int connect_unix(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) die("%s: too long for a socket", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("%s: %s", path, strerror(errno));
  return fd;
}

/* Fixed newstyle, NBD_OPT_GO, nothing negotiated: simple replies. */
static int open_export(void) {
  int fd = unix_path ? connect_unix(unix_path) : connect_tcp(tcp_address);
  unsigned char bytes[1024];
  size_t name_length = strlen(export_name);
  struct timeval patience = {.tv_sec = PATIENCE_S};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (name_length > 512) die("the name of the export is too long");
  receive_all(fd, bytes, 18);
  if (memcmp(bytes, "NBDMAGICIHAVEOPT", 16)) die("this is no NBD server");
  put(bytes, 4, get(bytes + 16, 2) & 3);
  memcpy(bytes + 4, "IHAVEOPT", 8);
  put(bytes + 12, 4, 7);
  put(bytes + 16, 4, 6 + name_length);
  put(bytes + 20, 4, name_length);
  memcpy(bytes + 24, export_name, name_length);
  put(bytes + 24 + name_length, 2, 0);
  send_all(fd, bytes, 26 + name_length);
  for (;;) {
    receive_all(fd, bytes, 20);
    uint32_t type = get(bytes + 12, 4), length = get(bytes + 16, 4);
    if (type == 1) return fd;
    if (type & 0x80000000u) die("the server refuses: option reply %u", type & 0xffff);
    if (length > sizeof bytes) die("an option reply of %u bytes", length);
    receive_all(fd, bytes, length);
    if (type == 3 && get(bytes, 2) == 0) export_bytes = get(bytes + 2, 8);
  }
}

/* --- where, and with what --- */

/* A permutation of 0..places-1: a bijection of whole powers of two, of which what lies beyond is passed over. */
static uint64_t next_place(void) {
  uint64_t mask = (1ull << place_bits) - 1, seed = mixed(now.seed) | 1;
  int half = place_bits / 2 + 1;
  for (;;) {
    uint64_t x = counter++ & mask;
    for (int round = 0; round < 3; round++) {
      x = (x * (seed + 2 * round) + now.seed) & mask;
      x ^= x >> half;
    }
    if (x < places) return x;
  }
}

static unsigned char pattern(uint64_t at) { return mixed(at / 8 + 1) >> at % 8 * 8; }

static uint64_t choose(struct connection *c) {
  uint64_t place;
  if (now.mode == RANDREAD || now.mode == MIX) place = draw() % places;
  else if (now.mode == RANDWRITE || now.mode == WRITEFLUSH) place = next_place();
  else place = c->share_start + c->position++ % c->share_count;
  return now.offset + place * now.bytes;
}

static int command_of_step(void) {
  if (now.mode == RANDREAD || now.mode == READ) return CMD_READ;
  if (now.mode == MIX) return (int)(draw() % 100) < now.writes ? CMD_WRITE : CMD_READ;
  return CMD_WRITE;
}

/* --- requests --- */

static void watch(struct connection *c, int wants_out) {
  if (c->wants_out == wants_out) return;
  struct epoll_event event = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
  c->wants_out = wants_out;
}

static void flush_out(struct connection *c) {
  while (c->count) {
    struct msghdr message = {.msg_iov = c->pending + c->first, .msg_iovlen = c->count < 1024 ? c->count : 1024};
    ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (sent < 0) die("send: %s", strerror(errno));
    while (c->count && (size_t)sent >= c->pending[c->first].iov_len) {
      sent -= c->pending[c->first++].iov_len;
      c->count--;
    }
    if (c->count) {
      c->pending[c->first].iov_base = (char *)c->pending[c->first].iov_base + sent;
      c->pending[c->first].iov_len -= sent;
    }
  }
  if (!c->count) c->first = 0;
  watch(c, c->count > 0);
}

static void enqueue(struct connection *c, void *bytes, size_t length) {
  if (c->first + c->count == PENDING) {
    memmove(c->pending, c->pending + c->first, c->count * sizeof *c->pending);
    c->first = 0;
  }
  c->pending[c->first + c->count++] = (struct iovec){bytes, length};
}

static void ask(struct connection *c, struct slot *slot, int command, uint64_t at, uint32_t length) {
  slot->command = command;
  slot->at = at;
  slot->length = length;
  put(slot->head, 4, 0x25609513);
  put(slot->head + 4, 2, 0);
  put(slot->head + 6, 2, command);
  put(slot->head + 8, 8, slot - c->slots);
  put(slot->head + 16, 8, at);
  put(slot->head + 24, 4, length);
  enqueue(c, slot->head, REQUEST_BYTES);
  if (command == CMD_WRITE && now.verify) {
    for (uint32_t i = 0; i < length; i++) slot->payload[i] = pattern(at + i);
    enqueue(c, slot->payload, length);
  } else if (command == CMD_WRITE) {
    enqueue(c, pool + issued * 4096 % POOL_BYTES, length);
  }
  c->in_flight++;
}

static void issue(struct connection *c) {
  while (c->free_count && !is_over) {
    uint64_t time = clock_ns(CLOCK_MONOTONIC);
    is_over = now.operations ? issued >= now.operations : time >= end_ns;
    if (is_over) break;
    struct slot *slot = &c->slots[c->free[--c->free_count]];
    slot->start_ns = time;
    ask(c, slot, command_of_step(), choose(c), now.bytes);
    issued++;
    if (single) flush_out(c);
  }
}

static void note_reply(uint64_t time) {
  uint64_t gap = time - last_reply_ns;
  if (gap >= now.gaps_us * 1000ull && gap_count < GAPS) {
    gap_starts[gap_count] = last_reply_ns;
    gap_lengths[gap_count++] = gap;
  }
  last_reply_ns = time;
}

static void complete(struct connection *c, struct slot *slot, uint32_t error) {
  c->in_flight--;
  if (error) failed++;
  if (now.mode == WRITEFLUSH && slot->command == CMD_WRITE) {
    ask(c, slot, CMD_FLUSH, 0, 0);
    return;
  }
  uint64_t time = clock_ns(CLOCK_MONOTONIC), took = time - slot->start_ns;
  if (now.gaps_us) note_reply(time);
  if (latency_count == latency_room) {
    latency_room = latency_room ? latency_room * 2 : 1 << 20;
    latencies = realloc(latencies, latency_room * sizeof *latencies);
    if (!latencies) die("no memory");
  }
  latencies[latency_count++] = took > UINT32_MAX ? UINT32_MAX : took;
  slot->start_ns = 0;
  finished++;
  moved_bytes += now.bytes;
  c->free[c->free_count++] = slot - c->slots;
}

static void take_data(struct slot *slot, uint64_t from, const unsigned char *bytes, uint32_t length) {
  if (!now.verify) return;
  for (uint32_t i = 0; i < length; i++)
    if (bytes[i] != pattern(slot->at + from + i)) {
      wrong++;
      return;
    }
}

static void take_reply(struct connection *c) {
  uint32_t magic = get(c->reply, 4), error = get(c->reply + 4, 4);
  uint64_t index = get(c->reply + 8, 8);
  if (magic != 0x67446698) die("a reply with magic number %08x", magic);
  if (index >= (uint64_t)now.depth || !c->slots[index].start_ns) die("a reply to nothing that was asked");
  struct slot *slot = &c->slots[index];
  if (slot->command != CMD_READ || error) {
    complete(c, slot, error);
    return;
  }
  c->reading = slot;
  c->left = slot->length;
}

static void parse(struct connection *c, const unsigned char *bytes, size_t length) {
  while (length) {
    size_t step;
    if (c->reading) {
      step = c->left < length ? c->left : length;
      take_data(c->reading, c->reading->length - c->left, bytes, step);
      c->left -= step;
      if (!c->left) {
        complete(c, c->reading, 0);
        c->reading = NULL;
      }
    } else {
      step = REPLY_BYTES - c->reply_have;
      if (step > length) step = length;
      memcpy(c->reply + c->reply_have, bytes, step);
      c->reply_have += step;
      if (c->reply_have == REPLY_BYTES) {
        c->reply_have = 0;
        take_reply(c);
      }
    }
    bytes += step;
    length -= step;
  }
}

static unsigned char *inbox;

static void take(struct connection *c, int may_wait) {
  ssize_t got = recv(c->fd, inbox, POOL_BYTES, may_wait ? 0 : MSG_DONTWAIT);
  if (got == 0) die("the server hung up");
  if (got < 0 && errno == EAGAIN && may_wait) die("no reply for %d s", PATIENCE_S);
  if (got < 0 && errno != EAGAIN && errno != EINTR) die("recv: %s", strerror(errno));
  if (got > 0) parse(c, inbox, got);
}

static void wait_all(void) {
  struct epoll_event events[64];
  int ready = epoll_wait(epoll_fd, events, 64, PATIENCE_S * 1000);
  if (ready == 0) die("no reply for %d s", PATIENCE_S);
  for (int i = 0; i < ready; i++) {
    struct connection *c = events[i].data.ptr;
    if (events[i].events & ~EPOLLOUT) take(c, 0);
    issue(c);
    flush_out(c);
  }
}

static void run(void) {
  for (int i = 0; i < connection_count; i++) {
    issue(&connections[i]);
    flush_out(&connections[i]);
  }
  for (;;) {
    int in_flight = 0;
    for (int i = 0; i < connection_count; i++) in_flight += connections[i].in_flight;
    if (!in_flight) return;
    /* One connection with nothing left to send needs no poll: a call less where each one counts. */
    if (connection_count == 1 && !connections[0].count) {
      take(&connections[0], 1);
      issue(&connections[0]);
      flush_out(&connections[0]);
    } else {
      wait_all();
    }
  }
}

/* --- steps --- */

static void evict(const char *name) {
  int fd = open(name, O_RDONLY);
  if (fd < 0) die("%s: %s", name, strerror(errno));
  fdatasync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  close(fd);
}

static void prepare(struct connection *c, int index) {
  c->slots = calloc(now.depth, sizeof *c->slots);
  c->free = malloc(now.depth * sizeof *c->free);
  c->free_count = 0;
  for (int i = now.depth; i-- > 0;) {
    c->free[c->free_count++] = i;
    if (now.verify) c->slots[i].payload = malloc(now.bytes);
  }
  c->position = 0;
  c->share_count = places / connection_count ? places / connection_count : 1;
  c->share_start = index * c->share_count % places;
}

static void release(struct connection *c) {
  for (int i = 0; i < now.depth; i++) free(c->slots[i].payload);
  free(c->slots);
  free(c->free);
}

static int by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static double percentile(double part) {
  return latency_count ? latencies[(size_t)((latency_count - 1) * part)] / 1e3 : 0;
}

static void perform(const struct step *step) {
  now = *step;
  if (now.offset + now.bytes > export_bytes) die("the export is too small");
  if (!now.length || now.length > export_bytes - now.offset) now.length = export_bytes - now.offset;
  places = now.length / now.bytes;
  if (!places) die("--length is less than --bytes");
  for (place_bits = 4; 1ull << place_bits < places;) place_bits++;
  counter = issued = finished = failed = wrong = moved_bytes = latency_count = is_over = 0;
  state = mixed(now.seed);
  for (int i = 0; i < connection_count; i++) prepare(&connections[i], i);
  if (now.evict) evict(now.evict);
  if (server_pid) usleep(30000); /* whatever the server does after the step before is not this one's */
  struct usage before = used_by_server();
  uint64_t own = own_cpu_ns(), start = clock_ns(CLOCK_MONOTONIC);
  end_ns = start + (uint64_t)(now.seconds * 1e9);
  last_reply_ns = start;
  gap_count = 0;
  run();
  double seconds = (clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
  own = own_cpu_ns() - own;
  struct usage after = used_by_server();
  double count = finished ? finished : 1;
  double server_us = after.cpu_ns > before.cpu_ns ? (after.cpu_ns - before.cpu_ns) / 1e3 / count : 0;
  qsort(latencies, latency_count, sizeof *latencies, by_size);
  printf("{\"mode\":\"%s\",\"operations\":%llu,\"seconds\":%.4f,\"iops\":%.1f,\"mbps\":%.2f,", MODES[now.mode],
         (unsigned long long)finished, seconds, finished / seconds, moved_bytes / seconds / 1e6);
  printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,", percentile(0.5), percentile(0.99), percentile(1));
  printf("\"server_cpu_us\":%.3f,\"client_cpu_us\":%.3f,\"rss_kib\":%llu,\"peak_kib\":%llu,", server_us,
         own / 1e3 / count, (unsigned long long)after.rss_kib, (unsigned long long)after.peak_kib);
  if (now.gaps_us) {
    printf("\"gaps\":[");
    for (int i = 0; i < gap_count; i++)
      printf("%s[%.1f,%.1f]", i ? "," : "", gap_starts[i] / 1e3, gap_lengths[i] / 1e3);
    printf("],");
  }
  printf("\"failed\":%llu,\"wrong\":%llu}\n", (unsigned long long)failed, (unsigned long long)wrong);
  fflush(stdout);
  for (int i = 0; i < connection_count; i++) release(&connections[i]);
}

/* --- the command line --- */

static int arg_count, arg_at = 1;
static char **args;

static const char *value(void) {
  if (++arg_at >= arg_count) die("%s needs a value", args[arg_at - 1]);
  return args[arg_at];
}

static uint64_t number(void) { return strtoull(value(), NULL, 10); }

static struct step parse_step(void) {
  struct step step = {.bytes = 4096, .seconds = 1, .depth = 1, .seed = 1, .writes = 30};
  int mode = WRITEFLUSH;
  while (mode >= 0 && strcmp(args[arg_at], MODES[mode])) mode--;
  if (mode < 0) die("%s is no mode", args[arg_at]);
  step.mode = mode;
  for (arg_at++; arg_at < arg_count && strcmp(args[arg_at], "/"); arg_at++) {
    const char *name = args[arg_at];
    if (!strcmp(name, "--bytes")) step.bytes = number();
    else if (!strcmp(name, "--depth")) step.depth = number();
    else if (!strcmp(name, "--seconds")) step.seconds = strtod(value(), NULL);
    else if (!strcmp(name, "--operations")) step.operations = number();
    else if (!strcmp(name, "--offset")) step.offset = number();
    else if (!strcmp(name, "--length")) step.length = number();
    else if (!strcmp(name, "--seed")) step.seed = number();
    else if (!strcmp(name, "--gaps")) step.gaps_us = number();
    else if (!strcmp(name, "--writes")) step.writes = number();
    else if (!strcmp(name, "--evict")) step.evict = value();
    else if (!strcmp(name, "--verify")) step.verify = 1;
    else die("%s is no option of a step", name);
  }
  arg_at++;
  if (step.depth < 1 || step.depth > 1024) die("--depth is 1 to 1024");
  if (step.bytes < 1 || step.bytes > 32 << 20) die("--bytes is 1 to 32 MiB");
  return step;
}

static void parse_connection(void) {
  for (; arg_at < arg_count && !strncmp(args[arg_at], "--", 2); arg_at++) {
    const char *name = args[arg_at];
    if (!strcmp(name, "--unix")) unix_path = value();
    else if (!strcmp(name, "--tcp")) tcp_address = value();
    else if (!strcmp(name, "--export")) export_name = value();
    else if (!strcmp(name, "--connections")) connection_count = number();
    else if (!strcmp(name, "--pid")) server_pid = number();
    else if (!strcmp(name, "--single")) single = 1;
    else die("%s is no option", name);
  }
  if (!unix_path == !tcp_address) die("want --unix or --tcp");
  if (connection_count < 1 || connection_count > 1024) die("--connections is 1 to 1024");
}

/* Memory that a virtual machine never used costs its host a fault a page, in the time of whoever gets it first. */
static void touch(void) {
  unsigned long long free_kib = 0;
  char line[256];
  FILE *file = fopen("/proc/meminfo", "r");
  while (file && fgets(line, sizeof line, file) && sscanf(line, "MemFree: %llu", &free_kib) != 1) {
  }
  if (file) fclose(file);
  if (free_kib < 2 << 20) return;
  size_t length = (free_kib - (1 << 20)) * 1024 / 10 * 9;
  unsigned char *memory =
      mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  for (size_t at = 0; at < length; at += 4096) memory[at] = 1;
  munmap(memory, length);
}

int main(int count, char **list) {
  arg_count = count;
  args = list;
  if (count > 1 && !strcmp(list[1], "touch")) return touch(), 0;
  if (count > 1 && !strcmp(list[1], "evict")) {
    for (int i = 2; i < count; i++) evict(list[i]);
    return 0;
  }
  parse_connection();
  if (arg_at >= count) die("want a step");
  inbox = malloc(POOL_BYTES);
  pool = malloc(POOL_BYTES + (32 << 20));
  for (size_t i = 0; i < (POOL_BYTES + (32 << 20)) / 8; i++) ((uint64_t *)pool)[i] = draw();
  connections = calloc(connection_count, sizeof *connections);
  epoll_fd = epoll_create1(0);
  for (int i = 0; i < connection_count; i++) {
    struct connection *c = &connections[i];
    c->fd = open_export();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
  }
  uint64_t bad = 0;
  while (arg_at < count) {
    struct step step = parse_step();
    perform(&step);
    bad += failed + wrong;
  }
  for (int i = 0; i < connection_count; i++) {
    unsigned char head[REQUEST_BYTES] = {0};
    put(head, 4, 0x25609513);
    put(head + 6, 2, CMD_DISC);
    send(connections[i].fd, head, sizeof head, MSG_NOSIGNAL);
    close(connections[i].fd);
  }
  return bad ? 2 : 0;
}
